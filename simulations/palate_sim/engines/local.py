"""The engine `local`: the server's rounds and the ClientApp in this process, over a `LocalGrid`.

outcome = run_local(job, histories, on_release=lambda release: print(release.plan.round))
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from palate_client.flower import Host, Shards, node_app
from palate_client.ledger.device_ledger import DeviceLedger
from palate_common.interactions import Interactions
from palate_common.records.signing import SigningKey
from palate_server.flower.transport import GridTransport
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import open_run, run_rounds
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.identities import Identities
from palate_sim.engines.job import Job, OnRelease, Outcome


def run_local(job: Job, histories: Interactions, on_release: OnRelease | None = None) -> Outcome:
    """Run every round that is left, in this process.

    Args:
        job: the run.
        histories: one row an installation, in the order of their numbers in the device ledger.
        on_release: called with each release once it is sealed.

    Raises:
        LockedError: somebody else owns the run folder.
        BudgetError: the budget doesn't allow another attempt.
        IntegrityError: too few contributions; the attempt stays charged.
        InputError: key, ledger or terms don't fit.
    """
    begun, begun_cpu = time.perf_counter(), time.process_time()
    key = SigningKey.load(job.key)
    identities = None if job.identities is None else Identities.load(job.identities)
    with (
        open_run(job.terms, job.folder, ledger=job.ledger, key=key) as coordinator,
        DeviceLedger(job.devices, durable=False) as devices,
    ):
        shards = Shards(histories, job.users_per_node)
        host = Host(shards, devices, key.public, job.floors, identity_of=identities.of if identities else None)
        grid = LocalGrid(node_app(lambda _: host), nodes=job.nodes(histories.n_users))
        meter = _Meter(on_release)
        startup_cpu, startup = time.process_time() - begun_cpu, time.perf_counter() - begun
        meter.resume()
        directory = None if identities is None else identities.directory
        transport = GridTransport(grid, ttl=job.terms.plan_seconds)
        run_rounds(coordinator, transport, directory=directory, on_release=meter)
        model = coordinator.model
    return Outcome(model, meter.updates, meter.cpu_seconds, meter.wall_seconds, startup_cpu, startup)


@dataclass
class _Meter:
    """Counts contributions, measures the seconds of training, and passes each release on."""

    on_release: OnRelease | None
    updates: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    _since: tuple[float, float] = field(default=(0.0, 0.0))

    def resume(self) -> None:
        """Start the clock, or restart it after a callback."""
        self._since = time.process_time(), time.perf_counter()

    def __call__(self, release: Release) -> None:
        """Count a release, and stop the clock while the callback runs."""
        self.cpu_seconds += time.process_time() - self._since[0]
        self.wall_seconds += time.perf_counter() - self._since[1]
        self.updates += release.participation.users
        if self.on_release is not None:
            self.on_release(release)
        self.resume()
