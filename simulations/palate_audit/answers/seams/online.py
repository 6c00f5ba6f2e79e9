"""Online: how a device waits, enrols, syncs and leaves, whatever its server answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest import mock

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import Bell, MadeClock
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.keys import key_of, node_key
from palate_audit.answers.made.stand_in_server import CERTIFICATE, FAILURES, InstantServer, newest
from palate_audit.answers.made.stand_ins import PINS, POPULATION, PlanOperator, lay_down, made_device, model_of, plan_of
from palate_audit.answers.made.telling import rows_of, tell_outcome
from palate_audit.answers.seam import Seam
from palate_audit.answers.still import NOW
from palate_client.device import Device
from palate_client.floors import Floors
from palate_client.online import enrolment as enrolling
from palate_client.online.enrolment import Enrolment, asked_to_delete, enrolment_of, keep
from palate_client.online.flower_messages import (
    MOST_VALUES,
    Record,
    Reply,
    ReplyUpload,
    ServerMessage,
    record_dict,
    values,
)
from palate_client.online.https import RejectedError, StoppedError
from palate_client.online.policy import Policy
from palate_client.online.retry import Deadline
from palate_client.online.sync import SyncOptions, SyncResult
from palate_client.service import Service
from palate_client.store.journal import Journal
from palate_common.enrolment import Enrolled, Invitation, LeaveAnswer
from palate_common.models import published
from palate_common.records.protobuf import blob, double, read, text, uint
from palate_core.errors import LockedError, UnreachableError
from palate_core.log.canonical import digest


def _deadlines(dice: Dice, answer: CaseAnswer) -> None:
    """How long a device waits for its server, tries again, and why it ends."""
    clock = MadeClock(1000.0)
    rings = clock.now + dice.one_of([0.0, 2.0, 40.0, 1e9, 1e9])
    stop = dice.one_of([None, lambda: clock.now >= rings, Bell(clock, rings), Bell(clock, 1e9)])
    agreed, allowed = [True] * 99, dice.one_of([9, 9, dice.whole(0, 5)])
    policy = dice.one_of([Policy(), Policy(), _policy(dice)])
    with clock.running():
        tell_outcome(answer, partial(Deadline, seconds=1.0, stop=dice.one_of([1, "x"]), policy=policy, consents=bool))  # type: ignore[arg-type]
        deadline = Deadline(
            seconds=dice.one_of([0.5, 12.0, 30.0, 500.0, 5000.0]), stop=stop, policy=policy,
            consents=lambda: agreed.pop() and len(agreed) > 99 - 9 * allowed,
        )  # fmt: skip
        answer.tell(deadline.until.hex(), deadline.end.hex(), deadline.stopped())
        for _ in range(3):
            failures = [_failure(dice, clock) for _ in range(dice.one_of([0, 1, 3, 12]))]
            found: Any
            try:
                found = deadline.retry(partial(_next_of, failures, clock, dice.one_of([0.0, 1.0, 30.0])))
            except Exception as error:
                found = type(error).__name__, getattr(error, "status", 0)
            answer.tell(found, len(failures), deadline.over(), int(clock.now * 1000))
            for wait in ((2.0,), (9.0, 0.5, 1.0), (0.0, 1.0, 1.0))[: dice.whole(0, 3)]:
                answer.tell(deadline.pause(wait[0], **dict(zip(("at_least", "at_most"), wait[1:], strict=False))))
            clock.wait(dice.one_of([0.0, 1.0, 9.0]))
    answer.tell([int(each * 1000) for each in clock.waits])


def _failure(dice: Dice, clock: MadeClock) -> Exception:
    """What a request may end with."""
    return dice.one_of([
        UnreachableError("no server at `port` 7"), UnreachableError("another"), StoppedError(), LockedError("busy"),
        *(RejectedError("it", status) for status in (401, 403, 404, 412, 412, 429, 500, 503)),
        UnreachableError("once"), UnreachableError("more"), UnreachableError("again"),
    ])  # fmt: skip


def _next_of(failures: list[Exception], clock: MadeClock, takes: float) -> str:
    """Fail as often as was drawn."""
    clock.wait(takes)
    if failures:
        raise failures.pop(0)
    return "done"


def _policy(dice: Dice) -> Policy:
    """Conditions, of which some don't hold, or can't be known."""

    def broken() -> bool:
        raise OSError(5, "no battery")

    hooks: list[Any] = [None, None, lambda: True, lambda: True, lambda: False, lambda: 0, broken]
    return Policy(**{name: dice.one_of(hooks) for name in ("charging", "unmetered", "idle", "window")})


def _policies(dice: Dice, answer: CaseAnswer) -> None:
    """Conditions of an app, asked one after the other."""
    for _ in range(12):
        answer.tell(_policy(dice).forbids())
    answer.tell(Policy().forbids())


def _messages(dice: Dice, answer: CaseAnswer) -> None:
    """Flower's messages, read and answered."""
    clock, names = MadeClock(1000.0), ("plan", "model", "request", "x", "come_back", "")
    with clock.running():
        record = b"".join(blob(1, text(1, dice.one_of(names)) + blob(2, _value(dice))) for _ in range(dice.whole(0, 4)))
        head = dice.one_of([f"ConfigRecord  {len(record)}", f"ConfigRecord  {len(record) + 1}", "ArrayRecord  0",
                            *[f"ConfigRecord  {len(record)}"] * 5])  # fmt: skip
        data = (
            head.encode()
            + b"\0"
            + record
            + blob(1, text(1, "more") + blob(2, uint(3, 1))) * dice.one_of([0] * 9 + [99])
        )
        given: list[bytes | memoryview] = [data, memoryview(data)]
        tell_outcome(answer, lambda: _told_record(values(dice.one_of(given))))
        told = values(b"ConfigRecord  %d\0" % len(record) + record)
        answer.tell(_told_record(told), record_dict(dice.bytes(32).hex()))
        many = [
            blob(1, text(1, f"n{k}") + blob(2, uint(3, k))) for k in range(dice.whole(MOST_VALUES - 1, MOST_VALUES + 1))
        ]
        all_of = b"".join(many)
        tell_outcome(answer, lambda: values(b"ConfigRecord  %d\0" % len(all_of) + all_of))
        fields = [
            uint(1, dice.whole(0, 2**63)), text(2, dice.bytes(4).hex()), uint(3, dice.whole(0, 9)), text(6, "group"),
            double(7, dice.one_of([0.0, 3600.0, 12.5])), text(8, dice.one_of(["train", "query", "train.masked", ""])),
            double(9, NOW + dice.whole(0, 9)), uint(10, dice.whole(0, 3), always=True), uint(11, dice.whole(0, 3)),
        ]  # fmt: skip
        metadata = read(b"".join(dice.some_of(fields, 0.85) + dice.some_of(fields, 0.1)))
        asked = ServerMessage.of(metadata, told, **dice.one_of([{}, {"content": "ab"}]))
        answer.tell(_told_message(asked))
        sent = dice.one_of([None, ("device", dice.whole(-5, 2**40)), ("device", 0), ("answer", b""),
                            ("contribution", dice.bytes(dice.one_of([1, 200])))])  # fmt: skip
        reply = Reply.of(asked, dice.whole(0, 2**62), sent, elapsed=dice.one_of([0.0, 0.25, 7.0]))
        answer.tell(reply.run, list(reply.objects), list(reply.objects.values()), reply.tree, reply.slim)
        uploads = list[ReplyUpload]()
        upload = ReplyUpload(reply, uploads.append)
        upload.go_on()
        answer.tell(upload.wait(), upload.over, upload.begun, upload.missing, upload.tried, uploads[0] is upload)
        answer.tell(upload.next, upload.session)


