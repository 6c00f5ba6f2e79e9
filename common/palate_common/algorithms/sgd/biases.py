"""Item biases from noised sums: how much better than usual an item is rated. Post-processing; part of `sgd`.

Most items have few ratings, and noise hides most of their sums. Popularity and public features then predict better:
items that are often rated are rated better, and so are some genres. So a bias is what both predict, moved towards the
item's own ratings as far as their number and the noise allow: an empirical Bayes estimate.

    >>> excess, events = np.array([5.0, -50.0]), np.array([10.0, 100.0])
    >>> item_biases(excess, events, counts_noise=0.0, noise=0.0, ridge=0.1, prior=0.01).round(2).tolist()
    [0.5, -0.5]

Source: Efron and Morris, Stein's Estimation Rule and its Competitors (JASA 1973), section 7, for a prior mean that is
itself a regression.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.mechanism.update import Float64

TINY = 1e-12


def item_biases(
    excess: Float64,
    events: Float64,
    *,
    counts_noise: float,
    noise: float,
    ridge: float,
    prior: float,
    features: npt.NDArray[np.floating[Any]] | None = None,
) -> Float64:
    """Each item's posterior mean, float64 [n_items], within [-1, 1].

    Args:
        excess: weighted sums of how far ratings lie from their users' means, [n_items].
        events: the weights' sums, not negative, [n_items].
        counts_noise: standard deviation of the noise in `events`.
        noise: standard deviation of the noise in `excess`.
        ridge: the weight of the prior mean, in the units of `events`.
        prior: variance of a bias around its prior mean, times `ridge`.
        features: public, [n_items, m].
    """
    seen = events + counts_noise + TINY
    damping = (ridge + TINY) * (1 + noise**2 / (seen * (prior + TINY)))
    expected = _expected_biases(excess, seen, seen**2 / (seen + damping), features)
    return np.asarray(np.clip(expected + (excess - events * expected) / (seen + damping), -1, 1), np.float64)


def _expected_biases(
    excess: Float64, seen: Float64, weights: Float64, features: npt.NDArray[np.floating[Any]] | None
) -> Float64:
    """Biases that popularity and public features predict, by weighted ridge regression: float64 [n_items]."""
    popular = np.log(seen)
    columns = [np.ones(len(seen)), (popular - popular.mean()) / max(float(popular.std()), TINY)]
    design = np.stack(columns, axis=1)
    if features is not None:
        design = np.concatenate([design, features], axis=1)
    weighted = design * weights[:, None]
    gram = design.T @ weighted + 0.01 * weights.sum() * np.eye(design.shape[1]) + TINY * np.eye(design.shape[1])
    return np.asarray(design @ np.linalg.solve(gram, weighted.T @ (excess / seen)), np.float64)
