"""Features: public facts about items, and groups of users, from the files that lie beside a log.

Part of the folder layouts. Items get `title`, `genres` (separated by "|"), `domain` and public ids; users get groups
for evaluation by group, gender and age in the bands of MovieLens 1M, so that sets can be compared.

    >>> age_bands(pd.Series(["17", "25", "56", "x"])).tolist()
    ['under 18', '25-34', '56+', 'unknown']
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from palate_common.models.item_rows import SCHEMES, facts_of, scheme_of
from palate_common.models.item_table import MOST_TEXT, MOST_TEXTS, ItemFacts, ItemTable
from palate_sim.data.domains import DOMAIN
from palate_sim.data.ids import canonical_ids

_AGES = ((0, "under 18"), (18, "18-24"), (25, "25-34"), (35, "35-44"), (45, "45-49"), (50, "50-55"), (56, "56+"))
_GENDERS = {"m": "male", "f": "female", "male": "male", "female": "female"}


def separated(path: Path, separator: str) -> pd.DataFrame:
    """A file without a header as columns 0, 1, ... of text; lines narrower than the first are filled with ""."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    rows = [line.split(separator) for line in text.splitlines() if line.strip()]
    width = len(rows[0]) if rows else 0
    return pd.DataFrame([(row + [""] * width)[:width] for row in rows], columns=range(width), dtype="str")


def with_header(path: Path, separator: str = ",") -> pd.DataFrame:
    """A file with a header as columns of text."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return pd.read_csv(io.StringIO(text), sep=separator, dtype="str", keep_default_na=False)


def item_table(
    ids: pd.Series,
    titles: pd.Series | None,
    genres: pd.Series | None,
    domains: pd.Series | None = None,
    public: Mapping[str, pd.Series] = MappingProxyType({}),
) -> pd.DataFrame:
    """Items in canonical form, one row an id; the words that mean "no genre" become an empty string."""
    columns = {"title": titles, "genres": genres, DOMAIN: domains, **public}
    table = pd.DataFrame(
        {name: column.fillna("").astype("str") for name, column in columns.items() if column is not None}
    )
    if "genres" in table:
        table["genres"] = table["genres"].replace({"(no genres listed)": "", "unknown": ""})
    return _keyed(table, ids, "item_id")


def public_ids(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns of public ids by their scheme: `imdb`, and so `imdbId`, `IMDB_ID`."""
    return {scheme: column for name, column in table.items() if (scheme := scheme_of(str(name)))}


def published_facts(table: pd.DataFrame | None, items: Sequence[str]) -> ItemTable | None:
    """What is published of the items beside their ids: titles with years, genres as kinds, public ids.

    Where a log has no titles but ids that read like titles, these are their titles.

    Args:
        table: of `item_table`, or None.
        items: the catalogue.

    Returns:
        The item table; None where nothing is known.
    """
    known = pd.DataFrame({"item_id": list(items)})
    if table is not None:
        known = known.merge(table.drop_duplicates("item_id"), on="item_id", how="left")
    if "title" not in known and are_titles(items):
        known["title"] = known["item_id"]
    columns = [name for name in ("title", "genres", *SCHEMES) if name in known]
    if not columns:
        return None
    rows = known[["item_id", *columns]].fillna("").to_dict("records")
    return ItemTable.of(_published(facts_of({str(name): value for name, value in row.items()})) for row in rows)


def _published(facts: ItemFacts) -> ItemFacts:
    """The facts of an item of a log, or none where a text or a list is longer than a table has any."""
    lists = facts.alternatives, facts.kinds
    texts = (facts.title, *facts.alternatives, *facts.kinds, *facts.ids.values())
    fits = max(map(len, lists)) <= MOST_TEXTS and max(map(len, texts)) <= MOST_TEXT
    return facts if fits else ItemFacts(facts.item)


def are_titles(ids: Sequence[str]) -> bool:
    """Whether ids read like titles: most are of several words."""
    return sum(len(re.findall(r"[^\W\d_]{2,}", each)) > 1 for each in ids) > len(ids) / 2


def user_table(ids: pd.Series, genders: pd.Series | None = None, ages: pd.Series | None = None) -> pd.DataFrame:
    """Groups in canonical form, one row a user."""
    groups = {}
    if genders is not None:
        groups["gender"] = genders.str.strip().str.casefold().map(_GENDERS).fillna("unknown")
    if ages is not None:
        groups["age"] = age_bands(ages)
    return _keyed(pd.DataFrame(groups), ids, "user_id")


def age_bands(ages: pd.Series) -> pd.Series:
    """Ages in years as bands, "unknown" where there is no number."""
    years = pd.to_numeric(ages, errors="coerce").to_numpy(float)
    bands = np.searchsorted([start for start, _ in _AGES], years, side="right") - 1
    names = [
        "unknown" if np.isnan(year) or band < 0 else _AGES[band][1] for year, band in zip(years, bands, strict=True)
    ]
    return pd.Series(names, dtype="str", index=ages.index)


def matched(table: pd.DataFrame, ids: pd.Series, key: str) -> pd.DataFrame | None:
    """The rows of a feature table for the ids of a log, also where one of the two pads numbers with zeros.

    Returns:
        The table restricted to the log's ids and spelled as the log spells them, or None when nothing matches.
    """
    wanted = ids.drop_duplicates()
    exact = table[table[key].isin(wanted)]
    if len(exact) < len(wanted):
        bare = pd.Series(wanted.to_numpy(), index=wanted.str.lstrip("0").to_numpy())
        bare = bare[~bare.index.duplicated(keep=False)]
        spelled = table[key].str.lstrip("0").map(bare)
        loose = table.assign(**{key: spelled})[spelled.notna()].drop_duplicates(key)
        if len(loose) > len(exact):
            exact = loose.astype({key: "str"})
    return exact.reset_index(drop=True) if len(exact) else None


def _keyed(table: pd.DataFrame, ids: pd.Series, key: str) -> pd.DataFrame:
    """The table with canonical ids in front, the first row of each id."""
    codes, names = canonical_ids(ids, key, {})
    keyed = table.assign(**{key: pd.Series([*names, ""], dtype="str").take(codes).to_numpy()})[codes >= 0]
    return keyed.drop_duplicates(key).reset_index(drop=True)[[key, *table.columns]]
