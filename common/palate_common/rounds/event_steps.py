"""Event steps: DP-SGD on the device, for rounds with dp local whose unit is one event.

    for each step: secret coins pick events -> gradient of each -> clip each -> whole-number sum -> noise of its own
    user steps update the user's vector, which stays here; the item step's noised sum is sent

Each step uses the same clipping and noise sampler as every other round. A step may use the noised results of earlier
ones: the accounting covers adaptive steps (`palate_core.accounting`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import EventAlgorithm, State
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, DenseBlock, DenseSteps, Float64, Int64, Update
from palate_common.rounds.shares import with_noise
from palate_core.errors import InputError
from palate_core.layout import BlockSpec, layout_size
from palate_core.noise.bounded import bounded
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import Source
from palate_core.noise_share import ClearSum
from palate_core.plan import RoundPlan


def event_steps(
    algorithm: EventAlgorithm, state: State, plan: RoundPlan, histories: Interactions, source: Source
) -> ClearSum:
    """All steps of a round, for the devices of one node.

    **Guarantees:** each event is clipped by itself: it moves a step's sum by `plan.grid` at most, given earlier sums.
    **Guarantees:** the final norm check of each event: a row that is too long counts as none, whatever made it so.
    **Guarantees:** every step has its noise: each device's sum has its own on every coordinate, whatever took part.
    **Guarantees:** coins are secret: each step draws events anew, each with probability `inclusion` at most.
    **Guarantees:** an event that the algorithm fails on counts as none: whether a device answers doesn't reveal it.
    **Assumes:** a user's vector knows of events through noise alone: gradients follow from the event, the public state
    and noised vectors.

    Args:
        algorithm: the plan's.
        state: the public state that the round starts from.
        plan: with dp local and events.
        histories: one row a device.
        source: random words for this call alone.

    Raises:
        InputError: another kind of plan, no device, or gradients that don't fit.
    """
    if plan.events is None or histories.n_users < 1:
        raise InputError("event steps need a plan whose unit is one event, and a device")
    once = Interactions(histories.indptr, histories.indices, np.ones(histories.nnz, np.float32), histories.n_items)
    users = algorithm.user_start(state, once.n_users)
    for _ in range(plan.events.steps - 1):
        sums = _user_sums(algorithm, state, plan, users, sample_events(once, plan.events.inclusion, source), source)
        users = algorithm.user_step(users, sums)

    def item_step(events: Interactions) -> Int64:
        """The item step's sum, int64 [layout size]."""
        update = algorithm.item_gradients(state, plan.round, users, events)
        if update.n_users != events.nnz:  # fewer rows would be of several events each, at the price of one
            raise InputError(f"an algorithm must send one row an event, {events.nnz}, got {update.n_users}")
        clipped = clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
        if once.n_users > 1:  # simulated devices: one vector of the layout's size an event would take too long
            return clipped.total()
        total = np.zeros(layout_size(plan.layout), np.int64)
        for event in range(clipped.users):
            total += bounded(clipped.vector(event), grid=plan.grid)
        return total

    total = _sum_over_events(item_step, sample_events(once, plan.events.inclusion, source))
    return with_noise(total, once.n_users, plan, source)


def sample_events(histories: Interactions, inclusion: float, source: Source) -> Interactions:
    """The same users with a sample of the events: each is drawn by its own coin, with probability rounded down.

    Coins come from the secret source, never from public randomness.
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
        """The step's sums without noise, int64 [n_users, d]."""
        update = Update((DenseBlock(algorithm.user_gradients(state, users, events)),), events.nnz)
        clipped = clip(update, layout, clip_norm=plan.clip_norm, grid=plan.grid)
        return segment_sum(bounded(_steps(clipped), grid=plan.grid), events.indptr)

    sums = _sum_over_events(user_step, events)
    noise = sample_discrete_gaussian(sums.size, sigma=plan.sigma, source=source).reshape(sums.shape)
    return np.asarray((sums + noise) * (plan.clip_norm / plan.grid), np.float64)


def _sum_over_events(step: Callable[[Interactions], Int64], events: Interactions) -> Int64:
    """A step's whole-number sum over events. An event that fails counts as none: a refusal would reveal it."""
    try:
        return step(events)
    except Exception:
        # A step that fails without events fails for every device, whatever its user did.
        total = step(events.entries(np.zeros(events.nnz, np.bool_)))
    for event in range(events.nnz):
        with suppress(Exception):
            total = total + step(events.entries(np.arange(events.nnz) == event))
    return total


def _steps(clipped: ClippedUpdate) -> Int64:
    """The one dense block, a row an event: int64 [nnz, d]."""
    (block,) = clipped.steps
    if not isinstance(block, DenseSteps):
        raise InputError("a user step's gradients must be an array")
    steps: npt.NDArray[np.int64] = block.values
    return steps
