"""What each device of a batch has spent, as arrays: the device ledger's totals in memory.

>>> totals = DeviceTotals(limit_mu2=0.5, max_participations=10)
>>> rows = totals.rows(np.array([3, 7]))
>>> totals.add(rows[:1], "run-1", 0, 0, 0.5)
>>> totals.affords(rows, 0.25).tolist(), totals.reached(rows, "run-1", 0, 0)
([False, True], True)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]


class DeviceTotals:
    """For each known device: spent mu^2, number of participations and, by run, the last (round, attempt).

    Args:
        limit_mu2: the most a device may spend.
        max_participations: the most charges it may have.
    """

    def __init__(self, *, limit_mu2: float, max_participations: int) -> None:
        self._limit, self._most = limit_mu2, max_participations
        self._ids = np.empty(0, dtype=np.int64)
        self._count = np.empty(0, dtype=np.int64)
        # Sums are kept as high + low (double-double): rounding must neither refuse the last round nor allow another.
        self._high, self._low = np.empty(0), np.empty(0)
        self._last: dict[str, npt.NDArray[np.int64]] = {}

    def rows(self, ids: npt.NDArray[np.int64]) -> Rows:
        """The rows of sorted ids, int [n]. New ids get new rows, so that rows returned before are no longer valid."""
        rows = np.searchsorted(self._ids, ids)
        known = np.zeros(len(ids), dtype=np.bool_)
        inside = rows < len(self._ids)
        known[inside] = self._ids[rows[inside]] == ids[inside]
        if known.all():
            return rows
        at = rows[~known]
        self._ids = np.insert(self._ids, at, ids[~known])
        self._count = np.insert(self._count, at, 0)
        self._high, self._low = np.insert(self._high, at, 0.0), np.insert(self._low, at, 0.0)
        self._last = {run: np.insert(last, at, -1) for run, last in self._last.items()}
        return np.searchsorted(self._ids, ids)

    def reached(self, rows: Rows, run: str, round_: int, attempt: int) -> bool:
        """Whether any of the devices has taken part in (round, attempt) of the run, or in a later one."""
        last = self._last.get(run)
        return last is not None and bool((last[rows] >= _mark(round_, attempt)).any())

    def affords(self, rows: Rows, mu2: float) -> npt.NDArray[np.bool_]:
        """Which devices can take part at this cost without exceeding a limit, bool [n]."""
        high, low = _plus(self._high[rows], self._low[rows], mu2)
        within: npt.NDArray[np.bool_] = (high < self._limit) | ((high == self._limit) & (low <= 0))
        within &= self._count[rows] < self._most
        return within

    def add(self, rows: Rows, run: str, round_: int, attempt: int, mu2: float) -> None:
        """Add a participation of each device."""
        self._high[rows], self._low[rows] = _plus(self._high[rows], self._low[rows], mu2)
        self._count[rows] += 1
        last = self._last.setdefault(run, np.full(len(self._ids), -1, dtype=np.int64))
        last[rows] = np.maximum(last[rows], _mark(round_, attempt))


def _mark(round_: int, attempt: int) -> int:
    """(round, attempt) as one number in the same order; both are below 2^31."""
    return (round_ << 31) | attempt


def _plus(
    high: npt.NDArray[np.float64], low: npt.NDArray[np.float64], term: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Add a float to a double-double (Knuth's TwoSum), normalised so that `high` is the sum rounded to nearest."""
    total = high + term
    rest = total - high
    low = low + ((high - (total - rest)) + (term - rest))
    high = total + low
    return high, low - (high - total)
