"""The roads that real devices take: an app's own device, in the clear and under masks, through retries and losses.

One device of a small cohort is an app's, with its encrypted store, its consent, its journal and its own ledger; the
others are simulated. With secure noise, and rounds that fail after everybody has made a vector:

- **what it sends** is the reference's message for its own events and words, number by number, whatever its user did;
  also that it answers, how long it is, and what is written in its header;
- **a masked sum** is the sum of the vectors of those who were not lost, number by number;
- **receipts**: each device has charged each attempt that it was in, once, at what the server's ledger has for it, and
  remembers the state of the ledger that its plan has shown.

Noise is drawn anew in each audit, and with it what devices compute. That a number lies so near a whole one that two
ways of rounding differ has a probability below 1e-8 in all of them.

**Assumes:** timing is not protected, and was left out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mechanism.checks.side_outputs import difference, outside
from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.recording import Recording, recorded
from mechanism.harness.watched_run import WatchedRun, release_key
from palate_audit.evidence.evidence import Finding
from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.rounds.participation import Masked
from palate_client.service import Service
from palate_common.mechanism.update import Int64
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED, decode_share
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.device.ledger import Receipt
from palate_core.errors import IntegrityError, PalateError
from palate_core.log.signing import SigningKey
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.directory import Directory
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL, PrivacyMode
from palate_sim.engines.client_app import Host
from reference.message import noised

TEST = "own device"
DEVICES, OURS, ITEMS = 7, 3, 20
LATE = (1, 4)
"""Devices whose vectors are lost: more than an attempt tolerates."""
LIVES = {"nothing": (), "one event": (4,), "much": tuple(range(0, ITEMS, 2))}
AGE = 640 * 86400.0
"""How old a life's oldest event is; others are half as old, a third and so on: nobody was here in the last month."""
_ALS = {"rounds": 3, "popularity_only_below": 0, "embedding_size": 4}


@dataclass(frozen=True)
class Road:
    """How the cohort's messages travel."""

    mode: PrivacyMode = DISTRIBUTED
    masks: bool = False

    def setting(self) -> Setting:
        """The settings of its run."""
        return Setting(
            mode=self.mode, noise=Noise.SECURE, users_per_node=1, lost=1 if self.mode.cohort else 0, masks=self.masks,
            algorithm="als", settings=_ALS, epsilon=20.0,
        )  # fmt: skip


ROADS = {"distributed": Road(), "local": Road(LOCAL), "masks": Road(masks=True)}


class AppHost(Host):
    """Simulated devices, and one that is an app's."""

    app: Device
    begun: tuple[bytes, Masked | None] = (b"", None)

    def take(self, **members: Any) -> None:
        """Set members of this frozen class."""
        for name, value in members.items():
            object.__setattr__(self, name, value)

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """What the app does with a plan without masks."""
        return super().answer(node, plan, model) if node != OURS else self.app.contribute(plan, model)

    def join(self, node: int, plan: bytes, model: bytes, directory: bytes, request: bytes) -> bytes:
        """What the app does with the first request of a masked attempt."""
        if node != OURS:
            return super().join(node, plan, model, directory, request)
        if self.begun[0] != plan:
            self.leave()
            self.take(begun=(plan, self.app.join(plan, model, directory, number=OURS)))
        return self.go_on(node, request)

    def go_on(self, node: int, request: bytes) -> bytes:
        """What the app does with a later one."""
        if node != OURS:
            return super().go_on(node, request)
        return REFUSED if self.begun[1] is None else self.begun[1].answer(request)

    def leave(self) -> None:
        """Leave the attempt that has begun."""
        if self.begun[1] is not None:
            self.begun[1].close()


@dataclass(frozen=True)
class PinnedSource:
    """The identities of the cohort: simulated ones, and the app's."""

    keys: tuple[SigningKey, ...]
    publics: tuple[str, ...]

    def directory(self, devices: Collection[int]) -> Directory:
        """A directory of some devices."""
        return Directory({device: self.publics[device] for device in sorted(devices)})

    def of(self, device: int) -> SigningKey:
        """One simulated device's key."""
        return self.keys[device]


