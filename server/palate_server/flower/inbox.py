"""Inbox: sends an exchange's messages to the SuperLink, and fetches the replies, each as soon as it is complete.

    messages -> push, many in a request -> SuperLink -> collect, a request that waits for replies -> Message

A reply is announced before its objects are sent. Flower's own grid then waits for them, for three minutes at least, and
keeps every other reply back; and an object that can't be read ends its ServerApp. Here no single device can delay an
exchange: a reply that is incomplete at its end is ignored, and an unreadable one becomes an empty reply of its node.

The sender of a reply is the node that the SuperLink has verified: its key has signed the request, see
`palate_server.flower.superlink`, and the message was for it. The same fields within the reply are not trusted. Flower
parses only objects of the shape of Palate's, one number or one byte string: a record of millions of values would take
many times its size in memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flwr.app import Message, RecordDict
from flwr.app.message import make_message
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import Metadata
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from palate_common.records.protobuf import last_bytes, read
from palate_core.errors import IntegrityError
from palate_server.flower.link import MOST_OBJECTS, Link

MOST_SMALL = 2**12
"""The most bytes of a message object, and of the name of a record."""
_HEAD = 2**8
_NUMBER, _BYTES = 2, 6
BATCH: Final = 128
"""The most messages of one request, so that a SuperLink answers others meanwhile."""
BATCH_BYTES: Final = 2**21
"""The bytes of messages after which a request has no further one."""


FLYING_BYTES: Final = 2**28
"""The bytes of messages under way above which none is sent: a SuperLink has them in memory."""
STALL_SECONDS: Final = 2.0
"""Seconds without a reply after which more are sent: who is silent holds nobody up."""


class Inbox:
    """The messages of an exchange, and the replies to them.

    Args:
        link: the SuperLink.
        messages: what is sent, made when it is sent.
    """

    def __init__(self, link: Link, messages: Iterable[Message]) -> None:
        self._link, self._name = link, uuid.uuid4().hex
        self._messages = iter(messages)
        self._flying: dict[str, int] = {}
        self._more, self._left = True, 0
        self._send()

    @property
    def done(self) -> bool:
        """Whether no reply may come any more."""
        return not self._more and not self._left

    def look(self, seconds: float) -> list[Message]:
        """The replies that are complete and were not returned before; it waits for one.

        If there are more messages than may be under way, they are sent as replies come, or when none comes for a while.

        Raises:
            ForgottenError: the SuperLink was started again.
        """
        waits = min(seconds, STALL_SECONDS) if self._more else seconds
        replies, self._left = self._link.collect(self._name, seconds=waits)
        found = [_message(metadata, contents) for metadata, contents in replies]
        for reply in found:
            self._flying.pop(reply.metadata.reply_to_message_id, None)
        if not found:
            self._flying.clear()
        if self._more:
            self._send()
        return found

    def _send(self) -> None:
        """Send messages, in requests of bounded size, while few bytes are under way."""
        batch, sizes, room = list[Message](), list[int](), FLYING_BYTES - sum(self._flying.values())
        while room > 0:
            if (message := next(self._messages, None)) is None:
                self._more = False
                break
            batch.append(message)
            sizes.append(_size(message))
            room -= sizes[-1]
            if len(batch) >= BATCH or sum(sizes) >= BATCH_BYTES:
                self._push(batch, sizes)
                batch, sizes = [], []
        if batch:
            self._push(batch, sizes)

    def _push(self, batch: list[Message], sizes: list[int]) -> None:
        names = self._link.push(self._name, batch)
        self._left += sum(bool(name) for name in names)
        self._flying |= dict(zip(names, sizes, strict=True))


def _size(message: Message) -> int:
    """About how many bytes a message has."""
    records: Mapping[str, Any] = message.content.config_records
    return sum(len(value) for record in records.values() for value in record.values() if isinstance(value, bytes))


def has_reply_shape(objects: Iterable[bytes]) -> bool:
    """Whether objects have the shape of a reply of Palate's, so that parsing them takes little memory."""
    return all(_ours(each) for each in objects)


def _ours(data: bytes) -> bool:
    """Whether this is a small object, or a record of one number or one byte string."""
    head, ends, _ = data[:_HEAD].partition(b"\0")
    kind = head.partition(b" ")[0]
    if not ends or kind not in (b"Message", b"RecordDict", b"ConfigRecord"):
        return False
    if kind != b"ConfigRecord":
        return len(data) <= MOST_SMALL
    try:
        item = last_bytes(read(memoryview(data)[len(head) + 1 :], most=1), 1)
        value = read(last_bytes(read(item, most=2), 2), most=1)
    except IntegrityError:
        return False
    return set(value) <= {_NUMBER, _BYTES}


def _message(checked: Metadata, contents: dict[str, bytes]) -> Message:
    """Make a reply of its objects; an empty one if they can't be read."""
    metadata = metadata_from_proto(checked)
    readable = 0 < len(contents) <= MOST_OBJECTS and has_reply_shape(contents.values())
    try:
        inside = inflate_object_from_contents(checked.message_id, contents) if readable else None
    except Exception:  # the bytes come from a device, and Flower's parser may raise anything
        inside = None
    if not isinstance(inside, Message):
        return make_message(metadata, content=RecordDict())
    if inside.has_error():
        return make_message(metadata, error=inside.error)
    return make_message(metadata, content=inside.content)
