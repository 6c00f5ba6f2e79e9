"""Readers: a file or a data frame to an `InteractionLog`, or one clear line that says why not.

Every experiment begins here: bytes -> `tables` -> `columns` -> `repair` -> `InteractionLog`. `palate_sim.data.load`
reads folders of known archives and named data sets.

    >>> import pandas as pd
    >>> log = read_log(pd.DataFrame({"userId": [1, 2.0, 2], "movieId": [10, 10, 11], "rating": [4, 5, 3]}))
    >>> log.frame["user_id"].tolist(), log.repairs
    (['1', '2', '2'], {'ids_unified': 3, 'single_event_users': 1})
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_core.errors import InputError
from palate_sim.data.columns import ColumnMap, find_columns, show, unread
from palate_sim.data.events import ROWS_IN_MEMORY, Place
from palate_sim.data.log import InteractionLog, count_rows, distinct_pairs
from palate_sim.data.repair import REPAIRS, Reading, repaired
from palate_sim.data.sources import find_sources, is_pattern
from palate_sim.data.tables import Advance, Batch, Repairs, Table, open_table
from palate_sim.data.times import Notation
from palate_sim.steps import Notify, silent, step

Source = str | PathLike[str] | pd.DataFrame


@dataclass(frozen=True)
class Workspace:
    """How a log is read: who is told, and where rows go that are too many for memory.

    Attributes:
        notify: called with progress events.
        folder: gives the folder for the rows of a log that is too large for memory; None: the user's cache.
        limit: rows that are kept in memory.
    """

    notify: Notify = silent
    folder: Place | None = None
    limit: int = ROWS_IN_MEMORY


IN_MEMORY = Workspace()


def read_log(
    source: Source, *, columns: ColumnMap | None = None, name: str | None = None, workspace: Workspace = IN_MEMORY
) -> InteractionLog:
    """Read an interaction log.

    Args:
        source: a data frame, or a file: CSV, TSV, text separated by "::", ";" or "|", RecBole `.inter`, each plain or
            gzip, or parquet; a pattern of such files, or a folder of parquet files.
        columns: canonical field (user_id, item_id, kind, value, timestamp, domain) -> name of its column; its position,
            from 0, in a file without a header; None to leave the field out. What is not given is detected by common
            names, but for the domain.
        name: what to call the log in reports; the file's name when left out.
        workspace: how it is read.

    Returns:
        The log, repaired; `repairs` counts every change.

    Raises:
        InputError: the source can't be read as an interaction log, or the disk is full. Nothing is written or kept.
    """
    if isinstance(source, pd.DataFrame):
        return _log(_from_frame(source, columns), name or "frame", workspace)
    if not isinstance(source, (str, PathLike)):
        raise InputError(f"`data` must be a path or a data frame, got {type(source).__name__}")
    table = open_table(find_sources(source), columns)
    return _log(table, name or _name(source), workspace)


def as_source(data: object) -> Any:
    """Data in memory as a data frame; a path, a name and what isn't known are returned as they are.

    >>> as_source([("ann", "book-7"), ("bob", "book-7")]).columns.tolist()
    ['user_id', 'item_id']

    Args:
        data: a pandas frame; any table of the Arrow interface, such as polars' frames; or pairs of a user and an item,
            as a list of tuples or an array [n, 2], or [n, 3] with values.

    Raises:
        InputError: rows that are no pairs, or a polars query that wasn't collected.
    """
    if data is None or isinstance(data, (str, PathLike, pd.DataFrame)):
        return data
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data).to_pandas()
    if hasattr(data, "collect_schema"):
        raise InputError("`data` must be read already: call .collect() on the query first")
    if not isinstance(data, (list, tuple, np.ndarray)):
        return data
    rows = [tuple(row) if isinstance(row, (list, tuple, np.ndarray)) else () for row in data]
    widths = {len(row) for row in rows}
    if widths not in ({2}, {3}):
        raise InputError("`data` must be pairs of a user and an item, or triples with a value, got other rows")
    return pd.DataFrame(rows, columns=["user_id", "item_id", "value"][: widths.pop()])


def _name(source: str | PathLike[str]) -> str:
    """What to call a log by its source: the file's name, or the folder's of a pattern."""
    path = Path(source)
    while is_pattern(path) or "*" in path.name:
        path = path.parent
    return path.name.partition(".")[0] or show(str(path))


def purchases_only(log: InteractionLog) -> InteractionLog:
    """The log without rows whose quantity is not positive: returns and coupons are no sign of liking.

    Raises:
        InputError: no purchase is left.
    """
    bought = log.only(lambda block: np.ones(len(block), np.bool_) if block.values is None else ~(block.values <= 0))
    if not bought.rows.total:
        raise InputError(f"`data` must hold a purchase, got {log.rows.total} rows without a positive quantity")
    if bought.rows.total == log.rows.total:
        return log
    pairs = sum(len(distinct_pairs(block, len(log.item_ids))) for block in bought.rows)
    repairs = log.repairs | {
        "rows_without_purchase": log.rows.total - bought.rows.total,
        "repeated_pairs": bought.rows.total - pairs,
        "single_event_users": int((bought.events_of_users == 1).sum()),
    }
    return replace(bought, repairs={name: count for name, count in repairs.items() if count})


def _from_frame(frame: pd.DataFrame, columns: ColumnMap | None) -> Table:
    """The canonical columns of a data frame, as a table of one batch."""
    places = find_columns(list(frame.columns), columns)
    if frame.empty:
        raise InputError("`data` must hold rows, got an empty data frame")

    def batches(repairs: Repairs, advance: Advance) -> Iterator[Batch]:
        advance(len(frame))
        yield {field: frame.iloc[:, place].reset_index(drop=True) for field, place in places.items()}

    return Table(tuple(places), batches, len(frame), "rows", unread(list(frame.columns), places))


def _log(table: Table, name: str, workspace: Workspace) -> InteractionLog:
    """A table, read and repaired."""
    notation: Notation | None = None
    try:
        while True:
            counts: Repairs = {}
            reading = Reading(table.fields, notation=notation, folder=workspace.folder, limit=workspace.limit)
            with step(workspace.notify, "reading", of=table.size, unit=table.unit) as advance:
                for batch in table.batches(counts, advance):
                    reading.add(batch)
            if reading.times is None or reading.times.used in (None, reading.times.notation):
                break
            notation = reading.times.notation  # the first rows showed another one: read it again
        if not reading.rows.total:
            raise InputError(f"`data` must hold a row with a user and an item, got none among {reading.seen} rows")
        found = reading.repairs
        with step(workspace.notify, "repairing", of=reading.rows.total, unit="rows") as advance:
            counted = np.zeros(len(reading.users), np.int64), np.zeros(len(reading.items), np.int64)
            rows = repaired(reading.rows, found, advance, lambda block: count_rows(block, *counted))
    except OSError as error:
        raise no_room(error) from None
    user_ids, item_ids = reading.users.names, reading.items.names
    repairs = counts | {repair: found[repair] for repair in REPAIRS if found.get(repair)}
    items = reading.domains.table(item_ids)
    kinds = tuple(reading.kinds)
    return InteractionLog(
        rows, user_ids, item_ids, kinds, items, None, repairs, name, counted=counted, unread=table.unread
    )


def no_room(error: OSError) -> InputError:
    """The error for a disk that is full or can't be written while a large log is prepared."""
    where = "" if error.filename is None else f": {show(str(error.filename))}"
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return InputError(f"`data.cache` must be a folder with room for a large log, got {reason}{where}")
