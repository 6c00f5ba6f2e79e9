"""Pair counts: which of a user's rows come together, the upper triangle of `a a'` without its diagonal.

User u sends `a_i a_j` for each pair i < j of their rows, with `a` sparse over them. Coordinates go through the triangle
row by row: (0, 1), (0, 2), ..., (1, 2), ... The norm is known without making them:

    sum over i < j of (a_i a_j)^2  =  ((sum a_i^2)^2 - sum a_i^4) / 2

and the sum over users is the upper triangle of A'A, in products of whole numbers.

    >>> one = PairBlock(np.array([0, 3]), np.array([0, 1, 3], np.int32), np.array([1.0, 2.0, 3.0]), 4)
    >>> one.square_norms().round(6).tolist()
    [49.0]
    >>> one.quantise(np.ones(1), 1).vector(0).tolist()  # (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)
    [2, 0, 3, 0, 6, 0]
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from palate_common.interactions import kept_rows, segment_sum

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SLACK = 2.0**-40  # of (sum a^2)^2: more than all rounding of the norm, whose two halves can cancel
MOST_ROWS = 2**15  # whose pairs are 4 GiB
MOST_STEPS = 2**24  # of one row: more than clipping leaves, and squares of so many rows add up in int64
PAIRS_AT_ONCE = 2**18  # pairs that are spelled out at once: 2 MB for each of their numbers
DENSE_AT_ONCE = 2**19  # products that a dense step makes at once: 4 MB
DENSE_SHARE = 16  # a user with more than one row in 16 is summed faster by a dense product,
FEWEST_DENSE = 64  # if there are so many of them: it goes through all pairs whoever has them


@dataclass(frozen=True)
class PairBlock:
    """All pairs of a user's rows: user u sends `a_i a_j` for i < j, n_rows (n_rows - 1) / 2 numbers.

    Attributes:
        indptr: int64 [n_users + 1], CSR over the rows each user has.
        indices: int32 [nnz], the rows, in [0, n_rows), strictly increasing within a user.
        rows: float64 [nnz], a.
        n_rows: number of rows whose pairs are counted.
    """

    indptr: Int64
    indices: npt.NDArray[np.int32]
    rows: Float64
    n_rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_users, pairs)."""
        return len(self.indptr) - 1, self.n_rows * (self.n_rows - 1) // 2

    def square_norms(self) -> Float64:
        """Squared L2 norm of each user's pairs, float64 [n_users], and `SLACK`; not finite where a number is not."""
        squares = np.square(self.rows)
        whole: Float64 = np.square(segment_sum(squares, self.indptr))
        fourths: Float64 = segment_sum(np.square(squares), self.indptr)
        return np.asarray(np.maximum(whole - fourths, 0.0) / 2 + SLACK * whole)

    def keep(self, kept: Bools) -> PairBlock:
        """The same block with zeros for the users that are not kept."""
        return self if kept.all() else replace(self, rows=kept_rows(self.rows, np.repeat(kept, np.diff(self.indptr))))

    def quantise(self, scale: Float64, grid: int) -> PairSteps:
        """Each user's pairs times their scale, in grid steps: rows take the root of it, truncated toward zero."""
        rows = np.repeat(np.sqrt(scale * grid), np.diff(self.indptr))
        rows *= self.rows
        return PairSteps(self.indptr, self.indices, rows.astype(np.int64), self.n_rows)


@dataclass(frozen=True)
class PairSteps:
    """A clipped `PairBlock` in grid steps: user u sends the integers `rows_i rows_j`."""

    indptr: Int64
    indices: npt.NDArray[np.int32]
    rows: Int64
    n_rows: int

    @property
    def size(self) -> int:
        """Number of coordinates of one user."""
        return self.n_rows * (self.n_rows - 1) // 2

    def square_norms(self) -> Float64:
        """Squared L2 norm of each user's integers, float64 [n_users]; exact up to 2^53.

        Each row counts with the rows before it, so that nothing is subtracted from a large number.
        """
        counts = np.diff(self.indptr)
        large = segment_sum(np.abs(self.rows.astype(np.float64)) > MOST_STEPS, self.indptr)
        squares = np.square(kept_rows(self.rows, ~np.repeat(large, counts)))
        before = np.cumsum(squares) - squares
        before -= before[np.repeat(self.indptr[:-1], counts)]
        norms: Float64 = segment_sum(squares.astype(np.float64) * before.astype(np.float64), self.indptr)
        return np.where(large, np.inf, norms)

    def keep(self, kept: Bools) -> PairSteps:
        """The same block with zeros for the users that are not kept."""
        return replace(self, rows=kept_rows(self.rows, np.repeat(kept, np.diff(self.indptr))))

    def vector(self, user: int) -> Int64:
        """One user's coordinates, int64 [size]."""
        out = np.zeros(self.size, np.int64)
        self._add_spelled(out, np.arange(self.indptr[user], self.indptr[user + 1]))
        return out

    def add_to(self, total: Int64) -> None:
        """Add the sum over users to `total`, int64 [size].

        Every product and every partial sum is an integer below 2^53, but for a row's with itself, which is not used:
        neither the order of summing nor which way is taken can change the sum.
        """
        counts = np.diff(self.indptr)
        dense = counts * DENSE_SHARE > self.n_rows
        dense &= bool(dense.sum() >= FEWEST_DENSE)
        self._add_dense(total, np.flatnonzero(dense))
        self._add_spelled(total, np.flatnonzero(np.repeat(~dense, counts)))

    def _starts(self) -> Int64:
        """Where the pairs of each row start, less what makes (i, j) the place `starts[i] + j`, int64 [n_rows]."""
        rows = np.arange(self.n_rows, dtype=np.int64)
        return rows * (2 * self.n_rows - rows - 1) // 2 - rows - 1

    def _add_spelled(self, total: Int64, entries: Int64) -> None:
        """Add the pairs of some entries with the later ones of their users, pair by pair."""
        ends = np.repeat(self.indptr[1:], np.diff(self.indptr))[entries]
        later = ends - entries - 1
        done, starts = np.cumsum(later), self._starts()
        first = 0
        while first < len(entries):
            before = int(done[first] - later[first])
            last = max(first + 1, int(np.searchsorted(done, before + PAIRS_AT_ONCE, "right")))
            n, own = later[first:last], entries[first:last]
            seconds = np.arange(done[last - 1] - before)
            seconds += np.repeat(own + 1 - (done[first:last] - n - before), n)
            places = np.repeat(starts[self.indices[own]], n)
            places += self.indices[seconds]
            values = np.repeat(self.rows[own], n)
            values *= self.rows[seconds]
            np.add.at(total, places, values)
            first = last

    def _add_dense(self, total: Int64, users: npt.NDArray[np.intp]) -> None:
        """Add the upper triangle of A'A with a dense A of these users, in memory of the size of `total` at most."""
        starts, n = self._starts(), self.n_rows
        at_once = max(1, n // 2)
        height = max(1, DENSE_AT_ONCE // n)
        for part in (users[first : first + at_once] for first in range(0, len(users), at_once)):
            spelled = np.zeros((len(part), n))
            for place, user in enumerate(part.tolist()):
                own = slice(self.indptr[user], self.indptr[user + 1])
                spelled[place, self.indices[own]] = self.rows[own]
            for top in range(0, n, height):
                products = (spelled[:, top : top + height].T @ spelled[:, top:]).astype(np.int64)
                for row, found in enumerate(products, start=top):
                    total[starts[row] + row + 1 : starts[row] + n] += found[row - top + 1 :]