def _value(dice: Dice) -> bytes:
    """A value of a record, of any kind, or of several."""
    parts = [
        double(1, dice.one_of([1.5, -0.25, 0.0])), uint(2, dice.whole(0, 9)), uint(3, dice.whole(0, 9), always=True),
        uint(4, dice.whole(0, 2), always=True), text(5, dice.one_of(["name", ""])),
        blob(6, dice.bytes(dice.whole(0, 3)), always=True),
        uint(7, 1), uint(2, 2**40 + dice.whole(0, 1)), blob(21, uint(1, 7)),
    ]  # fmt: skip
    return dice.one_of([dice.one_of(parts), dice.one_of(parts), dice.one_of(parts) + dice.one_of(parts)])


def _told_record(record: Record | None) -> object:
    """A record, with the kind of each value."""
    return None if record is None else [(name, type(value).__name__, repr(value)) for name, value in record.items()]


def _told_message(asked: ServerMessage) -> list[object]:
    """Every field of a message."""
    exact = [each.hex() for each in (asked.created, asked.ttl, asked.pulled)]
    who = [asked.kind, asked.run, asked.message, asked.source, asked.group, asked.tasks, asked.content]
    return [*who, *exact, _told_record(asked.record)]


def _syncs(dice: Dice, answer: CaseAnswer) -> None:
    """A device online, twice, with a server that fails now and then, and a user who may change their mind."""
    clock = MadeClock(1000.0)
    with made_folder(answer) as home, ExitStack() as stack:
        folder = home / "app"
        lay_down(folder, dice.one_of([0, 0, 0, 0, None]))
        server = InstantServer(dice, clock, ours=dice.chance(0.6))
        stack.enter_context(clock.running())
        stack.enter_context(server.listening())
        began, enrolled_with = dice.one_of([
            *[("", key_of(1).public)] * 12, ("", "ab" * 32), ("ab" * 32, "ab" * 32), ("ab" * 32, key_of(1).public),
            ("ab" * 32, "cd" * 32),
        ])  # fmt: skip
        service = Service(
            public_key=key_of(1).public, population=POPULATION, participations=dice.one_of([1000] * 7 + [1, 2, 0]),
            most_bytes=dice.one_of([2**28] * 12 + [1000]), first_key=began, epsilon=50.0,
            floors=Floors(allow_central=True).for_few(),
        )  # fmt: skip
        known = None if dice.chance(0.05) else service
        device = stack.enter_context(made_device(folder, known, lambda: NOW + clock.now))
        if dice.chance(0.95):
            keep(device.store, _enrolled(dice, enrolled_with))
        operator = PlanOperator()
        for number in range(2):
            if dice.chance(0.08):
                device.consent.revoke(dice.one_of(["train", "analytics"]))
            _stock(dice, server, operator, number)
            _sync(dice, answer, device, server, clock)
            clock.wait(dice.one_of([10.0, 86400.0]))
        answer.tell(server.asked, server.answers)
        with Journal(device.store.file) as journal, journal._database.transaction() as connection:
            rows = connection.execute("SELECT what, length(reason) > 0 FROM refusals ORDER BY seq").fetchall()
            answer.tell(rows, rows_of(connection, "sent"))
            models = connection.execute("SELECT version, time FROM models ORDER BY seq").fetchall()
            answer.tell(repr(models), connection.execute("SELECT name FROM secrets ORDER BY name").fetchall())
            met = connection.execute(
                "SELECT time, ended, rounds, refused, reason FROM contacts ORDER BY seq"
            ).fetchall()
            answer.tell([(time.hex(), *rest, NAMED.findall(reason)) for time, *rest, reason in met])
        at = enrolment_of(device.store)
        answer.tell(at and [at.node, at.device, at.path], [clock.now.hex(), len(clock.waits)])


