"""OnDevice: a model as devices rank by it, the weights of its sources fused on each of them.

The code is the client's own (`palate_client.recommend.fusion`, `palate_client.recommend.scoring`). Oracle: a
simulation holds histories.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from palate_client.recommend.fusion import NOTHING, fused_weights
from palate_client.recommend.scoring import Scorer, scorer_of
from palate_common.interactions import Floats, Interactions
from palate_common.models.model import GlobalModel


class OnDevice:
    """Scores of users whose devices learned the weights of the model's sources.

    Args:
        model: what they downloaded.
    """

    def __init__(self, model: GlobalModel) -> None:
        self._model = model

    @cached_property
    def scorer(self) -> Scorer:
        """What a device scores by."""
        return scorer_of(self._model)

    def scores(self, foldin: Interactions) -> Floats:
        """Each user's own, [n_users, n_items]."""
        rows = np.arange(foldin.n_items)
        found = np.empty((foldin.n_users, foldin.n_items))
        for user in range(foldin.n_users):
            history = foldin.user(user)
            taste = self.scorer.taste(history, NOTHING, fused_weights(self.scorer, history))
            found[user] = self.scorer.scores(taste, rows)
        return found


def weighs_sources(model: GlobalModel) -> bool:
    """Whether devices fuse: the model names several sources of public features."""
    return len(model.algorithm.feature_sources) > 1
