"""GridTransport: sends the messages of a simulated run's attempts over a Flower grid.

    run_round --Request--> a message per node, one record of bytes -> ClientApp -> one record of bytes --> run_round

The plan is the only instruction that a device follows: no arrays, configuration or evaluation go with it. Messages are
made when they are sent, and answers yielded as they come, so that at most one masked vector is in memory if the grid
delivers one at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from palate_server.rounds.run import Request

RECORD = "palate"
"""Name of the one record of a message."""
FIRST, NEXT = MessageType.TRAIN, "train.masked"
"""Message types: the plan, in a masked attempt with the first request; and every later request."""


class Exchanging(Protocol):
    """What a transport needs of a grid: Flower's `Grid` has it."""

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages, and yield their replies, for `timeout` seconds at most."""


class GridTransport:
    """A `Transport` over a Flower grid.

    Args:
        grid: the grid.
        ttl: seconds in which a message may be answered: as long as a plan is valid.
    """

    def __init__(self, grid: Exchanging, *, ttl: float) -> None:
        self._grid, self._ttl = grid, float(ttl)
        self._nodes, self._attempts = dict[int, int](), 0

    def invite(self, *, masked: bool) -> Collection[int]:
        """The nodes that are online; with masks the devices that answered the roll call before the first attempt."""
        self._attempts += 1
        if not masked:
            self._nodes = {node: node for node in self._grid.get_node_ids()}
        elif not self._nodes:
            self._nodes = roll_call(self._grid, ttl=self._ttl)
        return list(self._nodes)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Send a request and yield the answers; one of the wrong type becomes empty bytes, which fail every check.

        Errors, and answers of nodes that weren't asked, are ignored.
        """
        asked = {self._nodes[party]: party for party in request.to}
        name = "contribution" if request.own is None else "answer"
        for reply in self._grid.send_and_receive(self._messages(request), timeout=self._ttl):
            party = asked.get(reply.metadata.src_node_id)
            if party is not None and not reply.has_error():
                answer = value_of(reply, name)
                yield party, answer if isinstance(answer, bytes) else b""

    def _messages(self, request: Request) -> Iterator[Message]:
        """Make a message to each party of a request."""
        kind, group = (FIRST if request.shared else NEXT), str(self._attempts if request.own is None else request.step)
        # Without masks all messages share one record, so that it is hashed or copied only once.
        content = RecordDict({RECORD: ConfigRecord({**request.shared})})
        for party in request.to:
            if request.own is not None:
                content = RecordDict({RECORD: ConfigRecord({**request.shared, **request.own(party)})})
            yield Message(content, self._nodes[party], kind, ttl=self._ttl, group_id=group)


def roll_call(grid: Exchanging, *, ttl: float) -> dict[int, int]:
    """The node of each device that answers. A false claim is useless, because devices sign their messages."""
    asked = RecordDict({RECORD: ConfigRecord({"who": True})})
    queries = (Message(asked, node, MessageType.QUERY, ttl=ttl) for node in grid.get_node_ids())
    found: dict[int, int] = {}
    for reply in grid.send_and_receive(queries, timeout=ttl):
        device = None if reply.has_error() else value_of(reply, "device")
        if isinstance(device, int) and not isinstance(device, bool):
            found.setdefault(device, reply.metadata.src_node_id)
    return found


def value_of(reply: Message, name: str) -> object:
    """One value of the one record of a reply."""
    record = reply.content.get(RECORD)
    return record.get(name) if isinstance(record, ConfigRecord) else None
