"""Items in quarantine: nothing is learned about them, by no algorithm, and no list shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate_client.recommend.selection import Selection
from palate_common.algorithms import Interactions, PublicFacts, State, first_state, make_algorithm, next_state
from palate_common.algorithms.parts.quarantine import QUARANTINED, inputs_of, learned_from, rows_of
from palate_common.errors import IntegrityError
from palate_common.models.compact import compact, expand
from palate_common.models.model import GlobalModel, ModelHeader

USERS, ITEMS, OUT = 400, 60, 7
FACTS = PublicFacts(n_users=USERS, n_items=ITEMS, mu=20.0, seed=3)
ALGORITHMS: dict[str, dict[str, Any]] = {
    "als": {"embedding_size": 4, "rounds": 2},
    "popularity": {},
    "sgd": {"embedding_size": 4, "rounds": 2},
}


def people() -> Interactions:
    """Everybody has the item that is out, and ten others."""
    rng = np.random.default_rng(5)
    rows = np.concatenate([np.append(rng.permutation(np.delete(np.arange(ITEMS), OUT))[:10], OUT) for _ in range(USERS)])
    return Interactions.from_pairs(np.repeat(np.arange(USERS), 11), rows, n_users=USERS, n_items=ITEMS)


def played(name: str, histories: Interactions, inputs: State, *, push: float) -> GlobalModel:
    """A run without noise of its own, whose attackers push the item's row of each sum that has one."""
    algorithm = make_algorithm(name, ALGORITHMS[name], FACTS)
    state = first_state(algorithm, inputs)
    for round_ in range(len(algorithm.shares)):
        update = algorithm.contribute(state, round_, learned_from(histories, state))
        sums, noise = {}, {}
        for block, spec in zip(update.blocks, algorithm.layout(state, round_), strict=True):
            width = np.zeros(int(np.prod(spec.shape)))
            block.clipped  # noqa: B018
            sums[spec.name], noise[spec.name] = width.reshape(spec.shape), 0.1
        state = next_state(algorithm, state, round_, sums, noise, inputs)
    header = ModelHeader(algorithm=name, settings=ALGORITHMS[name], facts=FACTS, releases=1, catalogue="")
    return GlobalModel(header, state)
