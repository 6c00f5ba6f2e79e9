"""Layouts: folders as publishers unpack them, to an `InteractionLog` with item features and user groups.

Part of the registry: a folder is recognised by the names of its files, wherever it lies.

| files | layout |
|---|---|
| `u.data` (`u.item`, `u.user`) | MovieLens 100K |
| `ratings.dat` (`movies.dat`, `users.dat`) | MovieLens 1M and 10M, MovieTweetings |
| `ratings.csv` (`movies.csv`) | MovieLens 20M, 25M, 32M, latest |
| `user_artists.dat` (`artists.dat`) | Last.fm of HetRec 2011 |
| `behaviors.tsv` (`news.tsv`), or both with a prefix a part | MIND |
| `data.csv` with StockCode and CustomerID | Online Retail |
| `interactions.csv.gz`, `.csv`, `.tsv`, `.parquet`, one `*.inter`, or else all `*.parquet` | any log |

Beside any log may lie titles and genres (`movies.dat`, `movies.csv`, `items.csv`), public ids (`links.csv`) and groups
(`users.dat`, `users.csv`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_core.errors import InputError
from palate_sim.data import features
from palate_sim.data.columns import ColumnMap, show
from palate_sim.data.domains import with_domains
from palate_sim.data.log import InteractionLog
from palate_sim.data.readers import IN_MEMORY, Workspace, purchases_only, read_log

Reader = Callable[[Path, str, ColumnMap | None, Workspace], InteractionLog]
BARE: dict[str, str | int | None] = {"user_id": 0, "item_id": 1, "value": 2, "timestamp": 3}
PLAIN = ("interactions.csv.gz", "interactions.csv", "interactions.parquet", "interactions.tsv")


def read_folder(
    folder: Path, *, columns: ColumnMap | None = None, name: str | None = None, workspace: Workspace = IN_MEMORY
) -> InteractionLog:
    """Read a folder of a known layout.

    Args:
        folder: the folder.
        columns: explicit columns of the log file, where the layout has a header.
        name: what to call the log; the folder's name when left out.
        workspace: how the log is read.

    Raises:
        InputError: the layout is not known, or its files can't be read.
    """
    name = name or folder.resolve().name
    present = sorted(entry.name for entry in folder.iterdir())
    for log_file, reader in _LAYOUTS.items():
        if (folder / log_file).is_file():
            log = reader(folder, name, columns, workspace)
            return replace(log, name=name, items=_of(log, "item_id", log.items), users=_of(log, "user_id", log.users))
    inter = [entry for entry in present if entry.endswith(".inter")]
    if len(inter) == 1:
        return read_log(folder / inter[0], columns=columns, name=name, workspace=workspace)
    if any(entry.endswith((".parquet", ".pq")) for entry in present):
        return read_log(folder, columns=columns, name=name, workspace=workspace)
    listed = ", ".join(map(show, present[:8])) or "nothing"
    raise InputError(
        f"`data` must be a folder with one of {', '.join(_LAYOUTS)}, a .inter file or parquet files, got {listed}"
    )


def _plain(log_file: str) -> Reader:
    """A reader of `log_file` with whatever features lie beside it."""

    def read(folder: Path, name: str, columns: ColumnMap | None, workspace: Workspace) -> InteractionLog:
        log = read_log(folder / log_file, columns=columns, name=name, workspace=workspace)
        return replace(log, items=with_domains(_items(folder), log.items), users=_users(folder))

    return read


def _ratings_dat(folder: Path, name: str, columns: ColumnMap | None, workspace: Workspace) -> InteractionLog:
    """MovieLens 1M and 10M, MovieTweetings: no header, "::" between fields."""
    log = read_log(folder / "ratings.dat", columns=BARE | dict(columns or {}), name=name, workspace=workspace)
    return replace(log, items=_items(folder), users=_users(folder))


def _ml_100k(folder: Path, name: str, columns: ColumnMap | None, workspace: Workspace) -> InteractionLog:
    """MovieLens 100K: genres are flags in the last columns of u.item, named in u.genre."""
    log = read_log(folder / "u.data", columns=BARE | dict(columns or {}), name=name, workspace=workspace)
    items = users = None
    if (folder / "u.item").is_file() and (folder / "u.genre").is_file():
        table = features.separated(folder / "u.item", "|")
        genres = features.separated(folder / "u.genre", "|")[0].tolist()
        flags = table[list(table.columns[-len(genres) :])].to_numpy() == "1"
        words = ["|".join(word for word, on in zip(genres, row, strict=True) if on) for row in flags]
        items = features.item_table(table[0], table[1], pd.Series(words, dtype="str"))
    if (folder / "u.user").is_file():
        table = features.separated(folder / "u.user", "|")
        users = features.user_table(table[0], table[2], table[1])
    return replace(log, items=items, users=users)


def _lastfm(folder: Path, name: str, columns: ColumnMap | None, workspace: Workspace) -> InteractionLog:
    """Last.fm of HetRec 2011: how often a user played an artist; no times."""
    log = read_log(folder / "user_artists.dat", columns=columns, name=name, workspace=workspace)
    if not (folder / "artists.dat").is_file():
        return log
    table = features.separated(folder / "artists.dat", "\t")[1:]
    return replace(log, items=features.item_table(table[0], table[1], None))


def _mind(folder: Path, name: str, columns: ColumnMap | None, workspace: Workspace) -> InteractionLog:
    """MIND: the clicked items of each impression with its time, and the earlier history without times."""
    parts, news = sorted(folder.glob("*behaviors.tsv")), sorted(folder.glob("*news.tsv"))
    table = pd.concat([features.separated(part, "\t") for part in parts], ignore_index=True)
    if table.shape[1] < 5:
        raise InputError(f"`data` must have 5 columns in behaviors.tsv, got {table.shape[1]}")
    shown = table[[1, 2, 4]].assign(item=table[4].str.split()).explode("item")
    clicks = shown[shown["item"].str.endswith("-1").fillna(False).astype(bool)]
    clicks = clicks.assign(item=clicks["item"].str.removesuffix("-1"))
    before = table[[1, 3]].drop_duplicates().assign(item=table[3].str.split()).explode("item").dropna()
    parts_of_log = [
        pd.DataFrame({"user_id": clicks[1], "item_id": clicks["item"], "timestamp": clicks[2]}),
        pd.DataFrame({"user_id": before[1], "item_id": before["item"], "timestamp": ""}, dtype="str"),
    ]
    frame = pd.concat(parts_of_log, ignore_index=True)
    log = read_log(frame, name=name, workspace=workspace)
    if not news:
        return log
    about = pd.concat([features.separated(part, "\t") for part in news], ignore_index=True)
    return replace(log, items=features.item_table(about[0], about[3], about[1] + "|" + about[2]))


def _retail(folder: Path, name: str, columns: ColumnMap | None, workspace: Workspace) -> InteractionLog:
    """Online Retail: one line a purchase; returns have a negative quantity."""
    chosen: ColumnMap = {"user_id": "CustomerID", "item_id": "StockCode"} | dict(columns or {})
    log = purchases_only(read_log(folder / "data.csv", columns=chosen, name=name, workspace=workspace))
    table = features.with_header(folder / "data.csv")
    if {"StockCode", "Description"} - set(table.columns):
        return log
    return replace(log, items=features.item_table(table["StockCode"], table["Description"], None))


def _items(folder: Path) -> pd.DataFrame | None:
    """Item features beside a log, if any: `movies.dat`, or `movies.csv` or `items.csv` with a header."""
    if (folder / "movies.dat").is_file():
        table = features.separated(folder / "movies.dat", "::")
        return features.item_table(table[0], table.get(1), table.get(2))
    for csv_file in ("items.csv", "movies.csv"):
        if (folder / csv_file).is_file():
            table = features.with_header(folder / csv_file)
            key = next((column for column in ("item_id", "movieId", "item", "id") if column in table), None)
            if key is not None:
                public = features.public_ids(_linked(folder, table, key))
                return features.item_table(
                    table[key], table.get("title"), table.get("genres"), table.get("domain"), public
                )
    return None


def _linked(folder: Path, table: pd.DataFrame, key: str) -> pd.DataFrame:
    """Items with the public ids of `links.csv`, as MovieLens has them, if it lies beside."""
    if not (folder / "links.csv").is_file():
        return table
    links = features.with_header(folder / "links.csv")
    if key not in links:
        return table
    return table.merge(links.drop_duplicates(key), on=key, how="left").fillna("")


def _users(folder: Path) -> pd.DataFrame | None:
    """User groups beside a log, if any: `users.dat` of MovieLens 1M, or every column of `users.csv`."""
    if (folder / "users.dat").is_file():
        table = features.separated(folder / "users.dat", "::")
        return features.user_table(table[0], table.get(1), table.get(2)) if table.shape[1] >= 3 else None
    if (folder / "users.csv").is_file():
        table = features.with_header(folder / "users.csv")
        key = next((column for column in ("user_id", "userId", "user", "id") if column in table), None)
        if key is not None:
            groups = features.user_table(table[key], table.get("gender"), table.get("age"))
            return groups if groups.shape[1] > 1 else None
    return None


def _of(log: InteractionLog, key: str, table: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of a feature table for the log's ids."""
    if table is None:
        return None
    ids, events = (log.item_ids, log.events_of_items) if key == "item_id" else (log.user_ids, log.events_of_users)
    return features.matched(table, pd.Series(ids.filter(pa.array(events > 0)).to_pandas(), dtype="str"), key)


_LAYOUTS: dict[str, Reader] = {
    **{log_file: _plain(log_file) for log_file in PLAIN},
    "u.data": _ml_100k,
    "ratings.dat": _ratings_dat,
    "ratings.csv": _plain("ratings.csv"),
    "user_artists.dat": _lastfm,
    "behaviors.tsv": _mind,
    "train-behaviors.tsv": _mind,
    "data.csv": _retail,
}
