"""The final norm check: the vector that a device adds noise to, or sends, is at most one grid long, or it is zero.

    ClippedUpdate.total() -> bounded -> noise -> masks or wire

Clipping decides what a contribution is worth. This check decides what it may reveal: whatever computed the vector, an
algorithm, a torch module, a block type or a sum, one user moves a release by at most `grid` steps.

    >>> import numpy as np
    >>> bounded(np.array([3, -4]), grid=5).tolist(), bounded(np.array([3, -5]), grid=5).tolist()
    ([3, -4], [0, 0])
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def bounded(vectors: Int64, *, grid: int) -> Int64:
    """Each vector itself if its L2 norm is at most `grid`; zeros in the place of any other.

    The check is exact. A whole number of at most `grid` <= 2^26 has a square of at most 2^52. A float64 sum of such
    squares is exact while it is below 2^53, in any order, and rounding never takes a larger sum below 2^53 again. So a
    sum that is computed to be at most grid^2 <= 2^52 is the true one.

    **Guarantees:** the final norm check: the norm is at most `grid`, or the vector is zero, whatever made it.

    Args:
        vectors: int64 [..., size]: one user's contribution [size], or events' [events, size].
        grid: steps per clip norm, at most `MAX_GRID`.
    """
    with np.errstate(invalid="ignore"):
        vectors = np.asarray(vectors, np.int64)  # what is checked is what is returned, whatever kind of array it was
    wide = vectors.astype(np.float64)
    small = np.abs(wide).max(axis=-1, initial=0.0) <= grid  # or a square could be above 2^52, and rounded
    within = small & (np.einsum("...i,...i->...", wide, wide) <= float(grid) ** 2)
    return np.where(within[..., None], vectors, 0)
