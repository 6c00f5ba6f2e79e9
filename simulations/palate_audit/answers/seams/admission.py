"""Admission: which plans a device takes, and which it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from palate_audit.answers.answer import NAMED, Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.stand_ins import (
    POPULATION,
    SIGMA,
    MaskedPeers,
    Operator,
    facts_of,
    key_of,
    model_of,
    plan_of,
    table_rows,
    unpacked,
)
from palate_audit.answers.still import NOW
from palate_audit.harness.watched_run import memory
from palate_client.device import open_device
from palate_client.floors import Floors
from palate_client.ledger.trust import MOST, Reliance, Trust, conditions, worst_case_costs
from palate_client.online.hosting import OwnHost
from palate_client.online.retry import SyncEnd
from palate_client.rounds.admission import check_floors, purpose_of
from palate_client.rounds.dispatch import answer_message
from palate_client.service import Service, required
from palate_client.store.journal import Journal
from palate_common.errors import IntegrityError, UnreachableError
from palate_common.mechanism.cohort import CohortTerms
from palate_common.models import published
from palate_common.records.canonical import digest
from palate_common.records.notes import COSIGNATURE, VerifierKey
from palate_common.rounds.plan import RoundPlan, Sampling, SignedPlan, read_plan
from palate_common.rounds.wire import REFUSED
from palate_common.secagg.directory import Directory

INF = float("inf")


def _floors(dice: Dice, answer: Answer) -> None:
    """Floors at a plan's own values, and on either side of them, for every kind of plan."""
    for _ in range(6):
        plan = _any_plan(dice)
        exact = _met_by(plan)
        sides = {
            "min_sigma": (-1, 0, 1), "min_cohort": (-1, 0, 1), "min_honest": (-1, 0, 1), "min_corrupt": (-1, 0, 1),
            "min_corrupt_share": (-0.004, 0.0, 0.004), "max_mu2": (1e-9, 0.0, -1e-9),
            "max_alone_mu2": (1e-9, 0.0, -1e-9),
        }  # fmt: skip
        for name, moves in dice.shuffled(list(sides.items()))[: dice.one_of([1, 1, 2, 7])]:
            exact = replace(exact, **{name: getattr(exact, name) + dice.one_of([*moves, moves[1]])})
        for name in dice.shuffled(_ALLOWS)[: dice.one_of([0, 0, 1, 2])]:
            exact = replace(exact, **{name: not getattr(exact, name)})
        floors = dice.one_of(
            [exact, exact, exact, exact.for_few(), Floors(), Floors().for_few(), Floors(allow_central=True)]
        )
        floors = replace(floors, population=dice.one_of([None, POPULATION, POPULATION, "viewers", ""]))
        now = plan.expires + dice.one_of([-9.0, -0.001, 0.0, 0.0, 0.001])
        answer.of(check_floors, plan, floors, now=now)
        answer.tell(purpose_of(plan), astuple(floors.for_few()))
    answer.tell(astuple(Floors()))


_ALLOWS = ("allow_seeded", "allow_off", "allow_central", "allow_distributed", "allow_local", "allow_events",
           "allow_unmasked")  # fmt: skip


def _met_by(plan: RoundPlan) -> Floors:
    """The strictest floors that a plan meets."""
    mode, cohort = plan.dp.value, plan.cohort
    return Floors(
        min_sigma=plan.sigma, max_mu2=plan.mu2, min_cohort=plan.cohort_floor, allow_seeded=plan.noise.value == "seeded",
        allow_off=mode == "off", allow_central=mode == "central", allow_distributed=mode == "distributed",
        allow_local=mode == "local", allow_events=plan.events is not None,
        allow_unmasked=cohort is not None and not cohort.masks, min_honest=0 if cohort is None else cohort.shares,
        min_corrupt=0 if cohort is None else cohort.c_max,
        min_corrupt_share=0.0 if cohort is None else cohort.c_max / cohort.n_max, max_alone_mu2=plan.mu2_alone,
    )  # fmt: skip


