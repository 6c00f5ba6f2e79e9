"""Rounds over a scripted grid: who counts, what travels, and when it stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from palate_common.rounds.wire import REFUSED
from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_core.plan import read_plan
from palate_server.rounds.aggregation import ParticipationCounts
from palate_server.rounds.run import Request, run_rounds
from palate_server.rounds.shelf import ModelShelf
from palate_sim.engines.grid import identify
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.in_process import InProcess

Reply = Callable[[Message], Iterable[Message]]


class ScriptedGrid(Grid):
    """Nodes that answer by a function of the message: none, one or several replies."""

    def __init__(self, nodes: Iterable[int], reply: Reply) -> None:
        identify()
        self.nodes, self.reply = list(nodes), reply
        self.sent: list[Message] = []
        self.timeouts: list[float | None] = []

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        return None

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        sent = list(messages)
        self.sent += sent
        self.timeouts.append(timeout)
        return [reply for message in sent for reply in self.reply(message)]


def said(message: Message, value: Any) -> Message:
    """A node's reply."""
    return Message(RecordDict({"palate": ConfigRecord({"contribution": value})}), reply_to=message)


def honest(nodes: Any) -> Reply:
    """Node n + 1 is contributor n."""

    def reply(message: Message) -> list[Message]:
        record = message.content["palate"]
        return [said(message, nodes[message.metadata.dst_node_id - 1].answer(record["plan"], record["model"]))]

    return reply


def with_node(number: int, answer: Callable[[Message, list[Message]], list[Message]], otherwise: Reply) -> Reply:
    """One node answers otherwise."""

    def reply(message: Message) -> list[Message]:
        good = list(otherwise(message))
        return answer(message, good) if message.metadata.dst_node_id == number else good

    return reply


def play(coordinator: Any, grid: Grid, **options: Any) -> None:
    run_rounds(coordinator, GridTransport(grid, ttl=coordinator.terms.plan_seconds), **options)


def test_a_grid_gives_the_model_of_the_plain_loop(make_run: Any, tmp_path: Any) -> None:
    plain = make_run(algorithm="als", settings={"popularity_only_below": 0.0})
    run_rounds(expected := plain.coordinator(), InProcess(plain.nodes()))
    run = make_run(algorithm="als", settings={"popularity_only_below": 0.0})
    run.folder = tmp_path / "second"
    run.folder.mkdir()
    releases: list[Any] = []
    coordinator, grid = run.coordinator(), ScriptedGrid((1, 2, 3), honest(run.nodes()))
    play(coordinator, grid, on_release=releases.append)
    assert coordinator.finished
    assert coordinator.model.data == expected.model.data
    assert [release.plan.round for release in releases] == list(range(coordinator.rounds))
    assert releases[0].participation == ParticipationCounts(users=40, rejected=0, refused_nodes=0, malformed_nodes=0)
    assert grid.timeouts == [3600.0] * coordinator.rounds


def test_a_message_carries_the_plan_and_the_model_as_one_record_of_bytes(make_run: Any) -> None:
    run = make_run()
    model = (coordinator := run.coordinator()).model.data
    play(coordinator, grid := ScriptedGrid((1, 2, 3), honest(run.nodes())))
    for message in grid.sent:
        assert message.metadata.message_type == "train"
        assert list(message.content) == ["palate"]
        assert {name: type(value) for name, value in message.content["palate"].items()} == {
            "plan": bytes,
            "model": bytes,
        }
        assert message.content["palate"]["model"] == model
        assert message.metadata.ttl == 3600.0


