"""A node's message: what its users' contributions come to, with the noise that their words make.

histories -> raw contributions -> clipped, summed (`contribution`) -> noise (`noise`) -> whole numbers
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from palate_audit.reference.contribution import total
from palate_audit.reference.noise import discrete_gaussian, shares

from palate_common.algorithms import Algorithm, EventAlgorithm, State
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseBlock, Update
from palate_core.layout import DUMMIES, BlockSpec
from palate_core.plan import RoundPlan

Words = Iterator[int]


def summed_up(
    algorithm: Algorithm, state: State, plan: RoundPlan, histories: Interactions, *, at_once: int
) -> list[int]:
    """The sum of the clipped contributions, which the algorithm makes for so many users at once."""
    found = [0] * sum(spec.size for spec in plan.layout)
    for first in range(0, histories.n_users, at_once):
        raw = algorithm.contribute(state, plan.round, histories.users(slice(first, first + at_once)))
        some = total(raw, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
        found = [one + other for one, other in zip(found, some, strict=True)]
    return found


def noised(algorithm: Algorithm, state: State, plan: RoundPlan, histories: Interactions, words: Words) -> list[int]:
    """What devices send that add noise: on their clipped sum, or in each step if the unit is one event."""
    if plan.events is not None and isinstance(algorithm, EventAlgorithm):
        clipped = _steps(algorithm, state, plan, histories, words)
    else:
        clipped = summed_up(algorithm, state, plan, histories, at_once=histories.n_users)
    drawn = shares(words, len(clipped) + DUMMIES, plan.share_sigma, histories.n_users)
    return [one + other for one, other in zip([*clipped, *[0] * DUMMIES], drawn, strict=True)]


def _steps(
    algorithm: EventAlgorithm, state: State, plan: RoundPlan, histories: Interactions, words: Words
) -> list[int]:
    """The noised steps on each user's own vector, and the sum of the items' clipped gradients."""
    inclusion, steps = (1.0, 1) if plan.events is None else (plan.events.inclusion, plan.events.steps)
    once = Interactions(histories.indptr, histories.indices, np.ones(histories.nnz, np.float32), histories.n_items)
    users = algorithm.user_start(state, histories.n_users)
    for _ in range(steps - 1):
        sums = _user_sums(algorithm, state, plan, users, _sampled(once, inclusion, words))
        noise = np.array(discrete_gaussian(words, sums.size, plan.sigma)).reshape(sums.shape)
        users = algorithm.user_step(users, (sums + noise) * (plan.clip_norm / plan.grid))
    raw = algorithm.item_gradients(state, plan.round, users, _sampled(once, inclusion, words))
    return total(raw, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)


def _sampled(events: Interactions, inclusion: float, words: Words) -> Interactions:
    """The events whose coins say so: a word below `inclusion`, rounded down to 53 bits."""
    if inclusion == 1:
        return events
    coins = [next(words, 2**64) < int(inclusion * 2**53) * 2**11 for _ in range(events.nnz)]
    return events.entries(np.array(coins, np.bool_))


def _user_sums(
    algorithm: EventAlgorithm, state: State, plan: RoundPlan, users: npt.NDArray[np.float64], events: Interactions
) -> npt.NDArray[Any]:
    """Each user's sum of the clipped gradients of their events."""
    layout = (BlockSpec(name="user", shape=(users.shape[1],), weight=1.0),)
    gradients, sums = algorithm.user_gradients(state, users, events), np.zeros(users.shape, np.int64)
    for event, user in enumerate(events.owners().tolist()):
        one = Update((DenseBlock(gradients[event : event + 1]),), 1)
        sums[user] += np.array(total(one, layout, clip_norm=plan.clip_norm, grid=plan.grid))
    return sums
