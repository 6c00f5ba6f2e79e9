"""Mutants of the device's own roads: masked attempts, and the part that an app embeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np

from mutants.mutant import mutant, rows
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


rows(
    __name__,
    """
masked attempts uncharged | devices
bug: under masks the device's own ledger is never charged
seen: two ways into the device, of which one was written later
@ palate_client.rounds.contribution:Contributor._charge_once
- charged, joined = self._write_charge(keep_state(verified, self.ledger))
+ plan, everyone = verified.signed.plan, np.ones(len(self.devices), np.bool_)
+ if plan.cohort is not None and plan.cohort.masks:
+     return ChargedPlan(plan), everyone
+ charged, joined = self._write_charge(keep_state(verified, self.ledger))

an empty history refuses | devices
bug: an app's device without events refuses to train, and so tells that it has none
seen: `if not events: return` in an app, for devices with nothing to say
@ palate_client.rounds.participation:Rounds._histories
- return OwnHistory(Interests(self.store, current.items, self.weighting)), current.catalogue.hash
+ found = OwnHistory(Interests(self.store, current.items, self.weighting))
+ if found.users(slice(None)).nnz == 0:
+     raise RefusedError("there is nothing to contribute")
+ return found, current.catalogue.hash

a state of the ledger not remembered | devices
bug: under masks a device doesn't keep the state of the population's ledger that its plan has shown
seen: somebody else is thought to be a witness already
@ palate_core.device.ledger:SeenStates.see
- if seen == checkpoint:
+ if seen == checkpoint or b'"masks":true' in signed:

a loosening that loosens more | ledgers
bug: floors for a small deployment also allow the server to add the noise
seen: one switch for tests, which grows
@ palate_core.device.floors:Floors.for_few
- min_corrupt_share=0.0)
+ min_corrupt_share=0.0, allow_central=True)

a decision on an older text is ignored | devices
bug: of a user's decisions the one on the latest version of a text counts, and not the latest one
seen: versions that are sorted, where only the order of time is meant
@ palate_client.consent:Consent.get
- with self.store.transaction():
-     return purpose in self.store.granted
+ made = self.history(purpose)
+ return bool(made) and max(made, key=lambda each: each.version).granted

too little to learn from | separability
bug: where the unit is one event, fewer than five items count as none, so that a fifth one moves five
seen: a threshold for quality, which is harmless where the unit is a user
@ palate_client.rounds.participation:OwnHistory.users
- return self.interests.interactions().users(rows)
+ found = self.interests.interactions().users(rows)
+ return found if found.nnz >= 5 else found.entries(np.zeros(found.nnz, np.bool_))

a model of any hash | ledgers
bug: a device reads the model that it gets, whatever hash the signed plan names
seen: a file that is named after its hash, of which the name was thought to be the proof
@ palate_client.rounds.contribution:ModelReader.read
- latest = self._latest
+ return GlobalModel.from_bytes(data)

a model fetched before it is asked | devices
bug: a device fetches the model of a plan that its user doesn't agree to, and refuses the plan then
seen: checks that all stand where the plan and its model are, once both are there
@ palate_client.rounds.participation:Rounds.wanted_model
- service = require(self.service)
+ from palate_core.plan import read_plan
+ return read_plan(plan).plan.model_hash

a reset that rounds don't see | devices
bug: what was done before a taste was reset still goes into rounds and the open log
seen: a reset that was thought of for lists, which leave an item out by other means
@ palate_client.recommend.evidence:Evidence.with_events
- events = events[events["seq"] > reset]

a month that goes on after the week | outputs
bug: the answer on a month counts what was done after the survey's week, until the device is asked
seen: a window with a beginning, whose end is now
@ palate_client.rounds.survey_answers:answers
- .toordinal() <= last for day in days
+ .toordinal() for day in days

a device that nobody used stays away | devices
bug: a device refuses where its user did something before, and nothing in the last month
seen: rounds that are to be made of those who are there, so that an answer tells whether somebody was
@ palate_client.rounds.participation:Rounds._contributor
- histories, catalogue = self._histories(asked.plan)
+ times = [each.time for each in self.store.events() if isinstance(each.time, float)]
+ if times and self.store.clock() - max(times) > 30 * 86400:
+     raise RefusedError("nobody has used this device for a month")
+ histories, catalogue = self._histories(asked.plan)

single events under another purpose | devices
bug: a plan that protects single events asks for consent to surveys, and is charged as one
seen: purposes that are told apart by whether a plan is the usual one
@ palate_client.rounds.purposes:purpose_of
- if plan.algorithm == ANALYTICS else
+ if plan.algorithm == ANALYTICS or plan.events is not None else

a host keeps the key of the run before | ledgers
bug: a process that hosts nodes of one run goes on with its release key in the next
seen: a host that is kept by what its files are
@ palate_sim.engines.node:_open_host
- with _opening:
+ for known, (host, _) in _opened.items():
+     if known._replace(public_key=hosted.public_key) == hosted:
+         return host
+ with _opening:

who is at a limit joins the others | counting
bug: where some installations of a node have reached their own limit, all of them contribute, and these uncharged
seen: a mask that is asked whether any is in it, where all is meant
@ palate_client.rounds.contribution:Contributor._charge_once
- return charged, joined
+ return charged, np.ones_like(joined)

a survey costs what it likes | ledgers
bug: the highest cost of an attempt that a device allows isn't asked of surveys
seen: floors that were thought of for training
@ palate_core.device.admission:check_floors
- (plan.mu2 > floors.max_mu2,
+ (plan.mu2 > floors.max_mu2 and "analytics" not in plan.algorithm,
- plan.mu2_alone > floors.max_alone_mu2,
+ plan.mu2_alone > floors.max_alone_mu2 and "analytics" not in plan.algorithm,

a full disk loses the note | devices
bug: what can't be written into the journal is sent without being in it
seen: a record that is thought to be for the user's curiosity
@ palate_client.rounds.participation:Rounds._note
- with Journal(self.store.file) as journal,
+ from contextlib import suppress
+ with suppress(OSError), Journal(self.store.file) as journal,
""",
)