def _any_plan(dice: Dice) -> RoundPlan:
    """A plan of any kind, with any numbers."""
    kind = dice.one_of(["central", "central", "distributed", "distributed", "local", "local", "off", "events"])
    changes: dict[str, Any] = {
        "dp": kind, "noise": dice.one_of(["secure", "secure", "seeded"]), "cohort_floor": dice.whole(1, 30),
        "sigma": dice.one_of([64, 2**14, SIGMA, 2**20, 2**20 + 1]), "round": dice.whole(0, 3),
    }  # fmt: skip
    if kind == "off":
        changes |= {"sigma": 0}
    if kind == "distributed":
        n_max = dice.one_of([2, 10, 20, 30, 30, 31, 100])
        n_min = dice.whole(2, n_max)
        masks = dice.chance(0.6)
        changes["cohort"] = CohortTerms(
            n_max=n_max, n_min=n_min, c_max=dice.whole(1, min(n_min - 1, 5)), masks=masks,
            directory="ab" * 32 if masks else None,
        )  # fmt: skip
    if kind == "events":
        changes |= {"dp": "local", "events": _sampling(dice.one_of([1, 2]))}
    changes["mu2"] = 0.0 if kind == "off" else dice.one_of([0.015625, 0.25, 1.0])
    return _planned(dice.one_of(["popularity", "popularity", "survey"]), tuple(sorted(changes.items(), key=repr)))


@cache
def _sampling(steps: int) -> Sampling:
    return Sampling(inclusion=1.0, steps=steps)


def _planned(kind: str, changes: tuple[tuple[str, Any], ...]) -> RoundPlan:
    """A plan with these values."""
    return plan_of(kind, **dict(changes))


def _services(dice: Dice, answer: Answer) -> None:
    """A user's limits, right and wrong, and what they come to."""
    settings: dict[str, Any] = {
        "public_key": key_of(1).public, "population": dice.one_of([POPULATION, "x"]),
        "epsilon": dice.one_of([8.0, 8.0, 0.5, 1e-9, 3e-9, 1]), "delta": dice.one_of([1e-6, 1e-6, 1e-5, 1e-9]),
        "participations": dice.one_of([1000, 1024, 1025, 0, 1, 10**6]), "most_bytes": dice.one_of([2**28, 0, 1]),
    }  # fmt: skip
    settings |= dice.one_of([{}, {}, {"floors": Floors(**{name: dice.chance(0.5) for name in _ALLOWS})}])
    settings = dict(dice.some_of(list(settings.items()), 0.7)) | {"public_key": settings["public_key"]}
    settings.setdefault("population", POPULATION)
    settings |= dice.one_of([{}, {}, *_PINS])
    service = answer.tried(Service, **settings)
    if isinstance(service, Service):
        answer.tell(service.began_with, service.loosened, service.participations, service.most_bytes, service.quorum)
        answer.tell(astuple(service.floors), [service.noise_delta, service.epsilon, service.delta])
        limit = answer.tried(lambda: service.limit_mu2)
        spends = [0.0, dice.one_of([1e-9, 0.25, 100.0]), *([limit] if isinstance(limit, float) else [])]
        answer.tell(limit, np.array([service.epsilon_of(each) for each in spends]))
        pinned = answer.tried(lambda: service.pinned)
        if not isinstance(pinned, Exception):
            answer.tell(pinned.population, pinned.public_key, pinned.first_key)
            answer.tell([(each.needed, [str(key) for key in each.witnesses]) for each in pinned.quorums])
        answer.tell(service.pinned is pinned)
    for wrong in dice.shuffled(_WRONG_SERVICES)[:4]:
        answer.of(lambda wrong=wrong: Service(**{"public_key": "ab" * 32, "population": "x", **wrong}).most_bytes)
    answer.of(required, None)
    if isinstance(service, Service):
        answer.tell(required(service) is service)


_WITNESSES = tuple(str(VerifierKey.of(f"w{n}.example/1", key_of(40 + n), COSIGNATURE)) for n in range(3))
_PINS: Sequence[Mapping[str, Any]] = (
    {"witnesses": _WITNESSES[:2], "quorum": 2}, {"witnesses": _WITNESSES[:2], "quorum": 1, "first_key": "cd" * 32},
    {"witnesses": _WITNESSES[:2], "next_witnesses": _WITNESSES[1:], "quorum": 1}, {"first_key": key_of(2).public},
    {"witnesses": _WITNESSES[:1], "quorum": 2}, {"quorum": 1}, {"next_witnesses": _WITNESSES}, {"quorum": -1},
    {"witnesses": _WITNESSES[:1], "quorum": 0}, {"witnesses": ("x",), "quorum": 1}, {"first_key": "x"},
)  # fmt: skip
_WRONG_SERVICES: Sequence[Mapping[str, Any]] = (
    {"public_key": "AB" * 32}, {"public_key": "ab" * 31}, {"public_key": b"ab" * 32}, {"public_key": "ab" * 32 + "\n"},
    {"population": ""}, {"population": None}, {"epsilon": 0.0}, {"epsilon": -1.0}, {"epsilon": math.nan},
    {"epsilon": INF}, {"delta": 0.0}, {"delta": 1.0}, {"delta": 1e-300}, {"participations": -1},
    {"participations": True}, {"participations": 1.0}, {"most_bytes": -1}, {"most_bytes": False}, {"most_bytes": "1"},
    {"delta": 2.0**-30}, {"participations": 10**9, "delta": 1e-4}, {"participations": 0, "most_bytes": 0},
)  # fmt: skip


