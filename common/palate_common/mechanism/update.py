"""Updates: what a device computes for one round, and its clipped integer form; only the latter leaves the device.

A contribution is a few named blocks of fixed shape (the layout, from the signed plan). The kinds of block:

- `DenseBlock`: a dense array for each user.
- `OuterBlock`: rows times columns, `q = a b'` with `a` sparse over the items a user has and `b` a vector, as matrix
  factorisation sends it. Its norm is |a| |b|, and the sum over users is one sparse product, so no array of the size of
  the item table is made for each user. It can be centred: `q = (a - t c) b'`, with `c` the same public direction for
  all users. Then all rows are sent, and the sum over users is still that sparse product, less `c (sum of t b)'`.
- `PairBlock`: the counts of pairs of a user's items, see `palate_common.mechanism.pairs`.

A kind knows its norm, how it is put on the grid, and how its integers are summed; `clip` asks it for each.

`Update` has no serializer. `ClippedUpdate` is made only by `palate_common.mechanism.clipping.clip`, and `ClippedSum`
from such.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Gather, alike, kept_rows, row_chunks, row_squares, segment_sum
from palate_common.mechanism.pairs import PairBlock, PairSteps
from palate_core.layout import BlockSpec, layout_size

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DENSE_AT_ONCE = 2**19  # numbers of a dense matrix that is made at once: 4 MB
DENSE_SHARE = 32  # above one entry in 32, a dense product is faster than a sparse one
USERS_AT_ONCE = 16_384  # users whose vectors a sparse product reads again and again: 6 MB at width 96
MOST_REACH = 2.0**30  # of what is taken off one coordinate of a user: more than clipping leaves, few for exact sums
LEVER = 8.0  # a centred user's rows are at most so much longer than what is sent: all sums stay exact
RUN, SHORTEST_RUN = 64, 8  # entries of an item that are summed as one product, at most and in float32 at least


def split_vector(vector: npt.NDArray[np.generic], layout: Sequence[BlockSpec]) -> dict[str, npt.NDArray[np.generic]]:
    """The blocks of one flat contribution, by name, in their shapes."""
    ends = np.cumsum([spec.size for spec in layout])
    parts = np.split(vector[: ends[-1]], ends[:-1])
    return {spec.name: part.reshape(spec.shape) for spec, part in zip(layout, parts, strict=True)}


def block_units(layout: Sequence[BlockSpec], step: float) -> dict[str, float]:
    """How much one grid step is in each block's own units; `step` is clip norm over grid."""
    return {spec.name: step / spec.weight for spec in layout}


def block_sums(steps: Int64, layout: Sequence[BlockSpec], step: float) -> dict[str, Float64]:
    """A sum in grid steps as blocks in their own units and shapes."""
    blocks, units = split_vector(steps, layout), block_units(layout, step)
    return {name: block.astype(np.float64) * units[name] for name, block in blocks.items()}


@dataclass(frozen=True)
class DenseBlock:
    """One array a user: float64 [n_users, *shape]."""

    values: Float64

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_users, *shape)."""
        return self.values.shape

    @property
    def _flat(self) -> Float64:
        """One row a user; also without users, where numpy can't tell the width."""
        return self.values.reshape(len(self.values), int(np.prod(self.values.shape[1:], dtype=np.int64)))

    def square_norms(self) -> Float64:
        """Squared L2 norm of each user's numbers, float64 [n_users]; not finite where they are not."""
        return row_squares(self._flat)

    def keep(self, kept: Bools) -> DenseBlock:
        """The same block with zeros for the users that are not kept."""
        return DenseBlock(kept_rows(self.values, kept))

    def quantise(self, scale: Float64, grid: int) -> DenseSteps:
        """Each user's numbers times their scale, in grid steps, truncated toward zero."""
        return DenseSteps((self._flat * (scale * grid)[:, None]).astype(np.int64))


