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

from palate_common.interactions import row_chunks, segment_sum

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

DUMMIES = 64
"""Coordinates at the end of each release that no user contributes to, so that anybody can test the released noise."""
DENSE_AT_ONCE = 2**19  # numbers of a dense matrix that is made at once: 4 MB
DENSE_SHARE = 32  # above one entry in 32, a dense product is faster than a sparse one


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

    def total(self) -> Int64:
        """Sum over users, int64 [size]."""
        total: Int64 = self.values.sum(axis=0)
        return total

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

    def total(self) -> Int64:
        """Sum over users, int64 [n_rows * width].

        Every product and every partial sum is an integer below 2^53 and so exact in float64: the order of summing,
        and which of the three ways is taken, cannot change it.
        """
        n_users, width = self.columns.shape
        rows, columns = self.rows.astype(np.float64), self.columns.astype(np.float64)
        owners = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(self.indptr))
        out: Float64
        if width == 1:
            out = np.bincount(self.indices, rows * columns[owners, 0], self.n_rows).astype(np.float64)[:, None]
        elif len(rows) * DENSE_SHARE > n_users * self.n_rows:
            out = self._dense_total(rows, columns)
        else:
            out = self._sparse_total(rows, columns, owners)
        return out.astype(np.int64).ravel()

    def _dense_total(self, rows: Float64, columns: Float64) -> Float64:
        """A'B with a dense A, some users at a time: fastest where users touch many of the rows."""
        out = np.zeros((self.n_rows, columns.shape[1]))
        at_once = max(1, DENSE_AT_ONCE // self.n_rows)
        for first in range(0, len(columns), at_once):
            last = min(first + at_once, len(columns))
            part = slice(self.indptr[first], self.indptr[last])
            spelled = np.zeros((last - first, self.n_rows))
            owners = np.repeat(np.arange(last - first), np.diff(self.indptr[first : last + 1]))
            spelled[owners, self.indices[part]] = rows[part]
            out += spelled.T @ columns[first:last]
        return out

    def _sparse_total(self, rows: Float64, columns: Float64, owners: npt.NDArray[np.int32]) -> Float64:
        """A'B item by item, in parts that fit the processor's cache."""
        out = np.zeros((self.n_rows, columns.shape[1]))
        by_item = np.argsort(self.indices.astype(np.uint16) if self.n_rows < 2**16 else self.indices, kind="stable")
        users, sorted_rows = owners[by_item], rows[by_item]
        starts: Int64 = np.concatenate(([0], np.cumsum(np.bincount(self.indices, minlength=self.n_rows))))
        for first, last in row_chunks(starts, columns.shape[1]):
            part = slice(starts[first], starts[last])
            products = columns[users[part]]
            products *= sorted_rows[part, None]
            out[first:last] = segment_sum(products, starts[first : last + 1] - starts[first])
        return out

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
        return np.concatenate([block.total() for block in self.steps])

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
