"""One user's contribution and the sum of all, in plain Python numbers: weigh, clip jointly, cut to whole steps, add.

Blocks are read as they were handed in, one user after the other; nothing is computed for several users at once, and
everything is spelled out: a product has all of its rows and columns. Who sends a number that isn't finite sends zeros.

>>> import numpy as np
>>> from palate_common.mechanism.update import BlockSpec, DenseBlock, Update
>>> layout = (BlockSpec(name="x", shape=(2,), weight=1.0),)
>>> total(Update((DenseBlock(np.array([[3.0, 4.0], [0.0, 0.5]])),), 2), layout, clip_norm=1.0, grid=1000)
[599, 1298]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, OuterBlock, Update
from palate_core.layout import BlockSpec

GUARD = 1 - 2.0**-40
"""Every scale is this much smaller, so that rounding never lengthens a contribution."""
FLATTENED, SLACK = 64.0, 2.0**-40
"""A centred user counts with 1/64 of the square of the rows at least; pairs with this part of the whole square."""

Part = tuple[float, Callable[[float], list[int]]]
"""A block of one user: its square before weighing, and its whole steps at a scale."""


def total(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> list[int]:
    """The sum over all users, in steps."""
    summed = [0] * sum(spec.size for spec in layout)
    for user in range(update.n_users):
        for place, step in enumerate(contribution(update, layout, user, clip_norm=clip_norm, grid=grid)):
            summed[place] += step
    return summed


def contribution(update: Update, layout: Sequence[BlockSpec], user: int, *, clip_norm: float, grid: int) -> list[int]:
    """One user's steps: never longer than `grid`."""
    parts = [_part(block, user, grid) for block in update.blocks]
    square = math.fsum(spec.weight**2 * part[0] for spec, part in zip(layout, parts, strict=True))
    if not math.isfinite(square):
        return [0] * sum(spec.size for spec in layout)
    scale = GUARD / max(math.sqrt(square), clip_norm)
    steps = [step for spec, part in zip(layout, parts, strict=True) for step in part[1](scale * spec.weight)]
    return steps if sum(step**2 for step in steps) <= grid**2 else [0] * len(steps)


def _part(block: Block, user: int, grid: int) -> Part:
    """One user's part of a block of any kind."""
    if isinstance(block, DenseBlock):
        numbers = block.values[user].ravel().tolist()
        return _square(numbers), lambda scale: [int(number * (scale * grid)) for number in numbers]
    mine = slice(int(block.indptr[user]), int(block.indptr[user + 1]))
    at, rows = block.indices[mine].tolist(), block.rows[mine].tolist()
    if isinstance(block, PairBlock):
        return _pairs(dict(zip(at, rows, strict=True)), block.n_rows, grid)
    return _product(block, dict(zip(at, rows, strict=True)), user, grid)


def _pairs(rows: dict[int, float], n_rows: int, grid: int) -> Part:
    """The product of each two rows; rows take the root of the scale."""
    whole = _square(list(rows.values())) * _square(list(rows.values()))
    fourths = _square([row * row for row in rows.values()])
    square = max(whole - fourths, 0.0) / 2 + SLACK * whole if math.isfinite(whole) else math.inf

    def steps(scale: float) -> list[int]:
        cut = {at: int(row * math.sqrt(scale * grid)) for at, row in rows.items()}
        return [cut.get(i, 0) * cut.get(j, 0) for i in range(n_rows) for j in range(i + 1, n_rows)]

    return square, steps


def _product(block: OuterBlock, rows: dict[int, float], user: int, grid: int) -> Part:
    """(a - t c) b': b has length 1 on a grid of its own, about the root of the whole one; t and a take the scale."""
    column = block.columns[user].tolist()
    along = [0] * block.n_rows if block.along is None else block.along.tolist()
    shift = 0.0 if block.shift is None else float(block.shift[user])
    length, direction = math.sqrt(_square(column)), sum(each**2 for each in along)
    squares, dot = _square(list(rows.values())), math.fsum(row * along[at] for at, row in rows.items())
    taken = shift * shift * direction
    left = squares
    if block.along is not None:
        left = max(squares - 2 * shift * dot + taken, max(squares, taken) / FLATTENED)
    fine = 1 if len(column) == 1 else 2 ** ((grid.bit_length() - 1) // 2)

    def steps(scale: float) -> list[int]:
        unit = [number * (fine / (length or 1.0)) for number in column]
        across = [round(number) if len(column) == 1 else int(number) for number in unit]
        factor = scale * length * (grid / fine)
        whole, factor = _whole_shift(factor, shift, squares, dot, direction) if block.along is not None else (0, factor)
        cut = [-whole * each for each in along]
        for at, row in rows.items():
            cut[at] += int(factor * row - whole * along[at]) + whole * along[at]
        return [each * other for each in cut for other in across]

    return left * length * length, steps


def _whole_shift(factor: float, shift: float, squares: float, dot: float, direction: int) -> tuple[int, float]:
    """The shift in whole steps, and the largest factor of the rows with which what is left is no longer than it was."""
    squares, dot = (factor * math.sqrt(squares)) ** 2, factor * dot
    most = max(squares - 2 * factor * shift * dot + (factor * shift) ** 2 * direction, 0.0)
    for whole in (round(factor * shift) if direction else 0, 0):
        along, taken = whole * dot, whole**2 * direction
        root = math.sqrt(max(along**2 + squares * (most - taken), 0.0))
        part = min(max((along + root) / (squares or 1.0), 0.0), 1.0)
        if part**2 * squares - 2 * part * along + taken <= most + 2.0**-48 * (squares + taken):
            break
    return whole, factor * part


def _square(numbers: Sequence[float]) -> float:
    """The square of a length; not finite where a number isn't."""
    if not all(map(math.isfinite, numbers)):
        return math.inf
    try:
        return math.fsum(number * number for number in numbers)
    except OverflowError:
        return math.inf
