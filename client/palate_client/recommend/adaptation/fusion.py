"""Fusion: the weight of each source of a score for this user, learned on the device from the user's own events.

Half of the events are hidden, then the other half. From the rest the model ranks the catalogue; among its first 200
items the hidden ones should rank above the others. With x the parts of an item's score, by source, and weights v,

    P(item)  =  exp(v . x_item)  over the sum of it over the 200
    v*       =  argmax  sum over hidden  log P   -   |v / t - 1|^2 / (2 SPREAD^2)

so that a user with few events keeps the model's own weights (v = t, the scale at which its scores fit best), and a user
with many can move far from them. The problem is concave, and a few Newton steps solve it; a weight is at least 0 and at
most twice the model's. The weights are kept in memory only, like the taste: in no file and in no message. The simulator
evaluates with this very code.

Source: McFadden, Conditional Logit Analysis of Qualitative Choice Behavior (1974), for the likelihood.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_client.recommend.scoring import Scorer
from palate_common.interactions import Interactions

FOLDS = 2
"""Number of parts of the history that are hidden in turn."""
FIRST = 200
"""Number of top items that are used: those below are never recommended."""
LEAST = 4
"""The least number of events to learn from."""
SPREAD = 0.1
"""Standard deviation of the prior of a weight around the model's. Chosen on validation users."""
STEPS = 12
TINY = 1e-12

Float64 = npt.NDArray[np.float64]
Lists = list[tuple[Float64, Float64]]
"""For each fold, the score parts of its hidden items [h, s] and of the other top items [m, s], by source."""
NOTHING = np.zeros(0, np.int32)


def fused_weights(scorer: Scorer, history: Interactions) -> dict[str, float]:
    """The weight of each source of the model's scores for one user; {} if the model's own weights hold.

    Args:
        scorer: the model's scorer.
        history: the user's events that count, a batch of one.
    """
    if history.nnz < LEAST or len(scorer.sources) < 2:
        return {}
    lists = _lists(scorer, history)
    if not lists:
        return {}
    return dict(zip(scorer.sources, _fit(lists).tolist(), strict=True))


def _lists(scorer: Scorer, history: Interactions) -> Lists:
    """The training data of each fold."""
    fold = np.random.default_rng(history.nnz).permutation(history.nnz) % FOLDS
    lists: Lists = []
    for turn in range(FOLDS):
        shown = history.entries(fold != turn)
        taste = scorer.taste(shown, NOTHING, {})
        top = scorer.top(taste, n=FIRST, without=shown.indices)
        hidden = np.isin(top, history.indices)
        if hidden.any() and not hidden.all():
            parts = np.stack(list(scorer.by_part(taste, top).values()), axis=1)
            lists.append((parts[hidden], parts[~hidden]))
    return lists


def _fit(lists: Lists) -> Float64:
    """The fitted weights; 1 is the model's own."""
    spread = np.mean([float(others.sum(axis=1).std()) for _, others in lists])
    lists = [(hidden / (spread + TINY), others / (spread + TINY)) for hidden, others in lists]
    own = np.ones(lists[0][0].shape[1])
    scale = 1.0
    for _ in range(STEPS):
        slope, curvature = _slopes(lists, scale * own)
        # In log t, with a standard normal prior of variance 4.
        step = (slope @ own * scale - np.log(scale) / 4) / (own @ curvature @ own * scale**2 + 0.25)
        scale *= float(np.exp(np.clip(step, -1, 1)))
    weights, stiff = scale * own, 1 / (SPREAD * scale) ** 2
    for _ in range(STEPS):
        slope, curvature = _slopes(lists, weights)
        step = np.linalg.solve(curvature + stiff * np.eye(len(own)), slope - stiff * (weights - scale))
        weights = np.clip(weights + np.clip(step, -scale, scale), 0, 2 * scale)
    fitted: Float64 = weights / scale
    return fitted


def _slopes(lists: Lists, weights: Float64) -> tuple[Float64, Float64]:
    """Gradient of the log likelihood [s], and its curvature [s, s], which is not negative."""
    slope, curvature = np.zeros(len(weights)), np.zeros((len(weights), len(weights)))
    for hidden, others in lists:
        scores, wanted = others @ weights, hidden @ weights
        top = float(scores.max())
        odds = np.exp(scores - top)
        total = float(odds.sum())
        odds /= total
        mean, square = odds @ others, (others * odds[:, None]).T @ others
        # Each hidden item competes with the others, not with other hidden items.
        share = 1 / (1 + np.exp(np.clip(np.log(total) + top - wanted, -50, 50)))
        expected = (1 - share)[:, None] * mean + share[:, None] * hidden
        slope += (hidden - expected).sum(axis=0)
        curvature += (1 - share).sum() * square + (hidden * share[:, None]).T @ hidden - expected.T @ expected
    return slope, curvature
