"""A compromised edge may send whatever Flower carries: the coordinator goes on, and hears the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import pytest
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.task_identity import TaskIdentity

from palate_core.errors import IntegrityError
from palate_server.flower.edge_link import (
    FRAMING,
    MOST_OBJECTS,
    NONCE_BYTES,
    RECORD_BYTES,
    FlowerLink,
    authenticated,
    batch_of,
    bounded,
    records_of,
)

KEYS = {"north": b"n" * 32, "south": b"s" * 32}


class Nodes:
    """A grid of two nodes, each of an edge that answers at once."""

    def __init__(self, answers: dict[int, Callable[[Message, str], Message]]) -> None:
        self._answers, self._asked = answers, dict[str, Message]()

    def get_node_ids(self) -> Iterable[int]:
        return self._answers

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (message,) = messages
        name = f"question {len(self._asked)}"
        message.metadata.__dict__["_message_id"] = name
        self._asked[name] = message
        return [name]

    def pull_messages(self, names: Iterable[str]) -> list[Message]:
        found = [(name, self._asked.pop(name)) for name in list(names) if name in self._asked]
        return [self._answers[message.metadata.dst_node_id](message, name) for name, message in found]


@pytest.fixture(autouse=True)
def made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are made in the name of a task."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def says(name: str) -> Callable[[Message, str], Message]:
    def answer(message: Message, asked: str) -> Message:
        nonce = batch_of(message)[:NONCE_BYTES]
        return Message(records_of(authenticated(name, KEYS[name], nonce, b"batch")), reply_to=message)

    return answer


def another(message: Message, asked: str) -> Message:
    reply = says("south")(message, asked)
    reply.metadata.__dict__["_reply_to_message_id"] = "nobody's question"
    return reply


def broken(message: Message, asked: str) -> Message:
    raise KeyError("an object that isn't there")


def empty(message: Message, asked: str) -> Message:
    return Message(RecordDict(), reply_to=message)


def link(odd: Callable[[Message, str], Message]) -> FlowerLink:
    return FlowerLink(cast(Grid, cast(Any, Nodes({1: odd, 2: says("north")}))), KEYS.get)


@pytest.mark.parametrize(
    ("odd", "heard"), [(says("south"), b"batch"), (another, b"batch"), (broken, None), (empty, None)]
)
def test_whatever_one_node_sends_each_question_has_its_reply_and_the_other_is_heard(
    odd: Callable[[Message, str], Message], heard: bytes | None
) -> None:
    asking = link(odd)
    first, second = (asking.send(node, b"?", seconds=1.0, most=100) for node in ("1", "2"))
    found = dict(asking.replies([first, second], seconds=0.0))
    assert found == {first: heard, second: b"batch"}


def test_an_edge_whose_grant_is_ended_is_no_edge_any_more_while_its_node_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asking = link(says("south"))
    names = [asking.send(node, b"?", seconds=1.0, most=100) for node in ("1", "2")]
    assert len(list(asking.replies(names, seconds=0.0))) == 2
    assert dict(asking.edges()) == {"1": "south", "2": "north"}
    monkeypatch.delitem(KEYS, "south")
    assert dict(asking.edges()) == {"1": "", "2": "north"}


def test_of_a_reply_no_more_is_pulled_than_its_question_allows() -> None:
    """By Flower's own function; a node may say that a reply has objects without end, each as large as it likes."""
    pulled = list[str]()

    def pull(name: str) -> bytes:
        pulled.append(name)
        return bytes(FRAMING // 2)

    pulling, asking = bounded(partial(pull_objects, max_time=1.0)), link(says("south"))

    def ask(most: int, objects: int) -> dict[str, bytes]:
        asked = asking.send("1", b"?", seconds=1.0, most=most)
        list(asking.replies([asked], seconds=0.0))
        return pulling(object_ids=[str(number) for number in range(objects)], pull_object_fn=pull)

    assert len(ask(100, 2)) == 2
    with pytest.raises(IntegrityError, match="must have at most"):
        ask(100, 3)
    pulled.clear()
    with pytest.raises(IntegrityError, match="must have few objects"):
        ask(100, MOST_OBJECTS + 1)
    assert pulled == []
    assert len(ask(RECORD_BYTES, MOST_OBJECTS + 1)) == MOST_OBJECTS + 1
