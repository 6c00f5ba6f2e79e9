"""The engine `ray`: the machines of a running Ray cluster answer for the nodes, with the same ClientApp.

    outcome = run_ray(job, histories, on_release=lambda release: print(release.plan.round))

The server's rounds run in this process, as with `local`; a gateway process speaks to the cluster. Histories are mapped
from their folder where all machines see it, and travel through Ray's object store otherwise, a node's as one object.
The devices' ledger stays one file on this machine. What a lost machine was asked is asked of those that are left,
within the same attempt and at no cost: see `Gateway`. Where none is left, the attempt is void and stays charged, and
another one is made with what machines there are by then.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time

from palate_common.algorithms.registry import algorithm_class, is_admitted, is_lent
from palate_common.extras import to_install
from palate_common.interactions import Interactions
from palate_common.records.key_file import load_key
from palate_core.errors import InputError
from palate_server.rounds.run import open_run, run_rounds
from palate_sim.engines.cluster.actors import ClusterStart
from palate_sim.engines.job import Job, OnRelease, Outcome
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.engines.local import Meter, SteppedTransport
from palate_sim.engines.shared_histories import SharedHistories
from palate_sim.engines.workers import LostError, Workers
from palate_sim.steps import Notify, silent, step

PROGRAM = "from palate_sim.engines.cluster.gateway import main; main()"
LOG = "ray.log"
ATTEMPTS = 3
"""How often a round is tried when all machines are lost: each try is charged."""


def run_ray(job: Job, histories: Interactions, on_release: OnRelease | None = None, notify: Notify = silent) -> Outcome:
    """Run every round that is left on a Ray cluster.

    Args:
        job: the run.
        histories: one row an installation, in the order of their numbers in the device ledger.
        on_release: called with each release once it is sealed.
        notify: called with how far each round is, and with what is lost.

    Raises:
        InputError: no cluster, another version on one of its machines, or key, ledger or terms don't fit.
        LockedError: somebody else owns the run folder.
        BudgetError: the budget doesn't allow another attempt.
        IntegrityError: too few contributions; the attempt stays charged.
        PalateError: the cluster is gone, or lost machines again and again; an open attempt is void and stays charged.
    """
    name = job.terms.algorithm
    if is_lent(name) or is_admitted(name) or algorithm_class(name).__module__ == "__main__":
        raise InputError(f"`engine.name` ray needs an algorithm that is installed under a name, got {name!r}")
    key, address = load_key(job.key), address_of(job.ray_address)
    gateways: list[Workers] = []

    def cpu_seconds() -> float:
        return time.process_time() + sum(each.cpu_seconds for each in gateways)

    def lost(words: str) -> None:
        notify({"event": "note", "words": words})

    with (
        open_run(job.terms, job.folder, ledger=job.ledger, key=key) as coordinator,
        SharedHistories(histories, folder=job.histories, scratch=job.folder) as shared,
    ):
        SimulatedLedger(job.devices, durable=False).close()  # what is wrong with it is said before anything starts
        shown, meter = SteppedTransport(coordinator, histories.n_users, notify), Meter(cpu_seconds, on_release)
        start = ClusterStart(
            path=tuple(sys.path),
            place=shared.place,
            nodes=job.nodes(histories.n_users),
            users_per_node=job.users_per_node,
            devices=str(job.devices.resolve()),
            public_key=key.public,
            floors=job.floors,
            ttl=job.terms.plan_seconds,
            address=address,
            workers=job.workers,
        )
        for tries_left in reversed(range(ATTEMPTS)):
            if coordinator.finished:
                break
            with step(notify, "joining the Ray cluster"):
                gateway = Workers(
                    start,
                    1,
                    descriptors=shared.descriptors,
                    advance=shown.advance,
                    warn=lost,
                    program=PROGRAM,
                    ahead=start.nodes,
                    log=job.folder / LOG,
                    lost=f"the Ray cluster must answer as long as the run, got a connection, see {LOG}, that ended",
                )
            gateways.append(gateway)
            try:
                with gateway as shown.transport:
                    meter.resume()
                    run_rounds(coordinator, shown, on_release=meter)
            except LostError as error:
                if not tries_left:
                    raise
                lost(f"{error}: the attempt is void and stays charged, and another one is made")
            finally:
                SimulatedLedger(job.devices, durable=False).close()  # a keeper that was ended leaves its log beside it
    return Outcome(coordinator.model, meter.updates, meter.cpu_seconds, meter.wall_seconds)


def address_of(given: str | None) -> str:
    """The cluster's address.

    Raises:
        InputError: Ray is missing, or no cluster is named.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"`engine` must be local where Ray is missing, got ray: {to_install('ray')}")
    address = given or os.environ.get("RAY_ADDRESS", "")
    if not address:
        raise InputError(
            "`engine.ray_address` or RAY_ADDRESS must name a running cluster, got none: `ray start --head`"
        )
    return address
