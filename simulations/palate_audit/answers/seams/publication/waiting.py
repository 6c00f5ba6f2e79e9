"""Waiting: devices and items that are kept out for a while, and how far a server says it is."""

from __future__ import annotations

import math
from functools import partial
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import ticking
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.publication.servers import shown_items
from palate_audit.answers.seams.publication.sites import DAY
from palate_audit.answers.still import NOW
from palate_common.secagg.evidence import FaultEvidence
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey
from palate_core.masks.agreement import KeyPair
from palate_core.masks.directory import Directory
from palate_core.masks.transcript import ADVERT, advert_payload
from palate_server.folder import quarantine
from palate_server.folder.config import CohortSettings
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.presence import SeenByQuarter
from palate_server.folder.quarantine import Quarantine, QuarantinedItem
from palate_server.operation.absences import Absences
from palate_server.operation.dismissals import Dismissals
from palate_server.operation.gathering import CohortGathering, draw_cohort
from palate_server.operation.strikes import strike
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.progress import ActivityFile, Exchanged
from palate_server.secagg.conduct import Conduct


def _quarantined(dice: Dice, answer: CaseAnswer) -> None:
    """Items come, stay for the longer of two times, are lifted, and come again; a file that is read by two."""
    with made_folder(answer) as folder, mock.patch.object(quarantine, "KEPT", dice.one_of((2, 100))):
        file, spoilt = folder / "quarantine.json", False
        for number in range(12):
            place, items = Quarantine(file), dice.some_of("abcd", 0.4)
            if spoilt:
                file.unlink()
                spoilt = False
            match dice.one_of(("read", "read", "read", "add", "add", "lift", "lift", dice.mostly("read", "spoilt"))):
                case "read":
                    named = [
                        QuarantinedItem(item=each, by=f"run-{number}", until=dice.whole(0, 5), proved=dice.chance(0.5))
                        for each in dice.shuffled(items)
                    ]
                    answer.tried(place.read, f"verdict-{dice.whole(0, 5)}", iter(named) if dice.chance(0.5) else named)
                case "add":
                    answer.tried(place.add, items, until=dice.whole(0, 5))
                case "lift":
                    there = [each.item for each in place.items(trainings=number // 4)]
                    chosen = dice.mostly(dice.some_of(there), items)
                    answer.tried(place.lift, iter(chosen) if dice.chance(0.3) else chosen, trainings=number // 4)
                case "spoilt":
                    spoilt = True
                    file.write_bytes(dice.one_of((b"", b"{}", b'{"items": [{}]}', b"[1]", b'{"lifted":["a"]}')))
            answer.of(lambda place=place: shown_items(place.items(trainings=dice.whole(0, 4))))
            answer.of(lambda place=place: place.lifted)
            answer.of(place.was_read, f"verdict-{dice.whole(0, 5)}")
        answer.tell(file.read_bytes() if file.exists() else None)


def _waiting(dice: Dice, answer: CaseAnswer) -> None:
    """Devices that are away, sent home, gathered, and drawn."""
    clock = ticking(dice, 0.0, 0.0, 1.0, 900.0, 1800.0, 1799.0, 86400.0)
    away, devices = Absences(clock=clock), list(range(6))
    for _ in range(10):
        invited = dice.shuffled(dice.some_of(devices, 0.7))
        heard = dice.some_of(dice.mostly(invited, devices), dice.one_of((0.0, 0.5, 0.5, 0.9)))
        answer.tell(away.note(invited, heard=heard))
        answer.tell(away.present({10 + device: device for device in dice.shuffled(devices)}))
    later, sent = ticking(dice, 0.0, 0.0, 5.0, 15.0, 60.0, 59.0), list[Any]()
    home = Dismissals(lambda nodes: sent.append(list(nodes.items())), lambda: sent.append("purge"))
    with mock.patch("time.monotonic", later):
        for _ in range(10):
            if dice.chance(0.7):
                home.send(
                    dice.some_of(devices), seconds=dice.one_of((0.0, 59.9, 60.0, 61.7, 86400.0, 90000.0, math.inf))
                )
            else:
                home.tidy()
            answer.tell(sent[-2:], len(sent))
    size, least = dice.whole(1, 5), dice.whole(1, 4)
    soon = ticking(dice, 3.0, 0.0, 4.0, 10.0)
    gathering = CohortGathering(size=size, least=least, seconds=dice.one_of((8.0, 20.0, 0.0)), clock=soon)
    for _ in range(5):
        present = {10 + device: device for device in dice.some_of(devices, dice.one_of((0.1, 0.5, 0.9)))}
        cohort = answer.tried(gathering.look, present, enough=dice.one_of((None, None, 1, 3)))
        if not isinstance(cohort, PalateError):
            answer.tell(None if cohort is None else list(cohort.items()), gathering.begun)
    answer.tell(list(draw_cohort({10 + device: device for device in devices}, most=dice.whole(0, 7)).items()))


def _progress(dice: Dice, answer: CaseAnswer) -> None:
    """How far a server says it is, also after a restart; and in which quarter devices were there."""
    with made_folder(answer) as folder, Enrolments(":memory:") as register:
        file, clock = folder / "progress.json", ticking(dice, NOW, 0.0, 1.5, 60.0)
        told = ActivityFile(file, clock=clock)
        for step in range(10):
            match dice.one_of(
                ("gathering", "gathering", "gathered", "begin", "exchange", "exchange", "end", "restart")
            ):
                case "gathering":
                    told.gathering(here=dice.whole(0, 2), least=2, enough=dice.whole(2, 3), seconds=30.0)
                case "gathered":
                    told.gathered()
                case "begin":
                    told.begin(
                        run=f"{step}", round_=step, survey=dice.chance(0.5), invited=dice.whole(1, 9), seconds=7.0
                    )
                case "exchange":
                    for first in (True, *dice.some_of((False, True) * 35, dice.one_of((0.02, 0.02, 1.0)))):
                        made = Exchanged(
                            step=step, since=1.0, asked=4, answered=dice.whole(0, 4), over=dice.chance(0.5)
                        )
                        told.exchange(made, first=first)
                case "end":
                    told.end(
                        dice.one_of(("released", "void")), users=dice.one_of((None, 4)), reason=dice.one_of(("", "x"))
                    )
                case "restart":
                    if dice.chance(0.3):
                        file.write_bytes(dice.one_of((b"", b"{}", b'{"gathering":7}')))
                    told = ActivityFile(file, clock=clock)
                    told.take_over()
            answer.tell(file.read_bytes() if file.exists() else None, told.read().model_dump_json())
        for number in range(4):
            register.enrol(
                register.invite(now=0.0, hours=1e6), node_key=f"{number}", identity=f"{number:064x}", now=1.0
            )
            register.registered(number, 10 + number)
        when = ticking(dice, NOW, 0.0, 0.0, 20 * DAY, 91 * DAY, -95 * DAY)
        for _ in range(6):
            presence = SeenByQuarter(register, clock=when)
            for _ in range(3):
                presence.note(iter(dice.some_of((9, 10, 11, 12, 13), 0.4)))
            answer.tell(register.noted_since(), [each.seen for each in register.listed(now=NOW)])


def _struck(dice: Dice, answer: CaseAnswer) -> None:
    """Devices that break an attempt, with and without masks, with evidence that holds or doesn't."""
    n, context = dice.whole(2, 5), dice.bytes(32)
    keys = [SigningKey.generate() for _ in range(n)]
    directory = Directory(tuple(each.public for each in keys))
    with made_folder(answer) as folder, Enrolments(":memory:") as register:
        for number, key in enumerate(keys):
            register.enrol(register.invite(now=0.0, hours=1e6), node_key=f"{number}", identity=key.public, now=1.0)
            register.registered(number, 10 + number)
        settings = CohortSettings(strikes=dice.whole(1, 3), quarantine_days=dice.one_of((0.5, 30.0)))
        events = EventLog(folder / "events.jsonl")
        for attempt in range(4):
            made = object.__new__(Coordinator)
            made.conduct, made.context = Conduct(), dice.one_of((context, context, None))
            for device in dice.some_of(range(n)):
                made.conduct.evidence[device] = _evidence(dice, keys, device, context)
            made.conduct.unsigned.update(dice.some_of(range(n), 0.3))
            made.conduct.offenders.update(10 + device for device in dice.some_of(range(n), 0.4))
            cohort = {device: 10 + device for device in dice.shuffled(range(n))}
            known = dice.one_of((None, directory, directory))
            with mock.patch("time.time", partial(float, NOW + attempt * DAY * 20)):
                answer.tried(strike, made, cohort, directory=known, register=register, events=events, settings=settings)
            found = register.eligible(period=0, most=9, now=NOW + attempt * DAY * 20)
            answer.tell(dict(found), [register.evidence(number) for number in range(n)])
            answer.tell([[each.strikes, each.free_at, each.named] for each in register.devices()])
        answer.tell([{**each, "at": ""} for each in events.all()])


def _evidence(dice: Dice, keys: list[SigningKey], device: int, context: bytes) -> FaultEvidence:
    """A record that a device has advertised one key twice; or one that doesn't hold."""
    key, of = KeyPair.generate().public, dice.mostly(context, bytes(32))
    other = dice.chance(0.15)
    body = key + (KeyPair.generate().public if other else key) + bytes(32)
    signature = dice.mostly(keys[device], keys[0]).sign(ADVERT, advert_payload(of, 0, b"", device, body))
    number = dice.mostly(device, 0)
    return FaultEvidence(
        kind="advert", device=number, attempt=of.hex(), toss=0, root="", seed="", advert=body.hex() + signature
    )


SEAMS = (
    Seam("devices that break an attempt", _struck, 12),
    Seam("quarantine: items that come, stay, are lifted and come again", _quarantined, 18),
    Seam("devices that are away, sent home, gathered and drawn", _waiting, 36),
    Seam("how far a server says it is, and who was there in which quarter", _progress, 12),
)