def _enrolled(dice: Dice, key: str) -> Enrolment:
    """Where a device is enrolled."""
    return Enrolment(
        "server.example", 443, CERTIFICATE, key, dice.one_of([POPULATION] * 24 + ["viewers"]),
        dice.one_of([0, 0, 3]), node_key(12345).to_pem().decode(), dice.one_of([0, 5, 77]),
        dice.one_of(["", "", "/p/shelf"]),
    )  # fmt: skip


def _stock(dice: Dice, server: InstantServer, operator: PlanOperator, number: int) -> None:
    """What a server has for a device."""
    files: dict[str, bytes | int] = {}
    if dice.chance(0.4):
        operator.add(kind="lost")
        made = operator.published(dice.one_of([1, 2]))
        name = digest(made[published.MANIFEST])
        files |= {f"/models/{name}/{file}": data for file, data in made.items() if dice.chance(0.97)}
        files["/models/latest"] = newest(name)
    wrong: list[bytes | int] = [
        b"{}", b"[]", b"\xff", 500, newest("AB" * 32), newest("ab" * 32), b'{"manifest": 7}',
    ]  # fmt: skip
    latest: list[dict[str, bytes | int]] = [*[{}] * 40, *({"/models/latest": each} for each in wrong)]
    files |= dice.one_of(latest)
    own = model_of("popularity"), model_of("survey")
    for each in own:
        found: list[bytes | int] = [*[each.data] * 9, b"x", 404]
        files[f"/round/{each.hash}"] = dice.one_of(found)
    messages: list[tuple[str, dict[str, Any]]] = []
    for place in range(dice.whole(0, 3)):
        kind = dice.one_of(["popularity", "popularity", "survey"])
        plan = operator.signed(plan_of(kind, round=number, attempt=place, sigma=2**20))
        train: dict[str, Any] = dice.one_of([{"plan": plan}] * 6 + [{"plan": b"x"}])
        train |= {"seconds": dice.one_of([0.25, 20.0, 20.0, 1e9, -1.0, float("nan"), b"1"])}
        messages.append(("train", train))
        messages += dice.one_of([[], [], [("query", {"x": b""})], [("train.masked", {"request": b"x"})],
                                 [messages[-1]], [("train.masked", train)], [("evaluate", {"x": b"1"})]])  # fmt: skip
    seconds = dice.one_of([600.0, 0.0, 1e9, -1.0, float("nan"), b"1"])
    messages += dice.one_of([[], [("query", {"come_back": seconds})]])
    server.files, server.messages = files, list(messages)