@dataclass(frozen=True)
class OuterBlock:
    """One sparse column times one row vector a user: user u sends `a_u b_u'`, of shape [n_rows, width].

    With `along` and `shift` it is centred: user u sends `(a_u - t_u c) b_u'`, in which all rows are set.

    Attributes:
        indptr: int64 [n_users + 1], CSR over the rows each user touches.
        indices: int32 [nnz], the rows, in [0, n_rows), strictly increasing within a user.
        rows: float64 [nnz], a.
        columns: float64 [n_users, width], b.
        n_rows: number of rows of the block.
        along: int64 [n_rows], c: public whole numbers, see `whole_direction`. None: nothing is taken off.
        shift: float64 [n_users], t: the user's own. With t = (a.c) / |c|^2 nothing is sent along c, but for rounding.
    """

    indptr: Int64
    indices: npt.NDArray[np.int32]
    rows: Float64
    columns: Float64
    n_rows: int
    along: Int64 | None = None
    shift: Float64 | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_users, n_rows, width)."""
        return len(self.indptr) - 1, self.n_rows, *self.columns.shape[1:]

    @classmethod
    def build_centred(
        cls,
        indptr: Int64,
        indices: npt.NDArray[np.int32],
        rows: Float64,
        columns: Float64,
        n_rows: int,
        *,
        along: Int64,
        least_left: float,
    ) -> OuterBlock:
        """Products of which nothing is along `along`, and whose left factor then has length 1.

        Args:
            indptr: as of the class, and so are the others that aren't named here.
            indices: see there.
            rows: see there, of any length.
            columns: see there; a user's is divided by the length of what is left of their rows.
            n_rows: see there.
            along: public whole numbers, not all zero.
            least_left: of rows that are nearly all along it, this share of their length is what they are divided by.
        """
        block = cls(indptr, indices, rows, columns, n_rows, along, np.zeros(len(columns)))
        squares, dots = block._moments
        square = float(np.square(along).sum())
        shift = dots / square
        lengths = np.sqrt(np.maximum(squares - shift**2 * square, least_left**2 * squares))
        block = replace(block, columns=columns / np.where(lengths > 0, lengths, 1.0)[:, None], shift=shift)
        vars(block)["_moments"] = squares, dots  # they take longer than all else here, and clipping needs them again
        return block

    def square_norms(self) -> Float64:
        """Squared L2 norm of each user's product, float64 [n_users]; not finite where a number of it is not.

        Of a centred user whose rows are more than `LEVER` times as long as what is left of them, it is more than that:
        it is clipped as if 1 / `LEVER` of them were left.
        """
        squares, dots = self._moments
        if self.along is None or self.shift is None:
            return squares * row_squares(self.columns)
        taken = self.shift**2 * float(np.square(self.along).sum())
        left = squares - 2 * self.shift * dots + taken
        return np.maximum(left, np.maximum(squares, taken) / LEVER**2) * row_squares(self.columns)

    @cached_property
    def _moments(self) -> tuple[Float64, Float64]:
        """|a|^2 and a.c of each user, float64 [n_users]; the second is 0 where nothing is taken off."""
        if self.along is None:
            squares: Float64 = segment_sum(self.rows**2, self.indptr)
            return squares, np.zeros(len(squares))
        squares, dots = np.empty((2, len(self.indptr) - 1))
        for users, part, ends, own in _parts(self, self.along):
            squares[users] = segment_sum(self.rows[part] ** 2, ends)
            dots[users] = segment_sum(self.rows[part] * own, ends)
        return squares, dots

    def keep(self, kept: Bools) -> OuterBlock:
        """The same block with zeros for the users that are not kept."""
        if kept.all():
            return self
        rows, columns = kept_rows(self.rows, np.repeat(kept, np.diff(self.indptr))), kept_rows(self.columns, kept)
        shift = None if self.shift is None else kept_rows(self.shift, kept)
        return replace(self, rows=rows, columns=columns, shift=shift)

    def quantise(self, scale: Float64, grid: int) -> OuterSteps:
        """Each user's product times their scale, in grid steps; none is longer than before.

        q = a b' is exact in integers when each factor is: the grid is the product of a row and a column grid. Factors
        are truncated toward zero, a centred user's rows toward what is taken off them.
        """
        column_grid = 1 if self.columns.shape[1] == 1 else _column_grid(grid)
        lengths = np.sqrt(row_squares(self.columns))
        columns = self.columns * (column_grid / np.where(lengths > 0, lengths, 1.0))[:, None]
        if self.columns.shape[1] == 1:
            columns = np.rint(columns)
        whole, counts = columns.astype(np.int64), np.diff(self.indptr)
        per_user = scale * lengths * (grid / column_grid)
        if self.along is None or self.shift is None:
            per_entry = np.repeat(per_user, counts)
            per_entry *= self.rows
            return OuterSteps(self.indptr, self.indices, per_entry.astype(np.int64), whole, self.n_rows)
        shift, per_user = self._whole_shift(per_user, per_user * self.shift, float(np.square(self.along).sum()))
        rows = np.empty(len(self.rows), np.int64)
        for users, part, ends, own in _parts(self, self.along):
            taken = np.repeat(shift[users], np.diff(ends)) * own
            scaled = np.repeat(per_user[users], np.diff(ends)) * self.rows[part]
            rows[part] = np.trunc(scaled - taken) + taken
        return OuterSteps(self.indptr, self.indices, rows, whole, self.n_rows, self.along, shift.astype(np.int64))

    def _whole_shift(self, scale: Float64, shift: Float64, square: float) -> tuple[Float64, Float64]:
        """Each user's shift T in whole steps, and the largest scale r of their rows with |r a - T c| <= |s a - t c|.

        Rounding t to T can lengthen what is sent, along c, and the rows give way: the root of a quadratic in r. At most
        about 1 in 8 |s a - t c|^2 / |c|^2 of their length is lost. Where no r will do, T is 0.

        Args:
            scale: s, float64 [n_users].
            shift: t in steps, float64 [n_users].
            square: |c|^2.
        """
        squares, dots = self._moments
        squares, dots = (scale * np.sqrt(squares)) ** 2, scale * dots
        shift = shift if square else np.zeros(len(shift))  # off nothing nothing is taken, however often
        most = np.maximum(squares - 2 * shift * dots + shift**2 * square, 0.0)
        whole = np.rint(shift)
        for _ in range(2):  # with T, and with 0 for those whom it doesn't fit
            dot, taken = whole * dots, whole**2 * square
            root = np.sqrt(np.maximum(dot**2 + squares * (most - taken), 0.0))
            factor = np.clip((dot + root) / np.where(squares > 0, squares, 1.0), 0.0, 1.0)
            left = factor**2 * squares - 2 * factor * dot + taken
            whole = np.where(left <= most + 2.0**-48 * (squares + taken), whole, 0.0)
        return whole, scale * factor


def _parts(block: OuterBlock | OuterSteps, along: Int64) -> Iterator[tuple[slice, slice, Int64, Float64]]:
    """(users, entries, segments, the direction at the entries): as many as the processor's cache holds."""
    wide = along.astype(np.float64)  # a product of two types would be four times as slow,
    for first, last in row_chunks(block.indptr):
        part = slice(block.indptr[first], block.indptr[last])
        own = wide[block.indices[part].astype(np.intp)]  # and so would be places of another type
        yield slice(first, last), part, block.indptr[first : last + 1] - block.indptr[first], own


