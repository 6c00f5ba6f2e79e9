"""Clipping: from a raw `Update` to a `ClippedUpdate` whose sensitivity is an exact integer.

All blocks are scaled by their layout weight, clipped JOINTLY to `clip_norm`, quantised toward zero onto a grid of
`grid` steps per clip norm, and only then checked, in arithmetic that is exact wherever the check can pass. Invalid
numbers of one user zero that user alone: an error would fail the whole shard, and so reveal that user.

    >>> import numpy as np
    >>> layout = (BlockSpec(name="x", shape=(2,), weight=1.0),)
    >>> clipped = clip(Update((DenseBlock(np.array([[3.0, 4.0]])),), 1), layout, clip_norm=1.0, grid=1000)
    >>> clipped.vector(0).tolist()
    [599, 799]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate_common.mechanism.pairs import MOST_ROWS, PairBlock
from palate_common.mechanism.update import (
    ClippedUpdate,
    DenseBlock,
    Float64,
    OuterBlock,
    Update,
)
from palate_core.errors import InputError
from palate_core.layout import CLIP_NORMS, MAX_GRID, BlockSpec

GUARD = 1.0 - 2.0**-40  # more than all rounding of the scaling, less than one grid step


def clip(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
    """Clip each user's contribution to L2 norm `clip_norm`, on a grid of `grid` steps per clip norm.

    Args:
        update: a batch of raw contributions, blocks in layout order.
        layout: the plan's blocks; the squares of their weights sum to 1.
        clip_norm: C, in the units of the weighted update.
        grid: s, steps per C; a power of four keeps both factors of an `OuterBlock` on equal grids.

    Returns:
        Integers q_u with |q_u|_2 <= grid for every user.

    **Guarantees:** the norm of every user's integer vector is at most grid: L2, checked exactly.
    **Guarantees:** one user's integers do not depend on who else is in the batch: each row is computed by itself.
    **Guarantees:** a contribution that is not finite is zeroed, and the others are kept: it raises nothing.
    **Guarantees:** blocks are clipped jointly: the bound is on the norm over all blocks.
    **Assumes:** the layout knows no data: it was fixed before this round's data was seen.

    Raises:
        InputError: shapes do not fit the layout, or a setting is out of range.
    """
    if not CLIP_NORMS[0] <= clip_norm <= CLIP_NORMS[1]:
        raise InputError(f"`clip_norm` must lie in [{CLIP_NORMS[0]:g}, {CLIP_NORMS[1]:g}], got {clip_norm}")
    if not 1 <= grid <= MAX_GRID:
        raise InputError(f"`grid` must lie in [1, {MAX_GRID}] steps, got {grid}")
    _check_shapes(update, layout)
    norms = _norms(update, layout)
    finite = np.isfinite(norms)
    # Per-user scale onto the grid: min(1, C / norm) / C, with rejected users at zero.
    scale = GUARD / np.maximum(np.where(finite, norms, np.inf), clip_norm)
    steps = tuple(
        block.keep(finite).quantise(scale * spec.weight, grid)
        for spec, block in zip(layout, update.blocks, strict=True)
    )
    # Exact up to 2^53: sums of whole numbers that stay below are not rounded, and those above stay above.
    within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
    if not within.all():
        steps = tuple(block.keep(within) for block in steps)
    return ClippedUpdate(steps, finite & within, grid)


def _norms(update: Update, layout: Sequence[BlockSpec]) -> Float64:
    """L2 norm of each user's weighted blocks together, float64 [n_users]; not finite where a number is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [spec.weight**2 * block.square_norms() for spec, block in zip(layout, update.blocks, strict=True)]
        return np.sqrt(sum(squares, np.zeros(1)))


def _check_shapes(update: Update, layout: Sequence[BlockSpec]) -> None:
    """Refuse blocks whose shape isn't the layout's, with one entry a user."""
    if not layout or len(update.blocks) != len(layout):
        raise InputError(f"an update must have {max(1, len(layout))} blocks, got {len(update.blocks)}")
    for spec, block in zip(layout, update.blocks, strict=True):
        expected = (update.n_users, *spec.shape)
        if isinstance(block, OuterBlock) and len(spec.shape) == 1:
            expected = (*expected, 1)
        if expected != block.shape:
            raise InputError(f"block `{spec.name}` must have shape {expected}, got {block.shape}")
        if not isinstance(block, DenseBlock):
            _check_rows(spec.name, block)
        if isinstance(block, OuterBlock):
            _check_factors(spec.name, block)


def _check_rows(name: str, block: OuterBlock | PairBlock) -> None:
    """Refuse rows that are missing, out of range or repeated: a row sent twice would count twice in the sum."""
    indptr, indices = block.indptr, block.indices
    lengths = (int(indptr[-1]), len(block.rows))
    if indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any() or lengths != (len(indices), len(indices)):
        raise InputError(f"block `{name}` must have {len(indices)} entries, one factor each, got {lengths}")
    rising = indices[1:] > indices[:-1]
    edges = indptr[1:-1]
    rising[edges[(edges > 0) & (edges < len(indices))] - 1] = True
    if len(indices) and not (rising.all() and indices.min() >= 0 and indices.max() < block.n_rows):
        raise InputError(f"block `{name}` must have row indices in [0, {block.n_rows}) that rise within each user")
    if isinstance(block, PairBlock) and block.n_rows > MOST_ROWS:
        raise InputError(f"block `{name}` must have pairs of at most {MOST_ROWS} rows, got {block.n_rows}")


def _check_factors(name: str, block: OuterBlock) -> None:
    """Refuse columns and shifts that are not one a user, and what is no direction in whole numbers."""
    users, along, shift = len(block.indptr) - 1, block.along, block.shift
    if len(block.columns) != users:
        raise InputError(f"block `{name}` must have one column vector a user, {users}, got {len(block.columns)}")
    if along is None and shift is None:
        return
    if along is None or shift is None or along.shape != (block.n_rows,) or shift.shape != (users,):
        raise InputError(f"block `{name}` must have both a direction of {block.n_rows} rows and one shift a user")
    # A float64 sum of squares that stays below is exact, and one above stays above.
    if along.dtype != np.int64 or not np.square(along.astype(np.float64)).sum() <= MAX_GRID**2:
        raise InputError(f"block `{name}` must have a direction of whole numbers with a length of at most {MAX_GRID}")