def _sync(dice: Dice, answer: CaseAnswer, device: Device, server: InstantServer, clock: MadeClock) -> None:
    """One sync, in whose course something may happen."""
    at, ended = len(server.asked) + dice.whole(0, 24), list[int]()
    server.fails = {}
    if dice.chance(0.5):
        first, failure = len(server.asked) + dice.whole(1, 14), dice.one_of(FAILURES)
        server.fails = dict.fromkeys(range(first, first + dice.one_of([1, 1, 1, 2, 30])), failure)
    event = dice.whole(0, 5)

    def happens(number: int) -> None:
        if number == at and event < 2:
            device.consent.revoke("train")
            if event == 1:
                device.consent.revoke("analytics")
        if number == at and event == 2:
            clock.wait(200.0)
        ended[:] = [event] if number >= at else []

    server.happens, before = happens, server.model_bytes
    policy = Policy(charging=lambda: ended != [3], unmetered=lambda: ended != [4])
    invitation = dice.one_of([None, None, _invitation(dice, {}), _invitation(dice, {}).to_json()])
    only = dice.chance(0.25)
    options = SyncOptions(
        seconds=dice.one_of([3.0, 30.0, 90.0, 240.0, 240.0]), policy=dice.one_of([policy] * 9 + [None, _policy(dice)]),
        poll_seconds=dice.one_of([0.5, 5.0, 5.0]), models_only=only, invitation=invitation if only else None,
    )  # fmt: skip
    found = answer.tried(device.online.sync, options, stop=dice.one_of([None, lambda: ended == [5]]))
    if isinstance(found, SyncResult):
        counts = [found.model, found.rounds, found.dropped, found.refused, found.requests, found.exchanges, found.sent]
        answer.tell(found.ended, NAMED.findall(found.reason), bool(found.reason), *counts)
        answer.tell(str(found.next), found.seconds.hex(), before != server.model_bytes or found.received)


def _options(dice: Dice, answer: CaseAnswer) -> None:
    """Options of a sync, right and wrong."""
    for _ in range(6):
        seconds = [1, 0.5, 0, -1.0, True, "1", float("inf"), float("nan"), None, 1e-9]
        given = {"seconds": dice.one_of(seconds), "poll_seconds": dice.one_of([*seconds, 5, 5, 5, 5])}
        more = {"policy": None, "models_only": dice.chance(0.5), "invitation": dice.one_of([None, "x"])}
        answer.of(lambda given=given, more=more: SyncOptions(**given, **more).models_only)


