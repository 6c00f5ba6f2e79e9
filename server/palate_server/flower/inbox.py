"""Inbox: fetches the replies to an exchange's messages from the SuperLink, each as soon as it is complete.

    PullMessages -> a reply's metadata and the names of its objects -> PullObject, at each poll -> Message

A reply is announced before its objects are sent. Flower's own grid then waits for them, for three minutes at least, and
keeps every other reply back; and an object that can't be read ends its ServerApp. Here no single device can delay an
exchange: a reply that is incomplete at its end is ignored, and an unreadable one becomes an empty reply of its node.

The sender of a reply is the node that the SuperLink has verified: its key has signed the request, see
`palate_server.flower.superlink`, and the message was for it. The same fields within the reply are not trusted. Flower
parses only objects of the shape of Palate's, one number or one byte string: a record of millions of values would take
many times its size in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.app.message import make_message
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, Metadata, ObjectTree, PullObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid.http_grid import HttpGrid

from palate_common.errors import IntegrityError
from palate_common.records.protobuf import last_bytes, read

MOST_OBJECTS = 3
"""The most objects of a reply of Palate's: the message, the name of its one record, and the record."""
MOST_SMALL = 2**12
"""The most bytes of a message object, and of the name of a record."""
_HEAD = 2**8
_NUMBER, _BYTES = 2, 6


@dataclass
class _Announced:
    """A reply whose objects are being fetched."""

    metadata: Metadata
    missing: list[str]
    contents: dict[str, bytes] = field(default_factory=dict)


class Inbox:
    """The replies to some messages.

    Args:
        grid: Flower's grid, whose connection is used.
        sent: the ids of the messages.
    """

    def __init__(self, grid: HttpGrid, sent: Iterable[str]) -> None:
        self._grid = grid
        self._client, self._run = grid._runtime_client, grid.run.run_id
        self._unanswered = set(sent)
        self._announced: list[_Announced] = []

    @property
    def done(self) -> bool:
        """Whether every message has its reply."""
        return not self._unanswered and not self._announced

    def look(self) -> list[Message]:
        """Poll the SuperLink; returns the replies that are complete since the last poll."""
        self._ask()
        found = [(each, reply) for each in self._announced if (reply := self._fetched(each)) is not None]
        whole = {id(each) for each, _ in found}
        self._announced = [each for each in self._announced if id(each) not in whole]
        return [reply for _, reply in found]

    def _ask(self) -> None:
        """Ask for new replies. The SuperLink names each of them only once."""
        if not self._unanswered:
            return
        reply = self._client.PullMessages(PullAppMessagesRequest(message_ids=self._unanswered))
        for message, tree in zip(reply.messages_list, reply.message_object_trees, strict=True):
            self._unanswered.discard(message.metadata.reply_to_message_id)
            self._announced.append(_Announced(message.metadata, _names(tree)))

    def _fetched(self, announced: _Announced) -> Message | None:
        """Fetch the missing objects of a reply; returns it if it is complete."""
        name = announced.metadata.message_id
        readable = 0 < len(announced.missing) + len(announced.contents) <= MOST_OBJECTS
        while readable and announced.missing:
            request = PullObjectRequest(node=self._grid.node, run_id=self._run, object_id=announced.missing[0])
            got = self._client.PullObject(request)
            if got.object_found and not got.object_available:
                return None
            readable = got.object_found
            announced.contents[announced.missing.pop(0)] = got.object_content
        self._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self._grid.node, run_id=self._run, message_object_id=name)
        )
        return _message(announced.metadata, announced.contents if readable else {})


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


def _names(tree: ObjectTree) -> list[str]:
    """The distinct names of a tree's objects."""
    return list(dict.fromkeys(part.object_id for part in iterate_object_tree(tree)))


def _message(checked: Metadata, contents: dict[str, bytes]) -> Message:
    """Make a reply of its objects; an empty one if they can't be read."""
    metadata = metadata_from_proto(checked)
    try:
        inside = (
            inflate_object_from_contents(checked.message_id, contents) if has_reply_shape(contents.values()) else None
        )
    except Exception:  # the bytes come from a device, and Flower's parser may raise anything
        inside = None
    if not isinstance(inside, Message):
        return make_message(metadata, content=RecordDict())
    if inside.has_error():
        return make_message(metadata, error=inside.error)
    return make_message(metadata, content=inside.content)
