"""Transports to nodes in this process; the parties exchange nothing but bytes.

run_rounds(coordinator, HostedNodes(host, nodes=32), directory=directory)
run_rounds(coordinator, InProcess([Contributor(...), Contributor(...)]))
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from palate_client.hosts import Host
from palate_core.errors import InputError
from palate_server.rounds.run import Request


class Node(Protocol):
    """Answers a plan; a `Contributor` is one."""

    def answer(self, plan: bytes, model: bytes) -> bytes:
        """A contribution's bytes, or the constant refusal."""


class InProcess:
    """A `Transport` that asks one node after the other.

    Args:
        nodes: each hosts one installation, or many simulated ones; node n is the n-th.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    def invite(self, *, masked: bool) -> Collection[int]:
        """Invite all nodes.

        Raises:
            InputError: a run with masks, whose devices answer step by step: `HostedNodes`.
        """
        if masked:
            raise InputError("a run with masks needs `HostedNodes`, got nodes that answer plans")
        return range(len(self._nodes))

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Yield each node's answer to the plan."""
        plan, model = request.shared["plan"], request.shared["model"]
        return ((node, self._nodes[node].answer(plan, model)) for node in request.to)


class HostedNodes:
    """A `Transport` that asks all nodes of a host, one after the other, with masks or without.

    Args:
        host: answers for them.
        nodes: how many there are.
    """

    def __init__(self, host: Host, *, nodes: int) -> None:
        self._host, self._nodes = host, nodes
        self._node_of = dict[int, int]()

    def invite(self, *, masked: bool) -> Collection[int]:
        """Invite all nodes; with masks by the numbers of their devices, of which each hosts one."""
        if not self._node_of:
            self._node_of = {self._host.device(node) if masked else node: node for node in range(self._nodes)}
        return list(self._node_of)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Ask each party and yield its answer, before the next one is asked."""
        for party in request.to:
            asked = None if request.own is None else request.own(party)
            yield party, self.answer(self._node_of[party], request.shared, asked)

    def answer(self, node: int, shared: Mapping[str, bytes], asked: bytes | None) -> bytes:
        """What a node answers.

        Args:
            node: from 0.
            shared: the plan and its model, in the first exchange of an attempt.
            asked: with masks, the step's request.
        """
        if asked is None:
            return self._host.answer(node, shared["plan"], shared["model"])
        if shared:
            return self._host.join(node, shared["plan"], shared["model"], asked)
        return self._host.go_on(node, asked)
