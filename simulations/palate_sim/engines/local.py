"""The engine `local`: the server's rounds and the ClientApp on this machine.

outcome = run_local(job, histories, on_release=lambda release: print(release.plan.round))

A large population's nodes are answered by worker processes, one a core (see `palate_sim.engines.workers`); a small
one's in this process, over a `LocalGrid`. The model has the same bits, whichever it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from palate_common.algorithms.registry import algorithm_class, is_admitted, is_lent
from palate_common.interactions import Interactions
from palate_common.records.key_file import load_key
from palate_common.system import forks
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.run import Request, Transport, open_run, run_rounds
from palate_sim.cores import usable_cores
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.identities import Identities
from palate_sim.engines.job import Job, OnRelease, Outcome
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.shared_histories import SharedHistories
from palate_sim.engines.worker import Start
from palate_sim.engines.workers import Workers
from palate_sim.steps import Notify, silent, step

FEW = 65_536
"""Up to so many users, workers take longer to start than they save."""


def run_local(
    job: Job, histories: Interactions, on_release: OnRelease | None = None, notify: Notify = silent
) -> Outcome:
    """Run every round that is left, on this machine.

    Args:
        job: the run.
        histories: one row an installation, in the order of their numbers in the device ledger.
        on_release: called with each release once it is sealed.
        notify: called with how far each round is, and where workers were asked for that there are none of.

    Raises:
        LockedError: somebody else owns the run folder.
        BudgetError: the budget doesn't allow another attempt.
        IntegrityError: too few contributions; the attempt stays charged.
        InputError: key, ledger, terms or folder of histories don't fit.
        PalateError: a worker has ended; an open attempt is void and stays charged.
    """
    key = load_key(job.key)
    identities = None if job.identities is None else Identities.load(job.identities)
    with open_run(job.terms, job.folder, ledger=job.ledger, key=key) as coordinator:
        shown = SteppedTransport(coordinator, histories.n_users, notify)
        number = 1 if coordinator.finished else workers_of(job, histories.n_users)
        if number == 1 and (job.workers or 1) > 1 and not coordinator.finished:
            few = histories.n_users <= FEW
            why = f"up to {FEW:,} training users" if few else "devices with masks, and an algorithm of a script,"
            words = f"{why} are in one process, got {histories.n_users:,} users"
            notify({"event": "note", "words": f"`engine.workers` {job.workers} does nothing: {words}"})
        carrier = (
            _in_process(job, histories, key.public, identities, shown.advance)
            if number == 1
            else _in_workers(number, job, histories, key.public, shown.advance)
        )
        with carrier as (shown.transport, cpu_seconds):
            meter = Meter(cpu_seconds, on_release)
            meter.resume()
            directory_of = None if identities is None else identities.directory
            run_rounds(coordinator, shown, directory_of=directory_of, on_release=meter)
            model = coordinator.model
    return Outcome(model, meter.updates, meter.cpu_seconds, meter.wall_seconds)


def workers_of(job: Job, n_users: int) -> int:
    """How many worker processes answer for a run's nodes; 1: this process does.

    Devices that mask keep secrets from message to message, and stay here; so does an algorithm of the script that runs,
    or that it lends, which another process can't import.
    """
    name = job.terms.algorithm
    here = job.identities is not None or is_lent(name) or algorithm_class(name).__module__ == "__main__"
    if n_users <= FEW or here or not forks():
        return 1
    return min(job.workers or usable_cores(), job.nodes(n_users))


Carrier = tuple[Transport, Callable[[], float]]
"""What carries a run's messages, and the processor time of all that takes part in it."""


@contextmanager
def _in_process(
    job: Job,
    histories: Interactions,
    public_key: str,
    identities: Identities | None,
    advance: Callable[[int], None],
) -> Iterator[Carrier]:
    """The nodes in this process."""
    with SimulatedLedger(job.devices, durable=False) as devices:
        key_of = None if identities is None else identities.of
        shards = Shards(histories, job.users_per_node)
        host = Host(shards, devices, public_key, job.floors, key_of=key_of, advance=advance)
        grid = LocalGrid(node_app(lambda _: host), nodes=job.nodes(histories.n_users))
        yield GridTransport(grid, ttl=job.terms.plan_seconds), time.process_time


@contextmanager
def _in_workers(
    number: int, job: Job, histories: Interactions, public_key: str, advance: Callable[[int], None]
) -> Iterator[Carrier]:
    """The nodes in worker processes."""
    SimulatedLedger(job.devices, durable=False).close()  # so that what is wrong with it is said before anything starts
    with SharedHistories(histories, folder=job.histories, scratch=job.folder) as shared:
        start = Start(
            path=tuple(sys.path),
            place=shared.place,
            nodes=job.nodes(histories.n_users),
            users_per_node=job.users_per_node,
            devices=str(job.devices.resolve()),
            public_key=public_key,
            floors=job.floors,
            ttl=job.terms.plan_seconds,
            admitted=job.terms.algorithm if is_admitted(job.terms.algorithm) else "",
        )
        try:
            with Workers(start, number, descriptors=shared.descriptors, advance=advance) as workers:
                yield workers, lambda: time.process_time() + workers.cpu_seconds
        finally:
            SimulatedLedger(job.devices, durable=False).close()  # workers that were ended leave its log beside it


class SteppedTransport:
    """A `Transport` that shows how far each of its exchanges is."""

    transport: Transport

    def __init__(self, coordinator: Coordinator, n_users: int, notify: Notify) -> None:
        self._coordinator, self._n_users, self._notify = coordinator, n_users, notify
        self._advance: Callable[[int], None] | None = None

    def advance(self, users: int) -> None:
        """So many more users are done."""
        if self._advance is not None:
            self._advance(users)

    def invite(self, *, masked: bool) -> Collection[int]:
        """As the transport does."""
        return self.transport.invite(masked=masked)

    def exchange(self, request: Request) -> Iterable[tuple[int, bytes]]:
        """As the transport does: a step that counts users, or with masks the devices that answered."""
        round_ = f"round {self._coordinator.round + 1}"
        if request.own is not None:
            with step(
                self._notify, f"{round_}: masks, step {request.step}", of=len(request.to), unit="devices"
            ) as done:
                for answer in self.transport.exchange(request):
                    yield answer
                    done(1)
        else:
            with step(self._notify, f"{round_}: learning", of=self._n_users, unit="users") as self._advance:
                yield from self.transport.exchange(request)
            self._advance = None


@dataclass
class Meter:
    """Counts contributions, measures the seconds of training, and passes each release on."""

    cpu: Callable[[], float]
    on_release: OnRelease | None
    updates: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    _since: tuple[float, float] = field(default=(0.0, 0.0))

    def resume(self) -> None:
        """Start the clock, or restart it after a callback."""
        self._since = self.cpu(), time.perf_counter()

    def __call__(self, release: Release) -> None:
        """Count a release, and stop the clock while the callback runs."""
        self.cpu_seconds += self.cpu() - self._since[0]
        self.wall_seconds += time.perf_counter() - self._since[1]
        self.updates += release.participation.users
        if self.on_release is not None:
            self.on_release(release)
        self.resume()
