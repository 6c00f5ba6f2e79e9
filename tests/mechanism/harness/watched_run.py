"""Watched run: the way in which checks run the production path; it observes everything that leaves it.

    Coordinator -> run_rounds -> observing grid -> ClientApp -> Host -> Contributor -> ... -> sealed release

The parts are those of the engine `local`, in a temporary folder. A check chooses the devices, their contributions,
which messages are lost or delivered twice, and when the server restarts. The terms define the run. `Seen` holds
everything that left beside the noised numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import safetensors.numpy
from flwr.app import ConfigRecord, Error, Message
from flwr.clientapp import ClientApp

from palate_audit.harness.production import release_key
from palate_common.algorithms import State
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Int64
from palate_common.records.closing import Closing
from palate_common.system import memory_folder
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Step, step_of
from palate_core.plan import Noise, SignedPlan
from palate_server.rounds.coordinator import Release
from palate_server.rounds.registry import Registry, pack_inputs
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.client_app import RECORD, Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger


class Pinning(Protocol):
    """The identities of a cohort under masks, such as `palate_sim.engines.identities.Identities`."""

    def directory(self, devices: Collection[int], /) -> Directory:
        """A directory of some devices."""

    def of(self, device: int, /) -> SigningKey:
        """One device's key."""


class WatchedRun(Closing):
    """One run that is ready to play.

    Args:
        terms: the terms of the server; the run's ledger opens with them.
        histories: of the devices, one row each.
        users_per_node: devices that a node hosts.
        identities: of the devices, for a run under masks.
        algorithm: a context that registers the terms' algorithm in this process; open as long as the run.
        keep: whether to keep nodes' answers; False for large runs.
        inputs: public arrays that the terms name.

    Attributes:
        coordinator: the server's side; a new one after `restart`.
        releases: the results, in order.
        seen: what the grid carried.
    """

    def __init__(
        self,
        terms: RunTerms,
        histories: Interactions,
        *,
        users_per_node: int,
        identities: Pinning | None = None,
        algorithm: AbstractContextManager[object] | None = None,
        keep: bool = True,
        inputs: State | None = None,
    ) -> None:
        self.terms, self.histories, self.users_per_node = terms, histories, users_per_node
        self.directory_of = None if identities is None else identities.directory
        self._stack = ExitStack()
        try:
            self.folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-"))
            )
            if algorithm is not None:
                self._stack.enter_context(algorithm)
            self.key = release_key()
            (self.folder / "run").mkdir()
            if inputs:
                Registry(self.folder / "run").write_inputs(pack_inputs(inputs))
            self.devices = self._stack.enter_context(SimulatedLedger(":memory:"))
            floors = Floors(
                allow_seeded=terms.noise is Noise.SEEDED,
                allow_central=terms.mode.trusts_server,
                allow_off=not terms.mode.private,
                allow_unmasked=identities is None,
                allow_events=terms.events is not None,
                population=terms.population,
            ).for_few()
            self.host = Host(
                Shards(histories, users_per_node),
                self.devices,
                self.key.public,
                floors,
                key_of=identities.of if identities else None,
            )
            nodes = -(-histories.n_users // users_per_node)
            self.grid = WatchedGrid(node_app(lambda _: self.host), nodes=nodes, keep=keep)
            self.seen = self.grid.seen
            self.releases: list[Release] = []
            self._server = ExitStack()
            self._open()
        except BaseException:
            self._stack.close()
            raise

    @property
    def ledger_file(self) -> Path:
        """The population's ledger."""
        return self.folder / "population.ledger.db"

    def close(self) -> None:
        """End the run and remove its folder."""
        self._server.close()
        self._stack.close()

    def restart(self) -> None:
        """Restart the server: a new process without the old one's memory."""
        self._server.close()
        self._open()

    def play(
        self,
        *,
        rounds: int | None = None,
        absent: Collection[int] = (),
        repeated: Collection[int] = (),
        late: Collection[int] = (),
    ) -> None:
        """Play the next rounds, or all that are left.

        Args:
            rounds: how many; None for all.
            absent: nodes whose messages are lost.
            repeated: nodes whose answers are delivered twice.
            late: nodes whose masked vectors are made and lost.

        Raises:
            PalateError: the production path raised it.
        """
        self.grid.absent, self.grid.repeated = frozenset(absent), frozenset(repeated)
        self.grid.late = frozenset(late)
        transport = GridTransport(self.grid, ttl=self.terms.plan_seconds)
        told, directory_of = self.releases.append, self.directory_of
        run_rounds(self.coordinator, transport, directory_of=directory_of, on_release=told, most=rounds)

    def files(self) -> dict[str, bytes]:
        """Every file of the run folder, by its name in it."""
        run = self.folder / "run"
        return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}

    def sealed(self, round_: int, attempt: int = 0) -> Int64:
        """The numbers of a release, as stored on the disk."""
        return steps_of(self.files()[f"releases/round-{round_}-attempt-{attempt}.safetensors"])

    def _open(self) -> None:
        self.coordinator = self._server.enter_context(
            open_run(self.terms, self.folder / "run", ledger=self.ledger_file, key=self.key)
        )
        self.ledger = self.coordinator.ledger

    def __enter__(self) -> Self:
        return self


