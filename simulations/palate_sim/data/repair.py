"""Repair: from raw batches to coded rows in canonical order, with every change counted.

Third step of reading. A value that can't be interpreted is refused (a rating that is no finite number). A value with
one obvious interpretation is repaired and counted (an id written `7.0`). An unusual value is kept and counted (a user
with one event). `REPAIRS` says in words what each count means.

    >>> reading = Reading(("user_id", "item_id"), limit=100)
    >>> reading.add({"user_id": pd.Series([" u1", "u1", None]), "item_id": pd.Series([7, 7, 8])})
    >>> counts = reading.repairs
    >>> rows = repaired(reading.rows, counts, lambda rows: None)
    >>> rows.total, counts["rows_without_id"], counts["exact_duplicates"]
    (1, 1, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_core.errors import InputError
from palate_sim.data.columns import show
from palate_sim.data.domains import DOMAIN, Domains
from palate_sim.data.events import EventBlock, Place, Rows, stable_order
from palate_sim.data.ids import MISSING, IdCoder
from palate_sim.data.log import distinct_pairs
from palate_sim.data.times import Notation, TimeReader, numbers_of

_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads the bits of a row over its hash

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


class Reading:
    """Codes the batches of a log: canonical ids as numbers, values and times as floats. Rows without an id are dropped.

    Args:
        fields: the canonical fields that the log has.
        notation: how its times are written, once that is known.
        folder: where rows go that are too many for memory.
        limit: rows that are kept in memory.
    """

    def __init__(
        self, fields: Collection[str], *, notation: Notation | None = None, folder: Place | None = None, limit: int
    ) -> None:
        self.users, self.items = IdCoder("user_id"), IdCoder("item_id")
        self.kinds: dict[str, int] = {}
        self.times = TimeReader(notation) if "timestamp" in fields else None
        self.domains = Domains()
        has = {"kinds": "kind" in fields, "values": "value" in fields, "times": self.times is not None}
        self.rows = Rows(has=frozenset(name for name, there in has.items() if there), folder=folder, limit=limit)
        self.seen = 0

    def add(self, batch: Mapping[str, pd.Series]) -> None:
        """Code the rows of a batch.

        Raises:
            InputError: a value is not a finite number, or an id is not a scalar.
            OSError: the disk is full.
        """
        block = EventBlock(
            self.users.code(batch["user_id"]),
            self.items.code(batch["item_id"]),
            self._kinds(batch["kind"]) if "kind" in batch else None,
            _values(batch["value"], self.seen, blank_allowed="kind" in batch) if "value" in batch else None,
            None if self.times is None else self.times.read(batch["timestamp"]),
        )
        if DOMAIN in batch:
            self.domains.add(block.items, batch[DOMAIN])
        self.seen += len(block)
        keep = (block.users >= 0) & (block.items >= 0)
        self.rows.add(block if keep.all() else block.rows(keep))

    @property
    def repairs(self) -> dict[str, int]:
        """The counts of what was repaired so far, without what only whole users show."""
        counts = {"rows_without_id": self.seen - self.rows.total}
        for part in (self.users.repairs, self.items.repairs, {} if self.times is None else self.times.repairs):
            for name, count in part.items():
                counts[name] = counts.get(name, 0) + count
        return counts

    def _kinds(self, column: pd.Series) -> npt.NDArray[np.int32]:
        """The code of each row's kind, -1 for none."""
        raw, uniques = pd.factorize(column)
        recode = np.full(len(uniques) + 1, -1, np.int32)
        for code, value in enumerate(uniques):
            text = str(value).strip()
            if text.casefold() not in MISSING:
                recode[code] = self.kinds.setdefault(text, len(self.kinds))
        return recode[raw]


