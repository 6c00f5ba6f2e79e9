"""Leaving: what a device says when it leaves, and what anybody can tell from it later; and what it shares openly."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.logs import POPULATION, MadeLog, floats, model_of
from palate_audit.answers.made.stores import NOW, made_disk, made_store
from palate_audit.answers.made.telling import as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_client.consent import PURPOSES, Consent
from palate_client.events import KINDS, Event
from palate_client.leaving import later_models
from palate_client.leaving.erasure import erase_with_statement
from palate_client.leaving.statement import (
    Left,
    Round,
    SeenState,
    Statement,
    TellingBound,
    most_right,
    most_true_positives,
)
from palate_client.ledger.anchor import know_charges
from palate_client.ledger.device_ledger import Receipt
from palate_client.ledger.trust import Trust
from palate_client.models import Models
from palate_client.online.enrolment import Enrolment
from palate_client.panel import open_log
from palate_client.rounds.report import PrivacyReport, Spending
from palate_client.service import Service
from palate_client.store.journal import EVENTS, Edition, Journal, Opened, Sent
from palate_client.store.retention import DAY, SET_CLOCK
from palate_client.store.store import EventStore
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.manifest import evidence_of
from palate_common.models.published import Contents
from palate_common.weighting import Weighting
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import SPENT
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

RUNS = ("spring", "summer", "autumn", "winter", "late")
MODES = ("off", "local", "distributed", "central", EVENTS)


def _report(dice: Dice, log: MadeLog) -> PrivacyReport:
    """What a device has sent and spent."""
    places = [(run, round_, attempt) for run in RUNS[: dice.whole(0, 5)] for round_ in range(3) for attempt in range(2)]
    time, sent, receipts = NOW, list[Sent](), list[Receipt]()
    for run, round_, attempt in dice.some_of(places, 0.4):
        time += dice.one_of((1.0, DAY / 2))
        dp = dice.one_of(MODES) if dice.chance(0.3) else "distributed"
        if dice.chance(0.85):
            trust = dice.one_of(
                (None, Trust(1, 10, 0.5), Trust(1, 10, 0.25), Trust(None, None, None), Trust(None, None, 0.125))
            )
            mu2, purpose = dice.whole(1, 9) / 64, dice.one_of(("train", "train", "analytics", None, "other"))
            trust = trust or (None if dice.chance(0.2) else Trust(2, 9, 0.5))
            receipts.append(
                Receipt(
                    run, round_, attempt, digest(f"{run} {round_} {attempt}".encode()), mu2, 9, time, trust, purpose
                )
            )
        for what in dice.some_of(("keys", "contribution", "input", "unmask"), 0.35):
            sent.append(Sent(what, dp, run, round_, attempt, dice.whole(1, 5000), time + 3600.0))
    mu2 = sum(each.mu2 for each in receipts)
    spending = Spending(
        population=POPULATION,
        epsilon=dice.one_of((None, 2.5, 2.5, 0.0)),
        conditions=dice.one_of(((), ("at most 3 of 10",))),
        epsilon_alone=dice.one_of((None, 7.5)),
        limit=8.0,
        delta=1e-6,
        mu2=mu2,
        participations=len(receipts),
        participation_limit=99,
        receipts=tuple(receipts),
        seen=dice.one_of((None, log.tree.checkpoint())),
    )
    opened_logs = tuple(Opened(NOW + k, k, "1") for k in range(dice.whole(0, 2)))
    return PrivacyReport(
        app="shelf",
        time=time + 1,
        spending=dice.one_of((spending, spending, spending, None)),
        problem=dice.one_of(("", "", "", "lost 7")),
        simulated=dice.one_of(((), ("noise from a seed",))),
        sent=tuple(sent),
        refusals=(),
        decisions=(),
        models=(),
        contacts=(),
        consents={purpose: dice.chance(0.5) for purpose in PURPOSES},
        opened=opened_logs,
    )


def _lived(dice: Dice, store: EventStore, clock: MadeClock) -> None:
    """Decisions, a model, and an enrolment."""
    for purpose in dice.some_of(PURPOSES):
        decide = dice.one_of((Consent(store).grant, Consent(store).revoke))
        decide(purpose)
        clock.now += DAY
        if dice.chance(0.3):
            Consent(store).revoke(purpose)
    with Journal(store.file) as journal:
        if dice.chance(0.6):
            run = dice.one_of(({"run": "summer"}, {"run": "spring"}, {"run": 7}, {}))
            files = {"manifest.json": canonical_json(run)} if dice.chance(0.8) else {}
            journal.adopt(Edition(POPULATION, 3, "ab" * 32, "cd" * 32, NOW), files)
        if dice.chance(0.5):
            journal.keep("identity", SigningKey.generate().to_pem())
        if dice.chance(0.7):
            path = dice.one_of(("", "/a"))
            enrolled = Enrolment("shop.example", 443, "", "ab" * 32, POPULATION, dice.whole(0, 99), "secret", 3, path)
            journal.keep("enrolment", json.dumps(asdict(enrolled)).encode())
            if dice.chance(0.6):
                journal.keep("leaving", json.dumps({"answered": dice.chance(0.5)}).encode())


def _statements(dice: Dice, answer: CaseAnswer) -> None:
    """What remains of devices that took part in much, little or nothing."""
    with made_folder(answer) as path, made_disk():
        clock, log = MadeClock(NOW), MadeLog()
        with made_store(path / "s", clock) as store:
            _lived(dice, store, clock)
            report = _report(dice, log)
            key = log.key.public
            service = dice.one_of(
                (
                    Service(public_key=key, population=POPULATION, delta=1e-6),
                    Service(public_key=key, population=POPULATION, delta=1e-5),
                    None,
                )
            )
            if dice.chance(0.2):
                know_charges(store, 2)
            files = Contents({}, log.said()).signed(log.key, log.shown(dice.one_of((2, log.tree.size))))
            evidence = dice.one_of((None, evidence_of(files), evidence_of(files), b"{}"))
            final = dice.chance(0.5)
            made = tell_refusal(
                answer, Statement.of, report, store, Consent(store), service, evidence=evidence, final=final
            )
            if made is None:
                return
            said = made.model_dump(mode="json")
            answer.tell(
                [(name, each) for name, each in said.items() if name not in ("bounds", "accountant", "state", "left")]
            )
            answer.tell(said["bounds"], as_text(said["state"]), [{**each, "stops": ""} for each in said["left"]])
            answer.tell(made.unfinished, NAMED.findall(str(made)), made.anonymous().server, made.anonymous().format)
            answer.tell(Statement.from_bytes(made.to_bytes()) == made)
            changes: tuple[dict[str, Any], ...] = (
                {"format": 3 - made.format},
                {"server": None},
                {"more": 1},
                {"epsilon": "x"},
                {"rounds": [1]},
            )
            for data in (canonical_json({**said, **dice.one_of(changes)}), made.to_bytes() + b" ", b"{}"):
                found = tell_refusal(answer, Statement.from_bytes, data)
                answer.tell(found is None)


def _bounds(dice: Dice, answer: CaseAnswer) -> None:
    """How much can be told at most."""
    for _ in range(6):
        mu, reserved = dice.one_of((0.0, dice.real(0, 1), dice.real(0, 9), 40.0)), dice.one_of((0.0, 2.0**-30, 0.01))
        rate = dice.one_of((1e-6, 0.01, 0.1, 0.5, 0.98, 0.995, 1 - 1e-12))
        answer.tell(most_true_positives(rate, mu=mu, reserved=reserved), most_right(mu=mu, reserved=reserved))
    answer.tell(most_true_positives(0.1, mu=0.0) > 0.1, most_right(mu=0.0) > 0.5)


def _erasures(dice: Dice, answer: CaseAnswer) -> None:
    """An erasure, while messages may go on leaving."""
    with made_folder(answer) as path, made_disk():
        clock, log = MadeClock(NOW), MadeLog()
        store = made_store(path / "s", clock)
        service = Service(public_key=log.key.public, population=POPULATION)
        report, made, leaves = _report(dice, log), list[Statement](), dice.one_of((0, 0, 1, 2, 9, 10, 99))

        one = Statement.of(report, store, Consent(store), service, evidence=None, final=True)

        def make() -> Statement:
            made.append(one.model_copy(update={"day": f"{len(made)}"}))
            if len(made) <= leaves:
                with Journal(store.file) as journal:
                    if dice.chance(0.5):
                        journal.record(Sent("input", "local", "r", 1, 1, 1, NOW))
                    else:
                        journal.open_log(Opened(NOW, 1, "1"))
            return made[-1]

        where = dice.one_of(
            (None, path / "mine.json", path / "mine.json", path / "s" / "in.json", path / "no" / "in.json")
        )
        found = tell_refusal(answer, erase_with_statement, store, make, where)
        answer.tell(len(made), found is not None and found == made[-1], store.file.state)
        answer.tell(sorted(each.name for each in path.rglob("*") if each.suffix in (".json", ".db")))
        mine = path / "mine.json"
        answer.tell(
            mine.exists() and mine.read_bytes() == made[-1].to_bytes(), mine.exists() and mine.stat().st_mode & 0o777
        )
        store.close()


def _statement(dice: Dice, log: MadeLog, state: SeenState | None) -> Statement:
    """A statement of rounds."""
    rounds = tuple(
        Round(
            run=run,
            round=round_,
            attempt=attempt,
            day="2026-11-28",
            mu2=0.25,
            plan_hash=dice.one_of((None, digest(f"{run} {round_} {attempt}".encode()))),
            purpose="train",
            contributed=dice.chance(0.7),
            dp=dice.one_of(("distributed", "distributed", "off")),
        )
        for run in dice.some_of(RUNS, 0.4)
        for round_ in range(2)
        for attempt in range(2)
        if dice.chance(0.4)
    )
    left = tuple(
        Left(purpose=purpose, agreed=True, decided=None, contributions=dice.whole(0, 1), messages=1, bytes=1, stops="")
        for purpose in ("train", "panel")
    )
    bounds = (TellingBound(false_positives=0.1, true_positives=None, alone=None),)
    population = dice.one_of((POPULATION,) * 9 + (None,))
    return Statement(
        app="shelf",
        day="2026-11-28",
        final=dice.chance(0.7),
        population=population,
        public_key=log.keys[0].public,
        unit="user",
        delta=1e-6,
        problem="",
        simulated=(),
        rounds=rounds,
        mu2=1.0,
        epsilon=1.0,
        conditions=(),
        epsilon_alone=None,
        bounds=bounds,
        left=left,
        state=state,
        ended=None,
    )


def _publish(dice: Dice, log: MadeLog, path: Path, run: str, former: dict[str, Any] | None) -> dict[str, Any]:
    """Publish a run's model, with its card; what a later run says of it."""
    log.grow(dice.whole(1, 3))
    if dice.chance(0.1):
        log.hand_over()
    model_hash = digest(f"model {run}".encode())
    releases = [
        {
            "round": round_,
            "attempt": attempt,
            "plan_hash": None if dice.chance(0.1) else digest(f"{run} {round_} {attempt}".encode()),
            "sealed": dice.chance(0.6),
        }
        for round_ in range(2)
        for attempt in range(2)
        if dice.chance(0.7)
    ]
    card: dict[str, Any] = {
        "model_hash": model_hash,
        "run": run,
        "releases": releases,
        "panel": dice.one_of((None, None, 3)),
        "builds_on": former,
    }
    wrong: tuple[dict[str, Any], ...] = (
        {"run": "other"},
        {"model_hash": "x"},
        {"releases": [{"round": 1}]},
        {"releases": 7},
    )
    if dice.chance(0.03):
        card.update(dice.one_of(wrong))
    data = canonical_json(card)
    named = {"card": digest(data) if dice.chance(0.95) else "ab" * 32} if dice.chance(0.9) else {}
    said = log.said(
        model_hash=model_hash,
        population=POPULATION if dice.chance(0.99) else "others",
        **named,
        **{SPENT: 0.25 if dice.chance(0.08) else log.tree.size / 4},
    )
    said |= {"run": run} if dice.chance(0.9) else {"releases": dice.whole(0, 1)}
    folder = path / run
    folder.mkdir()
    files = Contents({}, said).signed(log.key, log.shown())
    for name, each in files.items():
        (folder / name).write_bytes(each)
    if dice.chance(0.9):
        (folder / later_models.CARD).write_bytes(data)
    return {"run": run, "model_hash": model_hash, "files": files, "size": log.tree.size}


