"""Mutants of the device's own roads: masked attempts, and the part that an app embeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from palate_audit.mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_client.rounds.admission import purpose_of
from palate_client.rounds.contribution import Contributor, Histories
from palate_client.rounds.participation import Rounds
from palate_common.errors import RefusedError
from palate_common.mechanism.randomness import Source
from palate_common.mechanism.update import ClippedUpdate, Int64
from palate_common.rounds import shares
from palate_common.rounds.plan import RoundPlan, SignedPlan
from palate_common.rounds.shares import NoisyShare


@mutant(
    "masked noise kept",
    bug="under masks a device adds the same noise in each round and attempt",
    seen="noise that is drawn when a device enrols: masks hide it, and two sums subtract to none",
    test="R",
)
def kept() -> Iterator[None]:
    """Draw a device's noise once for each sigma and size."""
    noises: dict[tuple[Any, ...], Int64] = {}
    owners: WeakKeyDictionary[Source, tuple[int, ...]] = WeakKeyDictionary()
    make, add = shares.share_source, shares.add_shares

    def owned(plan: RoundPlan, devices: Sequence[int]) -> Source:
        found = make(plan, devices)
        owners[found] = tuple(map(int, devices))
        return found

    def added(clipped: ClippedUpdate, plan: RoundPlan, source: Source) -> NoisyShare:
        share = add(clipped, plan, source)
        if plan.cohort is None or not plan.cohort.masks or not source.secure:
            return share
        total = np.zeros_like(share.steps)
        total[: len(clipped.total())] = clipped.total()
        place = (plan.run, owners[source], plan.share_sigma, len(total))
        return NoisyShare(total + noises.setdefault(place, share.steps - total), share.users)

    with (
        mock.patch.object(contribution, "share_source", owned),
        mock.patch.object(contribution, "add_shares", added),
    ):
        yield


@mutant(
    "masked attempts uncharged",
    bug="under masks the device's own ledger is never charged",
    seen="two ways into the device, of which one was written later",
    test="P",
)
def uncharged_masks() -> Iterator[None]:
    """Don't charge a masked attempt."""
    real = Contributor._charged

    def instead(self: Contributor, signed: SignedPlan, signed_plan: bytes) -> npt.NDArray[np.bool_]:
        if signed.plan.cohort is not None and signed.plan.cohort.masks:
            return np.ones(len(self.devices), np.bool_)
        return real(self, signed, signed_plan)

    with mock.patch.object(Contributor, "_charged", instead):
        yield


@mutant(
    "an empty history refuses",
    bug="an app's device without events refuses to train, and so tells that it has none",
    seen="`if not events: return` in an app, for devices with nothing to say",
    test="P",
)
def refuses_when_idle() -> Iterator[None]:
    """Refuse a plan where there is nothing to contribute."""
    real = Rounds._histories

    def instead(self: Rounds, plan: RoundPlan) -> tuple[Histories, str]:
        histories, catalogue = real(self, plan)
        if purpose_of(plan) == "train" and histories.users(slice(None)).nnz == 0:
            raise RefusedError("there is nothing to contribute")
        return histories, catalogue

    with mock.patch.object(Rounds, "_histories", instead):
        yield


MUTANTS = (kept, uncharged_masks, refuses_when_idle)
