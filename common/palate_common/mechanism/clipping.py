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
import numpy.typing as npt

from palate_common.errors import InputError
from palate_common.interactions import row_squares, segment_sum
from palate_common.mechanism.update import (
    Block,
    BlockSpec,
    ClippedUpdate,
    DenseBlock,
    DenseSteps,
    Float64,
    OuterBlock,
    OuterSteps,
    Steps,
    Update,
)

MAX_GRID = 2**26  # grid^2 stays below 2^53: a float64 sum of squares that passes the check is exact
CLIP_NORMS = (1e-6, 1e6)  # so that scaled numbers fit int64, even where squares underflow
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
    squares = sum(spec.weight**2 * _square_norms(b) for spec, b in zip(layout, update.blocks, strict=True))
    norms = np.sqrt(np.asarray(squares, np.float64))
    finite = np.isfinite(norms)
    # Per-user scale onto the grid: min(1, C / norm) / C, with rejected users at zero.
    scale = GUARD / np.maximum(np.where(finite, norms, np.inf), clip_norm)
    steps = tuple(
        _quantise(block, scale * spec.weight, finite, grid) for spec, block in zip(layout, update.blocks, strict=True)
    )
    within = _square_steps(steps) <= float(grid) ** 2
    if not within.all():
        steps = tuple(_keep(block, within) for block in steps)
    return ClippedUpdate(steps, finite & within, grid)


def _check_shapes(update: Update, layout: Sequence[BlockSpec]) -> None:
    """Refuse blocks whose shape isn't the layout's, with one entry a user."""
    if not layout or len(update.blocks) != len(layout):
        raise InputError(f"an update must have {max(1, len(layout))} blocks, got {len(update.blocks)}")
    for spec, block in zip(layout, update.blocks, strict=True):
        if isinstance(block, DenseBlock):
            expected, got = (update.n_users, *spec.shape), block.values.shape
        else:
            got = (len(block.indptr) - 1, block.n_rows, *block.columns.shape[1:])
            expected = (update.n_users, *(spec.shape if len(spec.shape) == 2 else (*spec.shape, 1)))
        if expected != got:
            raise InputError(f"block `{spec.name}` must have shape {expected}, got {got}")
        if isinstance(block, OuterBlock):
            _check_rows(spec.name, block)


def _check_rows(name: str, block: OuterBlock) -> None:
    """Refuse rows that are missing, out of range or repeated: a row sent twice would count twice in the sum."""
    indptr, indices = block.indptr, block.indices
    lengths = (int(indptr[-1]), len(block.rows), len(block.columns))
    if indptr[0] != 0 or (np.diff(indptr) < 0).any() or lengths != (len(indices), len(indices), len(indptr) - 1):
        raise InputError(f"block `{name}` must have one row index a factor and one column vector a user, got {lengths}")
    rising = indices[1:] > indices[:-1]
    edges = indptr[1:-1]
    rising[edges[(edges > 0) & (edges < len(indices))] - 1] = True
    if len(indices) and not (rising.all() and indices.min() >= 0 and indices.max() < block.n_rows):
        raise InputError(f"block `{name}` must have row indices in [0, {block.n_rows}) that rise within each user")


def _square_norms(block: Block) -> Float64:
    """Squared L2 norm of each user's block, float64 [n_users]."""
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(block, DenseBlock):
            return row_squares(_flat(block.values))
        return segment_sum(block.rows**2, block.indptr) * row_squares(block.columns)


def _flat(values: Float64) -> Float64:
    """One row a user; also without users, where numpy can't tell the width."""
    return values.reshape(len(values), int(np.prod(values.shape[1:], dtype=np.int64)))


def _quantise(block: Block, scale: Float64, finite: npt.NDArray[np.bool_], grid: int) -> Steps:
    """Grid steps of one block, truncated toward zero; rejected users send zeros."""
    if isinstance(block, DenseBlock):
        flat = _zeroed(_flat(block.values), finite) * (scale * grid)[:, None]
        return DenseSteps(flat.astype(np.int64))
    # q = a b' is exact in integers when each factor is: the grid is the product of a row and a column grid.
    column_grid = 1 if block.columns.shape[1] == 1 else 1 << (grid.bit_length() - 1) // 2
    columns = _zeroed(block.columns, finite)
    lengths = np.sqrt(row_squares(columns))
    columns = columns * (column_grid / np.where(lengths > 0, lengths, 1.0))[:, None]
    if block.columns.shape[1] == 1:
        columns = np.rint(columns)
    counts = np.diff(block.indptr)
    per_entry = np.repeat(scale * lengths * (grid / column_grid), counts)
    per_entry *= block.rows if finite.all() else _zeroed(block.rows, np.repeat(finite, counts))
    return OuterSteps(block.indptr, block.indices, per_entry.astype(np.int64), columns.astype(np.int64), block.n_rows)


def _zeroed(values: Float64, kept: npt.NDArray[np.bool_]) -> Float64:
    """The values, with zeros in the place of rows that are not kept: a product with zero would not do, of infinity."""
    return values if kept.all() else np.where(kept[:, None] if values.ndim > 1 else kept, values, 0.0)


def _square_steps(steps: Sequence[Steps]) -> Float64:
    """Squared L2 norm of each user's integers, float64 [n_users].

    Exact up to 2^53: sums of whole numbers that stay below are not rounded, and those above stay above.
    """
    squares: Float64 = np.zeros(1)
    for block in steps:
        if isinstance(block, DenseSteps):
            squares = squares + row_squares(block.values)
        else:
            rows = segment_sum(np.square(block.rows.astype(np.float64)), block.indptr)
            squares = squares + rows * row_squares(block.columns)
    return squares


def _keep(steps: Steps, kept: npt.NDArray[np.bool_]) -> Steps:
    """The same block with zeros for the users that are not kept."""
    if isinstance(steps, DenseSteps):
        return DenseSteps(np.where(kept[:, None], steps.values, 0))
    rows = np.where(np.repeat(kept, np.diff(steps.indptr)), steps.rows, 0)
    return OuterSteps(steps.indptr, steps.indices, rows, steps.columns, steps.n_rows)