def repaired(
    rows: Rows,
    repairs: dict[str, int],
    advance: Callable[[int], None],
    count: Callable[[EventBlock], None] | None = None,
) -> Rows:
    """Drop what is repeated, and order the rows of each user by time; the raw rows are gone afterwards.

    Args:
        rows: coded rows, as they came.
        repairs: counts to add to.
        advance: called with the number of rows that are done.
        count: called with each block as it is now.

    Raises:
        OSError: the disk is full.
    """
    done = rows.like()
    counts = dict.fromkeys(("exact_duplicates", "repeated_pairs", "single_event_users", "times_out_of_order"), 0)
    for block in rows.taken():
        advance(len(block))
        block = _repaired(block, counts)
        done.add(block)
        if count is not None:
            count(block)
    for name, found in counts.items():
        repairs[name] = repairs.get(name, 0) + found
    return done


def _repaired(block: EventBlock, counts: dict[str, int]) -> EventBlock:
    """One block of whole users without repeats, in order."""
    if (np.diff(block.users) < 0).any():
        block = block.rows(stable_order((block.users - block.users.min(), int(np.ptp(block.users)) + 1)))
    repeats = _repeats(block)
    if len(repeats):
        counts["exact_duplicates"] += len(repeats)
        block = block.rows(np.delete(np.arange(len(block)), repeats))
    counts["repeated_pairs"] += len(block) - len(distinct_pairs(block, int(block.items.max(initial=0)) + 1))
    counts["single_event_users"] += int((np.bincount(block.users - block.users[0]) == 1).sum())
    if block.times is None:
        return block
    late = (np.diff(block.users) == 0) & (np.diff(block.times) < 0)
    counts["times_out_of_order"] += int(late.sum())
    if not late.any() and not np.isnan(block.times).any():
        return block
    return block.rows(_by_time(block.users - block.users[0], block.times))


def _by_time(users: npt.NDArray[np.int32], times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The order of rows by user and time, unknown times last, equal ones as they came."""
    unknown = np.isnan(times)
    if unknown.all():
        return np.arange(len(times))
    first, last = np.nanmin(times), np.nanmax(times)
    if last - first < 2**40:
        since = np.where(unknown, 0, times - first).astype(np.int64)
        if (unknown | (first + since == times)).all():
            end = int(since.max()) + 1
            since[unknown] = end
            return stable_order((users, int(users[-1]) + 1), (since, end + 1))
    return np.lexsort((np.where(unknown, np.inf, times), users))


def _repeats(block: EventBlock) -> npt.NDArray[np.int64]:
    """The places of rows that repeat an earlier one in every column.

    A hash of each row finds the few that may; only these are compared.
    """
    mixed = np.zeros(len(block), np.uint64)
    columns = block.columns()
    for number, column in enumerate(columns.values()):
        if column.dtype == np.float64:
            column = np.where(np.isnan(column), np.nan, column + 0.0)  # one NaN, and one zero
            mixed ^= column.view(np.uint64)
        else:
            mixed ^= column.astype(np.uint64)
        mixed *= _ODD
        mixed ^= mixed >> np.uint64(29 + number)
    in_order = np.sort(mixed)
    twice = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(twice):
        return np.zeros(0, np.int64)
    places = np.flatnonzero(np.isin(mixed, twice))
    repeated = pd.DataFrame({name: column[places] for name, column in columns.items()}).duplicated()
    found: npt.NDArray[np.int64] = places[repeated.to_numpy(bool)]
    return found


def _values(column: pd.Series, before: int, *, blank_allowed: bool) -> npt.NDArray[np.float64]:
    """Finite values; NaN only in a row of an event log that leaves it blank. `before`: rows of earlier batches."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(np.float64)
    numbers = numbers_of(column)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        cells = column.iloc[bad]
        blank = cells.isna() | (cells.astype(str).str.strip() == "")
        refused = bad[~blank.to_numpy(bool)] if blank_allowed else bad
        if len(refused):
            cell: Any = column.iloc[refused[0]]
            row = before + refused[0] + 1
            raise InputError(f"`value` must be a finite number, got {show(str(cell))} in row {row} of data")
    return numbers
