"""Diversity: reranks candidates so that the items of a list have high scores and are dissimilar.

Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_client.recommend.linked import Bonds


def diverse(
    scores: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float64],
    *,
    n: int,
    diversity: float,
    beside: npt.NDArray[np.float64] | None = None,
    bonds: Bonds | None = None,
) -> npt.NDArray[np.int64]:
    """Positions of n candidates, each maximising (1 - diversity) * score - diversity * similarity to those before.

    Args:
        scores: scores of the candidates, float64 [m]; they are rescaled to 0 to 1.
        vectors: their vectors, float64 [m, k]; the similarity of two is their cosine, 0 for a zero vector.
        n: how many to choose.
        diversity: weight of dissimilarity, from 0, only the score, to 1.
        beside: vectors of items that are in the list already, float64 [any, k].
        bonds: of the candidates, then of the items beside them, where a model has links.
    """
    span = float(np.ptp(scores)) if len(scores) else 0.0
    worth = (1 - diversity) * ((scores - scores.min()) / span if span else np.zeros(len(scores)))
    units, others = _units(vectors), _units(vectors[:0] if beside is None else beside)
    chosen = np.zeros(min(n, len(scores)), np.int64)
    likeness, free = np.zeros(len(scores)), np.ones(len(scores), bool)
    if len(others) and bonds is None:
        likeness = (units @ others.T).max(axis=1, initial=0.0)
    elif bonds is not None:
        units = np.concatenate([units, others])
        for place in range(len(scores), len(units)):
            likeness = np.maximum(likeness, bonds.closer(units @ units[place], place)[: len(scores)])
    for place in range(len(chosen)):
        best = int(np.argmax(np.where(free, worth - diversity * likeness, -np.inf)))
        chosen[place], free[best] = best, False
        near = units @ units[best] if bonds is None else bonds.closer(units @ units[best], best)[: len(scores)]
        likeness = np.maximum(likeness, near)
    return chosen


def _units(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The vectors scaled to length 1; zero vectors stay."""
    units: npt.NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return units
