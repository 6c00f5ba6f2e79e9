"""How an exchange's messages are sent and deleted, and what of a device's reply is given to Flower to read."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, patch

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.superlink.grid.http_grid import HttpGrid

from palate_common.records.protobuf import blob
from palate_core.errors import PalateError
from palate_server.flower import inbox
from palate_server.flower.inbox import MOST_SMALL, Inbox, has_reply_shape
from palate_server.flower.link import Link
from palate_server.flower.spread_grid import Connection
from palate_sim.engines.grid import identify


def record(body: bytes) -> bytes:
    return f"ConfigRecord  {len(body)}".encode() + b"\0" + body


@pytest.mark.parametrize("value", [b"", b"x" * 2**17, 0, 7, -3])
def test_answers_of_ours_are_read(value: Any) -> None:
    own = ConfigRecord({"answer": value})
    assert has_reply_shape([own.deflate(), RecordDict({"palate": own}).deflate(), b"Message  2\0ab"])


@pytest.mark.parametrize(
    "other",
    [
        ConfigRecord({"a": 1, "b": 2}).deflate(),
        ConfigRecord({"a": [1, 2]}).deflate(),
        ConfigRecord({"a": "text"}).deflate(),
        record(blob(1, b"", always=True) * 1000),
        record(blob(1, blob(1, b"a") + blob(2, b"\x10\x02" * 1000))),
        record(b"\xff" * 100),
        ArrayRecord().deflate(),
        b"RecordDict  1\0" + b" " * MOST_SMALL,
        b"Message  1\0" + b" " * MOST_SMALL,
        b" " * 1000 + b"\0",
        b"",
    ],
)
def test_a_reply_of_another_shape_is_not_given_to_flower(other: bytes) -> None:
    assert not has_reply_shape([ConfigRecord({"answer": b"x"}).deflate(), other])


def to(node: int, size: int) -> Message:
    return Message(RecordDict({"palate": ConfigRecord({"x": bytes(size)})}), node, "train")


class Carrier:
    """A SuperLink that is told which nodes answer next."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.asked: dict[int, Message] = {}
        self.answering: list[int] = []

    def push(self, name: str, messages: list[Message]) -> list[str]:
        self.batches.append([message.metadata.dst_node_id for message in messages])
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(message.metadata.dst_node_id)
        self.asked |= {message.metadata.dst_node_id: message for message in messages}
        return [message.metadata.message_id for message in messages]

    def collect(self, name: str, *, seconds: float) -> tuple[list[Any], int]:
        replies = [Message(RecordDict(), reply_to=self.asked.pop(node)) for node in self.answering]
        self.answering = []
        return [(message_to_proto(reply).metadata, {}) for reply in replies], len(self.asked)


def test_messages_are_sent_in_bounded_requests_and_few_bytes_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others follow as answers come."""
    identify()
    monkeypatch.setattr(inbox, "BATCH", 2)
    monkeypatch.setattr(inbox, "BATCH_BYTES", 250)
    monkeypatch.setattr(inbox, "FLYING_BYTES", 400)
    carrier: Any = Carrier()
    sizes = (10, 10, 10, 300, 100, 100, 100)
    messages = (to(node, size) for node, size in enumerate(sizes))
    box = Inbox(carrier, messages)
    assert carrier.batches == [[0, 1], [2, 3], [4]]
    carrier.answering = [0, 1]
    assert len(box.look(5.0)) == 2
    assert carrier.batches[3:] == []
    carrier.answering = [3]
    assert [reply.metadata.reply_to_message_id for reply in box.look(5.0)] == ["3"]
    assert carrier.batches[3:] == [[5, 6]]
    assert not box.done
    carrier.answering = [2, 4, 5, 6]
    box.look(5.0)
    assert box.done


def test_who_is_silent_keeps_no_message_back(monkeypatch: pytest.MonkeyPatch) -> None:
    identify()
    monkeypatch.setattr(inbox, "FLYING_BYTES", 1)
    carrier: Any = Carrier()
    box = Inbox(carrier, (to(node, 2) for node in (1, 2)))
    assert carrier.batches == [[1]]
    for _ in range(3):
        assert box.look(0.0) == []
    assert carrier.batches == [[1], [2]]


def test_messages_that_a_superlink_should_have_deleted_are_deleted_before_anything_else_is_asked_of_it() -> None:
    answers, asked = [False, False, True], list[bool]()

    def purge(link: Link, *, seconds: float = 0.0) -> None:
        asked.append(answers[len(asked)])
        if not asked[-1]:
            raise PalateError("it doesn't answer")

    with patch.object(Link, "purge", purge):
        connection = Connection(0, lambda retry: Mock(spec=HttpGrid))
        connection.purge()
        with pytest.raises(PalateError, match="doesn't answer"):
            connection.prompt()
        connection.prompt()
        connection.prompt()
    assert asked == answers, "until it has answered, and not again"
