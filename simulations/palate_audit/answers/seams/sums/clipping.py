"""Clipping: contributions of every kind, clipped, put on the grid, and added up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.sums.interactions import small_limits
from palate_common.interactions import Interactions
from palate_common.mechanism import clipping, update
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.pairs import PairBlock, PairSteps
from palate_common.mechanism.update import ClippedSum, DenseBlock, OuterBlock, OuterSteps, Update
from palate_core.layout import BlockSpec

SIZES = (0.0, 1.0, 1.0, 1.0, 0.015625, 64.0, 4096.0, 2.0**-500, 1e-200, 1e160, 1e300)
"""How large a user's numbers are."""


def _numbers(dice: Dice, sizes: Sequence[float], *shape: int) -> Any:
    """Numbers of some users, each with its own size: some too large for a square, some that are none."""
    flat = (dice.wholes(-64, 64, len(sizes) * math.prod(shape)) / 16).reshape(len(sizes), *shape)
    found = flat * np.array(sizes).reshape(-1, *[1] * len(shape))
    if found.size and dice.chance(0.25):
        found.flat[dice.whole(0, found.size - 1)] = dice.one_of((np.nan, np.inf, -np.inf, 1e308))
    return found


def _rows(dice: Dice, sizes: Sequence[float], n_rows: int) -> tuple[Any, Any, Any]:
    """Users' sparse rows: none, some or all of them."""
    share = dice.one_of((0.0, 0.2, 0.7, 1.0))
    at = [dice.some_of(range(n_rows), share) for _ in sizes]
    indptr = np.cumsum([0, *map(len, at)], dtype=np.int64)
    numbers = [_numbers(dice, [size], len(rows)).ravel() for size, rows in zip(sizes, at, strict=True)]
    return indptr, np.array([row for rows in at for row in rows], np.int32), np.concatenate([np.zeros(0), *numbers])


