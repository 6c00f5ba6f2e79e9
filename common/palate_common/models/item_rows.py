"""Item rows: facts about items as people write them, in CSV, JSON or a log's columns, made into `ItemFacts`.

    >>> facts_of({"item_id": "7", "title": "Toy Story (1995)", "genres": "Comedy|Family", "imdbId": "114709", "stock": 3})
    ItemFacts(item='7', title='Toy Story', year=1995, alternatives=(), kinds=('Comedy', 'Family'), ids={'imdb': '114709'}, more={'stock': 3})

A column's name decides what it is, in whatever case: `item_id` or `id`, `title`, `year`, `alternatives`, `kinds`,
`genres` or `categories`, a scheme of public ids such as `imdb` or `imdbId`, `from` and `until`, as seconds or ISO 8601;
any other is for the app. Several are separated by "|".
"""  # noqa: E501 # a doctest has the line that Python prints

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from palate_common.models.item_matching import split_title
from palate_common.models.item_table import MOST_NUMBER, ItemFacts, ItemTable, Value
from palate_common.models.where import ALIASES
from palate_core.errors import InputError

TABLES = (".csv", ".json")
"""Endings of files that hold facts, and not ids alone."""
SCHEMES = ("imdb", "tmdb", "musicbrainz", "isbn")
"""Schemes of public ids that a column is known by."""
ITEM = ("item_id", "movieid", "item", "id")
MOST_FILE = 2**28
"""Bytes of the largest file of facts."""
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?", re.ASCII)


def scheme_of(column: str) -> str | None:
    """The scheme of public ids that a column is of: `imdb`, `imdbId` and `IMDB_ID` alike; None: it is of none."""
    name = column.strip().lower().removesuffix("id").rstrip("_ ")
    return name if name in SCHEMES else None


def facts_of(row: Mapping[str, object]) -> ItemFacts:
    """The facts of a row.

    Args:
        row: column -> value: a text, or what JSON has.

    Raises:
        InputError: it has no id, or a value that is none of an item.
    """
    named = {re.sub(r"\W+", "_", name.strip().lower()): value for name, value in row.items()}
    key = next((name for name in ITEM if named.get(name) not in (None, "")), None)
    if key is None:
        raise InputError(f"a row of items must have an id as {', '.join(ITEM)}, got {', '.join(map(str, row))!r:.80}")
    title, dated, others = split_title(str(named.pop("title", None) or ""))
    year = str(named.pop("year", None) or "").removesuffix(".0")
    kinds = [named.pop(name, None) for name in ("kinds", *ALIASES)]
    known = {name: value for name, value in named.items() if value not in (None, "")}
    ids = {scheme: str(value) for name, value in known.items() if (scheme := scheme_of(name))}
    alternatives = (*others, *_several(named.pop("alternatives", None)))
    more = {name: _value(value) for name, value in named.items() if name not in ITEM and scheme_of(name) is None}
    more |= {name: seconds_of(more[name], name) for name in ("from", "until") if more.get(name) is not None}
    if region := _several(more.pop("region", None)):
        more["region"] = region
    for name in ("picture", "link"):
        if not re.match(r"https?://", str(more.get(name) or "https://")):
            raise InputError(f"`{name}` of an item must be an address with https://, got {more[name]!r:.80}")
    return ItemFacts(
        str(named[key]),
        title,
        int(year) if year.isdigit() else dated,
        alternatives,
        tuple(kind for each in kinds for kind in _several(each)),
        ids,
        {name: value for name, value in more.items() if value is not None},
    )


def seconds_of(value: object, name: str) -> float:
    """A time in seconds since 1970.

    Args:
        value: that, or ISO 8601 with a time zone; a date alone is its first second in UTC, or as `until` its end.
        name: what it is.

    Raises:
        InputError: it is no time.
    """
    try:
        given = value
        if isinstance(given, str):
            given = date.fromisoformat(given) if len(given) == len("2026-12-24") else datetime.fromisoformat(given)
        if isinstance(given, datetime) and given.tzinfo is not None:
            return given.timestamp()
        if isinstance(given, date) and not isinstance(given, datetime):
            given += timedelta(days=name == "until")
            return datetime(given.year, given.month, given.day, tzinfo=UTC).timestamp()
        if isinstance(given, (int, float)) and not isinstance(given, bool) and abs(given) <= MOST_NUMBER:
            return float(given)
    except (ValueError, OverflowError):
        pass
    raise InputError(f"`{name}` must be seconds since 1970, or ISO 8601 with a time zone, got {value!r:.80}")


def read_facts(path: Path, name: str) -> ItemTable:
    """Read a CSV file with a header, or JSON: a list of objects.

    Args:
        path: the file.
        name: what names it, for messages.

    Raises:
        InputError: it can't be read, is no table, names an item twice, or has a value that no table takes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE + 1)
        if len(data) > MOST_FILE:
            raise InputError(f"{name} must be at most {MOST_FILE} bytes, got more: {path}")
        text = data.decode("utf-8-sig")
        rows: Iterable[object] = (
            json.loads(text) if path.suffix.lower() == ".json" else csv.DictReader(io.StringIO(text), restval="")
        )
        if not isinstance(rows, (list, csv.DictReader)):
            raise InputError(f"{name} must be a list of objects, got something else: {path}")
        facts = []
        for row in rows:
            if not isinstance(row, dict) or not all(isinstance(column, str) for column in row):
                raise InputError(f"{name} must have rows with a value for each column, got another: {path}")
            facts.append(facts_of(row))
    except OSError as error:
        raise InputError(f"{name} must be a readable file, got {path}: {error.strerror}") from None
    except (ValueError, RecursionError, csv.Error):
        raise InputError(f"{name} must be CSV or JSON in UTF-8, got something else: {path}") from None
    if len({each.item for each in facts}) != len(facts):
        raise InputError(f"{name} must name each item once, got one twice: {path}")
    table = ItemTable.of(facts)
    table.to_bytes()  # refuses what no reader takes
    return table


def rows_of(table: ItemTable) -> list[dict[str, object]]:
    """The rows of a table, as `facts_of` reads them."""
    return [
        {
            "item_id": each.item,
            "title": each.title,
            "year": each.year,
            "alternatives": list(each.alternatives),
            "kinds": list(each.kinds),
            **each.ids,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in each.more.items()},
        }
        for each in table
    ]


def _several(value: object) -> tuple[str, ...]:
    """A list, or a text with "|" between its parts."""
    parts = value if isinstance(value, (list, tuple)) else str(value or "").split("|")
    return tuple(part for part in (str(each).strip() for each in parts) if part)


def _value(value: object) -> Value:
    """What a further column has: numbers and true or false are told from a text."""
    if isinstance(value, (list, tuple)):
        return tuple(map(str, value))
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if not isinstance(value, str):
        raise InputError(f"a row of items must have texts, numbers, true, false or lists, got {value!r:.80}")
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text or None
