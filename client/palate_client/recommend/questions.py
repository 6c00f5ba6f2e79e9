"""Questions: which items to ask a newcomer about ("do you like this?"), so that few answers tell most.

A user's taste is unknown along the model's directions: its covariance is K, the identity before the first question. An
answer about an item of vector v reduces it, as in a linear regression, and with it the variance of all scores:

    K  <-  K - K v v'K / (1 + v'K v)          gain(v)  =  v'K W K v / (1 + v'K v),    W = sum_j c_j v_j v_j'

where v are unit vectors. The next question maximises c gain; c stands for the chance that the user knows the item:

    c  =  r p / (1 + SATURATED p),      p  =  popularity / that of the most popular item

and r is how far the answers so far raise the item's score. Popularity saturates, as knowing what everybody knows tells
little. So a question is about an item that many know, unlike what was asked before, and where scores of many items
hang on the answer. All of it follows from the public model and the answers, on the device.

Source: the expected reduction of the mean variance of predictions, Cohn, Ghahramani and Jordan, Active Learning with
Statistical Models (1996), section 4, for a linear model. The factor c is ours; its constants were chosen on validation
users (`simulations/benchmarks/questions`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate_client.recommend.scoring import Scorer, Taste
from palate_common.interactions import Ints
from palate_common.score_sources import POPULARITY

KNOWN = 300
"""How many of the most popular items are asked about."""
SATURATED = 10.0
"""How early popularity saturates: an item of a tenth of the highest popularity has half of the highest chance."""
LOWEST, HIGHEST = 0.1, 10.0
"""Bounds of the factor by which answers change an item's chance."""
TINY = 1e-30

Vector = npt.NDArray[np.float64]


def questions(scorer: Scorer, popularity: Vector, taste: Taste, asked: Ints, among: Ints, n: int) -> Ints:
    """Rows of the next n items to ask about, the most telling first.

    Args:
        scorer: the model's scorer.
        popularity: noised popularity of each item, float [n_items].
        taste: the user's, of the answers and other events so far.
        asked: rows of the items that the user has answered or done something with.
        among: rows of the items that may be asked about, without `asked`.
        n: how many; fewer are returned where there are fewer.
    """
    rows = among[np.argsort(-popularity[among], kind="stable")[:KNOWN]]
    if not len(rows):
        return rows
    units = scorer.likeness(np.concatenate([rows, asked]))
    units = units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), TINY)
    vectors, told = units[: len(rows)], units[len(rows) :]
    known = np.maximum(popularity[rows], 0.0).astype(np.float64)
    known /= max(float(known.max()), TINY)
    known /= 1 + SATURATED * known
    wanted = (vectors * known[:, None]).T @ vectors
    chance = known * _lift(scorer, taste, rows) + TINY
    unknown = np.eye(vectors.shape[1])
    for vector in told:
        unknown = _less(unknown, vector)
    chosen, free = np.zeros(min(n, len(rows)), np.int64), np.ones(len(rows), np.bool_)
    for place in range(len(chosen)):
        along = vectors @ unknown
        gains = ((along @ wanted) * along).sum(axis=1) / (1 + (along * vectors).sum(axis=1))
        best = int(np.argmax(np.where(free, chance * gains, -np.inf)))
        chosen[place], free[best] = best, False
        unknown = _less(unknown, vectors[best])
    found: Ints = rows[chosen]
    return found


def _lift(scorer: Scorer, taste: Taste, rows: Ints) -> Vector:
    """How far a user's events raise the scores of items above what popularity gives; 1 where there are none."""
    parts = scorer.by_part(taste, rows)
    usual = parts.get(POPULARITY)
    if not taste.history.nnz or usual is None or len(parts) < 2 or not (usual > 0).all():
        return np.ones(len(rows))
    total: Vector = np.sum(list(parts.values()), axis=0)
    return np.clip(total / usual, LOWEST, HIGHEST)


def _less(unknown: Vector, vector: Vector) -> Vector:
    """The covariance after an answer about an item of this vector."""
    along = unknown @ vector
    rest: Vector = unknown - np.outer(along, along) / (1 + vector @ along)
    return rest
