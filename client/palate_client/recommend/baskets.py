"""Baskets: what goes with some items, whoever has them; and what a session adds to a user's history for one list.

    items of a basket -> the taste of who has only these, with less popularity -> [items that go with them]
    history, items just seen -> a history in which these weigh more -> the list of the moment

Both are made of what the model in use has already, links and directions: nothing is asked of anybody, and nothing is
stored. The constants were chosen on validation users (`simulations/benchmarks/order`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from palate_client.recommend.scoring import Scorer, Taste, Vector
from palate_client.recommend.selection import Rows
from palate_common.interactions import Interactions
from palate_common.score_sources import POPULARITY

POPULAR = 0.5
"""The weight of popularity in what goes with a basket: what many have goes with everything, and tells little."""
LAST, FADES = 2.0, 0.5
"""The last item of a session weighs so many times as much as the history's items on average; each one before it that
share of the one after it."""
UNSEEN = 3
"""A list of items counts as if it had so many more, of the middle of all that are compared."""


def basket_taste(scorer: Scorer, basket: Rows, n_items: int) -> Taste:
    """The taste of somebody who has this basket and nothing else; its rows rise."""
    ends, ones = np.array([0, len(basket)]), np.ones(len(basket), np.float32)
    alone = Interactions(ends, basket.astype(np.int32), ones, n_items)
    return scorer.taste(alone, np.zeros(0, np.int32), {POPULARITY: POPULAR})


def in_session(history: Interactions, session: Sequence[int]) -> Interactions:
    """The history with rows that the user just saw, last one last; of a row twice the later counts."""
    if not session:
        return history
    return with_rows(history, {row: LAST * FADES**place for place, row in enumerate(dict.fromkeys(reversed(session)))})


def with_rows(history: Interactions, more: Mapping[int, float]) -> Interactions:
    """The history with some rows, which weigh so many times as much as its items on average."""
    usual = float(history.weights.mean()) if history.nnz else 1.0
    weights: dict[int, float] = dict(zip(history.indices.tolist(), history.weights.tolist(), strict=True))
    for row, times in more.items():
        weights[row] = weights.get(row, 0.0) + times * usual
    rows = np.array(sorted(weights), np.int32)
    found = np.array([weights[row] for row in rows.tolist()], np.float32)
    return Interactions(np.array([0, len(rows)]), rows, found, history.n_items)


def list_scores(scores: Sequence[Vector]) -> Vector:
    """How well lists fit a user, by the scores of their items: means, nearer to all items' the shorter they are."""
    middle = float(np.concatenate(scores).mean())
    return np.array([(each.sum() + UNSEEN * middle) / (len(each) + UNSEEN) for each in scores])
