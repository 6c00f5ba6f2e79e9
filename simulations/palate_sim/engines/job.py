"""Job and Outcome: what every engine takes, and what it returns.

job = Job(folder=run_folder, terms=terms, ledger=ledger_file, key=key_file)
outcome = run_local(job, histories, on_release)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from palate_common.models.model import GlobalModel
from palate_core.device.floors import Floors
from palate_server.rounds.coordinator import Release
from palate_server.rounds.terms import RunTerms

EVENT_NODE = 2048
"""Users a node hosts where a device sends single events, each with noise of its own."""
SMALL_NODE = 4**7
"""Users a node hosts in a small population."""
MOST_NODES = 32
"""Nodes of a population, at most; a large one has eight or more."""


def node_size(n_users: int, *, unit: str = "user") -> int:
    """How many simulated users a node hosts: by public numbers alone, whatever the machine has.

    A node answers with one sum. The model that it reads, the noise that it draws and the answer that the server checks
    have a size that the catalogue sets, so nodes are few: one in a small population, and enough for the cores to share
    in a large one. Powers of four are squares, whose noise takes one draw (`palate_common.rounds.shares.squares`).

    >>> [node_size(users) for users in (1000, 112_000, 800_000, 8_000_000)]
    [16384, 16384, 65536, 262144]
    """
    if unit != "user":
        return EVENT_NODE
    size = SMALL_NODE
    while n_users > MOST_NODES * size:
        size *= 4
    return size


class Job(BaseModel):
    """One run, serialisable as JSON. Histories are passed beside it, because they are private."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    folder: Path
    """The run folder. It exists, and no process may hold its lock: the engine locks it."""
    terms: RunTerms
    ledger: Path
    """The population's ledger."""
    key: Path
    """The release key (`SigningKey.save`), whose public half is pinned in every simulated device."""
    users_per_node: int = Field(default=SMALL_NODE, ge=1)
    """Users a node hosts (see `node_size`); 1 makes each node a real device."""
    identities: Path | None = None
    """The simulated devices' keys, for a run with masks."""
    workers: int | None = Field(default=None, ge=1)
    """Processes in which the engine `local` runs a large population's nodes; None: as many as there are cores."""
    ray_address: str | None = None
    """The cluster of the engine `ray`; None: the environment variable RAY_ADDRESS."""
    histories: Path | None = None
    """The folder in which the histories lie already, as `map_interactions` maps it."""
    floors: Floors = Floors()
    """What the devices require of a run; seeded noise, `central` and `off` need lower floors."""

    @property
    def devices(self) -> Path:
        """The devices' own ledger."""
        return self.folder / "devices.db"

    def nodes(self, n_users: int) -> int:
        """How many nodes host `n_users` users."""
        return -(-n_users // self.users_per_node)


OnRelease = Callable[[Release], None]


@dataclass(frozen=True)
class Outcome:
    """The result of a run's training.

    Attributes:
        model: the model after the last release.
        updates: accepted contributions, summed over this call's releases.
        cpu_seconds: from the first plan to the last release, in all processes, without `on_release`.
        wall_seconds: the same span on the clock, likewise.
    """

    model: GlobalModel
    updates: int
    cpu_seconds: float
    wall_seconds: float
