"""On device: scores and lists of a model as devices make them, of histories that are given.

The code is the client's own, `palate_client.recommend`: a device's weights of the model's feature sources, and its
lists with their reasons, where `GivenInterests` stands for what it would read from its store. Oracle: it needs
histories, which only a simulation has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from palate_client.recommend.adaptation.fusion import NOTHING, fused_weights
from palate_client.recommend.evidence import Weighed
from palate_client.recommend.interests import Interests, Look
from palate_client.recommend.scoring import Scorer, scorer_of
from palate_common.interactions import Floats, Interactions
from palate_common.models.model import GlobalModel
from palate_common.weighting import Weighting


class OnDevice:
    """Scores of users whose devices learned the weights of the model's sources.

    Args:
        model: the model that the devices downloaded.
    """

    def __init__(self, model: GlobalModel) -> None:
        self._model = model

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer that a device uses."""
        return scorer_of(self._model)

    def scores(self, foldin: Interactions) -> Floats:
        """The scores by each user's own weights, [n_users, n_items]."""
        rows = np.arange(foldin.n_items)
        found = np.empty((foldin.n_users, foldin.n_items))
        for user in range(foldin.n_users):
            history = foldin.user(user)
            taste = self.scorer.taste(history, NOTHING, fused_weights(self.scorer, history))
            found[user] = self.scorer.scores(taste, rows)
        return found


class GivenInterests(Interests):
    """The interests of a user whose history is given instead of read from a store; each item counts as liked.

    Args:
        catalogue: item ids in row order.

    Attributes:
        history: a batch of one, empty at first; set it for the next list.
    """

    def __init__(self, catalogue: Sequence[str]) -> None:
        self.n_items, self.weighting = len(catalogue), Weighting()
        self.rows = {item: row for row, item in enumerate(catalogue)}
        self.history = Interactions.from_pairs([], [], n_users=1, n_items=self.n_items)

    def look(self) -> Look:
        """The history as a device's look at its own."""
        own, places, nothing = self.history, np.arange(self.history.nnz), np.zeros(0, np.int32)
        likes, unknown = np.full(own.nnz, self.weighting.known.index("like")), np.full(own.nnz, np.nan)
        factors = own.weights.astype(np.float64)
        weighed = Weighed(own.indices, own.weights, places, places + 1, factors, likes, unknown)
        return Look(own, own, weighed, nothing, nothing, nothing, nothing)


def weighs_sources(model: GlobalModel) -> bool:
    """Whether devices learn weights: the model names several sources of public features."""
    return len(model.algorithm.feature_sources) > 1
