"""Lives: decisions of a user and charges of their device, while files get lost and others write."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.keys import key_of
from palate_audit.answers.made.stand_ins import POPULATION, lay_down, made_device, statements
from palate_audit.answers.made.telling import rows_of, tell_facts, tell_outcome
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.devices.ledgers import some_trust
from palate_audit.answers.still import NOW
from palate_client.consent import PURPOSES, agreed
from palate_client.device import Device
from palate_client.floors import Floors
from palate_client.ledger.anchor import know_charges, known_charges
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.service import Service
from palate_client.store.journal import Contact, Journal, Opened, Refusal, Sent
from palate_core.errors import PalateError
from palate_core.log.merkle import Checkpoint


def _lives(dice: Dice, answer: CaseAnswer) -> None:
    """Decisions of a user and charges of their device, between which files get lost, and others write, too."""
    with made_folder(answer) as home, ExitStack() as stack:
        folder = home / "app"
        lay_down(folder, dice.one_of([0, None]))
        run = stack.enter_context(statements())
        life = _Life(dice, answer, folder)
        stack.callback(life.close)
        for number in range(9):
            life.now += dice.one_of([1.0, 86400.0, -60.0])
            life.step(number)
        life.end()
        answer.tell(run)


class _Life:
    """An app's device, in two processes."""

    def __init__(self, dice: Dice, answer: CaseAnswer, folder: Path) -> None:
        self.dice, self.answer, self.folder, self.now, self.copy = dice, answer, folder, NOW, b""
        limits: dict[str, Any] = {
            "epsilon": dice.one_of([8.0, 1.0, 50.0]),
            "participations": dice.one_of([1000, 2, 3, 1, 0]),
        }
        loose = dice.one_of([Floors(), Floors(allow_off=True, allow_seeded=True), Floors(allow_unmasked=True)])
        self.service = Service(public_key=key_of(1).public, population=POPULATION, floors=loose, **limits)
        self.devices = [self.open(), self.open()]
        with self.devices[0].store.transaction(
            write=True
        ) as connection:  # a disk on which some things can't be written
            for name, when in (("INSERT ON consent", "NEW.version = 'full'"), ("UPDATE ON meta", "NEW.value = 3")):
                if dice.chance(0.7):
                    connection.execute(
                        f"CREATE TRIGGER {name.split()[2]}_full BEFORE {name} WHEN {when} "
                        "BEGIN SELECT RAISE(ABORT, 'full'); END"
                    )

    def close(self) -> None:
        """End both."""
        for device in self.devices:
            device.close()

    def open(self) -> Device:
        """Another process."""
        return made_device(self.folder, self.service, lambda: self.now)

    def step(self, number: int) -> None:
        """Something happens in one of the processes."""
        dice, device = self.dice, self.dice.one_of(self.devices)
        consent, ledger = device.consent, next(self.folder.glob("*.ledger"), None)
        purpose = dice.one_of(["store", "train", "train", "analytics", "messaging", "panel", "x"])
        version = dice.one_of(["1", "2", "full", "full", "", "v" * 200, "v" * 201, 3])
        match dice.whole(0, 19):
            case 0 | 1 | 2:
                tell_outcome(self.answer, lambda: consent.grant(purpose, version=version))  # type: ignore[arg-type]
            case 3 | 4 | 5:
                tell_outcome(self.answer, lambda: consent.revoke(purpose, version=version))  # type: ignore[arg-type]
            case 6:
                tell_outcome(self.answer, lambda: consent.history(dice.one_of([None, purpose])))  # type: ignore[list-item]
            case 7:
                self.devices.pop(0).close()
                self.devices.append(self.open())
            case 8 if ledger is not None and not dice.whole(0, 1):
                tell_outcome(
                    self.answer, lambda: ledger.unlink() if dice.one_of((True, False)) else ledger.write_bytes(b"")
                )
            case 9 if ledger is not None:
                self.copy, former = ledger.read_bytes(), self.copy
                tell_outcome(self.answer, lambda: ledger.write_bytes(former or b"x"))
            case 10 | 13:
                tell_outcome(self.answer, lambda: know_charges(device.store, dice.whole(0, 4)))
            case 14 | 15:
                self.noted(device)
            case 11:
                tell_outcome(self.answer, device.rounds.at_limit)
            case _:
                tell_outcome(self.answer, lambda: self.charged(device, number))
        self.answer.tell([[each.consent.get(name) for name in PURPOSES[:3]] for each in self.devices])
        tell_outcome(self.answer, lambda: self.devices[0].consent.get(purpose))  # type: ignore[arg-type]
        self.answer.tell(known_charges(self.devices[0].store), agreed(self.devices[0].consent))

    def noted(self, device: Device) -> None:
        """What may stand in a journal, of which the user is told."""
        dice, when = self.dice, self.now
        with Journal(device.store.file) as journal:
            for dp in (dice.one_of(["local, events", "central", "off", "local"]), "distributed"):
                place = (dice.one_of(["one", "two"]), dice.whole(0, 3), dice.whole(0, 3), dice.whole(0, 5000), when)
                journal.record(Sent(dice.one_of(["contribution", "input"]), dp, *place))
            journal.meet(Contact(when, dice.one_of(["time", "failed"]), dice.one_of(["", "port `7`"]), 1, 2, 3000, 4))
            journal.open_log(Opened(when, dice.whole(0, 2000), dice.one_of(["1", "2"])))
            journal.refuse(Refusal(dice.one_of(["plan", "model"]), "it was `x`, 3", when))

    def charged(self, device: Device, number: int) -> object:
        """Charges of this installation, up to its limit and not a bit beyond."""
        dice, limit = self.dice, self.service.limit_mu2
        cost = dice.one_of([limit, limit / 2, limit / 2, 0.0, 0.01, 0.01, float(np.nextafter(limit / 2, 9))])
        place: dict[str, Any] = {"run": dice.one_of(["one", "two"]), "round_": number, "attempt": 0}
        with OwnLedger(device.store, self.service) as ledger:
            first = ledger.affords(**place, mu2=cost, devices=dice.one_of([[7], [0], []]))
            taken = ledger.charge(
                "ab" * 32, **place, mu2=cost, n_bytes=number, devices=dice.one_of([[5], [0], range(2)]),
                trust=some_trust(dice), purpose=dice.one_of(["train", "analytics", None]),
            )  # fmt: skip
            early: dict[str, Any] = {"device": dice.whole(0, 5), "run": "one", "round_": 0, "attempt": 0}
            tell_outcome(self.answer, lambda: ledger.latch("input", dice.one_of(["a", "b"]), **early))
            tell_outcome(
                self.answer,
                partial(
                    ledger.see,
                    POPULATION,
                    Checkpoint(dice.whole(1, 3), "ab" * 32),
                    b"{}",
                    after=ledger.seen_checkpoint(POPULATION),
                ),
            )
            return [first, taken, ledger.size(), known_charges(device.store)]

    def end(self) -> None:
        """Tell what is left, and what the user is told."""
        device = self.devices[0]
        with device.store.transaction() as connection:
            self.answer.tell(rows_of(connection, "consent"), rows_of(connection, "meta"))
        self.answer.tell(sorted(path.name.split(".", 1)[1] for path in self.folder.glob("*.denied-*")))
        tell_outcome(self.answer, device.rounds.at_limit)
        try:
            report = device.privacy_report()
        except PalateError as error:
            self.answer.tell(type(error).__name__)
            return
        tell_facts(self.answer, [report.as_dict() | {"models": 0}, NAMED.findall(str(report)), report.spending is None])
        tell_facts(self.answer, [json.loads(line) for line in report.export_lines() if '"model"' not in line])
        self.answer.tell(bool(report.problem), report.unit, report.spending and [report.spending.remaining])


SEAMS = (Seam("an installation: its user's decisions, its charges, and files that get lost", _lives, 14),)
