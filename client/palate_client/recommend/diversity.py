"""Diversity: a list whose items are good and unlike each other.

Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def diverse(
    scores: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float64],
    *,
    n: int,
    diversity: float,
    beside: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.int64]:
    """Positions of n candidates, each the best of (1 - diversity) * score - diversity * likeness to those before it.

    Args:
        scores: of the candidates, float64 [m]; only their order and distances matter.
        vectors: by whose cosine two candidates are alike, float64 [m, k]; a zero vector is like no other.
        n: how many.
        diversity: from 0, by score alone, to 1.
        beside: vectors of what is in the list already, float64 [any, k].
    """
    span = float(np.ptp(scores)) if len(scores) else 0.0
    worth = (1 - diversity) * ((scores - scores.min()) / span if span else np.zeros(len(scores)))
    units = _units(vectors)
    chosen = np.zeros(min(n, len(scores)), np.int64)
    likeness, free = np.zeros(len(scores)), np.ones(len(scores), bool)
    if beside is not None:
        likeness = (units @ _units(beside).T).max(axis=1, initial=0.0)
    for place in range(len(chosen)):
        best = int(np.argmax(np.where(free, worth - diversity * likeness, -np.inf)))
        chosen[place], free[best] = best, False
        likeness = np.maximum(likeness, units @ units[best])
    return chosen


def _units(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The vectors at length 1; zero vectors as they are."""
    units: npt.NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return units
