"""Repair: from raw columns to a canonical frame, with every change counted.

Third step of reading. A value that can't be interpreted is refused (a rating that is no finite number). A value with
one obvious interpretation is repaired and counted (an id written `7.0`). An unusual value is kept and counted (a user
with one event). `REPAIRS` says in words what each count means.

    >>> import pandas as pd
    >>> columns = {"user_id": pd.Series([" u1", "u1", None]), "item_id": pd.Series([7, 7, 8])}
    >>> frame, repairs = repair(columns)
    >>> frame[["user_id", "item_id"]].values.tolist(), repairs["rows_without_id"], repairs["exact_duplicates"]
    ([['u1', '7']], 1, 1)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.errors import InputError
from palate_sim.data.columns import show
from palate_sim.data.ids import MISSING, canonical_ids
from palate_sim.data.times import canonical_times

REPAIRS = {
    "byte_order_mark": "files began with a byte-order mark, which was left out",
    "read_as_utf16": "files were UTF-16 text",
    "names_read_as_latin1": "lines that were not UTF-8 were read as latin-1",
    "lines_of_another_width": "lines with another number of columns than the first were dropped",
    "rows_without_id": "rows without a user or without an item were dropped",
    "ids_trimmed": "rows had white space around an id, which was taken off",
    "ids_unified": "rows wrote an id in another type than most (7.0 for 7, text among numbers); it is one id now",
    "exact_duplicates": "rows that repeat another in every field were dropped",
    "repeated_pairs": "rows repeat a user and item at another time, kind or value; they are merged into one positive",
    "times_missing": "rows have no readable time; they are kept with an unknown one",
    "times_in_the_future": "rows lie more than a day after now; their time counts as unknown",
    "times_out_of_order": "rows came before an earlier one of the same user; rows were put in order",
    "times_rescaled": "rows had their time in milliseconds, microseconds or nanoseconds",
    "single_event_users": "users have one event only; they are kept, and can't be evaluated",
    "rows_without_purchase": "rows whose quantity is not positive (returns, coupons) were dropped",
}


def repair(columns: dict[str, pd.Series]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Bring columns into canonical form.

    Args:
        columns: canonical field -> values of any type, all of one length; user_id and item_id are present.

    Returns:
        The frame of an `InteractionLog`, ordered by user and time, and the counts of repairs without zero counts.

    Raises:
        InputError: a value is not a finite number, an id is not a scalar, or no row is left.
    """
    repairs = dict.fromkeys(REPAIRS, 0)
    rows = len(columns["user_id"])
    users, user_names = canonical_ids(columns["user_id"], "user_id", repairs)
    items, item_names = canonical_ids(columns["item_id"], "item_id", repairs)
    kinds, kind_names = _kinds(columns.get("kind"), rows)
    values = _values(columns.get("value"), rows, blank_allowed="kind" in columns)
    times = canonical_times(columns.get("timestamp"), rows, repairs)

    keep = (users >= 0) & (items >= 0)
    repairs["rows_without_id"] = rows - int(keep.sum())
    codes = pd.DataFrame({"user": users, "item": items, "kind": kinds, "value": values, "time": times})[keep]
    repeats = codes.duplicated().to_numpy(bool)
    repairs["exact_duplicates"] = int(repeats.sum())
    codes = codes[~repeats]
    if codes.empty:
        raise InputError(f"`data` must hold a row with a user and an item, got none among {rows} rows")
    repairs["repeated_pairs"] = int(codes.duplicated(["user", "item"]).sum())
    repairs["single_event_users"] = int((np.bincount(codes["user"]) == 1).sum())
    codes = _in_order(codes, repairs)
    frame = pd.DataFrame(
        {
            "user_id": _names(codes["user"], user_names),
            "item_id": _names(codes["item"], item_names),
            "kind": np.array([*kind_names, None], dtype=object)[codes["kind"].to_numpy()],
            "value": codes["value"].to_numpy(np.float64),
            "timestamp": codes["time"].to_numpy(np.float64),
        }
    )
    return frame, {name: count for name, count in repairs.items() if count}


def _in_order(codes: pd.DataFrame, repairs: dict[str, int]) -> pd.DataFrame:
    """Sort rows by user and time, unknown times last; count the rows that were out of order."""
    grouped = codes.iloc[np.argsort(codes["user"].to_numpy(), kind="stable")]
    same_user = np.diff(grouped["user"].to_numpy()) == 0
    repairs["times_out_of_order"] = int((same_user & (np.diff(grouped["time"].to_numpy()) < 0)).sum())
    return grouped.iloc[np.lexsort((grouped["time"].to_numpy(), grouped["user"].to_numpy()))]


def _names(codes: pd.Series, names: list[str]) -> pd.Series:
    """The text of each code."""
    return pd.Series(names, dtype="str").take(codes.to_numpy()).reset_index(drop=True)


def _kinds(column: pd.Series | None, rows: int) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The code of each row's kind, -1 for none, and the kinds."""
    if column is None:
        return np.full(rows, -1, np.int64), []
    raw, uniques = pd.factorize(column)
    kinds: dict[str, int] = {}
    recode = np.full(len(uniques) + 1, -1, np.int64)
    for code, value in enumerate(uniques):
        text = str(value).strip()
        if text.casefold() not in MISSING:
            recode[code] = kinds.setdefault(text, len(kinds))
    return recode[raw], list(kinds)


def _values(column: pd.Series | None, rows: int, *, blank_allowed: bool) -> npt.NDArray[np.float64]:
    """Finite values; NaN only where there is no value column, or a row of an event log leaves it blank."""
    if column is None:
        return np.full(rows, np.nan)
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(np.float64)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        cells = column.iloc[bad]
        blank = cells.isna() | (cells.astype(str).str.strip() == "")
        refused = bad[~blank.to_numpy(bool)] if blank_allowed else bad
        if len(refused):
            cell: Any = column.iloc[refused[0]]
            raise InputError(f"`value` must be a finite number, got {show(str(cell))} in row {refused[0] + 1} of data")
    return numbers
