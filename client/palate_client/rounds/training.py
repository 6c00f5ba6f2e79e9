"""Training: the one place where behaviour becomes an update."""

from __future__ import annotations

from palate_common.interactions import Interactions
from palate_common.mechanism.update import Update
from palate_common.models.model import GlobalModel


def train(model: GlobalModel, round_: int, histories: Interactions) -> Update:
    """The raw contributions of a batch of users to round `round_`. Private: clip before anything leaves.

    Args:
        model: the model the round starts from.
        round_: the plan's round.
        histories: one row a user, in the model's catalogue.
    """
    return model.algorithm.contribute(model.state, round_, histories)
