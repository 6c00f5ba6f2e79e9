"""Server steps: optimizer steps from a noised sum of changes. They are post-processing and cost no privacy.

    >>> direction = newton_direction(
    ...     np.array([[4.0]]), moments=np.array([[2.0]]), counts=np.array([1.0]), ridge=np.array([0.0])
    ... )
    >>> direction.round(3).tolist()
    [[2.0]]

Source: Reddi et al., Adaptive Federated Optimization (ICLR 2021), algorithm 2, for momentum.
"""

from __future__ import annotations

import numpy as np

from palate_common.mechanism.update import Float64

TINY = 1e-12


def newton_direction(
    change: Float64, *, moments: Float64, counts: Float64, ridge: Float64, noise: float = 0.0, prior: float = 1.0
) -> Float64:
    """(count_i M + diag(ridge))^-1 change_i for every row i, damped where the change is mostly noise.

    In Bayesian terms, the ridge is a prior of variance `prior` / ridge on a row. With noise of known variance in the
    change, the posterior mean has a larger divisor: in coordinates where the ridge is 1 and M is diagonal, it is
    1 + a + noise^2 / (a prior) instead of 1 + a, where a is the row's count times M.

    Args:
        change: float64 [h, d], minus the gradient of the loss.
        moments: M, symmetric, float64 [d, d]; eigenvalues that noise made negative count as 0.
        counts: how much of M each row has, float64 [h], not negative.
        ridge: float64 [d], not negative.
        noise: standard deviation of the noise in each coordinate of `change`.
        prior: variance of a row, times the ridge.

    Returns:
        Float64 [h, d].
    """
    floor = TINY + 1e-6 * max(float(np.trace(moments)) * float(counts.max(initial=0)) / len(moments), 0.0)
    root = 1 / np.sqrt(ridge + floor)
    # In coordinates where the ridge is 1, the eigenvectors of M are those of every row's matrix.
    values, basis = np.linalg.eigh(root[:, None] * moments * root)
    brought = np.outer(counts, np.maximum(values, 0)) + TINY
    divisor = 1 + brought + noise**2 * (root**2 @ basis**2) / (brought * prior)
    return np.asarray((((change * root) @ basis) / divisor) @ basis.T * root, np.float64)


def momentum_step(momentum: Float64, direction: Float64, *, rate: float, decay: float) -> Float64:
    """The new momentum, decay * momentum + rate * direction."""
    return decay * momentum + rate * direction
