"""Readers: a file or a data frame to an `InteractionLog`, or one clear line that says why not.

Every experiment begins here: bytes -> `tables` -> `columns` -> `repair` -> `InteractionLog`. `palate_sim.data.load`
reads folders of known archives and named data sets.

    >>> import pandas as pd
    >>> log = read_log(pd.DataFrame({"userId": [1, 2.0, 2], "movieId": [10, 10, 11], "rating": [4, 5, 3]}))
    >>> log.frame["user_id"].tolist(), log.repairs
    (['1', '2', '2'], {'ids_unified': 3, 'single_event_users': 1})
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

import pandas as pd

from palate_common.errors import InputError
from palate_sim.data.columns import ColumnMap, find_columns, show
from palate_sim.data.domains import DOMAIN, domain_table
from palate_sim.data.log import InteractionLog
from palate_sim.data.repair import repair
from palate_sim.data.tables import Table, read_table

Source = str | PathLike[str] | pd.DataFrame


def read_log(source: Source, *, columns: ColumnMap | None = None, name: str | None = None) -> InteractionLog:
    """Read an interaction log.

    Args:
        source: a data frame, or a file: CSV, TSV, text separated by "::", ";" or "|", RecBole `.inter`, each plain or
            gzip, or parquet.
        columns: canonical field (user_id, item_id, kind, value, timestamp, domain) -> name of its column; its position,
            from 0, in a file without a header; None to leave the field out. What is not given is detected by common
            names, but for the domain.
        name: what to call the log in reports; the file's name when left out.

    Returns:
        The log, repaired; `repairs` counts every change.

    Raises:
        InputError: the source can't be read as an interaction log. Nothing is written or kept.
    """
    if isinstance(source, pd.DataFrame):
        return _log(_from_frame(source, columns), name or "frame")
    if not isinstance(source, (str, PathLike)):
        raise InputError(f"`data` must be a path or a pandas data frame, got {type(source).__name__}")
    path = Path(source)
    return _log(read_table(path, columns), name or path.name.partition(".")[0] or show(str(path)))


def purchases_only(log: InteractionLog) -> InteractionLog:
    """The log without rows whose quantity is not positive: returns and coupons are no sign of liking.

    Raises:
        InputError: no purchase is left.
    """
    bought = ~(log.frame["value"].to_numpy() <= 0)
    if not bought.any():
        raise InputError(f"`data` must hold a purchase, got {len(bought)} rows without a positive quantity")
    if bought.all():
        return log
    frame = log.frame[bought].reset_index(drop=True)
    repairs = log.repairs | {
        "rows_without_purchase": int((~bought).sum()),
        "repeated_pairs": int(frame.duplicated(["user_id", "item_id"]).sum()),
        "single_event_users": int((frame["user_id"].value_counts() == 1).sum()),
    }
    return replace(log, frame=frame, repairs={name: count for name, count in repairs.items() if count})


def _from_frame(frame: pd.DataFrame, columns: ColumnMap | None) -> Table:
    """The canonical columns of a data frame."""
    places = find_columns(list(frame.columns), columns)
    if frame.empty:
        raise InputError("`data` must hold rows, got an empty data frame")
    return Table({field: frame.iloc[:, place].reset_index(drop=True) for field, place in places.items()}, {})


def _log(table: Table, name: str) -> InteractionLog:
    """A repaired table as a log."""
    frame, repairs = repair({field: column for field, column in table.columns.items() if field != DOMAIN})
    items = domain_table(table.columns["item_id"], table.columns[DOMAIN]) if DOMAIN in table.columns else None
    return InteractionLog(frame, items, None, table.repairs | repairs, name)