def test_with_a_shelf_a_message_carries_the_plan_alone_and_the_model_is_there_before_it(
    make_run: Any, tmp_path: Any
) -> None:
    run, shelf = make_run(), ModelShelf(tmp_path / "round")
    coordinator, nodes = run.coordinator(), run.nodes()
    model = coordinator.model

    def reply(message: Message) -> list[Message]:
        plan = message.content["palate"]["plan"]
        assert list(message.content["palate"]) == ["plan"]
        found = (tmp_path / "round" / read_plan(plan).plan.model_hash).read_bytes()
        assert found == model.data
        return [said(message, nodes[message.metadata.dst_node_id - 1].answer(plan, found))]

    play(coordinator, ScriptedGrid((1, 2, 3), reply), shelf=shelf)
    assert coordinator.finished
    assert [path.name for path in (tmp_path / "round").iterdir()] == [model.hash]
    shelf.clear()
    assert list((tmp_path / "round").iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (lambda message, good: [], (0, 0)),
        (lambda message, good: [Message(Error(code=1, reason="it crashed"), reply_to=message)], (0, 0)),
        (lambda message, good: [said(message, REFUSED)], (1, 0)),
        (lambda message, good: [said(message, b"garbage")], (0, 1)),
        (lambda message, good: [said(message, "not bytes")], (0, 1)),
        (lambda message, good: [said(message, b"")], (0, 1)),
        (lambda message, good: [Message(RecordDict(), reply_to=message)], (0, 1)),
        (lambda message, good: [Message(RecordDict({"palate": MetricRecord({"x": 1})}), reply_to=message)], (0, 1)),
    ],
)
def test_a_bad_node_costs_itself_alone(make_run: Any, answer: Any, counts: tuple[int, int]) -> None:
    run = make_run()
    releases: list[Any] = []
    grid = ScriptedGrid((1, 2, 3), with_node(2, answer, honest(run.nodes())))
    play(coordinator := run.coordinator(), grid, on_release=releases.append)
    assert coordinator.finished
    (release,) = releases
    assert release.participation.users == 24
    assert (release.participation.refused_nodes, release.participation.malformed_nodes) == counts


def test_a_second_reply_of_a_node_counts_once(make_run: Any) -> None:
    run = make_run()
    releases: list[Any] = []
    twice = with_node(2, lambda message, good: good * 2, honest(run.nodes()))
    play(run.coordinator(), ScriptedGrid((1, 2, 3), twice), on_release=releases.append)
    assert releases[0].participation.users == 40


def test_a_reply_of_a_node_that_was_not_asked_does_not_count() -> None:
    """A grid that hands on what a stranger says, in the place of what node 2 would."""

    def strange(message: Message) -> list[Message]:
        asked = message.metadata.dst_node_id
        stranger = message if asked != 2 else Message(RecordDict(), 8, "train")
        return [said(stranger, b"x")]

    transport = GridTransport(ScriptedGrid((1, 2), strange), ttl=60.0)
    request = Request(transport.invite(masked=False), {"plan": b"plan", "model": b"model"})
    assert list(transport.exchange(request)) == [(1, b"x")]


def test_without_nodes_nothing_is_charged(make_run: Any) -> None:
    run = make_run()
    with pytest.raises(InputError, match="nothing is charged"):
        play(run.coordinator(), ScriptedGrid((), honest(run.nodes())))
    assert run.ledger.spent() == 0


def test_too_few_answers_release_nothing_and_the_run_goes_on_when_it_is_started_again(make_run: Any) -> None:
    run = make_run()
    coordinator = run.coordinator()
    with pytest.raises(IntegrityError, match="stays charged"):
        play(coordinator, ScriptedGrid((1, 2, 3), lambda message: []))
    assert coordinator.round == 0
    spent = run.ledger.spent()
    assert spent > 0
    with pytest.raises(BudgetError, match="used up"):  # popularity has one round: its whole budget is gone
        play(coordinator, ScriptedGrid((1, 2, 3), honest(run.nodes())))
    assert run.ledger.spent() == spent


def test_a_run_is_resumed_where_it_stopped(make_run: Any) -> None:
    run = make_run(algorithm="als", settings={"popularity_only_below": 0.0})
    play(first := run.coordinator(), ScriptedGrid((1, 2, 3), honest(run.nodes())), most=1)
    assert (first.round, first.finished) == (1, False)
    play(second := run.coordinator(), grid := ScriptedGrid((1, 2, 3), honest(run.nodes())))
    assert second.finished
    assert len(grid.sent) == 3 * (second.rounds - 1)
    play(run.coordinator(), grid := ScriptedGrid((1, 2, 3), honest(run.nodes())))
    assert grid.sent == []
