"""OnDevice: scores a model as devices do, each with its own weights of the model's feature sources.

The code is the client's own (`palate_client.recommend.adaptation.fusion`, `palate_client.recommend.scoring`). Oracle:
it needs histories, which only a simulation has.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from palate_client.recommend.adaptation.fusion import NOTHING, fused_weights
from palate_client.recommend.scoring import Scorer, scorer_of
from palate_common.interactions import Floats, Interactions
from palate_common.models.model import GlobalModel


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


def weighs_sources(model: GlobalModel) -> bool:
    """Whether devices learn weights: the model names several sources of public features."""
    return len(model.algorithm.feature_sources) > 1