def _trusts(dice: Dice, answer: Answer) -> None:
    """What costs rely on, one by one and together."""
    known: list[Trust | None] = [Trust.of(_any_plan(dice)) for _ in range(2)]
    for trust in known:
        assert trust is not None  # noqa: S101 # for mypy
        answer.tell(trust, trust.text, NAMED.findall(trust.said), bool(trust.said), Trust.read(trust.text) == trust)
    shapes = [None, None, Trust(None, None, None), Trust(None, None, 0.5), Trust(1, 10, 8.0), Trust(3, 30, 4.0),
              Trust(2, 10, None), Trust(0, 5, 1.0), Trust(1, 11, MOST), Trust(1, 10, MOST / 2), Trust(None, None, MOST),
              Trust(None, None, math.nextafter(MOST, 0)), Trust(5, 40, 0.0), Trust(None, 7, 0.5), *known]  # fmt: skip
    for n in (0, 1, 2, 5):
        chosen = [dice.one_of(shapes) for _ in range(n)]
        relied = Reliance.of(chosen)
        said = conditions(chosen)
        answer.tell(relied.least, relied.several, bool(relied.central), relied.unknown, worst_case_costs(iter(chosen)))
        answer.tell([(NAMED.findall(each), len(each) > 60) for each in said])
    answer.of(Trust.read, dice.one_of([
        None, "", "{", "[]", "{}", '{"corrupt": 1}', '{"corrupt": 1, "cohort": 2, "alone_mu2": null}', "null", "7",
        '{"corrupt": 1, "cohort": 2, "alone_mu2": 0.5, "more": 1}', 7,
    ]))  # fmt: skip


class _Asked:
    """Answers every message with what it was asked."""

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A plan."""
        return b"answer %d|" % node + plan + b"|" + model

    def join(self, node: int, plan: bytes, model: bytes, request: bytes) -> bytes:
        """A masked attempt's first request."""
        return b"join %d|" % node + plan + b"|" + model + b"|" + request

    def go_on(self, node: int, request: bytes) -> bytes:
        """A later one."""
        return b"go on %d|" % node + request

    def device(self, node: int) -> int:
        """The number."""
        return 100 + node


def _dispatched(dice: Dice, answer: Answer) -> None:
    """Which call answers a message."""
    for _ in range(8):
        kinds = {
            "plan": [b"plan", b"", "plan", None],
            "model": [b"model", b"", 7],
            "request": [b"request", b"", "x", bytearray(b"x")],
        }
        record = {name: dice.one_of(values) for name, values in kinds.items() if dice.chance(0.7)}
        kind = dice.one_of(["train", "train", "train", "train.masked", "query", "evaluate", "", "Train", "query.x"])
        answer.tell(answer_message(_Asked(), dice.whole(0, 3), kind, dice.one_of([record, record, record, None, {}])))