def _column_grid(grid: int) -> int:
    """Steps of a column vector's length: the power of two next to the root of the grid; the rows have the rest."""
    return 1 << (grid.bit_length() - 1) // 2


def whole_direction(direction: Float64, *, grid: int) -> Int64:
    """A direction in whole numbers, for `OuterBlock.along`: what is taken off whole rows must be whole as they are.

    A longer one points more exactly: rounding turns it, and about n / (12 |c|^2) of the square that lies along the
    direction stays. A shorter one is taken off more exactly: how often it is taken off is whole as well, so that about
    |c|^2 / (12 R^2) of a user's square stays, with R row steps in all. Where a quarter of a square lies along the
    direction, both together are least at |c|^2 = R sqrt(n) / 2. For 2,000 rows and a grid of 2^20, R is 2^10 and |c| is
    151: the cosine is above 0.99, and the entries of an even direction are 3.

    What stays lies along c, where nothing is sought: whoever has the sum may drop its part along c.

    Args:
        direction: float64 [n_rows], of any length but zero; public.
        grid: the plan's steps per clip norm.

    Returns:
        int64 [n_rows]. It is a direction of its own: t is (a.c) / |c|^2 for this c.
    """
    steps = grid / _column_grid(grid)
    length = np.sqrt(steps * np.sqrt(len(direction)) / 2)
    return np.asarray(np.rint(direction * (length / np.linalg.norm(direction))), np.int64)


Block = DenseBlock | OuterBlock | PairBlock


@dataclass(frozen=True)
class Update:
    """A batch of raw contributions, blocks in layout order. Private: it never leaves the device."""

    blocks: tuple[Block, ...]
    n_users: int


@dataclass(frozen=True)
class DenseSteps:
    """A clipped `DenseBlock` in grid steps: int64 [n_users, size]."""

    values: Int64

    @property
    def size(self) -> int:
        """Number of coordinates of one user."""
        return int(self.values.shape[1])

    def add_to(self, total: Int64) -> None:
        """Add the sum over users to `total`, int64 [size]."""
        total += self.values.sum(axis=0)

    def vector(self, user: int) -> Int64:
        """One user's coordinates, int64 [size]."""
        vector: Int64 = self.values[user]
        return vector

    def square_norms(self) -> Float64:
        """Squared L2 norm of each user's integers, float64 [n_users]; exact up to 2^53."""
        return row_squares(self.values)

    def keep(self, kept: Bools) -> DenseSteps:
        """The same block with zeros for the users that are not kept."""
        return DenseSteps(kept_rows(self.values, kept))


