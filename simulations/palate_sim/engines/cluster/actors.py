"""What runs on the machines of a Ray cluster: nodes, and on the command's own machine the devices' ledger.

    RayWorker (an actor a core, anywhere) --charge, before it computes--> LedgerKeeper (an actor beside the command)

The classes are loaded from the INSTALLED package: a machine runs no code that travels. Whether it has the same code is
checked before it gets any histories.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_core.device.participation import KeptPlan, Seen
from palate_core.errors import InputError
from palate_core.log.merkle import Checkpoint
from palate_core.plan import ChargedPlan
from palate_server.rounds.run import Request
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.grid_transport import GridTransport
from palate_sim.engines.ledger.device_ids import Ids
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger, joined
from palate_sim.engines.worker import Shared, Start
from palate_sim.provenance import run_sources

Arrays = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32], int]
"""The histories of one node: `indptr`, `indices`, `weights` (one number where all are the same) and `n_items`."""


@dataclass(frozen=True)
class ClusterStart(Start):
    """A run, and the cluster it is to run on.

    Attributes:
        address: of the cluster's head.
        workers: processes in the whole cluster; None: one a core.
    """

    address: str = ""
    workers: int | None = None


def arrays_of(shard: Interactions) -> Arrays:
    """The arrays that travel."""
    weights = shard.weights[:1] if shard.nnz and shard.weights.strides == (0,) else shard.weights
    return shard.indptr, np.ascontiguousarray(shard.indices), np.ascontiguousarray(weights), shard.n_items


class LedgerKeeper:
    """Holds the devices' ledger, one file on the command's machine, for workers on all machines.

    SQLite's log can't be shared between machines, and a device must be charged before it computes, wherever it runs.
    """

    def __init__(self, file: str) -> None:
        self._ledger = SimulatedLedger(file, durable=False)
        self._users = 0
        self._plan, self._charged = "", dict[tuple[int, int], npt.NDArray[np.bool_]]()

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the ledger."""
        return getattr(self._ledger, name)(*args, **kwargs)

    def charge(self, kept: KeptPlan, *, devices: Sequence[int] | Ids, **facts: Any) -> npt.NDArray[np.bool_]:
        """Charge the devices of a node, once an attempt, however often the node is asked.

        A node is asked a second time only where its machine was lost before it had answered. Its devices have been
        charged then, and take part in the same attempt at that cost.

        **Guarantees:** a second charge of the same plan is none: what the first found is returned, without an entry.
        **Guarantees:** another plan is charged anew: and refused where a device has answered its attempt already.
        """
        if kept.plan.hash != self._plan:
            self._plan, self._charged = kept.plan.hash, {}
        node = int(devices[0]), len(devices)
        if node not in self._charged:
            self._charged[node] = self._ledger.charge(kept, devices=devices, **facts)
        return self._charged[node]

    def advance(self, users: int) -> None:
        """Count users that are done."""
        self._users += users

    def advanced(self) -> int:
        """The users that are done since this was last asked."""
        users, self._users = self._users, 0
        return users

    def close(self) -> None:
        """Close the file."""
        self._ledger.close()


class KeptLedger:
    """A `SimulatedLedger` elsewhere, as far as a `Contributor` without masks uses it."""

    def __init__(self, keeper: Any) -> None:
        self._keeper = keeper

    def charge(self, kept: KeptPlan, **facts: Any) -> npt.NDArray[np.bool_]:
        """As `SimulatedLedger.charge`."""
        import ray

        mask: npt.NDArray[np.bool_] = ray.get(self._keeper.charge.remote(kept, **facts))
        return mask

    def join(self, kept: KeptPlan, **facts: Any) -> tuple[ChargedPlan | None, npt.NDArray[np.bool_]]:
        """As `SimulatedLedger.join`."""
        return joined(kept, self.charge(kept, **facts))

    def seen(self, population: str) -> Seen:
        """As `SimulatedLedger.seen`."""
        seen: Seen = self._call("seen", population)
        return seen

    def see(self, population: str, checkpoint: Checkpoint, signed: bytes = b"", *, after: Checkpoint | None) -> None:
        """As `SimulatedLedger.see`."""
        self._call("see", population, checkpoint, signed, after=after)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        import ray

        return ray.get(self._keeper.call.remote(name, *args, **kwargs))


class RayWorker:
    """One actor: the ClientApp over a `LocalGrid`, for the nodes that it is asked for."""

    def __init__(self, start: Start, keeper: Any) -> None:
        self._start, self._keeper, self._shared = start, keeper, Shared()
        self._shard: tuple[int, Interactions] | None = None
        self._mapped: Shards | None = None
        ledger = cast("SimulatedLedger", KeptLedger(keeper))
        host = Host(self, ledger, start.public_key, start.floors, advance=keeper.advance.remote)
        self._transport = GridTransport(LocalGrid(node_app(lambda _: host), nodes=start.nodes), ttl=start.ttl)
        self._transport.invite(masked=False)

    def about(self) -> dict[str, Any]:
        """Which machine this is, the code it has, and whether it sees the folder of histories."""
        import ray

        try:
            self._mapped = Shards(self._start.place.open(), self._start.users_per_node)
        except InputError:
            self._mapped = None
        sources = run_sources()
        return {"node": ray.get_runtime_context().get_node_id(), "sources": sources, "folder": self._mapped is not None}

    def hold(self, shared: Shared) -> None:
        """Take the plan and the model of a round."""
        self._shared = shared

    def answer(self, node: int, arrays: Arrays | None) -> tuple[bytes | None, float]:
        """A node's answer, and this process's processor time.

        Args:
            node: from 1.
            arrays: its histories; None: they are in the folder that this machine sees.
        """
        if arrays is not None:
            indptr, indices, weights, n_items = arrays
            self._shard = node - 1, Interactions(indptr, indices, np.broadcast_to(weights, indices.shape), n_items)
        found = [answer for _, answer in self._transport.exchange(Request((node,), self._shared))]
        self._shard = None
        return (found[0] if found else None), time.process_time()

    def shard(self, node: int) -> tuple[Interactions, Sequence[int]]:
        """The histories of a node (`palate_sim.engines.client_app.HistorySource`), counted from 0."""
        if self._shard is not None and self._shard[0] == node:
            first = node * self._start.users_per_node
            return self._shard[1], range(first, first + self._shard[1].n_users)
        if self._mapped is None:
            raise InputError(f"`node` must be the one whose histories came, got {node}")
        return self._mapped.shard(node)


def anywhere(start: Start) -> Start:
    """What a worker on another machine may know: no descriptor, and no file of the devices' ledger."""
    return replace(
        start, devices="", place=replace(start.place, descriptor=-1, folder=start.place.folder or "/nowhere")
    )