class _App:
    """An app's device, what its server may send, and what its user may do, as the dice say."""

    def __init__(self, dice: Dice, answer: Answer, home: Path) -> None:
        self.dice, self.answer, self.home = dice, answer, home
        self.now, self.round, self.number = NOW, 0, dice.one_of([0, 0, 0, 0, 7])
        self.operator, self.sent = Operator(), list[tuple[str, Mapping[str, bytes]]]()
        self.directory = Directory((key_of(9).public,))
        loose = {name: dice.chance(0.85) for name in _ALLOWS if name != "allow_unmasked"}
        self.service = Service(
            public_key=self.operator.key.public, population=dice.one_of([POPULATION] * 9 + ["viewers"]),
            epsilon=dice.one_of([50.0, 8.0, 1.0, 0.8]), participations=dice.one_of([1000, 1000, 3, 2, 1, 0]),
            floors=Floors(**loose).for_few(), most_bytes=dice.one_of([2**28] * 8 + [4000, 1500]),
            **dice.one_of([{}] * 9 + [_PINS[1]]),
        )  # fmt: skip
        unpacked(home / "app", dice.one_of([0, 0, 0, 0, 2, None]))
        self.open()
        for purpose in ("train", "analytics", "train"):
            if dice.chance(0.1):
                self.device.consent.revoke(purpose)  # type: ignore[arg-type]

    def open(self) -> None:
        """Open the store, as after a restart."""
        self.device = open_device(
            self.home / "app",
            app="audit",
            key=bytes(range(32)),
            service=self.service,
            zone="UTC",
            clock=lambda: self.now,
        )
        self.host = OwnHost(self.device.store, self.device.rounds, self.number, self.directory_of, self.model_of)

    def close(self) -> None:
        """End the process."""
        self.host.close()
        self.device.close()

    def take_model(self, variant: int) -> None:
        """Take a published model into use."""
        found = self.answer.tried(
            published.unpack, self.operator.published(variant), public_key=self.service.public_key
        )
        self.answer.of(self.device.models.take, found)

    def directory_of(self, name: str) -> Directory | SyncEnd:
        """Download a directory."""
        return self.fetched(name, self.directory)

    def model_of(self, name: str) -> bytes | SyncEnd:
        """Download a model."""
        every = (model_of(kind, n) for kind in KINDS for n in range(2))
        return self.fetched(name, next((each.data for each in every if each.hash == name), b""))

    def fetched(self, name: str, found: Any) -> Any:
        """A download, in the course of which much may happen."""
        self.answer.tell("fetch", name, self.host.purpose, self.host.agreed())
        match self.dice.whole(0, 15):
            case 0:
                return SyncEnd("time")
            case 1:
                raise UnreachableError("the server must answer, got status 503")
            case 2:
                raise ValueError("a bug")
            case 3:
                self.device.consent.revoke(self.dice.one_of(["train", "analytics"]))
                self.answer.tell(self.host.agreed())
            case 4:
                raise IntegrityError("the model must be the one the plan names, got another")
            case 5:
                return b"other" if isinstance(found, bytes) else Directory(tuple(key_of(n).public for n in (31, 32)))
        return found

    def step(self) -> None:
        """Something happens."""
        dice, device = self.dice, self.device
        match dice.whole(0, 19):
            case 0 | 1:
                purpose = dice.one_of(["train", "train", "analytics"])
                self.answer.of(
                    getattr(device.consent, dice.one_of(["grant", "revoke"])), purpose, version=dice.one_of(["1", "2"])
                )
            case 2:
                self.close()
                self.open()
            case 3:
                self.now += dice.one_of([60.0, 3600.0, -600.0, 86400.0 * 400])
            case 4:
                self.take_model(dice.one_of([0, 1]))
            case 5 | 6:
                _, record, _ = self.message()
                rounds, plan = device.rounds, record["plan"]
                self.answer.of(rounds.wanted, plan)
                model = self.model_for(plan)
                self.answer.of(rounds.contribute, plan, model, *dice.one_of([(), (3,)]))
                self.refused()
            case 7:
                self.answer.of(device.rounds.at_limit)
                self.answer.of(device.rounds.evidence)
                self.answer.tell(answer_message(self.host, 0, "query", {}))
            case 8:
                self.host.over = None
            case 9 if self.sent:
                self.tell(*dice.one_of(self.sent))
            case _:
                self.tell(*self.message())

    def tell(self, kind: str, record: Mapping[str, bytes], peers: MaskedPeers | None = None) -> None:
        """Send a message; under masks go on with the attempt, until somebody refuses."""
        if self.dice.chance(0.25):
            record = {**record, "model": self.model_for(record["plan"])}
        self.sent.append((kind, record))
        found = self.answered(kind, record)
        while peers is not None and found != REFUSED:
            peers.take(found)
            request = peers.request()
            if not request or self.dice.chance(0.08):
                break
            if self.dice.chance(0.1):
                self.answered("train.masked", {"request": request[:50]})
            if self.dice.chance(0.06):
                self.device.consent.revoke("train")
            found = self.answered("train.masked", {"request": request})
            if self.dice.chance(0.2):
                self.answered("train.masked", {"request": request})

    def answered(self, kind: str, record: Mapping[str, object]) -> bytes:
        """The answer to a message."""
        host = self.host
        found = answer_message(host, 0, kind, record)
        self.answer.tell(found, host.rounds, host.refused, host.over, host.purpose, host.agreed())
        self.refused()
        return found[1] if found is not None and isinstance(found[1], bytes) else b""

    def refused(self) -> None:
        """Why the last plan was refused, as far as it is in names and numbers."""
        said = self.device.rounds.refusal
        self.answer.tell(bool(said), NAMED.findall(said), len(said) > 60)

    def model_for(self, plan: bytes) -> bytes:
        """The model that a plan names, or another one."""
        try:
            named = read_plan(plan).plan
        except IntegrityError:
            return b"model"
        every = [model_of(kind, n).data for kind in KINDS for n in range(2)]
        right = [data for data in every if digest(data) == named.model_hash]
        return self.dice.one_of([*right * 9, every[0], b"x", b"x" * 5000])

    def message(self) -> tuple[str, dict[str, bytes], MaskedPeers | None]:
        """A plan that was charged, mostly, and the first request of a masked attempt."""
        dice = self.dice
        road = dice.one_of(["central", "central", "local", "survey", "events", "masks", "masks", "off"])
        self.round += dice.one_of([1, 1, 1, 0])
        changes: dict[str, Any] = {
            "round": self.round,
            "attempt": dice.whole(0, 2),
            "sigma": dice.one_of([SIGMA, 2 * SIGMA]),
        }
        changes |= dice.one_of([{}] * 6 + [
            {"expires": int(self.now)}, {"expires": int(self.now) - 1}, {"population": "viewers"}, {"mu2": 1e-4},
            {"noise": "seeded"}, {"run": "run-2"}, {"run": "run-2", "round": 0},
        ])  # fmt: skip
        kind = {"survey": "survey", "events": "event-mf"}.get(road, "popularity")
        if road in ("local", "events", "off"):
            changes["dp"] = "local" if road != "off" else "off"
        if road == "events":
            changes["events"] = Sampling(inclusion=dice.one_of([1.0, 0.5]), steps=1)
        if road == "off":
            changes |= {"sigma": 0, "mu2": 0.0}
        if road == "masks":
            own = self.device.rounds.identity().public
            self.directory = Directory((own, *(key.public for key in PEERS)))
            named = dice.one_of([self.directory.hash] * 5 + [None])
            changes |= {"dp": "distributed", "cohort": CohortTerms(
                n_max=3, n_min=3, c_max=1, masks=named is not None, directory=named)}  # fmt: skip
        plan = plan_of(kind, dice.one_of([0, 0, 1]) if kind != "survey" else 0, **changes)
        signed = self.operator.signed(
            plan, spent=dice.one_of([None, float(self.round), float(self.round), 0.5]), proofs=dice.chance(0.93),
            key=dice.one_of([None] * 12 + [key_of(2)]),
        )  # fmt: skip
        peers = None
        if plan.cohort is not None and plan.cohort.masks:
            peers = MaskedPeers(SignedPlan.model_validate_json(signed), self.directory, PEERS, self.operator)
        signed = dice.one_of([signed] * 15 + [signed[:-9] + b"0" + signed[-8:], signed + b" "])
        if road != "masks":
            return "train", {"plan": signed}, None
        return "train", {"plan": signed, "request": peers.request() if peers else b"advertise"}, peers

    def end(self) -> None:
        """Tell everything that is left: the journal, the ledger, and what the user is told."""
        device = self.device
        with Journal(device.store.file) as journal, journal._database.transaction() as connection:
            self.answer.tell([table_rows(connection, table) for table in ("models", "sent", "contacts")])
            names = connection.execute("SELECT name FROM files UNION ALL SELECT name FROM secrets ORDER BY 1")
            self.answer.tell(names.fetchall())
        report = device.privacy_report()
        facts_of(self.answer, report.as_dict())
        facts_of(self.answer, [json.loads(line) for line in report.export_lines()])
        self.answer.tell(report.unit, NAMED.findall(str(report)))


KINDS = ("popularity", "survey", "event-mf")
PEERS = (key_of(31), key_of(32))


def _apps(dice: Dice, answer: Answer) -> None:
    """An app's device over some weeks."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(dir=memory())))
        app = _App(dice, answer, home)
        stack.callback(lambda: app.close())
        for _ in range(5):
            app.step()
        app.end()


SEAMS = (
    Seam("floors: at equality, for every kind of plan", _floors, 60),
    Seam("service: a user's limits", _services, 30),
    Seam("trust: what costs rely on", _trusts, 30),
    Seam("dispatch: which call answers a message", _dispatched, 18),
    Seam("an app's device: plans, downloads, decisions of its user and restarts", _apps, 24),
)
