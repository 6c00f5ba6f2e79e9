"""Event steps: a device's round with dp local where the unit is one event: DP-SGD on the device.

    for each step: secret coins pick events -> gradient of each -> clip each -> whole-number sum -> noise of its own
    user steps move the user's vector, which stays here; the item step's noised sum is what is sent

    >>> plan.events  # doctest: +SKIP
    Sampling(inclusion=0.5, steps=2)

Each step's sum goes through the clip and the sampler that everything else goes through. What one step leaves behind,
the next may use: it is noised, and steps are accounted as adaptive (`palate_common.mechanism.accounting`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import EventAlgorithm, State
from palate_common.errors import InputError
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.discrete_gaussian import sample_discrete_gaussian
from palate_common.mechanism.randomness import Source
from palate_common.mechanism.update import BlockSpec, ClippedUpdate, DenseBlock, DenseSteps, Float64, Int64, Update
from palate_common.rounds.plan import RoundPlan
from palate_common.rounds.shares import NoisyShare, with_noise


def event_steps(
    algorithm: EventAlgorithm, state: State, plan: RoundPlan, histories: Interactions, source: Source
) -> NoisyShare:
    """All steps of a round, for the devices of one node.

    Guarantees:
        In each step, one event moves the sum by at most `plan.grid` steps, given what was noised before.
        Each device's sum has noise of its own in every step, on every coordinate, whatever took part.
        Which events take part is drawn anew in each step, each with probability `inclusion` at most.
        An event that the algorithm fails on counts as none: that a device answers doesn't tell what its user has.

    Assumes:
        The algorithm's gradients follow from the event, the public state and the noised vectors alone.

    Args:
        algorithm: the plan's.
        state: the public state that the round starts from.
        plan: with dp local and events.
        histories: one row a device.
        source: of this call's random words alone.

    Raises:
        InputError: another plan, nobody, or gradients that don't fit.
    """
    if plan.events is None or histories.n_users < 1:
        raise InputError("event steps need a plan whose unit is one event, and a device")
    once = Interactions(histories.indptr, histories.indices, np.ones(histories.nnz, np.float32), histories.n_items)
    users = algorithm.user_start(state, once.n_users)
    for _ in range(plan.events.steps - 1):
        sums = _user_sums(algorithm, state, plan, users, sampled(once, plan.events.inclusion, source), source)
        users = algorithm.user_step(users, sums)

    def item_step(events: Interactions) -> Int64:
        """The item step's sum, int64 [layout size]."""
        update = algorithm.item_gradients(state, plan.round, users, events)
        if update.n_users > events.nnz:
            raise InputError(f"an algorithm must send one row an event, {events.nnz}, got {update.n_users}")
        return clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid).total()

    total = _summed(item_step, sampled(once, plan.events.inclusion, source))
    return with_noise(total, once.n_users, plan, source)


def sampled(histories: Interactions, inclusion: float, source: Source) -> Interactions:
    """The same users with the events that take part: each by a coin of its own, with probability rounded down.

    The coins are words of the source, never the algorithm's, so that nothing public tells who took part.
    """
    if inclusion == 1:
        return histories
    threshold = np.uint64(int(inclusion * 2**53) << 11)  # a float's 53 bits, exactly
    return histories.entries(np.asarray(source.words(histories.nnz) < threshold, np.bool_))


def _user_sums(
    algorithm: EventAlgorithm,
    state: State,
    plan: RoundPlan,
    users: Float64,
    events: Interactions,
    source: Source,
) -> Float64:
    """One user step's noised sums, float64 [n_users, d], in clip norms."""
    layout = (BlockSpec(name="user", shape=(users.shape[1],), weight=1.0),)

    def user_step(events: Interactions) -> Int64:
        """Its sums without noise, int64 [n_users, d]."""
        update = Update((DenseBlock(algorithm.user_gradients(state, users, events)),), events.nnz)
        clipped = clip(update, layout, clip_norm=plan.clip_norm, grid=plan.grid)
        return segment_sum(_steps(clipped), events.indptr)

    sums = _summed(user_step, events)
    noise = sample_discrete_gaussian(sums.size, sigma=plan.sigma, source=source).reshape(sums.shape)
    return np.asarray((sums + noise) * (plan.clip_norm / plan.grid), np.float64)


def _summed(step: Callable[[Interactions], Int64], events: Interactions) -> Int64:
    """A step's whole-number sum over events; were one event's error the device's, its refusal would tell who has it."""
    try:
        return step(events)
    except Exception:
        # What fails without any events fails for everybody alike, whatever anybody did.
        total = step(events.entries(np.zeros(events.nnz, np.bool_)))
    for event in range(events.nnz):
        with suppress(Exception):
            total = total + step(events.entries(np.arange(events.nnz) == event))
    return total


def _steps(clipped: ClippedUpdate) -> Int64:
    """The one dense block, a row an event."""
    (block,) = clipped.steps
    if not isinstance(block, DenseSteps):
        raise InputError("a user step's gradients must be an array")
    steps: npt.NDArray[np.int64] = block.values
    return steps
