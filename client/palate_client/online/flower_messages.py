"""Flower messages: encodes Flower's messages as bytes and decodes them.

    ConfigRecord (values)  <-  RecordDict (its name and SHA-256)  <-  Message (metadata)

A message is three objects, each named by the SHA-256 of its bytes. Since Palate's messages have one record under one
name, the middle one follows from the first: a device downloads one object where Flower's own node downloads three.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from palate_client.rounds.dispatch import RECORD, Answer
from palate_common.records.protobuf import (
    Fields,
    all_bytes,
    as_double,
    as_signed,
    blob,
    double,
    last_bytes,
    last_text,
    last_uint,
    read,
    text,
    uint,
    zigzag,
)
from palate_core.log.canonical import digest

Record = Mapping[str, bool | int | float | str | bytes]
MOST_VALUES = 16
"""The most values of a record that is read; Palate's have up to three."""
_HEAD = 64


@dataclass(frozen=True)
class Notice:
    """A message that waits for this node.

    Attributes:
        metadata: fields of Flower's Metadata.
        tree: the bytes of Flower's ObjectTree, which names the message's objects.
        record: the object of its one record, if the server has sent it with the message.
    """

    metadata: Fields
    tree: bytes | memoryview
    record: bytes | memoryview = b""


@dataclass(frozen=True)
class ServerMessage:
    """A message from the server to this node.

    Attributes:
        kind: its message type, see `palate_client.rounds.dispatch`.
        record: its one record; None if it has none, or isn't one of Palate's messages.
        run: Flower's number of the run.
        message: its id.
        source: Flower's number of the sender.
        group: a name that the answer repeats.
        created: when it was made, by the server's clock.
        ttl: seconds after `created` in which it may be answered.
        tasks: Flower's numbers of the sender's and the receiver's task; None if it has none.
        pulled: when it arrived, on the monotonic clock.
        content: the SHA-256 of its record; empty without one.
    """

    kind: str
    record: Record | None
    run: int
    message: str
    source: int
    group: str
    created: float
    ttl: float
    tasks: tuple[int | None, ...]
    pulled: float
    content: str = ""

    @classmethod
    def of(cls, metadata: Fields, record: Record | None, *, content: str = "") -> ServerMessage:
        """Make it from metadata, record and the record's SHA-256; it arrived now."""
        return cls(
            kind=last_text(metadata, 8),
            record=record,
            run=last_uint(metadata, 1),
            message=last_text(metadata, 2),
            source=last_uint(metadata, 3),
            group=last_text(metadata, 6),
            created=as_double(metadata.get(9, [0])[-1]),
            ttl=as_double(metadata.get(7, [0])[-1]),
            tasks=tuple(last_uint(metadata, number) if number in metadata else None for number in (10, 11)),
            pulled=time.monotonic(),
            content=content,
        )


@dataclass(frozen=True)
class Reply:
    """An answer in the form in which it is sent.

    Attributes:
        run: Flower's number of the run.
        objects: SHA-256 -> the bytes of each object.
        tree: which object contains which.
        slim: the message without its content.
    """

    run: int
    objects: Mapping[str, bytes]
    tree: bytes
    slim: bytes

    @classmethod
    def of(cls, asked: ServerMessage, node: int, answer: Answer | None, *, elapsed: float) -> Reply:
        """Encode an answer. Its times are the server's plus what has passed since, to hide the device's clock."""
        record = b"" if answer is None else _config_record(answer)
        content = record_dict(digest(record)) if record else _object("RecordDict", (), b"{}")
        metadata = (
            uint(3, node),
            uint(4, asked.source),
            text(5, asked.message),
            text(6, asked.group),
            double(7, asked.ttl - elapsed),
            text(8, asked.kind),
            double(9, asked.created + elapsed),
            *(
                uint(10 + place, task, always=True)
                for place, task in enumerate(reversed(asked.tasks))
                if task is not None
            ),
        )
        unnamed = blob(1, b"".join((uint(1, asked.run), *metadata)))
        message = _object("Message", (digest(content),), unnamed)
        named = blob(1, b"".join((uint(1, asked.run), text(2, digest(message)), *metadata)))
        parts = {digest(part): part for part in (record, content, message) if part}
        leaf = blob(2, text(1, digest(record))) if record else b""
        tree = text(1, digest(message)) + blob(2, text(1, digest(content)) + leaf)
        return cls(asked.run, parts, tree, named + blob(2, b"", always=True))


@dataclass
class ReplyUpload:
    """An answer that is being sent to the server.

    Attributes:
        reply: the encoded answer.
        send: sends what is missing; called until it succeeds.
        wait: returns the seconds for which the server may hold its reply until there is a next message.
        over: returns whether to wait no longer; None: never.
        next: the next message, if the server has replied with one.
        begun: whether sending the message was tried before.
        session: the server's name of this upload.
        missing: objects that the server still wants; None: not known yet.
        tried: objects whose sending was tried before.
    """

    reply: Reply
    send: Callable[[ReplyUpload], None]
    wait: Callable[[], float] = field(default=lambda: 0.0)
    over: Callable[[], bool] | None = None
    next: Notice | None = None
    begun: bool = False
    session: str = ""
    missing: list[str] | None = None
    tried: set[str] = field(default_factory=set)

    def go_on(self) -> None:
        """Send what is missing."""
        self.send(self)


def _object(kind: str, children: tuple[str, ...], body: bytes) -> bytes:
    """Encode an object: a header line and its body."""
    return f"{kind} {','.join(children)} {len(body)}".encode() + b"\0" + body


def record_dict(record: str) -> bytes:
    """Encode the object that names the one record."""
    return _object("RecordDict", (record,), json.dumps({RECORD: record}).encode())


def _config_record(answer: Answer) -> bytes:
    """Encode the one record with its one value."""
    name, value = answer
    field = blob(6, value, always=True) if isinstance(value, bytes) else uint(2, zigzag(value), always=True)
    return _object("ConfigRecord", (), blob(1, text(1, name) + blob(2, field)))


def values(data: bytes | memoryview) -> Record | None:
    """The values of a record; None for a record of another type. Lists of values don't occur and are left out.

    Raises:
        IntegrityError: it has more than `MOST_VALUES`, or is no record.
    """
    view = memoryview(data)
    head = bytes(view[:_HEAD]).partition(b"\0")[0]
    body = view[len(head) + 1 :]
    if head != f"ConfigRecord  {len(body)}".encode():
        return None
    values: dict[str, bool | int | float | str | bytes] = {}
    for item in all_bytes(read(body, most=MOST_VALUES), 1):
        fields = read(item)
        name, value = last_text(fields, 1), read(last_bytes(fields, 2))
        if 1 in value:
            values[name] = as_double(value[1][-1])
        elif 2 in value:
            values[name] = as_signed(last_uint(value, 2))
        elif 3 in value:
            values[name] = last_uint(value, 3)
        elif 4 in value:
            values[name] = bool(last_uint(value, 4))
        elif 5 in value:
            values[name] = last_text(value, 5)
        elif 6 in value:
            values[name] = bytes(last_bytes(value, 6))
    return values
