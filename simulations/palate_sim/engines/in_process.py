"""InProcess: a transport to nodes in this process; the parties exchange nothing but bytes.

run_rounds(coordinator, InProcess([Contributor(...), Contributor(...)]))
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

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
            InputError: a run with masks, which needs devices that answer step by step.
        """
        if masked:
            raise InputError("a run with masks needs a grid of devices, got nodes that answer plans")
        return range(len(self._nodes))

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Yield each node's answer to the plan."""
        plan, model = request.shared["plan"], request.shared["model"]
        return ((node, self._nodes[node].answer(plan, model)) for node in request.to)