def _later(dice: Dice, answer: CaseAnswer) -> None:
    """Models of later runs, which start from each other, and what they have."""
    with made_folder(answer) as path:
        log, made = MadeLog(), list[dict[str, Any]]()
        loop = {"run": "summer", "model_hash": digest(b"model summer")}
        former = loop if dice.chance(0.2) else None
        for run in RUNS[: dice.whole(1, 5)]:
            made.append(_publish(dice, log, path, run, former))
            begins = dice.one_of((made[-1], made[-1], made[0], None))
            former = None if begins is None else {name: begins[name] for name in ("run", "model_hash")}
        seen = dice.one_of(made)
        evidence = json.loads(evidence_of(seen["files"]))
        size = seen["size"]
        kept: tuple[Any, ...] = (
            *[evidence] * 9,
            evidence,
            evidence,
            evidence,
            None,
            {"manifest": {}, "signature": "00"},
            {"plan": 1},
        )
        root = log.tree.root(size) if dice.chance(0.95) else "ab" * 32
        state = SeenState(size=size, root=root, evidence=dice.one_of(kept)) if dice.chance(0.85) else None
        for _ in range(4):
            statement = _statement(dice, log, state)
            asked_for = dice.one_of(made)["run"]
            others = [path / each["run"] for each in dice.shuffled(made) if dice.chance(0.85)]
            found = tell_refusal(answer, later_models.verify, statement, path / asked_for, *others)
            if found is not None:
                answer.tell(
                    as_text(
                        (
                            found.version,
                            found.run,
                            found.after,
                            found.holds,
                            found.releases,
                            found.started_from,
                            found.opened,
                            found.final,
                        )
                    )
                )
                answer.tell(str(found), later_models.Traces.of(statement, path / asked_for, *others) == found)


