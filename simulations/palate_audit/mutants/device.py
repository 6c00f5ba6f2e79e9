"""Mutants of the device's own roads: masked attempts, and the part that an app embeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from palate_audit.mutants.mutant import mutant
from palate_client.floors import Floors
from palate_client.ledger.device_ledger import DeviceLedger
from palate_client.online.hosting import OwnHost
from palate_client.rounds import contribution
from palate_client.rounds.admission import purpose_of
from palate_client.rounds.contribution import Contributor, Histories
from palate_client.rounds.participation import Rounds
from palate_common.errors import RefusedError
from palate_common.mechanism.randomness import Source
from palate_common.mechanism.update import ClippedUpdate, Int64
from palate_common.records.merkle import Checkpoint
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


@mutant(
    "a state of the ledger not remembered",
    bug="under masks a device doesn't keep the state of the population's ledger that its plan has shown",
    seen="somebody else is thought to be a witness already",
    test="P",
)
def unseen_states() -> Iterator[None]:
    """Don't keep what a masked plan shows."""
    real = DeviceLedger.see

    def instead(self: DeviceLedger, population: str, checkpoint: Checkpoint, signed: bytes = b"") -> None:
        if b'"masks":true' not in signed:
            real(self, population, checkpoint, signed)

    with mock.patch.object(DeviceLedger, "see", instead):
        yield


@mutant(
    "an upload outlives consent",
    bug="later answers of a masked attempt are sent on after their purpose was revoked",
    seen="consent that is asked for once, when an attempt begins",
    test="P",
)
def sent_on() -> Iterator[None]:
    """Forget what a later answer is for."""
    real = OwnHost.go_on

    def instead(self: OwnHost, node: int, request: bytes) -> bytes:
        answer = real(self, node, request)
        self.purpose = None
        return answer

    with mock.patch.object(OwnHost, "go_on", instead):
        yield


@mutant(
    "a loosening that loosens more",
    bug="floors for a small deployment also allow the server to add the noise",
    seen="one switch for tests, which grows",
    test="G",
)
def loosened_more() -> Iterator[None]:
    """Trust the server where there are few devices."""
    real = Floors.for_few

    def instead(self: Floors) -> Floors:
        return replace(real(self), allow_central=True)

    instead.__annotations__ = real.__annotations__
    with mock.patch.object(Floors, "for_few", instead):
        yield


MUTANTS = (kept, uncharged_masks, refuses_when_idle, unseen_states, sent_on, loosened_more)