@dataclass(frozen=True)
class OuterSteps:
    """A clipped `OuterBlock` in grid steps: user u sends the integers `(rows_u - shift_u along) columns_u'`."""

    indptr: Int64
    indices: npt.NDArray[np.int32]
    rows: Int64
    columns: Int64
    n_rows: int
    along: Int64 | None = None
    shift: Int64 | None = None

    @property
    def size(self) -> int:
        """Number of coordinates of one user."""
        return self.n_rows * int(self.columns.shape[1])

    def square_norms(self) -> Float64:
        """Squared L2 norm of each user's integers, float64 [n_users]; exact up to 2^53.

        Nothing is subtracted from a large number: the rows that a user has are squared as they are sent, and the others
        are the shift's part alone. A shift that could make a sum inexact counts as infinite.
        """
        columns = row_squares(self.columns)
        if self.along is None or self.shift is None:
            return segment_sum(np.square(self.rows.astype(np.float64)), self.indptr) * columns
        shift, largest = self.shift.astype(np.float64), float(np.abs(self.along).max(initial=0))
        reach = np.abs(shift) * largest * np.abs(self.columns).max(axis=1, initial=0)
        squares, whole = np.empty(len(shift)), np.square(self.along.astype(np.float64)).sum()
        for users, part, ends, own in _parts(self, self.along):
            others = whole - segment_sum(np.square(own), ends)
            rows = self.rows[part].astype(np.float64)
            rows -= np.repeat(shift[users], np.diff(ends)) * own
            squares[users] = segment_sum(np.square(rows), ends) + shift[users] ** 2 * others
        return np.where(reach <= MOST_REACH, squares * columns, np.inf)

    def keep(self, kept: Bools) -> OuterSteps:
        """The same block with zeros for the users that are not kept."""
        shift = None if self.shift is None else kept_rows(self.shift, kept)
        return replace(self, rows=kept_rows(self.rows, np.repeat(kept, np.diff(self.indptr))), shift=shift)

    def add_to(self, total: Int64) -> None:
        """Add the sum over users to `total`, int64 [n_rows * width].

        Every product and every partial sum is an integer below 2^53 and so exact in float64: the order of summing,
        and which of the ways is taken, cannot change it.
        """
        n_users, width = self.columns.shape
        if n_users == 1:  # as on a device of its own
            total += self.vector(0)
            return
        table = total.reshape(self.n_rows, width)
        for first in range(0, n_users, USERS_AT_ONCE):
            last = min(first + USERS_AT_ONCE, n_users)
            entries = int(self.indptr[last] - self.indptr[first])
            if width == 1:
                self._add_scalars(total, first, last)
            elif entries * DENSE_SHARE > (last - first) * self.n_rows:
                self._add_dense(table, first, last)
            else:
                self._add_sparse(table, first, last)
            if self.along is not None and self.shift is not None:
                columns = self.columns[first:last].astype(np.float64)
                taken = (self.shift[first:last].astype(np.float64) @ columns).astype(np.int64)
                table -= np.outer(self.along, taken)

    def _add_scalars(self, total: Int64, first: int, last: int) -> None:
        """Add A'b of the users from `first` to before `last`, where b has one number a user."""
        part = slice(self.indptr[first], self.indptr[last])
        counts = np.diff(self.indptr[first : last + 1])
        per_entry = np.repeat(self.columns[first:last, 0].astype(np.float64), counts)
        total += np.bincount(self.indices[part], self.rows[part] * per_entry, self.n_rows).astype(np.int64)

    def _add_dense(self, total: Int64, start: int, end: int) -> None:
        """Add A'B of the users from `start` to before `end` by a dense A, where they touch many rows."""
        out = np.zeros(total.shape)
        at_once = min(max(1, DENSE_AT_ONCE // self.n_rows), end - start)
        spelled = np.zeros((at_once, self.n_rows))
        flat = spelled.reshape(-1)
        for first in range(start, end, at_once):
            last = min(first + at_once, end)
            part = slice(self.indptr[first], self.indptr[last])
            places = np.repeat(np.arange(last - first) * self.n_rows, np.diff(self.indptr[first : last + 1]))
            places += self.indices[part]
            flat[places] = self.rows[part]
            out += spelled[: last - first].T @ self.columns[first:last].astype(np.float64)
            flat[places] = 0.0
        total += out.astype(np.int64)

    def _add_sparse(self, total: Int64, first: int, last: int) -> None:
        """Add A'B of the users from `first` to before `last`, an item's users in runs: small products, many at once."""
        part = slice(self.indptr[first], self.indptr[last])
        indices, rows, columns = self.indices[part], self.rows[part], self.columns[first:last]
        top = int(np.abs(rows).max(initial=1)) * int(np.abs(columns).max(initial=1))
        # Whole numbers are exact in float32, too, for as many entries as stay below 2^24: half the bytes.
        dtype: npt.DTypeLike
        run, dtype = min(RUN, 2**24 // top), np.float32
        if run < SHORTEST_RUN:
            run, dtype = RUN, np.float64
        by_item = np.argsort(indices.astype(np.uint16) if self.n_rows < 2**16 else indices, kind="stable")
        owners = np.repeat(np.arange(last - first, dtype=np.int32), np.diff(self.indptr[first : last + 1]))[by_item]
        rows, columns = rows[by_item].astype(dtype), columns.astype(dtype)
        counts = np.bincount(indices, minlength=self.n_rows)
        runs = -(-counts // run)
        ends, run_ends = np.cumsum(counts), np.cumsum(runs)
        item = np.repeat(np.arange(self.n_rows), runs)
        starts = (ends - counts)[item] + run * (np.arange(len(item)) - (run_ends - runs)[item])
        lengths = np.minimum(ends[item] - starts, run)
        sums = np.empty((len(item), columns.shape[1]), dtype)
        gather = Gather(columns, least=run)
        for which, length in alike(lengths, most=run, entries=gather.at_once):
            factors = rows[starts[which, None] + np.arange(length)]
            sums[which] = np.matmul(factors[:, None], gather(owners, starts[which], length))[:, 0]
        for items, n in alike(runs, most=int(runs.max(initial=0)), entries=gather.at_once // 2):
            of_items = sums[(run_ends[items] - n)[:, None] + np.arange(n)].astype(np.float64)
            total[items] += np.add.reduce(of_items, axis=1).astype(np.int64)

    def vector(self, user: int) -> Int64:
        """One user's coordinates, int64 [n_rows * width]."""
        part = slice(self.indptr[user], self.indptr[user + 1])
        out = np.zeros((self.n_rows, self.columns.shape[1]), np.int64)
        out[self.indices[part]] = self.rows[part, None] * self.columns[user]
        if self.along is not None and self.shift is not None:
            out -= np.outer(self.along, self.shift[user] * self.columns[user])
        return out.ravel()


Steps = DenseSteps | OuterSteps | PairSteps


@dataclass(frozen=True)
class ClippedUpdate:
    """A batch of contributions on the integer grid, each of L2 norm at most `grid` steps; made only by `clip()`.

    Attributes:
        steps: the blocks, in layout order; a rejected user's coordinates are all zero.
        accepted: bool [n_users]; False where a contribution was not finite. Private: it depends on what users did.
        grid: steps per clip norm, the sensitivity of the sum.
    """

    steps: tuple[Steps, ...]
    accepted: npt.NDArray[np.bool_]
    grid: int

    @property
    def users(self) -> int:
        """Users in the batch, those who send only zeros included."""
        return len(self.accepted)

    def total(self) -> Int64:
        """The batch's sum, int64 [layout size]."""
        total = np.zeros(sum(block.size for block in self.steps), np.int64)
        self.add_to(total)
        return total

    def add_to(self, total: Int64) -> None:
        """Add the batch's sum to `total`, int64 [layout size]: many batches need no vector of that size each."""
        ends = np.cumsum([block.size for block in self.steps])
        for block, part in zip(self.steps, np.split(total, ends[:-1]), strict=True):
            block.add_to(part)

    def vector(self, user: int) -> Int64:
        """One user's contribution, int64 [layout size]."""
        return np.concatenate([block.vector(user) for block in self.steps])


@dataclass(frozen=True)
class ClippedSum:
    """The sum of several batches that were clipped one after the other, so that no array is as large as all of them.

    Integers add exactly: it is the sum that all users in one batch would have.

    Attributes:
        steps: int64 [layout size], in grid steps.
        users: how many users are in it.
        grid: steps per clip norm, the sensitivity of the sum.
    """

    steps: Int64
    users: int
    grid: int

    @classmethod
    def of(cls, batches: Iterable[ClippedUpdate], layout: Sequence[BlockSpec], *, grid: int) -> ClippedSum:
        """Add batches, each of which is dropped before the next is made."""
        total, users = np.zeros(layout_size(layout), np.int64), 0
        for batch in batches:
            total += batch.total()
            users += batch.users
        return cls(total, users, grid)

    def total(self) -> Int64:
        """The sum itself, int64 [layout size]."""
        return self.steps
