"""GridTransport: sends the messages of a run's attempts over a Flower grid.

    run_round --Request--> a message per node, one record of bytes -> ClientApp -> one record of bytes --> run_round

The plan is the only instruction that a device follows: no arrays, configuration or evaluation go with it. Messages are
made when they are sent, and answers yielded as they come, so that at most one masked vector is in memory if the grid
delivers one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from palate_server.flower.link import ForgottenError
from palate_server.rounds.run import Request

RECORD = "palate"
"""Name of the one record of a message."""
FIRST, NEXT = MessageType.TRAIN, "train.masked"
"""Message types: the plan, in a masked attempt with the first request; and every later request."""

SECONDS = "seconds"
"""Beside a plan: seconds for which the answers of an exchange are waited for; who has less doesn't take it."""


class Exchanging(Protocol):
    """What a transport needs of a grid: Flower's `Grid`, or one over several SuperLinks."""

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages, and yield their replies, for `timeout` seconds at most."""


class GridTransport:
    """A `Transport` over a Flower grid.

    Args:
        grid: Flower's grid, or one over several SuperLinks.
        ttl: seconds in which a message may be answered: as long as a plan is valid.
        timeout: seconds to wait for the answers of an exchange, which devices are told with the plan; None: `ttl`.
        cohort: device -> node of the devices to ask; None: all that are online.
    """

    def __init__(
        self, grid: Exchanging, *, ttl: float, timeout: float | None = None, cohort: Mapping[int, int] | None = None
    ) -> None:
        self._grid, self._ttl, self._timeout = grid, float(ttl), float(ttl if timeout is None else timeout)
        self._patience = None if timeout is None else float(timeout)
        self._given, self._nodes, self._attempts = cohort, dict[int, int](), 0

    def invite(self, *, masked: bool) -> Collection[int]:
        """The nodes that are online; with masks the devices that have answered the roll call before the first attempt.

        The nodes of a given cohort are asked even if they are no longer online.
        """
        self._attempts += 1
        if not masked:
            nodes = self._grid.get_node_ids() if self._given is None else self._given.values()
            self._nodes = {node: node for node in nodes}
        elif self._given is not None:
            self._nodes = dict(self._given)
        elif not self._nodes:
            self._nodes = roll_call(self._grid, ttl=self._ttl, timeout=self._timeout)
        return list(self._nodes)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Send a request and yield the answers; one of the wrong type becomes empty bytes, which fail every check.

        Errors, and answers of nodes that weren't asked, are ignored. If the SuperLink was started again meanwhile, who
        hasn't answered is asked again, in the time that is left. Devices answer the same request in the same
        way.
        """
        asked = {self._nodes[party]: party for party in request.to}
        name = "contribution" if request.own is None else "answer"
        left, until, heard = self._timeout, time.monotonic() + self._timeout, set[int]()
        while left > 0:
            try:
                for reply in self._grid.send_and_receive(self._messages(request), timeout=left):
                    party = asked.get(reply.metadata.src_node_id)
                    if party is not None and not reply.has_error():
                        heard.add(party)
                        answer = value_of(reply, name)
                        yield party, answer if isinstance(answer, bytes) else b""
                return
            except ForgottenError:
                request = replace(request, to=[party for party in request.to if party not in heard])
                left = until - time.monotonic()

    def _messages(self, request: Request) -> Iterator[Message]:
        """Make a message to each party of a request."""
        shared: dict[str, bytes | float] = {**request.shared}
        if request.shared and self._patience is not None:
            shared[SECONDS] = self._patience
        kind, group = (FIRST if request.shared else NEXT), str(self._attempts if request.own is None else request.step)
        # Without masks all messages share one record, so that it is hashed or copied only once.
        content = RecordDict({RECORD: ConfigRecord({**shared})})
        for party in request.to:
            if request.own is not None:
                content = RecordDict({RECORD: ConfigRecord({**shared, "request": request.own(party)})})
            yield Message(content, self._nodes[party], kind, ttl=self._ttl, group_id=group)


def roll_call(grid: Exchanging, *, ttl: float, timeout: float) -> dict[int, int]:
    """The node of each device that answers. A false claim is useless, because devices sign their messages."""
    asked = RecordDict({RECORD: ConfigRecord({"who": True})})
    queries = (Message(asked, node, MessageType.QUERY, ttl=ttl) for node in grid.get_node_ids())
    found: dict[int, int] = {}
    for reply in grid.send_and_receive(queries, timeout=timeout):
        device = None if reply.has_error() else value_of(reply, "device")
        if isinstance(device, int) and not isinstance(device, bool):
            found.setdefault(device, reply.metadata.src_node_id)
    return found


def value_of(reply: Message, name: str) -> object:
    """One value of the one record of a reply."""
    record = reply.content.get(RECORD)
    return record.get(name) if isinstance(record, ConfigRecord) else None