@dataclass
class Lived:
    """What one run left.

    Attributes:
        wrong: the first number that isn't as it must be; empty if all are.
        receipts: what is wrong with what devices have charged.
        beside: all that leaves the app's device beside its numbers, or is said of it.
        numbers: how many numbers were compared.
    """

    wrong: str = ""
    receipts: str = ""
    beside: dict[str, Any] = field(default_factory=dict)
    numbers: int = 0


def roads(*, quick: bool = False) -> list[Finding]:
    """Every road, with every life of the app's user; `quick` leaves out one of them."""
    lives = {life: items for life, items in LIVES.items() if not quick or life != "one event"}
    return [finding for name, road in ROADS.items() for finding in _travelled(name, road, lives)]


def _travelled(name: str, road: Road, asked: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
    """One road: numbers, side outputs, receipts."""
    lives: dict[str, Lived] = {}
    for life, items in asked.items():
        try:
            lives[life] = _lived(road, items)
        except PalateError as error:
            said = f"the run must end whatever one user did, got with `{life}`: {error}"
            yield Finding.checked(f"{TEST}: {name}", False, said)
            return
    wrong = next((f"with `{life}`: {each.wrong}" for life, each in lives.items() if each.wrong), "")
    numbers = sum(each.numbers for each in lives.values())
    yield Finding.checked(f"{TEST}: {name}, numbers", not wrong, wrong or f"{numbers:,} numbers as the reference's")
    base, wrong = lives["nothing"].beside, ""
    for life, each in lives.items():
        for where in base:
            if each.beside[where] != base[where]:
                wrong = wrong or f"{where} tell `{life}`: {difference(base[where], each.beside[where])}"
    yield Finding.checked(f"{TEST}: {name}, beside", not wrong, wrong or f"the same in {len(lives)} lives")
    wrong = next((each.receipts for each in lives.values() if each.receipts), "")
    yield Finding.checked(f"{TEST}: {name}, receipts", not wrong, wrong or "both sides have charged each attempt once")


def _lived(road: Road, items: tuple[int, ...]) -> Lived:
    """A whole run with an app among the devices."""
    setting, names = road.setting(), [f"item-{row}" for row in range(ITEMS)]
    rng = np.random.default_rng(7)
    acts = [sorted(rng.choice(ITEMS, 1 + user, replace=False).tolist()) for user in range(DEVICES)]
    floors = Floors(allow_unmasked=not road.masks).for_few()
    service = Service(public_key=release_key().public, population=POPULATION, epsilon=50.0, floors=floors)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        device = stack.enter_context(open_device(home / "app", app="audit", key=bytes(range(32)), service=service))
        for purpose in ("store", "train"):
            device.consent.grant(purpose)
        now, place = time.time(), len(items)
        device.track_many(
            [Event("like", names[item], time=now - AGE / (place - each)) for each, item in enumerate(items)]
        )
        pinned = identities_with(device) if road.masks else None
        stage = stack.enter_context(
            WatchedRun(
                setting.terms("als", n_users=DEVICES, n_items=ITEMS),
                crowd(acts, n_items=ITEMS),
                users_per_node=1,
                identities=pinned,
            )
        )
        host = AppHost(stage.host.source, stage.devices, stage.key.public, stage.host.floors, key_of=stage.host.key_of)
        host.take(app=device)
        stack.callback(host.leave)
        stage.host = host
        stage.coordinator.registry.publish(
            stage.coordinator.model, ItemCatalogue(tuple(names)), {}, stage.key,
            population=POPULATION, shown=stage.ledger.shown(),
        )  # fmt: skip
        device.update_model(stage.coordinator.registry.folder / "model")
        lived = Lived()
        while not stage.coordinator.finished:
            with recorded() as seen:
                model = stage.coordinator.model
                if road.masks and stage.coordinator.round == 1 and len(stage.seen.plans) == 1:
                    with suppress(IntegrityError):
                        stage.play(rounds=1, late=LATE)
                else:
                    stage.play(rounds=1, late=LATE[:1] if road.masks else ())
            lived.wrong = lived.wrong or next(_numbers(stage, seen, model, device, lived), "")
            lived.receipts = lived.receipts or next(_seen(stage, device), "")
        receipts = device.privacy_report().spending
        lived.receipts = lived.receipts or next(_receipts(stage, () if receipts is None else receipts.receipts), "")
        report = device.privacy_report()
        lived.beside = {
            "answers": [
                [outside(answer) if not road.masks else len(answer or b"") for answer in answers]
                for (_, _, node), answers in stage.seen.replies.items()
                if node == OURS
            ],
            "refusals": len(report.refusals),
            "messages": [(each.what, each.dp, each.round, each.attempt, each.bytes) for each in report.sent],
            "participation": [vars(each.participation) for each in stage.releases],
        }
        return lived


def identities_with(device: Device) -> PinnedSource:
    """Identities of which one is the app's."""
    keys = tuple(SigningKey.generate() for _ in range(DEVICES))
    publics = [key.public if place != OURS else device.identity for place, key in enumerate(keys)]
    return PinnedSource(keys, tuple(publics))


def _numbers(stage: WatchedRun, seen: Recording, model: Any, device: Device, lived: Lived) -> Iterator[str]:
    """What was sent in an attempt, or went under the masks, against the reference; and the masked sum."""
    plan = stage.seen.plans[-1].plan
    sent = _vectors(stage, seen) if plan.cohort is not None and plan.cohort.masks else _messages(stage, plan)
    if len(seen.sources) != len(sent):
        yield f"{len(sent)} devices have drawn from {len(seen.sources)} sources in round {plan.round}"
    for (number, steps), source in zip(sent, seen.sources, strict=False):
        mine = stage.histories.users(slice(number, number + 1))
        if number == OURS:
            mine = device.interests([f"item-{row}" for row in range(ITEMS)]).interactions()
        words = iter(source.words.tolist())
        expected = noised(model.algorithm, model.state, plan, mine, words)
        lived.numbers += len(steps)
        if steps.tolist() != expected or next(words, None) is not None:
            wrong = int((steps != np.array(expected)).sum())
            yield f"{wrong} of {len(steps)} numbers of device {number} in round {plan.round} are not the reference's"
    release = stage.releases[-1] if stage.releases else None
    if release is not None and release.plan == plan:
        lost = LATE[:1] if plan.cohort is not None and plan.cohort.masks else ()
        total = np.sum([steps for number, steps in sent if number not in lost], axis=0)
        if stage.sealed(plan.round, plan.attempt).tolist() != total.tolist():
            yield f"the release of round {plan.round} is not the sum of what its devices sent"


def _messages(stage: WatchedRun, plan: RoundPlan) -> list[tuple[int, Int64]]:
    """What each device sent in the clear."""
    return [
        (node, decode_share(answers[0] or b"", bits=plan.bits(1)).total)
        for (round_, attempt, node), answers in stage.seen.replies.items()
        if (round_, attempt) == (plan.round, plan.attempt)
    ]


def _vectors(stage: WatchedRun, seen: Recording) -> list[tuple[int, Int64]]:
    """What each device put under its masks in the latest attempt."""
    context = attempt_terms(stage.seen.plans[-1]).context
    return [(device, steps) for of, device, steps in seen.vectors if of == context]


def _seen(stage: WatchedRun, device: Device) -> Iterator[str]:
    """After each attempt, devices remember the state of the population's ledger that its plan has shown."""
    signed, spending = stage.seen.plans[-1], device.privacy_report().spending
    shown = None if signed.charge is None else signed.charge.checkpoint
    kept = {"the app's device": spending and spending.seen, "a device": stage.devices.seen_checkpoint(POPULATION)}
    for who, seen in kept.items():
        if seen != shown:
            yield f"{who} has to remember the ledger's state of round {signed.plan.round}, and remembers another"


def _receipts(stage: WatchedRun, own: tuple[Receipt, ...]) -> Iterator[str]:
    """What each device has charged, beside the server's ledger."""
    charges = {(entry.round, entry.attempt): entry.mu2 for entry in stage.ledger.entries() if entry.kind == "charge"}
    for number in range(DEVICES):
        found = own if number == OURS else stage.devices.receipts(number)
        who = "the app's device" if number == OURS else f"device {number}"
        places = [(receipt.round, receipt.attempt) for receipt in found]
        if sorted(places) != sorted(charges):
            yield f"{who} has charged {len(set(places))} attempts, {len(charges)} were answered"
        for receipt in found:
            if receipt.mu2 < charges.get((receipt.round, receipt.attempt), np.inf):
                yield f"{who} has charged mu^2 {receipt.mu2} for round {receipt.round}, the server more"
