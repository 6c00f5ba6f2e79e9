"""Diversity: reranks candidates so that the items of a list have high scores and are dissimilar.

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
    """Positions of n candidates, each maximising (1 - diversity) * score - diversity * similarity to those before.

    Args:
        scores: scores of the candidates, float64 [m]; they are rescaled to 0 to 1.
        vectors: their vectors, float64 [m, k]; the similarity of two is their cosine, 0 for a zero vector.
        n: how many to choose.
        diversity: weight of dissimilarity, from 0, only the score, to 1.
        beside: vectors of items that are in the list already, float64 [any, k].
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
    """The vectors scaled to length 1; zero vectors stay."""
    units: npt.NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return units