@dataclass
class Seen:
    """The messages that the grid carried.

    Attributes:
        plans: each signed plan that a node was sent, once, in order.
        asked: the latest plan and its model, as sent to a node.
        replies: every answer, by attempt and node: the bytes, or None for an error.
    """

    plans: list[SignedPlan] = field(default_factory=list)
    asked: tuple[bytes, bytes] = (b"", b"")
    replies: dict[tuple[int, int, int], list[bytes | None]] = field(default_factory=dict)


class WatchedGrid(LocalGrid):
    """A grid that keeps what it carries, loses some nodes' answers and delivers others' twice."""

    def __init__(self, client: ClientApp, *, nodes: int, keep: bool = True) -> None:
        super().__init__(client, nodes=nodes)
        self.seen = Seen()
        self._keep = keep
        self.absent: frozenset[int] = frozenset()
        self.repeated: frozenset[int] = frozenset()
        self.late: frozenset[int] = frozenset()
        self.before: Callable[[SignedPlan], None] | None = None
        self._asked: SignedPlan | None = None

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies; some nodes' replies are delivered twice."""
        for reply in super().pull_messages(message_ids):
            yield reply
            if reply.metadata.src_node_id - 1 in self.repeated:
                yield reply

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id - 1
        plan = _value(message, "plan")
        if plan:
            if self._asked is None or plan != self.seen.asked[0]:  # nodes are sent the same bytes
                self._asked = SignedPlan.model_validate_json(plan)
                self.seen.plans.append(self._asked)
            self.seen.asked = (plan, _value(message, "model") or b"")
            if self.before is not None:
                self.before(self._asked)
        if node in self.absent:
            return Message(Error(3), reply_to=message)
        reply = super()._deliver(message)
        request = _value(message, "request")
        if node in self.late and request and step_of(request) is Step.INPUT:
            return Message(Error(3), reply_to=message)
        answer = None if reply.has_error() else _value(reply, "contribution") or _value(reply, "answer")
        if self._keep and self._asked is not None:
            place = (self._asked.plan.round, self._asked.plan.attempt, node)
            self.seen.replies.setdefault(place, []).append(answer)
        return reply


def steps_of(release: bytes) -> Int64:
    """The noised integers of a release's file."""
    steps: Int64 = safetensors.numpy.load(release)["steps"].astype(np.int64)
    return steps


def _value(message: Message, name: str) -> bytes | None:
    """A value of a message's only record."""
    record = message.content.get(RECORD)
    value = record.get(name) if isinstance(record, ConfigRecord) else None
    return value if isinstance(value, bytes) else None
