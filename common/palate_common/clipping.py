"""Clipping: from a raw `Update` to a `ClippedUpdate` whose sensitivity is an exact integer.

All blocks are scaled by their layout weight, clipped JOINTLY to `clip_norm`, quantised toward zero onto a grid of
`grid` steps per clip norm, and only then checked, in arithmetic that is exact wherever the check can pass.

    >>> import numpy as np
    >>> layout = (BlockSpec(name="x", shape=(2,), weight=1.0),)
    >>> clipped = clip(Update((DenseBlock(np.array([[3.0, 4.0]])),), 1), layout, clip_norm=1.0, grid=1000)
    >>> clipped.vector(0).tolist()
    [599, 799]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate_common.errors import InputError, IntegrityError
from palate_common.interactions import segment_sum
from palate_common.update import (
    Block,
    BlockSpec,
    ClippedUpdate,
    DenseBlock,
    DenseSteps,
    Float64,
    OuterSteps,
    Steps,
    Update,
)

MAX_GRID = 2**26  # grid^2 stays below 2^53: a float64 sum of squares that passes the check is exact
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

    Guarantees:
        The L2 norm of every user's integer vector is at most `grid`.
        One user's integers do not depend on who else is in the batch.
        A contribution that is not finite is rejected, and the others are kept.

    Assumes:
        The layout was fixed before this round's data was seen.

    Raises:
        InputError: shapes do not fit the layout, or a setting is out of range.
        IntegrityError: a norm above the bound after clipping, which nothing may release.
    """
    if not (np.isfinite(clip_norm) and clip_norm > 0):
        raise InputError(f"`clip_norm` must be positive and finite, got {clip_norm}")
    if not 1 <= grid <= MAX_GRID:
        raise InputError(f"`grid` must lie in [1, {MAX_GRID}] steps, got {grid}")
    _check_shapes(update, layout)
    squares = sum(spec.weight**2 * _square_norms(b) for spec, b in zip(layout, update.blocks, strict=True))
    norms = np.sqrt(np.asarray(squares, np.float64))
    accepted = np.isfinite(norms)
    # Per-user scale onto the grid: min(1, C / norm) / C, with rejected users at zero.
    scale = GUARD / np.maximum(np.where(accepted, norms, np.inf), clip_norm)
    steps = tuple(
        _quantise(block, scale * spec.weight, accepted, grid) for spec, block in zip(layout, update.blocks, strict=True)
    )
    _check_norms(steps, grid)
    return ClippedUpdate(steps, accepted, grid)


def _check_shapes(update: Update, layout: Sequence[BlockSpec]) -> None:
    """Every block has the layout's shape, one entry a user."""
    if len(update.blocks) != len(layout):
        raise InputError(f"an update must have {len(layout)} blocks, got {len(update.blocks)}")
    for spec, block in zip(layout, update.blocks, strict=True):
        if isinstance(block, DenseBlock):
            expected, got = (update.n_users, *spec.shape), block.values.shape
        else:
            got = (len(block.indptr) - 1, block.n_rows, *block.columns.shape[1:])
            expected = (update.n_users, *(spec.shape if len(spec.shape) == 2 else (*spec.shape, 1)))
        if expected != got:
            raise InputError(f"block `{spec.name}` must have shape {expected}, got {got}")


def _square_norms(block: Block) -> Float64:
    """Squared L2 norm of each user's block, float64 [n_users]."""
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(block, DenseBlock):
            return _row_squares(block.values.reshape(len(block.values), -1))
        return segment_sum(block.rows**2, block.indptr) * _row_squares(block.columns)


def _row_squares(values: npt.NDArray[np.generic]) -> Float64:
    """Sum of squares of each row, in the same order whatever the number of rows."""
    exact = values.astype(np.float64)
    ends = np.arange(len(exact) + 1, dtype=np.int64) * exact.shape[1]
    return segment_sum(np.square(exact).ravel(), ends)


def _quantise(block: Block, scale: Float64, accepted: npt.NDArray[np.bool_], grid: int) -> Steps:
    """Grid steps of one block, truncated toward zero; rejected users send zeros."""
    if isinstance(block, DenseBlock):
        flat = block.values.reshape(len(block.values), -1)
        flat = np.where(accepted[:, None], flat, 0.0) * (scale * grid)[:, None]
        return DenseSteps(flat.astype(np.int64))
    # q = a b' is exact in integers when each factor is: the grid is the product of a row and a column grid.
    column_grid = 1 if block.columns.shape[1] == 1 else 1 << (grid.bit_length() - 1) // 2
    columns = np.where(accepted[:, None], block.columns, 0.0)
    lengths = np.sqrt(_row_squares(columns))
    columns = columns * (column_grid / np.where(lengths > 0, lengths, 1.0))[:, None]
    if block.columns.shape[1] == 1:
        columns = np.rint(columns)
    per_entry = np.repeat(scale * lengths * (grid / column_grid), np.diff(block.indptr))
    rows = np.where(np.repeat(accepted, np.diff(block.indptr)), block.rows, 0.0) * per_entry
    return OuterSteps(block.indptr, block.indices, rows.astype(np.int64), columns.astype(np.int64), block.n_rows)


def _check_norms(steps: Sequence[Steps], grid: int) -> None:
    """Refuse any user above `grid` steps: coordinates first, then sums of squares that are exact where they pass."""
    squares: Float64 | float = 0.0
    for block in steps:
        coordinates = (block.values,) if isinstance(block, DenseSteps) else (block.rows, block.columns)
        if any(part.size and np.abs(part).max() > grid for part in coordinates):
            raise IntegrityError(f"a clipped coordinate exceeds {grid} steps: nothing is released")
        if isinstance(block, DenseSteps):
            squares = squares + _row_squares(block.values)
        else:
            rows = segment_sum(np.square(block.rows.astype(np.float64)), block.indptr)
            squares = squares + rows * _row_squares(block.columns)
    if np.max(squares, initial=0.0) > float(grid) ** 2:
        raise IntegrityError(f"a clipped contribution exceeds {grid} steps in L2 norm: nothing is released")
