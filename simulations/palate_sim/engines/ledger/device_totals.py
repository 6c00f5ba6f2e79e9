"""What each device has spent, as a function of its id that is constant between few points: the totals in memory.

A charge is for runs of ids, and devices that were always charged together have the same totals. So ten million
simulated devices in nodes of a million take a few lines, and devices with numbers of their own one line each.

    >>> totals = DeviceTotals(limit_mu2=0.5, max_participations=10)
    >>> rows = totals.rows(IdRuns.of(np.array([3, 7])))
    >>> totals.add(rows[:1], "run-1", 0, 0, 0.5)
    >>> totals.affords(rows, 0.25).tolist(), totals.reached(rows, "run-1", 0, 0)
    ([False, True], True)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_sim.engines.ledger.device_ids import IdRuns, Ids

Rows = npt.NDArray[np.intp]

LEAST, MOST = -(2**63), 2**63 - 1
FEW = 1024
"""Below so many intervals, nothing is won by joining those that are alike."""


class DeviceTotals:
    """For each device: spent mu^2, number of participations and, by run, the last (round, attempt).

    **Guarantees:** the totals are those of each device by itself: where devices differ, so do their intervals.

    Args:
        limit_mu2: the most a device may spend.
        max_participations: the most charges it may have.
    """

    def __init__(self, *, limit_mu2: float, max_participations: int) -> None:
        self._limit, self._most = limit_mu2, max_participations
        # Interval i is from first[i] to before first[i + 1]; together they are all ids.
        self._first: npt.NDArray[np.int64] = np.array([LEAST])
        self._count: npt.NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        # Sums are kept as high + low (double-double): rounding must neither refuse the last round nor allow another.
        self._high: npt.NDArray[np.float64] = np.zeros(1)
        self._low: npt.NDArray[np.float64] = np.zeros(1)
        self._last: dict[str, npt.NDArray[np.int64]] = {}
        self._join_above = FEW

    def __len__(self) -> int:
        """The number of intervals."""
        return len(self._first)

    def rows(self, runs: IdRuns) -> Rows:
        """The intervals that these runs consist of, rising, int [n]; cut where a run begins or ends.

        They are valid until the next call of `rows` or `add`.
        """
        self._cut(np.unique(np.concatenate([runs.first, runs.last[runs.last < MOST] + 1])))
        begin, end = np.searchsorted(self._first, runs.first), np.searchsorted(self._first, runs.last, "right")
        counts = end - begin
        rows: Rows = np.repeat(end - np.cumsum(counts), counts) + np.arange(counts.sum())
        return rows

    def runs(self, rows: Rows) -> IdRuns:
        """The ids of each of the intervals."""
        ends = np.append(self._first[1:] - 1, MOST)
        return IdRuns(self._first[rows], ends[rows])

    def reached(self, rows: Rows, run: str, round_: int, attempt: int) -> bool:
        """Whether any of the devices has taken part in (round, attempt) of the run, or in a later one."""
        last = self._last.get(run)
        return last is not None and bool((last[rows] >= _mark(round_, attempt)).any())

    def affords(self, rows: Rows, mu2: float) -> npt.NDArray[np.bool_]:
        """Which devices can take part at this cost without exceeding a limit, bool [n], by interval."""
        high, low = _plus(self._high[rows], self._low[rows], mu2)
        within: npt.NDArray[np.bool_] = (high < self._limit) | ((high == self._limit) & (low <= 0))
        within &= self._count[rows] < self._most
        return within

    def add(self, rows: Rows, run: str, round_: int, attempt: int, mu2: float) -> None:
        """Add a participation of each device."""
        self._high[rows], self._low[rows] = _plus(self._high[rows], self._low[rows], mu2)
        self._count[rows] += 1
        last = self._last.setdefault(run, np.full(len(self._first), -1, dtype=np.int64))
        last[rows] = np.maximum(last[rows], _mark(round_, attempt))
        if len(self._first) > self._join_above:
            self._join()
            self._join_above = max(FEW, 2 * len(self._first))

    def _cut(self, points: Ids) -> None:
        """Begin an interval at each of these ids, which rise."""
        at = np.searchsorted(self._first, points)
        known = np.zeros(len(points), np.bool_)
        inside = at < len(self._first)
        known[inside] = self._first[at[inside]] == points[inside]
        points, at = points[~known], at[~known]
        if not len(points):
            return
        # The new intervals have the totals of those that they were the end of; no point is below the first.
        self._first = np.insert(self._first, at, points)
        self._count = np.insert(self._count, at, self._count[at - 1])
        self._high, self._low = (np.insert(each, at, each[at - 1]) for each in (self._high, self._low))
        self._last = {run: np.insert(last, at, last[at - 1]) for run, last in self._last.items()}

    def _join(self) -> None:
        """Make one of neighbours that have the same totals."""
        kept = np.ones(len(self._first), np.bool_)
        kept[1:] = False
        for each in (self._count, self._high, self._low, *self._last.values()):
            kept[1:] |= each[1:] != each[:-1]
        self._first, self._count = self._first[kept], self._count[kept]
        self._high, self._low = self._high[kept], self._low[kept]
        self._last = {run: last[kept] for run, last in self._last.items()}


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
