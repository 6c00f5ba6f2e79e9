"""Mutants of the device's own roads: masked attempts, and the part that an app embeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np

from mutants.mutant import mutant
from mutants.noise import sharing
from palate_client import panel
from palate_client.consent import Consent, Purpose
from palate_client.online.hosting import OwnHost
from palate_client.online.sync import Session
from palate_client.recommend.interests import Interests, Look
from palate_client.rounds import contribution
from palate_client.rounds.contribution import Contributor, Joined
from palate_client.rounds.participation import Rounds
from palate_common.mechanism.update import ClippedUpdate, Int64
from palate_common.models.model import GlobalModel
from palate_common.rounds import shares
from palate_core.device.participation import KeptPlan
from palate_core.errors import LockedError
from palate_core.noise.randomness import Source
from palate_core.noise_share import ClearSum
from palate_core.plan import RoundPlan, read_plan


@mutant(
    "masked noise kept",
    bug="under masks a device adds the same noise in each round and attempt",
    seen="noise that is drawn when a device enrols: masks hide it, and two sums subtract to none",
    test="repeats",
)
def kept() -> Iterator[None]:
    noises: dict[tuple[Any, ...], Int64] = {}
    owners: WeakKeyDictionary[Source, tuple[int, ...]] = WeakKeyDictionary()
    make = shares.share_source

    def owned(plan: RoundPlan, devices: Sequence[int]) -> Source:
        found = make(plan, devices)
        owners[found] = tuple(map(int, devices))
        return found

    def added(share: ClearSum, clipped: ClippedUpdate, plan: RoundPlan, source: Source) -> ClearSum:
        if plan.cohort is None or not plan.cohort.masks or not source.secure:
            return share
        total = np.zeros_like(share.steps)
        total[: len(clipped.total())] = clipped.total()
        place = (plan.run, owners[source], plan.share_sigma, len(total))
        return ClearSum(total + noises.setdefault(place, share.steps - total), share.users)

    with mock.patch.object(contribution, "share_source", owned), sharing(added):
        yield


@mutant(
    "an upload outlives consent",
    bug="later answers of a masked attempt are sent on after their purpose was revoked",
    seen="consent that is asked for once, when an attempt begins",
    test="devices",
    at=(OwnHost, "go_on"),
)
def sent_on(real: Any, self: OwnHost, request: bytes) -> bytes:
    answer = real(self, request)
    self.purpose = None
    return answer


@mutant(
    "a busy store counts as consent",
    bug="a device whose store can't be read for a while goes on as if its user agreed",
    seen="a lock that is held for a moment, and an attempt that would be lost for it",
    test="devices",
    at=(Rounds, "_check_consent"),
)
def busy_consent(real: Any, self: Rounds, plan: RoundPlan) -> None:
    with suppress(LockedError):
        real(self, plan)


@mutant(
    "one purpose a session",
    bug="all that a session sends is held to the purpose of its first answer",
    seen="a member that is set once",
    test="devices",
)
def first_purpose() -> Iterator[None]:
    real = OwnHost._count
    first: WeakKeyDictionary[OwnHost, Any] = WeakKeyDictionary()

    def instead(self: OwnHost, answer: bytes, purpose: Any, **counts: bool) -> bytes:
        found = real(self, answer, purpose, **counts)
        if self.purpose is not None:
            self.purpose = first.setdefault(self, self.purpose)
        return found

    with mock.patch.object(OwnHost, "_count", instead):
        yield


@mutant(
    "a model compared after the charge",
    bug="a device is charged for a plan before it has the plan's model, which then is another",
    seen="a download that begins once the plan is on record, so that it is made for no plan that is refused",
    test="ledgers",
)
def charged_first() -> Iterator[None]:
    real, charge = Contributor._read_model, Contributor._write_charge
    charged: dict[str, Joined] = {}

    def model(self: Contributor, plan: RoundPlan, data: bytes) -> GlobalModel:
        charged[plan.hash] = charge(self, KeptPlan(plan))
        return real(self, plan, data)

    def once(self: Contributor, kept: KeptPlan) -> Joined:
        return charged.pop(kept.plan.hash)

    with mock.patch.object(Contributor, "_read_model", model), mock.patch.object(Contributor, "_write_charge", once):
        yield


@mutant(
    "an open log by how often",
    bug="the open log lists what was done most often first",
    seen="an order that reads well, in a list that says days alone",
    test="devices",
)
def by_count() -> Iterator[None]:
    real = Interests.look

    def instead(self: Interests) -> Look:
        found = real(self)
        weighed = found.weighed
        counts = np.diff(np.append(weighed.starts, len(weighed.times)))
        order = np.argsort(-counts, kind="stable")
        parts = np.split(weighed.times, weighed.starts[1:]) if len(counts) else []
        times = np.concatenate([weighed.times[:0], *(parts[place] for place in order)])
        starts = np.cumsum([0, *counts[order]])[:-1].astype(weighed.starts.dtype)
        return replace(found, weighed=replace(weighed, rows=weighed.rows[order], times=times, starts=starts))

    with mock.patch.object(panel, "Interests", type("Sorted", (Interests,), {"look": instead})):
        yield


@mutant(
    "an idle device fetches no model",
    bug="a device whose user did nothing doesn't ask for the newest model",
    seen="bytes that are saved where there is nothing to recommend from, and a request that tells",
    test="devices",
    at=(Session, "_update_model"),
)
def idle_download(real: Any, self: Session, https: Any, service: Any) -> Any:
    return real(self, https, service) if self.store.first() is not None else ""


@mutant(
    "a server's hold asks for nobody's consent",
    bug="while a server holds its reply, and between two tries to send an answer, only the session's end is looked for",
    seen="one question for two things: whether the session is over, and whether the user still agrees",
    test="devices",
)
def sent_whole() -> Iterator[None]:
    real = Session._is_over

    with mock.patch.object(Session, "_is_over", lambda self, host=None: real(self)):
        yield


@mutant(
    "a host asks after its first plan's purpose",
    bug="a device that has looked up consent for a plan looks for the same purpose with each later one",
    seen="a look-up that is kept for as long as an object lives",
    test="devices",
)
def purpose_kept() -> Iterator[None]:
    real = Rounds._check_consent
    first: WeakKeyDictionary[Any, RoundPlan] = WeakKeyDictionary()
    made = Rounds.join

    def join(self: Rounds, *given: Any, **named: Any) -> Any:
        machine = made(self, *given, **named)
        if machine is not None:
            plan = first.setdefault(self.store, read_plan(given[0]).plan)
            machine._check = lambda: real(self, plan)
        return machine

    with mock.patch.object(Rounds, "join", join):
        yield


@mutant(
    "a store that stays busy counts as consent",
    bug="a device whose consent can't be read is patient once, and then goes on with what it was agreed to last",
    seen="a retry whose last failure is the one that nobody has thought of",
    test="devices",
    at=(Consent, "get"),
)
def patient_once(real: Any, self: Consent, purpose: Purpose) -> bool:
    for _ in range(2):
        with suppress(LockedError):
            return real(self, purpose)
    return True