def _open(dice: Dice, answer: CaseAnswer) -> None:
    """A log that is shared openly."""
    with made_folder(answer) as path, made_disk():
        clock, log = MadeClock(dice.one_of((NOW, NOW, 1000.0))), MadeLog()
        store = made_store(path / "s", clock)
        consent, models = Consent(store), Models(store, Service(public_key=log.key.public, population=POPULATION))
        if dice.chance(0.9):
            consent.grant("store")
        if dice.chance(0.8):
            consent.grant("panel", version=dice.one_of(("1", "2")))
        catalogue = ItemCatalogue(tuple(dice.shuffled(("a", "b", 'c,"', *"defghij"))))
        if dice.chance(0.85):
            files = published.pack(
                model_of({"counts": floats(dice, 10)}, catalogue.items),
                catalogue,
                {},
                log.key,
                population=POPULATION,
                shown=log.shown(),
            )
            with Journal(store.file) as journal:
                journal.adopt(Edition(POPULATION, 2, "ab" * 32, digest(files["manifest.json"]), NOW), files)
        times = (None, NOW - DAY, NOW - 40 * DAY, NOW - 0.5, SET_CLOCK, SET_CLOCK - 0.25, 5.0, NOW + DAY)
        for _ in range(dice.whole(0, 14)):
            kind = dice.one_of(KINDS)
            value = dice.whole(1, 5) if kind == "rate" else None
            store.add([Event(kind, dice.one_of((*catalogue.items, "other")), time=dice.one_of(times), value=value)])
        clock.now += dice.one_of((0.0, 0.0, 2 * DAY, -2 * DAY, -DAY / 2))
        if dice.chance(0.1):
            consent.revoke("panel")
        decided = iter([dice.chance(0.1), False, False])
        real = Journal.open_log

        def anew(journal: Journal, opened_log: Opened) -> None:
            real(journal, opened_log)
            if next(decided):
                consent.grant("panel", version="3")

        weighting = dice.one_of(
            (
                Weighting(),
                Weighting(kinds={"like": 1.0, "rate": 2.0}),
                Weighting(kinds={"*": 1.0}, combine="sum"),
            )
        )
        with mock.patch.object(Journal, "open_log", anew):
            for _ in range(2):
                found = tell_refusal(answer, open_log, store, consent, models, weighting)
                if found is not None:
                    answer.tell(as_text(found), found.csv(), found.as_dict())
        with Journal(store.file) as journal:
            answer.tell(as_text(journal.opened()))
        store.close()
    tell_text(answer, Checkpoint, 1, "ab" * 32)


SEAMS: tuple[Seam, ...] = (
    Seam("statements: what remains of devices that took part in much, little or nothing", _statements, 18),
    Seam("statements: how much can be told at most", _bounds, 12),
    Seam("erasures: with a statement, while messages may leave", _erasures, 6),
    Seam("later models: what they have of who left", _later, 24),
    Seam("open logs: what a user shares, and from when", _open, 12),
)
