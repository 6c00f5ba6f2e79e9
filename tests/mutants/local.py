"""Mutants of dp local: devices don't add the full noise, or charge their ledger too late."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import State
from palate_common.algorithms.base import facts_of
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, Int64, Update
from palate_common.rounds import event_steps, shares
from palate_common.rounds.shares import NoisyShare
from palate_core.device.participation import VerifiedPlan
from palate_core.layout import DUMMIES
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource, SeededSource, Source
from palate_core.plan import RoundPlan, SignedPlan
from palate_server.rounds import coordinator, noise
from palate_server.rounds.aggregation import Aggregate
from palate_server.rounds.noise import NoisyAggregate

_share_sigma = RoundPlan.share_sigma


@mutant(
    "local noise of the sum's scale",
    bug="each device adds a part of its noise, so that the sum of all devices' has what one device was charged for",
    seen="sigma / sqrt(n) from a paper on distributed noise, in a mode without masks",
    test="releases",
)
def cut_by_the_cohort() -> Iterator[None]:

    def cut(plan: RoundPlan) -> int:
        if not plan.mode.alone:
            return int(_share_sigma.fget(plan))  # type: ignore[attr-defined]  # a property has it
        return max(1, round(plan.sigma / math.sqrt(facts_of(plan).n_users)))

    with mock.patch.object(RoundPlan, "share_sigma", property(cut)):
        yield


@mutant(
    "local noise after the sum only",
    bug="devices send their clipped numbers, and the server adds to the sum what they should have added",
    seen="the same released law, and a server that sees everything",
    test="idle rounds",
)
def after_the_sum() -> Iterator[None]:

    def bare(clipped: ClippedUpdate, plan: RoundPlan, source: Source) -> NoisyShare:
        if not plan.mode.alone:
            return shares.add_shares(clipped, plan, source)
        steps = np.concatenate([clipped.total(), np.zeros(DUMMIES, np.int64)])
        return NoisyShare(steps, len(clipped.accepted))

    def late(summed: Aggregate, plan: RoundPlan) -> NoisyAggregate:
        found = noise.noised(summed, plan)
        if not plan.mode.alone:
            return found
        sigma = math.isqrt(found.users * plan.sigma**2)
        return replace(
            found, steps=found.steps + sample_discrete_gaussian(len(found.steps), sigma=sigma, source=SecureSource())
        )

    with mock.patch.object(contribution, "add_shares", bare), mock.patch.object(coordinator, "noised", late):
        yield


@mutant(
    "device charged after its answer",
    bug="a device writes to its own ledger when the answer is made, and sends it whatever the ledger says",
    seen="a receipt that is written in a callback of the upload",
    test="ledgers",
)
def charged_late() -> Iterator[None]:
    charged, contribute = Contributor._charge_once, Contributor.contribute

    def free(self: Contributor, verified: VerifiedPlan) -> npt.NDArray[np.bool_]:
        return np.ones(len(self.devices), np.bool_)

    def late(self: Contributor, signed_plan: bytes, model_bytes: bytes) -> bytes:
        answer = contribute(self, signed_plan, model_bytes)
        try:
            signed = SignedPlan.model_validate_json(signed_plan)
            charged(self, VerifiedPlan(signed, signed_plan, self.ledger.seen(signed.plan.population)))
        except Exception as error:
            self.refusal = str(error)  # recorded, and the answer is sent anyway
        return answer

    with mock.patch.object(Contributor, "_charge_once", free), mock.patch.object(Contributor, "contribute", late):
        yield


@mutant(
    "un-noised fold-in",
    bug="where the unit is one event, the user's vector is folded in exactly, and every event's gradient knows of it",
    seen="event-level DP-SGD on item factors around a private user factor: one event moved 5.5 C where C was counted",
    test="sensitivity",
    at=(contribution, "event_steps"),
)
def exact_fold_in(algorithm: Any, state: State, plan: RoundPlan, histories: Interactions, source: Source) -> NoisyShare:
    if plan.round == 0:
        return event_steps.event_steps(algorithm, state, plan, histories, source)
    start = algorithm.user_start(state, histories.n_users)
    users = segment_sum(algorithm.user_gradients(state, start, histories), histories.indptr)
    update = algorithm.item_gradients(state, plan.round, users, histories)
    clipped = clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
    return shares.with_noise(clipped.total(), histories.n_users, plan, source)


@mutant(
    "user steps without noise",
    bug="where the unit is one event, steps on the user's own vector get no noise, as it never leaves the device",
    seen="personal layers that are left out of DP-SGD, and stay in the gradients of the shared ones",
    test="idle rounds",
    at=(event_steps, "sample_discrete_gaussian"),
)
def bare_user_steps(n: int, *, sigma: int, source: Source) -> Int64:
    return np.zeros_like(sample_discrete_gaussian(n, sigma=sigma, source=source))


@mutant(
    "events drawn by the plan's seed",
    bug="coins that everybody can throw again decide which events take part, and amplification is claimed",
    seen="a data loader seeded by the round, for repeatable batches",
    test="keystreams",
    at=(event_steps, "sample_events"),
)
def public_coins(real: Any, histories: Interactions, inclusion: float, source: Source) -> Interactions:
    return real(histories, inclusion, SeededSource(b"the plan's seed"))


@mutant(
    "events averaged over their user",
    bug="where the unit is one event, an event counts one part in as many as its user has, so that one more moves all",
    seen="a mean over a user's examples, in code that protects users and was given single events",
    test="separability",
    at=(contribution, "event_steps"),
)
def averaged_events(
    algorithm: Any, state: State, plan: RoundPlan, histories: Interactions, source: Source
) -> NoisyShare:
    real = algorithm.item_gradients

    def gradients(state: State, round_: int, users: Any, events: Interactions) -> Update:
        made, share = real(state, round_, users, events), events.n_users / max(events.nnz, events.n_users)
        return Update(tuple(replace(block, rows=block.rows * share) for block in made.blocks), made.n_users)

    with mock.patch.object(algorithm, "item_gradients", gradients):
        return event_steps.event_steps(algorithm, state, plan, histories, source)


@mutant(
    "an event that fails takes others along",
    bug="where the algorithm fails on one event, a step counts all of the node's events as none",
    seen="an exception that is caught around the whole step",
    test="separability",
    at=(event_steps, "_sum_over_events"),
)
def all_fail(step: Callable[[Interactions], Int64], events: Interactions) -> Int64:
    try:
        return step(events)
    except Exception:
        return step(events.entries(np.zeros(events.nnz, np.bool_)))
