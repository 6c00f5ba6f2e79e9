"""Head: the most popular items by noised counts, which are learned; tail items are ranked by their counts.

The sum over a rare item's few users is smaller than the noise, so that learning it does not pay. So round 0 releases
popularity, its head takes part in the later rounds, and tail items are ranked below the head.

Source: Krichene et al., Multi-Task Differential Privacy Under Distribution Skew (ICML 2023), for the head and for
weights that follow noised counts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import PublicFacts, State
from palate_common.algorithms.popularity import COUNTS
from palate_common.mechanism.update import Float64

HEAD, WEIGHT = "head", "weight"
TINY = 1e-12


def head_size(facts: PublicFacts, factor: float, chosen: int | None) -> int:
    """The number of head items: `chosen`, or `factor` x signal^0.75 and at least 50; at most all items."""
    if chosen is not None or facts.mu is None:
        return min(chosen or facts.n_items, facts.n_items)
    return min(max(int(factor * facts.signal**0.75), 50), facts.n_items)


def split_budget(first: float, later: int) -> tuple[float, ...]:
    """Shares of mu^2: `first` for popularity, the rest in equal parts."""
    return (first, *((1 - first) / later for _ in range(later)))


def choose_head(counts: Float64, noise: float, size: int) -> State:
    """The public state after round 0.

    Args:
        counts: noised popularity, [n_items].
        noise: its standard deviation.
        size: h.

    Returns:
        `counts` [n_items]; `head` [h], item rows, rising; `weight` [h], popularity relative to the head's mean, after
        counts below the noise are raised to it.
    """
    head = np.sort(np.argsort(-counts, kind="stable")[:size])
    floored = np.maximum(counts[head], max(noise, 0.01 * float(counts.max()), TINY))
    return {
        COUNTS: counts.astype(np.float32),
        HEAD: head.astype(np.int32),
        WEIGHT: (floored / floored.mean()).astype(np.float32),
    }


def with_tail(state: State, scores: Float64, known: npt.NDArray[np.bool_]) -> Float64:
    """Scores of all items from those of the head.

    Args:
        state: the public state, with the head.
        scores: float [n_users, h].
        known: bool [n_users]; False for users without a head item, who get popularity.

    Returns:
        Float [n_users, n_items]: tail items below every head item, by popularity.
    """
    counts = state[COUNTS].astype(np.float64)
    below = (counts - counts.max()) / max(float(np.ptp(counts)), TINY)
    spread = np.maximum(np.ptp(scores, axis=1), TINY)[:, None]
    everything: Float64 = scores.min(axis=1)[:, None] + spread * (below[None] - 1)
    everything[:, state[HEAD]] = scores
    return np.where(known[:, None], everything, counts[None])