def _block(dice: Dice, sizes: Sequence[float]) -> tuple[tuple[int, ...], Any]:
    """A block of any kind, and its shape for one user."""
    n, width = dice.whole(1, 6), dice.one_of((1, 2, 3))
    unit = [1.0] * len(sizes)
    match dice.whole(0, 4):
        case 0:
            shape = dice.one_of(((n,), (n, width), (1,)))
            return shape, DenseBlock(_numbers(dice, sizes, *shape))
        case 1:
            shape = (n,) if width == 1 and dice.chance(0.5) else (n, width)
            columns = _numbers(dice, unit, width) if dice.chance(0.7) else np.full((len(unit), width), 49.0)
            return shape, OuterBlock(*_rows(dice, sizes, n), columns, n)
        case 2:
            along, shift = dice.wholes(-3, 3, n) * dice.one_of((0, 1, 1, 1, 1)), _numbers(dice, sizes)
            return (n, width), OuterBlock(*_rows(dice, sizes, n), _numbers(dice, unit, width), n, along, shift)
        case 3:
            along, least = 1 + dice.wholes(0, 3, n), dice.one_of((0.0, 0.25))
            sparse, columns = _rows(dice, sizes, n), _numbers(dice, unit, width)
            if dice.chance(0.4):  # rows that are nearly all along it
                sparse[2][:] = along[sparse[1]] * dice.one_of((1.0, 3.5)) + dice.one_of((0.0, 0.125)) * (sparse[1] == 0)
            return (n, width), OuterBlock.centred(*sparse, columns, n, along=along, least_left=least)
        case _:
            n = dice.whole(2, 7)
            return (n * (n - 1) // 2,), PairBlock(*_rows(dice, [min(size, 64.0) for size in sizes], n), n)


def _clip(dice: Dice, answer: CaseAnswer) -> None:
    """Contributions of every kind and size, clipped together, on the grid, and summed in any way."""
    users = dice.one_of((0, 1, 1, 2, 3, 5))
    size = dice.one_of(SIZES)
    sizes = [dice.one_of((size, size, dice.one_of(SIZES))) for _ in range(users)]
    made = [_block(dice, sizes) for _ in range(dice.one_of((1, 1, 2, 2, 3, 5)))]
    layout = [BlockSpec(name=f"b{n}", shape=shape, weight=dice.one_of((1.0, 0.5, 0.75, 0.125)))
              for n, (shape, _) in enumerate(made)]  # fmt: skip
    terms: dict[str, Any] = {
        "clip_norm": dice.one_of((1.0, 5.0, 0.625, 1e-6, 1e6)),
        "grid": dice.one_of((1, 3, 2**8, 2**13, 2**20, 2**26)),
    }
    raw = Update(tuple(block for _, block in made), users)
    guard = dice.one_of((clipping.GUARD,) * 6 + (1.5,))  # with more, some are too long on the grid
    with small_limits(dice), mock.patch.object(clipping, "GUARD", guard):
        for block in raw.blocks:
            answer.exact(block.square_norms(), block.shape)
        clipped = answer.of(clip, raw, layout, **terms)
        if clipped is None:
            return
        answer.exact([block.square_norms() for block in clipped.steps], clipped.users)
        answer.tell([block.size for block in clipped.steps], clipped.total())
        given = dice.wholes(-9, 9, update.layout_size(layout))
        clipped.add_to(given)
        answer.tell(given, [clipped.vector(user) for user in range(users)])
        kept = dice.wholes(0, 1, users).astype(bool)
        answer.tell([block.keep(kept) for block in clipped.steps])
        summed = ClippedSum.of(iter([clipped] * dice.whole(0, 2)), layout, grid=terms["grid"])
        answer.tell(summed, summed.total())
    shown = update.split_vector(given, layout)
    answer.tell(shown, update.released_size(layout))
    answer.exact(list(update.block_units(layout, 0.125).items()), list(update.block_sums(given, layout, 0.5).values()))


def _refused(dice: Dice, answer: CaseAnswer) -> None:
    """Blocks that don't fit their layout, or themselves."""
    n = 4
    indptr, indices = np.array([0, 2, 2, 4]), np.array([0, 3, 1, 2], np.int32)
    told: dict[str, Any] = {"indptr": indptr, "indices": indices, "rows": np.arange(1.0, 5.0), "n_rows": n}
    outer = dice.chance(0.6)
    if outer:
        told |= {"columns": np.ones((3, 2)), "along": np.array([1, 2, -1, 1]), "shift": np.ones(3)}
    wrong: dict[str, Sequence[Any]] = {
        "indptr": (indptr + 1, np.array([0, 2, 1, 4]), np.array([0, 2, 2, 3]), np.array([0, 4, 4, 4]), indptr[:-1],
                   np.array([0, 0, 0, 4])),
        "indices": (indices[::-1], indices - 1, indices + 1, indices[:3], np.array([0, 0, 1, 2]),
                    np.array([1, 0, 0, 1]), np.array([2, 3, 1, 1])),
        "rows": (np.arange(3.0), np.arange(5.0)),
        "n_rows": (3, 5),
        "columns": (np.ones((2, 2)), np.ones((3, 3)), np.ones((3, 1))),
        "along": (None, np.ones(4), np.ones(3, np.int64), np.full(4, 2**25), np.array([2**26, 1, 0, 0]),
                  np.array([2**26, 0, 0, 0])),
        "shift": (None, np.ones(4), np.ones((3, 1))),
    }  # fmt: skip
    shape = (n, 2) if outer else (n * (n - 1) // 2,)
    name = dice.one_of(list(told))
    for value in (told[name], *wrong[name]):
        block: Any = (OuterBlock if outer else PairBlock)(**(told | {name: value}))
        layout = [BlockSpec(name="one", shape=dice.one_of((shape,) * 9 + ((n,),)), weight=1.0)]
        blocks = dice.one_of(((block,),) * 9 + ((), (block, block)))
        with mock.patch.object(clipping, "MOST_ROWS", dice.one_of((3, 4, 5, 5, 5))):
            answer.of(clip, Update(blocks, dice.one_of((3,) * 9 + (2,))), layout, clip_norm=1.0, grid=2**10)
    plain = Update((DenseBlock(np.ones((3, 2))),), 3)
    answer.of(clip, plain, layout[: dice.whole(0, 1)], clip_norm=1.0, grid=8)
    for odd in (
        {"name": ""},
        {"shape": (dice.whole(0, 2), 1)},
        {"weight": dice.one_of((0.0, 1.0, 1.001, -1))},
        {"more": 1},
    ):
        answer.of(BlockSpec, **({"name": "a", "shape": (2,), "weight": 0.5} | odd))
    fitting = [BlockSpec(name="one", shape=(2,), weight=1.0)]
    for norm, grid in ((9e-7, 9), (1.1e6, 9), (1.0, 0), (1.0, 2**26 + 1), (math.nan, 9), (1e-6, 2**26), (1e6, 1)):
        answer.of(clip, plain, fitting, clip_norm=norm, grid=grid)


def _whole_numbers(dice: Dice, answer: CaseAnswer) -> None:
    """Sums over users of whole numbers of every size, each way they can go."""
    users, n = dice.one_of((1, 2, 3, 30)), dice.one_of((1, 2, 9, 40))
    width = dice.one_of((1, 2, 3))
    indptr, indices, _ = _rows(dice, [0.0] * users, n)
    top = dice.one_of((1, 9, 1000, 2**13, 2**22))
    rows, columns = dice.wholes(-top, top, len(indices)), dice.wholes(-9, 9, users * width).reshape(users, width)
    outer = OuterSteps(indptr, indices, rows, columns, n)
    if dice.chance(0.5):
        outer = replace(outer, along=dice.wholes(-3, 3, n), shift=dice.wholes(-top, top, users))
    both = PairSteps(indptr, indices, rows, n)
    far = replace(outer, along=dice.wholes(-3, 3, n), shift=dice.wholes(-(2**28), 2**28, users)).vector(0)
    crowd, size = np.arange(41), 2 ** dice.whole(14, 20)  # one item's numbers, as large as float32 just holds
    one = OuterSteps(
        crowd, np.zeros(40, np.int32), size - dice.wholes(0, 9, 40), 8 - dice.wholes(0, 3, 80).reshape(40, 2), 1
    )
    with mock.patch.object(update, "DENSE_SHARE", 1):
        replace(one, n_rows=2).add_to(total := np.zeros(4, np.int64))
        answer.tell(far, total)
        shifted = replace(one, along=np.array([3]), shift=2**28 + dice.wholes(0, 9, 40))
        shifted.add_to(total := np.zeros(2, np.int64))
        answer.tell(total)
    with small_limits(dice):
        for block in (outer, both):
            total = np.full(block.size, 5)
            block.add_to(total)
            answer.tell(total, block.vector(users - 1))
            answer.exact(block.square_norms())
        large = np.array([2**24, 2**24 + 1, -(2**24) - 1, 2**30][: dice.whole(1, 4)])[dice.whole(0, 1) :]
        ends = np.array([0, len(large), len(large)])
        answer.exact(PairSteps(ends, np.arange(len(large), dtype=np.int32), large, 4).square_norms())
        shift = np.array([2**29 + dice.whole(-1, 1), 3])
        reach = OuterSteps(
            ends,
            np.arange(len(large), dtype=np.int32),
            large,
            np.array([[1, 1], [2, -2]]),
            4,
            np.array([-2, 1, 1, 0]),
            shift,
        )
        answer.exact(reach.square_norms())
    if dice.chance(0.1):  # places beyond 16 bits
        wide = OuterSteps(
            np.array([0, 1, 3]),
            np.array([65_536, 0, 65_537], np.int32),
            np.arange(1, 4),
            np.array([[3, -1], [2, 7]]),
            65_538,
        )
        total = np.zeros(wide.size, np.int64)
        wide.add_to(total)
        answer.tell(np.flatnonzero(total), total[np.flatnonzero(total)])
    direction = dice.floats(n, low=-2.0, high=9.0)
    for grid in (2**20, dice.one_of((2**8, 2**13, 2**26, 1000))):
        answer.tell(update.whole_direction(direction, grid=grid))


def _thousands(dice: Dice, answer: CaseAnswer) -> None:
    """Thousands of users at once, of whom a few are too long or no numbers."""
    users = dice.one_of((1_000, 4_097, 20_011))
    plain = dice.wholes(-64, 64, users * 2).reshape(users, 2) / 64
    owners, items = dice.wholes(0, users - 1, 500), dice.wholes(0, 8, 500)
    batch = Interactions.from_pairs(owners, items, dice.wholes(1, 64, 500) / 16, n_users=users, n_items=9)
    sparse = (batch.indptr, batch.indices, batch.weights.astype(np.float64))
    for user in (0, users - 1, *dice.wholes(0, users - 1, 9).tolist()):
        plain[user] *= dice.one_of((np.nan, 1e200, 64.0))
    blocks = (DenseBlock(plain), OuterBlock(*sparse, 1 + plain[:, :1] ** 2, 9), PairBlock(*sparse, 9))
    layout = [BlockSpec(name=str(n), shape=shape, weight=0.5) for n, shape in enumerate(((2,), (9,), (36,)))]
    with mock.patch.object(clipping, "GUARD", dice.one_of((clipping.GUARD, 1.5))):  # with more, some are too long
        clipped = clip(Update(blocks, users), layout, clip_norm=1.0, grid=2**20)
    answer.tell(clipped.total(), clipped.accepted, [clipped.vector(user) for user in (0, 999, users - 1)])
    answer.exact(batch.effective_counts()[owners], batch.item_counts)


SEAMS = (
    Seam("clipping: contributions of every kind", _clip, 60),
    Seam("clipping: what is refused", _refused, 36),
    Seam("sums of whole numbers over users", _whole_numbers, 42),
    Seam("sums over thousands of users", _thousands, 6),
)
