"""Cases: raw contributions of made users, for production and reference to be compared on.

Blocks are of every kind, in any mixture and of many shapes: dense, products with many rows and few of them set, with
most of them set, of one column, centred, and pairs. Users are nobody's: some have nothing, some are huge, some have a
number that isn't finite. Clip norms are below and above 1, grids powers of four and other numbers.

    >>> case = next(cases(1, seed=3))
    >>> len(case.update.blocks) == len(case.layout)
    True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, OuterBlock, Update, whole_direction
from palate_core.layout import BlockSpec, Layout

USERS = (1, 2, 7, 30)
CLIP_NORMS = (1e-3, 0.3, 1.0, 2.5, 40.0)
GRIDS = (3, 1000, 2**14, 2**20, 2**26)
SCALES = (1e-3, 0.1, 1.0, 30.0)
ROWS = (2, 5, 12, 40)
MANY, FEW = 300, 5
"""Rows of a block of which a user has few: its sum is made another way."""
BROKEN = (np.nan, np.inf, -np.inf, 1e200, 1e308)


@dataclass(frozen=True)
class Case:
    """A batch of contributions, and how it is to be clipped.

    Attributes:
        name: its kinds of block and sizes, in words.
        update: the batch.
        layout: its blocks.
        clip_norm: in the weighted update's units.
        grid: steps per clip norm.
    """

    name: str
    update: Update
    layout: Layout
    clip_norm: float
    grid: int


def cases(count: int, *, seed: int) -> Iterator[Case]:
    """So many cases; the same for the same seed."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        users, grid, clip_norm = int(rng.choice(USERS)), int(rng.choice(GRIDS)), float(rng.choice(CLIP_NORMS))
        kinds = rng.choice(list(KINDS), rng.integers(1, 4)).tolist()
        blocks = [KINDS[kind](rng, users, float(rng.choice(SCALES)), grid) for kind in kinds]
        weights = rng.random(len(blocks)) + 0.1
        weights /= np.sqrt((weights**2).sum()) * (1 + 1e-15)
        layout = tuple(
            BlockSpec(name=f"{kind} {place}", shape=block.shape[1:], weight=min(1.0, weight))
            for place, (kind, block, weight) in enumerate(zip(kinds, blocks, weights.tolist(), strict=True))
        )
        if rng.random() < 0.2:
            blocks[0] = _broken(rng, blocks[0])
        said = f"{', '.join(kinds)}; {users} users, clip norm {clip_norm:g}, grid {grid}"
        yield Case(said, Update(tuple(blocks), users), layout, clip_norm, grid)


def named_twice() -> Iterator[Case]:
    """One user who names one row many times, in every kind of block that has rows."""
    for kind, rows, columns in (("dense", 5, 3), ("sparse", MANY, 3), ("one column", MANY, 1), ("pairs", 12, 0)):
        indptr, at = np.array([0, 50], np.int64), np.full(50, 1, np.int32)
        amounts = np.full(50, 0.1)
        block: Block = OuterBlock(indptr, at, amounts, np.ones((1, columns)), rows)
        if kind == "pairs":
            block = PairBlock(indptr, at, amounts, rows)
        layout = (BlockSpec(name=kind, shape=block.shape[1:], weight=1.0),)
        yield Case(f"one row fifty times, {kind}", Update((block,), 1), layout, 1.0, 2**14)


def of_all_lengths() -> Iterator[Case]:
    """Users with every number of rows there can be, so that whatever a length is compared with, it is met exactly."""
    rng = np.random.default_rng(2)
    for rows in (4, 12, 32):
        sets = [np.sort(rng.choice(rows, size, replace=False)) for size in rng.permutation(rows + 1).tolist()]
        indptr, at = np.cumsum([0, *map(len, sets)]).astype(np.int64), np.concatenate(sets).astype(np.int32)
        amounts, users = rng.normal(size=len(at)), len(sets)
        outer = OuterBlock(indptr, at, amounts, rng.normal(size=(users, 3)), rows)
        blocks: dict[str, Block] = {
            "outer": outer,
            "one column": OuterBlock(indptr, at, amounts, rng.normal(size=(users, 1)), rows),
            "pairs": PairBlock(indptr, at, amounts, rows),
            "dense": DenseBlock(rng.normal(size=(users, 5))),
        }
        along = whole_direction(np.abs(rng.normal(size=rows)) + 0.1, grid=2**14)
        blocks["centred"] = replace(outer, along=along, shift=rng.normal(size=users) / along.max())
        for kind, block in blocks.items():
            layout = (BlockSpec(name=kind, shape=block.shape[1:], weight=1.0),)
            yield Case(f"{kind}; up to {rows} rows", Update((block,), users), layout, 1.0, 2**14)


def _dense(rng: np.random.Generator, users: int, scale: float, grid: int) -> DenseBlock:
    return DenseBlock(rng.normal(size=(users, int(rng.integers(1, 7)), 3)) * scale)


def _table(rng: np.random.Generator, users: int, scale: float, rows: int, most: int, width: int) -> OuterBlock:
    sets = [np.sort(rng.choice(rows, rng.integers(0, most + 1), replace=False)) for _ in range(users)]
    indptr = np.cumsum([0, *map(len, sets)]).astype(np.int64)
    indices = np.concatenate([*sets, np.zeros(0, np.int64)]).astype(np.int32)
    return OuterBlock(indptr, indices, rng.normal(size=len(indices)) * scale, rng.normal(size=(users, width)), rows)


def _outer(rng: np.random.Generator, users: int, scale: float, grid: int) -> OuterBlock:
    rows = int(rng.choice(ROWS))
    return _table(rng, users, scale, rows, rows, int(rng.integers(2, 7)))


def _sparse(rng: np.random.Generator, users: int, scale: float, grid: int) -> OuterBlock:
    return _table(rng, users, scale, MANY, FEW, int(rng.integers(2, 7)))


def _column(rng: np.random.Generator, users: int, scale: float, grid: int) -> OuterBlock:
    return _table(rng, users, scale, MANY, FEW, 1)


def _centred(rng: np.random.Generator, users: int, scale: float, grid: int) -> OuterBlock:
    """What lies along a direction is taken off; of some users only half of it, or another amount."""
    table = _outer(rng, users, scale, grid)
    along = whole_direction(np.abs(rng.normal(size=table.n_rows)) + 0.1, grid=max(grid, 2**10))
    shift = np.zeros(users)
    np.add.at(shift, np.repeat(np.arange(users), np.diff(table.indptr)), table.rows * along[table.indices])
    shift *= rng.choice([1.0, 1.0, 0.5, 0.0], users) / (along @ along)
    return replace(table, along=along, shift=shift)


def _pairs(rng: np.random.Generator, users: int, scale: float, grid: int) -> PairBlock:
    table = _outer(rng, users, scale, grid)
    return PairBlock(table.indptr, table.indices, table.rows, table.n_rows)


def _broken(rng: np.random.Generator, block: Block) -> Block:
    """The same block with a number that isn't finite, or too large to square."""
    numbers = (block.values if isinstance(block, DenseBlock) else block.rows).copy()
    if numbers.size:
        numbers.flat[int(rng.integers(numbers.size))] = rng.choice(BROKEN)
    return DenseBlock(numbers) if isinstance(block, DenseBlock) else replace(block, rows=numbers)


KINDS: dict[str, Callable[[np.random.Generator, int, float, int], Block]] = {
    "dense": _dense,
    "outer": _outer,
    "sparse": _sparse,
    "one column": _column,
    "centred": _centred,
    "pairs": _pairs,
}
