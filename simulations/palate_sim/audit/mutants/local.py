"""Mutants of dp local: noise that isn't each device's own, or a device that pays too late."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import numpy as np
import numpy.typing as npt

from palate_client import contribution
from palate_client.contribution import Contributor
from palate_common import shares
from palate_common.discrete_gaussian import sample_discrete_gaussian
from palate_common.plan import DpMode, RoundPlan, SignedPlan
from palate_common.randomness import SecureSource, Source
from palate_common.shares import NoisyShare
from palate_common.update import DUMMIES, ClippedUpdate
from palate_server import coordinator, noise
from palate_server.aggregation import Aggregate
from palate_server.noise import NoisyAggregate
from palate_sim.audit.mutants.mutant import mutant

_share_sigma = RoundPlan.share_sigma


@mutant(
    "local noise of the sum's scale",
    bug="each device adds a part of its noise, so that the sum of all devices' has what one device was charged for",
    seen="sigma / sqrt(n) from a paper on distributed noise, in a mode without masks",
    test="B",
)
def cut_by_the_cohort() -> Iterator[None]:
    """The noise of distributed, in the clear."""

    def cut(plan: RoundPlan) -> int:
        if plan.dp is not DpMode.LOCAL:
            return int(_share_sigma.fget(plan))  # type: ignore[attr-defined]  # a property has it
        return max(1, round(plan.sigma / math.sqrt(plan.facts.n_users)))

    with mock.patch.object(RoundPlan, "share_sigma", property(cut)):
        yield


@mutant(
    "local noise after the sum only",
    bug="devices send their clipped numbers, and the server adds to the sum what they should have added",
    seen="the same released law, and a server that sees everything",
    test="I",
)
def after_the_sum() -> Iterator[None]:
    """Nothing shows in the release."""

    def bare(clipped: ClippedUpdate, plan: RoundPlan, source: Source) -> NoisyShare:
        if plan.dp is not DpMode.LOCAL:
            return shares.add_shares(clipped, plan, source)
        steps = np.concatenate([clipped.total(), np.zeros(DUMMIES, np.int64)])
        return NoisyShare(steps, len(clipped.accepted))

    def late(summed: Aggregate, plan: RoundPlan) -> NoisyAggregate:
        found = noise.noised(summed, plan)
        if plan.dp is not DpMode.LOCAL:
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
    test="G",
)
def charged_late() -> Iterator[None]:
    """Limits that are read too late."""
    charged, contribute = Contributor._charged, Contributor.contribute

    def free(self: Contributor, signed: SignedPlan, signed_plan: bytes) -> npt.NDArray[np.bool_]:
        return np.ones(len(self.devices), np.bool_)

    def late(self: Contributor, signed_plan: bytes, model_bytes: bytes) -> bytes:
        answer = contribute(self, signed_plan, model_bytes)
        try:
            charged(self, SignedPlan.model_validate_json(signed_plan), signed_plan)
        except Exception as error:
            self.refusal = str(error)  # noted, and sent all the same
        return answer

    with mock.patch.object(Contributor, "_charged", free), mock.patch.object(Contributor, "contribute", late):
        yield


MUTANTS = (cut_by_the_cohort, after_the_sum, charged_late)
