"""LocalGrid: a Flower grid without a transport."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from palate_sim.engines.grid import LocalGrid


def echoing(seen: list[Any]) -> ClientApp:
    """A ClientApp that keeps what it gets."""
    client = ClientApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        seen.append((message, context))
        if context.node_config["partition-id"] == 1:
            raise ValueError("user 17 watched the film")
        return Message(message.content, reply_to=message)

    return client


def asked(grid: LocalGrid, content: RecordDict) -> list[Message]:
    messages = [Message(content, node, "train", ttl=60.0, group_id="1") for node in grid.get_node_ids()]
    return list(grid.send_and_receive(messages))


def test_each_node_gets_records_of_its_own() -> None:
    seen: list[Any] = []
    grid = LocalGrid(echoing(seen), nodes=3)
    content = RecordDict({"a": ConfigRecord({"x": b"1"}), "b": ArrayRecord({"y": Array("int64", (), "numpy", b"")})})
    asked(grid, content)
    delivered = [message.content for message, _ in seen]
    assert delivered == [content] * 3
    records = [id(record) for each in (content, *delivered) for record in each.values()]
    assert len(set(records)) == len(records)


def test_replies_name_their_node_and_what_they_answer() -> None:
    grid = LocalGrid(echoing([]), nodes=3)
    first, second, third = asked(grid, RecordDict())
    assert [reply.metadata.src_node_id for reply in (first, second, third)] == [1, 2, 3]
    assert len({reply.metadata.message_id for reply in (first, second, third)}) == 3
    assert first.metadata.reply_to_message_id != third.metadata.reply_to_message_id
    assert (first.metadata.group_id, first.metadata.message_type) == ("1", "train")


def test_a_client_that_raises_becomes_an_error_without_its_words() -> None:
    _, failed, _ = asked(LocalGrid(echoing([]), nodes=3), RecordDict())
    assert failed.has_error()
    assert failed.error.reason is None


def test_an_unknown_node_is_unavailable() -> None:
    grid = LocalGrid(echoing([]), nodes=1)
    (reply,) = grid.send_and_receive([Message(RecordDict(), 9, "train")])
    assert reply.has_error()


def test_a_message_is_delivered_once() -> None:
    seen: list[Any] = []
    grid = LocalGrid(echoing(seen), nodes=1)
    ids = list(grid.push_messages([grid.create_message(RecordDict(), "train", 1, "g")]))
    assert seen == []
    assert len(list(grid.pull_messages(ids))) == 1
    assert len(list(grid.pull_messages([*ids, "message-77"]))) == 0
    assert len(seen) == 1


def test_a_node_keeps_its_context() -> None:
    seen: list[Any] = []
    grid = LocalGrid(echoing(seen), nodes=1, run_config={"key": "value"})
    asked(grid, RecordDict())
    asked(grid, RecordDict())
    (_, first), (_, second) = seen
    assert first is second
    assert (first.run_config, first.node_config) == ({"key": "value"}, {"partition-id": 0, "num-partitions": 1})


def test_several_grids_live_side_by_side() -> None:
    one, two = LocalGrid(echoing([]), nodes=1), LocalGrid(echoing([]), nodes=1)
    for grid in (one, two, one):
        assert len(asked(grid, RecordDict())) == 1
    assert one.run.run_id == two.run.run_id
    one.set_run(two.run)
    with pytest.raises(ValueError, match="Invalid message type"):
        one.create_message(RecordDict(), "gossip", 1, "g")
