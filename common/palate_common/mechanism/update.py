"""Updates: what a device computes for one round, and its clipped integer form; only the latter leaves the device.

A contribution is a few named blocks of fixed shape (the layout, from the signed plan). Two kinds of block:

- `DenseBlock`: a dense array for each user.
- `OuterBlock`: rows times columns, `q = a b'` with `a` sparse over the items a user has and `b` a vector, as matrix
  factorisation sends it. Its norm is |a| |b|, and the sum over users is one sparse product, so no array of the size of
  the item table is made for each user.

`Update` has no serializer. `ClippedUpdate` is made only by `palate_common.mechanism.clipping.clip`, and `ClippedSum`
from such.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.interactions import Gather, alike

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

DUMMIES = 64
"""Coordinates at the end of each release that no user contributes to, so that anybody can test the released noise."""
DENSE_AT_ONCE = 2**19  # numbers of a dense matrix that is made at once: 4 MB
DENSE_SHARE = 32  # above one entry in 32, a dense product is faster than a sparse one
USERS_AT_ONCE = 16_384  # users whose vectors a sparse product reads again and again: 6 MB at width 96
RUN, SHORTEST_RUN = 64, 8  # entries of an item that are summed as one product, at most and in float32 at least


class BlockSpec(BaseModel):
    """One block of the layout: its name, its shape for one user, and its share of the joint norm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    weight: float = Field(gt=0, le=1)
    """Factor on the block before clipping. The squares of a layout's weights sum to 1."""

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(np.prod(self.shape, dtype=np.int64))


Layout = tuple[BlockSpec, ...]
"""The blocks of an update, in order."""


def layout_size(layout: Sequence[BlockSpec]) -> int:
    """Number of coordinates of the whole contribution."""
    return sum(spec.size for spec in layout)


def released_size(layout: Sequence[BlockSpec]) -> int:
    """Number of coordinates of a release: the contribution's, and the dummies."""
    return layout_size(layout) + DUMMIES


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


@dataclass(frozen=True)
class OuterBlock:
    """One sparse column times one row vector a user: user u sends `a_u b_u'`, of shape [n_rows, width].

    Attributes:
        indptr: int64 [n_users + 1], CSR over the rows each user touches.
        indices: int32 [nnz], the rows, in [0, n_rows), strictly increasing within a user.
        rows: float64 [nnz], a.
        columns: float64 [n_users, width], b.
        n_rows: number of rows of the block.
    """

    indptr: Int64
    indices: npt.NDArray[np.int32]
    rows: Float64
    columns: Float64
    n_rows: int


Block = DenseBlock | OuterBlock


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


@dataclass(frozen=True)
class OuterSteps:
    """A clipped `OuterBlock` in grid steps: user u sends the integers `rows_u columns_u'`."""

    indptr: Int64
    indices: npt.NDArray[np.int32]
    rows: Int64
    columns: Int64
    n_rows: int

    @property
    def size(self) -> int:
        """Number of coordinates of one user."""
        return self.n_rows * int(self.columns.shape[1])

    def add_to(self, total: Int64) -> None:
        """Add the sum over users to `total`, int64 [n_rows * width].

        Every product and every partial sum is an integer below 2^53 and so exact in float64: the order of summing,
        and which of the three ways is taken, cannot change it.
        """
        n_users, width = self.columns.shape
        if width == 1:
            per_entry = np.repeat(self.columns[:, 0].astype(np.float64), np.diff(self.indptr))
            total += np.bincount(self.indices, self.rows * per_entry, self.n_rows).astype(np.int64)
        elif len(self.rows) * DENSE_SHARE > n_users * self.n_rows:
            total += self._dense_total().astype(np.int64).ravel()
        else:
            for first in range(0, n_users, USERS_AT_ONCE):
                self._add_sparse(total.reshape(self.n_rows, width), first, min(first + USERS_AT_ONCE, n_users))

    def _dense_total(self) -> Float64:
        """A'B with a dense A, some users at a time: fastest where users touch many of the rows."""
        out = np.zeros((self.n_rows, self.columns.shape[1]))
        at_once = min(max(1, DENSE_AT_ONCE // self.n_rows), len(self.columns))
        spelled = np.zeros((at_once, self.n_rows))
        flat = spelled.reshape(-1)
        for first in range(0, len(self.columns), at_once):
            last = min(first + at_once, len(self.columns))
            part = slice(self.indptr[first], self.indptr[last])
            places = np.repeat(np.arange(last - first) * self.n_rows, np.diff(self.indptr[first : last + 1]))
            places += self.indices[part]
            flat[places] = self.rows[part]
            out += spelled[: last - first].T @ self.columns[first:last].astype(np.float64)
            flat[places] = 0.0
        return out

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
        return out.ravel()


Steps = DenseSteps | OuterSteps


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
