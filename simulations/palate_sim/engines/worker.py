"""A worker: the process that answers plans for some nodes of a run of the engine `local`.

    Workers --plan and model, once a round; then node after node--> worker: ClientApp -> an answer a node

It runs the same ClientApp over a `LocalGrid` as a run without workers. It ends with the command that started it,
however that ends: the pipe on its standard input closes then, and a thread that reads it ends the process.

    python -c "from palate_sim.engines.worker import main; main()"
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from palate_common.algorithms.registry import admit, algorithm_class
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_server.rounds.run import Request
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.shared_histories import Place

EVERY = 0.25
"""Seconds between two reports of how far a node is, at least."""


@dataclass(frozen=True)
class Start:
    """What a worker needs to know of a run.

    Attributes:
        path: where Python looks for modules.
        place: where the histories lie.
        nodes: number of nodes.
        users_per_node: simulated users of a node.
        devices: file of the devices' own ledger.
        public_key: the pinned release key.
        floors: the devices' conditions on a plan.
        ttl: seconds in which a message may be answered.
        admitted: the algorithm, if the user named it by its place, as `package.module:Class`; else empty.
    """

    path: tuple[str, ...]
    place: Place
    nodes: int
    users_per_node: int
    devices: str
    public_key: str
    floors: Floors
    ttl: float
    admitted: str = ""


@dataclass(frozen=True)
class Asked:
    """A node that must answer the plan that was sent before; `exchange` tells one plan's answers from another's."""

    exchange: int
    node: int


@dataclass(frozen=True)
class Answered:
    """A node's answer.

    Attributes:
        exchange: as it was asked.
        node: whose.
        answer: what the ClientApp answered; None: it failed.
        users: done since the worker last spoke.
        seconds: the worker's processor time so far.
    """

    exchange: int
    node: int
    answer: bytes | None
    users: int
    seconds: float


@dataclass(frozen=True)
class Advanced:
    """Some more users of a node are done; none: the worker has started."""

    users: int
    seconds: float


@dataclass(frozen=True)
class Lost:
    """Some workers are gone, and the others go on; what the user should read of it."""

    words: str


@dataclass(frozen=True)
class Failed:
    """The worker can't go on, for a reason that the user should read."""

    kind: str
    error: str


Shared = dict[str, bytes]
"""Plan and model."""


class Worker:
    """The worker's side of the pipes."""

    def __init__(self, start: Start, answers: Connection) -> None:
        self._answers = answers
        if start.admitted:
            admit(start.admitted)
            algorithm_class(start.admitted)  # what is wrong with it is said here: a node would refuse without a word
        self._ledger = SimulatedLedger(start.devices, durable=False)
        shards = Shards(start.place.open(), start.users_per_node)
        host = Host(shards, self._ledger, start.public_key, start.floors, advance=self._advance)
        self._transport = GridTransport(LocalGrid(node_app(lambda _: host), nodes=start.nodes), ttl=start.ttl)
        self._transport.invite(masked=False)
        self._unsaid, self._said = 0, time.monotonic()
        answers.send(Advanced(0, time.process_time()))

    def serve(self, tasks: queue.SimpleQueue[Any]) -> None:
        """Answer until the task None comes."""
        shared: Shared = {}
        while (task := tasks.get()) is not None:
            if isinstance(task, Asked):
                found = [answer for _, answer in self._transport.exchange(Request((task.node,), shared))]
                answer = found[0] if found else None
                self._answers.send(Answered(task.exchange, task.node, answer, self._fresh(), time.process_time()))
            else:
                shared = task
        self._ledger.close()

    def _advance(self, users: int) -> None:
        """Say how far the node is, a few times a second."""
        self._unsaid += users
        if time.monotonic() - self._said >= EVERY:
            self._answers.send(Advanced(self._fresh(), time.process_time()))

    def _fresh(self) -> int:
        """The users that are done since this was last asked."""
        users, self._unsaid, self._said = self._unsaid, 0, time.monotonic()
        return users


def main() -> None:
    """Serve one run; exit with 1 where it can't."""
    start, answers, tasks = begin()
    try:
        Worker(start, answers).serve(tasks)
    except PalateError as error:
        answers.send(Failed(type(error).__name__, str(error)))
        sys.exit(1)
    except BrokenPipeError:  # the command is gone, and nobody reads
        os._exit(1)


def begin() -> tuple[Any, Connection, queue.SimpleQueue[Any]]:
    """What a process behind the pipes begins with: what it has to know, where answers go, and its tasks."""
    answers = Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # whatever prints in this process must not write between the answers
    commands = Connection(os.dup(0), writable=False)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    start = commands.recv()
    sys.path[:] = start.path
    threading.Thread(target=_read, args=(commands, tasks), daemon=True).start()
    return start, answers, tasks


def _read(commands: Connection, tasks: queue.SimpleQueue[Any]) -> None:
    """Pass tasks on; when the other end of the pipe is gone, so is the command, and this process ends at once."""
    try:
        while True:
            tasks.put(commands.recv())
    except (EOFError, OSError):
        os._exit(1)
