"""Apps: an app's device for some weeks: plans of every kind, downloads, decisions of its user, restarts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.keys import key_of
from palate_audit.answers.made.stand_ins import (
    ALLOWS,
    PINS,
    POPULATION,
    SIGMA,
    MaskedPeers,
    PlanOperator,
    lay_down,
    made_device,
    model_of,
    plan_of,
)
from palate_audit.answers.made.telling import rows_of, tell_facts, tell_outcome
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.online.hosting import OwnHost
from palate_client.online.retry import SyncEnd
from palate_client.rounds.dispatch import answer_message
from palate_client.service import Service
from palate_client.store.journal import Journal
from palate_common.models import published
from palate_common.rounds.wire import REFUSED
from palate_core.cohort_terms import CohortTerms
from palate_core.device.floors import Floors
from palate_core.errors import IntegrityError, UnreachableError
from palate_core.log.canonical import digest
from palate_core.log.consistency import shown_by, spend_shown
from palate_core.masks.directory import Directory
from palate_core.plan import Sampling, SignedPlan, read_plan


class AppLife:
    """An app's device, what its server may send, and what its user may do, as the dice say."""

    def __init__(self, dice: Dice, answer: CaseAnswer, home: Path) -> None:
        self.dice, self.answer, self.home = dice, answer, home
        self.now, self.round, self.number = NOW, 0, dice.one_of([0, 0, 0, 0, 7])
        self.operator, self.sent = PlanOperator(), list[tuple[str, Mapping[str, bytes]]]()
        self.directory = Directory((key_of(9).public,))
        loose: dict[str, Any] = {name: True for name in ALLOWS if name != "allow_unmasked"}
        if dice.chance(0.3):
            loose[dice.one_of(list(loose))] = False
        self.favourite = dice.one_of(ROADS)
        self.service = Service(
            public_key=self.operator.key.public, population=dice.one_of([POPULATION] * 24 + ["viewers"]),
            epsilon=dice.one_of([50.0, 8.0, 1.0, 0.8]), participations=dice.one_of([1000, 1000, 3, 2, 1, 1000]),
            floors=Floors(**loose).for_few(), most_bytes=dice.one_of([2**28] * 8 + [4000, 1500]),
            **dice.one_of([{}] * 24 + [PINS[1]]),
        )  # fmt: skip
        lay_down(home / "app", dice.one_of([0] * 14 + [2, None]))
        self.open()
        for purpose in ("train", "analytics", "train"):
            if dice.chance(0.04):
                self.device.consent.revoke(purpose)

    def open(self) -> None:
        """Open the store, as after a restart."""
        self.device = made_device(self.home / "app", self.service, lambda: self.now)
        self.host = OwnHost(self.device.store, self.device.rounds, self.number, self.directory_of, self.model_of)

    def close(self) -> None:
        """End the process; an attempt that is under way ends with it."""
        machine = self.host._machine
        self.host.close()
        if machine is not None:
            tell_outcome(self.answer, machine._ledger.size)
        self.device.close()

    def take_model(self, variant: int) -> None:
        """Take a published model into use."""
        found = self.answer.tried(
            published.unpack, self.operator.published(variant), public_key=self.service.public_key
        )
        self.answer.of(self.device.models.take, found)

    def directory_of(self, name: str) -> Directory | SyncEnd:
        """Download a directory."""
        found: Directory | SyncEnd = self.fetched(name, self.directory)
        return found

    def model_of(self, name: str) -> bytes | SyncEnd:
        """Download a model."""
        every = (model_of(kind, n) for kind in KINDS for n in range(2))
        found: bytes | SyncEnd = self.fetched(name, next((each.data for each in every if each.hash == name), b""))
        return found

    def fetched(self, name: str, found: Any) -> Any:
        """A download, in the course of which much may happen."""
        self.answer.tell("fetch", name, self.host.purpose, self.host.agreed())
        match self.dice.whole(0, 35):
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
        match dice.whole(0, 26):
            case 0:
                purpose = dice.one_of(["train", "train", "analytics"])
                self.answer.of(
                    getattr(device.consent, dice.one_of(["grant", "revoke"])), purpose, version=dice.one_of(["1", "2"])
                )
            case 2:
                self.close()
                self.open()
            case 3:
                self.now += dice.one_of([60.0, 1800.0, -600.0, 86400.0 * 400])
            case 4:
                self.take_model(dice.one_of([0, 1]))
            case 5 | 1:
                _, record, _ = self.message()
                rounds, plan = device.rounds, record["plan"]
                self.answer.of(rounds.wanted_model, plan)
                model = self.model_for(plan)
                self.answer.of(rounds.contribute, plan, model, *dice.one_of([(), (3,)]))
                self.refused()
            case 7:
                self.answer.of(device.rounds.at_limit)
                self.tell_evidence()
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
        road = dice.one_of([*ROADS, self.favourite, self.favourite, self.favourite, self.favourite])
        self.round += dice.one_of([1, 1, 1, 1, 0])
        changes: dict[str, Any] = {"round": self.round, "attempt": dice.whole(0, 2)}
        changes["sigma"] = dice.one_of([SIGMA, 2 * SIGMA])
        twist = dice.one_of(["key", "tampered", "space", "no proofs", "forgets", *[""] * 15])
        others: list[dict[str, Any]] = [*[{}] * 24,
            {"expires": int(self.now)}, {"expires": int(self.now) - 1}, {"population": "viewers"}, {"mu2": 1e-4},
            {"noise": "seeded"}, {"run": "run-2"}, {"run": "run-2", "round": 0},
        ]  # fmt: skip
        changes |= dice.one_of(others)
        kind = {"survey": "survey", "events": "event-mf"}.get(road, "popularity")
        if road in ("local", "events", "off"):
            changes["dp"] = "local" if road != "off" else "off"
        if road == "events":
            changes |= {"round": 0, "run": f"run-{10 + self.round}"}
            changes["events"] = Sampling(inclusion=dice.one_of([1.0, 0.5]), steps=1)
        if road == "off":
            changes |= {"sigma": 0, "mu2": 0.0}
        if road == "masks":
            own = self.device.rounds.identity().public
            self.directory = Directory((own, *(key.public for key in PEERS)))
            named = dice.one_of([self.directory.hash] * 9 + [None])
            changes |= {"dp": "distributed", "cohort": CohortTerms(
                n_max=3, n_min=3, c_max=1, masks=named is not None, directory=named)}  # fmt: skip
        plan = plan_of(kind, dice.one_of([0, 0, 1]) if kind != "survey" else 0, **changes)
        spent = 0.5 if twist == "forgets" else dice.one_of([None, float(self.round), float(self.round)])
        key = key_of(2) if twist == "key" else None
        signed = self.operator.signed(plan, spent=spent, proofs=twist != "no proofs", key=key)
        peers = None
        if plan.cohort is not None and plan.cohort.masks:
            peers = MaskedPeers(SignedPlan.model_validate_json(signed), self.directory, PEERS, self.operator)
        if twist in ("tampered", "space"):
            signed = signed[:-9] + b"0" + signed[-8:] if twist == "tampered" else signed + b" "
        if road != "masks":
            unasked: list[dict[str, bytes]] = [*[{}] * 7, {"request": b"advertise"}]
            return "train", {"plan": signed, **dice.one_of(unasked)}, None
        return "train", {"plan": signed, "request": peers.request() if peers else b"advertise"}, peers

    def tell_evidence(self) -> None:
        """What of the ledger was seen last; of a manifest not its bytes, which have hashes of what was compressed."""
        kept = self.answer.tried(self.device.rounds.evidence)
        if isinstance(kept, bytes):
            state = shown_by(kept)
            plan = b'"plan"' in kept
            self.answer.tell(str(spend_shown(kept)), state and state.checkpoint, digest(kept) if plan else plan)
        else:
            self.answer.tell(kept is None)

    def end(self) -> None:
        """Tell everything that is left: the journal, the ledger, and what the user is told."""
        device = self.device
        with Journal(device.store.file) as journal, journal._database.transaction() as connection:
            self.answer.tell([rows_of(connection, table) for table in ("sent", "contacts")])
            names = connection.execute("SELECT name FROM files UNION ALL SELECT name FROM secrets ORDER BY 1")
            self.answer.tell(names.fetchall())
        report = device.privacy_report()
        said, lines = report.as_dict(), [json.loads(line) for line in report.export_lines()]
        for model in said["models"] + [line for line in lines if line["type"] == "model"]:
            model["manifest"] = len(model["manifest"])  # the hash of what was compressed
        tell_facts(self.answer, [said, lines])
        with OwnLedger(device.store, self.service) as ledger, ledger._view() as connection:
            self.answer.tell(rows_of(connection, "latches"))
        self.answer.of(device.rounds.at_limit)
        self.answer.tell(report.unit, NAMED.findall(str(report)))


ROADS = ("central", "local", "survey", "events", "masks", "masks", "off")
KINDS = ("popularity", "survey", "event-mf")
PEERS = (key_of(31), key_of(32))


def _apps(dice: Dice, answer: CaseAnswer) -> None:
    """An app's device over some weeks."""
    with made_folder(answer) as home, ExitStack() as stack:
        app = AppLife(dice, answer, home)
        stack.callback(lambda: app.close())
        for _ in range(4):
            app.step()
        app.end()


SEAMS = (Seam("an app's device: plans, downloads, decisions of its user and restarts", _apps, 12),)