def _invitation(dice: Dice, changes: dict[str, Any]) -> Invitation:
    """An invitation."""
    fields: dict[str, Any] = {
        "server": "server.example", "port": 443, "ca": CERTIFICATE, "public_key": key_of(1).public,
        "population": POPULATION, "token": dice.one_of(["t" * 43, "u" * 43]), **changes,
    }  # fmt: skip
    fields["version"] = 2 if fields.keys() & {"witnesses", "former_keys", "path"} else 1
    return Invitation(**fields)


def _enrolments(dice: Dice, answer: CaseAnswer) -> None:
    """Invitations, enrolments and leaving, whatever the server answers."""
    clock, keys = MadeClock(1000.0), [node_key(12345 + number) for number in range(3)]
    with made_folder(answer) as home, ExitStack() as stack:
        folder = home / "app"
        lay_down(folder, None)
        server = InstantServer(dice, clock)
        stack.enter_context(clock.running())
        stack.enter_context(server.listening())
        stack.enter_context(mock.patch.object(enrolling, "new_node_key", side_effect=keys))
        pins = dice.one_of([{}] * 4 + [PINS[1], PINS[2], {"first_key": "ab" * 32}])
        service = Service(public_key=key_of(1).public, population=POPULATION, **pins)
        device = stack.enter_context(made_device(folder, dice.one_of([service] * 9 + [None]), lambda: NOW))
        if dice.chance(0.2):
            device.consent.revoke("train")
            if dice.chance(0.5):
                device.consent.revoke("analytics")
        for _ in range(4):
            server.enrolled = _answered(dice)
            server.fails = {len(server.asked) + 1: dice.one_of(FAILURES)} if dice.chance(0.2) else {}
            if dice.chance(0.55):
                changes = dice.one_of([{}, {}, {}, *_INVITED])
                invited = dice.one_of(
                    [_invitation(dice, changes), _invitation(dice, changes).to_json(), "x"][: dice.whole(2, 3)]
                )
                answer.of(device.online.enroll, invited)
            else:
                answer.of(device.online.leave, seconds=9.0)
            answer.tell(device.online.enrolment, asked_to_delete(device.store))
        answer.tell(enrolment_of(device.store, left=True), asked_to_delete(device.store), server.asked)


_INVITED: Sequence[dict[str, Any]] = (
    {"public_key": "ab" * 32}, {"public_key": key_of(2).public, "former_keys": [key_of(1).public]},
    {"public_key": key_of(2).public, "former_keys": ["cd" * 32]}, {"population": "viewers"}, {"path": "/p/shelf"},
    {"witnesses": list(PINS[1]["witnesses"]), "quorum": 1}, {"witnesses": list(PINS[1]["witnesses"]), "quorum": 2},
    {"witnesses": list(PINS[2]["next_witnesses"]), "quorum": 1}, {"population": POPULATION, "port": 1},
)  # fmt: skip


def _answered(dice: Dice) -> bytes | int:
    """What a server may answer who enrols or leaves."""
    device, population = dice.one_of([0, 3]), dice.one_of([POPULATION] * 4 + ["viewers"])
    enrolled = Enrolled(device=device, population=population, node=dice.one_of([0, 77])).to_bytes()
    left = LeaveAnswer(device=device, population=population).to_bytes()
    refused = (400, 403, 404, 408, 429, 499, 500, 503, 201)
    options: list[bytes | int] = [*[enrolled] * 9, *[left] * 6, *refused, b"{}", b"x"]
    return dice.one_of(options)


SEAMS = (
    Seam("deadlines: pauses, retries and why a sync ends", _deadlines, 42),
    Seam("policies of an app", _policies, 12),
    Seam("Flower's messages, as they are read and answered", _messages, 36),
    Seam("syncs: requests that fail in turn, decisions and events in their course", _syncs, 12),
    Seam("options of a sync", _options, 12),
    Seam("enrolments: invitations, answers of a server, and leaving", _enrolments, 12),
)
