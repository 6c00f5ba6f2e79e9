"""Online: how a device waits, enrols, syncs and leaves, whatever its server answers."""

from __future__ import annotations

from functools import partial

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.stand_ins import Bell, Clock, outcome
from palate_audit.answers.still import NOW
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
from palate_common.errors import LockedError, UnreachableError
from palate_common.records.protobuf import blob, double, read, text, uint


def _deadlines(dice: Dice, answer: Answer) -> None:
    """How long a device waits for its server, tries again, and why it ends."""
    clock = Clock()
    rings = clock.now + dice.one_of([0.0, 2.0, 40.0, 1e9, 1e9])
    stop = dice.one_of([None, lambda: clock.now >= rings, Bell(clock, rings), Bell(clock, 1e9)])
    agreed, allowed = [True] * 99, dice.one_of([9, 9, dice.whole(0, 5)])
    policy = dice.one_of([Policy(), Policy(), _policy(dice)])
    with clock.running():
        outcome(answer, partial(Deadline, seconds=1.0, stop=dice.one_of([1, "x"]), policy=policy, consents=bool))  # type: ignore[arg-type]
        deadline = Deadline(
            seconds=dice.one_of([0.5, 12.0, 30.0, 500.0, 5000.0]), stop=stop, policy=policy,
            consents=lambda: agreed.pop() and len(agreed) > 99 - 9 * allowed,
        )  # fmt: skip
        answer.tell(deadline.until.hex(), deadline.end.hex(), deadline.stopped())
        for _ in range(3):
            failures = [_failure(dice, clock) for _ in range(dice.one_of([0, 1, 3, 12]))]
            try:
                found = deadline.retry(partial(_next_of, failures, clock, dice.one_of([0.0, 1.0, 30.0])))
            except Exception as error:
                found = type(error).__name__, getattr(error, "status", 0)
            answer.tell(found, len(failures), deadline.over(), int(clock.now * 1000))
            for wait in ((2.0,), (9.0, 0.5, 1.0), (0.0, 1.0, 1.0))[: dice.whole(0, 3)]:
                answer.tell(deadline.pause(wait[0], **dict(zip(("at_least", "at_most"), wait[1:], strict=False))))
            clock.wait(dice.one_of([0.0, 1.0, 9.0]))
    answer.tell([int(each * 1000) for each in clock.waits])


def _failure(dice: Dice, clock: Clock) -> Exception:
    """What a request may end with."""
    return dice.one_of([
        UnreachableError("no server at `port` 7"), UnreachableError("another"), StoppedError(), LockedError("busy"),
        *(RejectedError("it", status) for status in (401, 403, 404, 412, 412, 429, 500, 503)),
        UnreachableError("once"), UnreachableError("more"), UnreachableError("again"),
    ])  # fmt: skip


def _next_of(failures: list[Exception], clock: Clock, takes: float) -> str:
    """Fail as often as was drawn."""
    clock.wait(takes)
    if failures:
        raise failures.pop(0)
    return "done"


def _policy(dice: Dice) -> Policy:
    """Conditions, of which some don't hold, or can't be known."""

    def broken() -> bool:
        raise OSError(5, "no battery")

    hooks = [None, None, lambda: True, lambda: True, lambda: False, lambda: 0, broken]
    return Policy(**{name: dice.one_of(hooks) for name in ("charging", "unmetered", "idle", "window")})


def _policies(dice: Dice, answer: Answer) -> None:
    """Conditions of an app, asked one after the other."""
    for _ in range(12):
        answer.tell(_policy(dice).forbids())
    answer.tell(Policy().forbids())


def _messages(dice: Dice, answer: Answer) -> None:
    """Flower's messages, read and answered."""
    clock, names = Clock(), ("plan", "model", "request", "x", "come_back", "")
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
        outcome(answer, lambda: _told_record(values(dice.one_of([data, memoryview(data)]))))
        told = values(b"ConfigRecord  %d\0" % len(record) + record)
        answer.tell(_told_record(told), record_dict(dice.bytes(32).hex()))
        many = [
            blob(1, text(1, f"n{k}") + blob(2, uint(3, k))) for k in range(dice.whole(MOST_VALUES - 1, MOST_VALUES + 1))
        ]
        all_of = b"".join(many)
        outcome(answer, lambda: values(b"ConfigRecord  %d\0" % len(all_of) + all_of))
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


SEAMS = (
    Seam("deadlines: pauses, retries and why a sync ends", _deadlines, 42),
    Seam("policies of an app", _policies, 12),
    Seam("Flower's messages, as they are read and answered", _messages, 36),
)
