"""Log: an interaction log after reading, the input of every experiment; and what to say about it.

First step of the data path: a reader makes an `InteractionLog`, filters may narrow it, `positives` weighs it, `split`
cuts it.

    >>> import pandas as pd
    >>> from palate_sim.data import read_log
    >>> log = read_log(pd.DataFrame({"user": [1, 1, 2], "item": ["a", "b", "a"]}))
    >>> describe(log)["users"], describe(log)["density"]
    (2, 0.75)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_sim.data.events import EventBlock, Rows, stable_order

QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}


@dataclass(frozen=True)
class InteractionLog:
    """One interaction log in canonical form.

    Attributes:
        rows: one row an event, in blocks of whole users, ordered by user and time; unknown times last.
        user_ids: the id of each user number; some may have no row.
        item_ids: the id of each item number; some may have no row.
        kinds: each kind number's name.
        items: public features of items, `item_id`, `title`, `genres` (separated by "|"), `domain`, or None.
        users: groups of users for evaluation, `user_id` and one column a group, or None. Never used for training.
        repairs: what reading changed or noticed, name -> number of rows or users; see `repair.REPAIRS`.
        name: what to call this log in a report.
        terms: the terms under which its publisher gives it away; empty for a log of one's own.
        counted: rows of each user and of each item, where they were counted already.
        unread: names of the source's columns that nothing was made of.
    """

    rows: Rows
    user_ids: pa.ChunkedArray
    item_ids: pa.ChunkedArray
    kinds: tuple[str, ...]
    items: pd.DataFrame | None = None
    users: pd.DataFrame | None = None
    repairs: dict[str, int] = field(default_factory=dict)
    name: str = "log"
    terms: str = ""
    counted: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
    unread: tuple[str, ...] = ()

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, **about: Any) -> InteractionLog:
        """A log of a frame in the form of `frame`; `about` are further attributes."""
        users, user_ids = pd.factorize(frame["user_id"])
        items, item_ids = pd.factorize(frame["item_id"])
        kinds, names = pd.factorize(frame["kind"])
        columns = {
            "kinds": kinds,
            "values": frame["value"].to_numpy(float),
            "times": frame["timestamp"].to_numpy(float),
        }
        block = EventBlock.of(users=users, items=items, **columns)
        rows = Rows(has=frozenset(columns))
        rows.add(block.rows(stable_order((block.users, len(user_ids)))) if (np.diff(block.users) < 0).any() else block)
        return cls(rows, _texts(user_ids), _texts(item_ids), tuple(map(str, names)), **about)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All rows as one frame, for a log that fits into memory.

        `user_id` (str), `item_id` (str), `kind` (str or None), `value` (float, NaN where there is none), `timestamp`
        (float, seconds since 1970 in UTC, NaN where unknown).
        """
        whole = EventBlock.joined(list(self.rows) or [EventBlock.of(users=[], items=[])])
        missing = np.full(len(whole), np.nan)
        names = np.array([*self.kinds, None], dtype=object)
        return pd.DataFrame(
            {
                "user_id": pd.Series(self.user_ids.to_pandas(), dtype="str").take(whole.users).reset_index(drop=True),
                "item_id": pd.Series(self.item_ids.to_pandas(), dtype="str").take(whole.items).reset_index(drop=True),
                "kind": names[np.full(len(whole), -1) if whole.kinds is None else whole.kinds],
                "value": missing if whole.values is None else whole.values,
                "timestamp": missing if whole.times is None else whole.times,
            }
        )

    @cached_property
    def events_of_users(self) -> npt.NDArray[np.int64]:
        """Rows of each user number, int64 [n]."""
        return self._counts[0]

    @cached_property
    def events_of_items(self) -> npt.NDArray[np.int64]:
        """Rows of each item number, int64 [n]."""
        return self._counts[1]

    @cached_property
    def _counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if self.counted is not None:
            return self.counted
        users, items = np.zeros(len(self.user_ids), np.int64), np.zeros(len(self.item_ids), np.int64)
        for block in self.rows:
            count_rows(block, users, items)
        return users, items

    @property
    def present_items(self) -> Sequence[str]:
        """The ids of the items that have a row, in the order of their numbers."""
        names: list[str] = self.item_ids.filter(pa.array(self.events_of_items > 0)).to_pylist()
        return names

    def only(self, keep: Callable[[EventBlock], npt.NDArray[np.bool_]]) -> InteractionLog:
        """The log with the rows that a function keeps of each block."""
        return replace(self, rows=self.rows.only(keep), counted=None)


def count_rows(block: EventBlock, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> None:
    """Add the rows of a block of whole users to the counts of each user and item."""
    own = np.bincount(block.users - block.users[0])
    users[block.users[0] : block.users[0] + len(own)] += own
    items += np.bincount(block.items, minlength=len(items))


def _texts(values: Any) -> pa.ChunkedArray:
    """Distinct ids as Arrow text."""
    return pa.chunked_array([pa.array([str(value) for value in values], pa.large_string())])


def describe(log: InteractionLog) -> dict[str, Any]:
    """Figures about a log, ready for JSON: size, density, kinds, time span, activity of users, repairs, terms."""
    per_user = log.events_of_users[log.events_of_users > 0]
    users, items = len(per_user), int((log.events_of_items > 0).sum())
    pairs = unknown = 0
    first, last = np.inf, -np.inf
    rated, of_kinds = [], np.zeros(len(log.kinds), np.int64)
    for block in log.rows:
        pairs += len(distinct_pairs(block, len(log.item_ids)))
        times = np.full(len(block), np.nan) if block.times is None else block.times
        known = times[np.isfinite(times)]
        unknown += len(times) - len(known)
        first, last = min(first, known.min(initial=np.inf)), max(last, known.max(initial=-np.inf))
        if block.values is not None:
            rated.append(block.values[np.isfinite(block.values)])
        if block.kinds is not None:
            of_kinds += np.bincount(block.kinds[block.kinds >= 0], minlength=len(of_kinds))
    by_count = sorted(range(len(log.kinds)), key=lambda kind: -of_kinds[kind])
    return {
        "name": log.name,
        "users": users,
        "items": items,
        "rows": log.rows.total,
        "pairs": pairs,
        "density": pairs / (users * items) if users and items else 0.0,
        "kinds": {log.kinds[kind]: int(of_kinds[kind]) for kind in by_count if of_kinds[kind]},
        "values": _quantiles(np.concatenate(rated)) if rated else {},
        "first_time": _day(first) if np.isfinite(first) else None,
        "last_time": _day(last) if np.isfinite(last) else None,
        "times_unknown": unknown,
        "events_per_user": _quantiles(per_user.astype(np.float64)),
        "item_features": [] if log.items is None else [c for c in log.items.columns if c != "item_id"],
        "user_groups": [] if log.users is None else [c for c in log.users.columns if c != "user_id"],
        "repairs": dict(log.repairs),
        "columns_not_read": list(log.unread),
        "terms": log.terms,
    }


def distinct_pairs(block: EventBlock, n_items: int) -> npt.NDArray[np.int64]:
    """The distinct pairs of a block, rising: user number x `n_items` + item number."""
    keys = block.users.astype(np.int64) * n_items + block.items
    keys.sort()
    return keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys


def _quantiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Quantiles and mean, empty for no value."""
    if not len(values):
        return {}
    return {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()} | {"mean": float(values.mean())}


def _day(seconds: float) -> str:
    """Seconds since 1970 as an ISO time in UTC, or as a plain number where the calendar does not reach."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return repr(float(seconds))
