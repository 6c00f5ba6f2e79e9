"""Stage: a small run of the production path in a temporary folder, watched at every place where something leaves.

    Coordinator -> run_rounds -> grid that watches -> ClientApp -> Host -> Contributor -> ... -> sealed release

The parts are those of the engine `local`. What a test may choose is who is there, what they do, which messages are lost
or come twice, and when the server restarts. `Seen` is everything that came out beside the noised numbers.

    >>> import numpy as np
    >>> from palate_common.interactions import Interactions
    >>> from palate_audit.harness.probe_algorithm import Gesture
    >>> everybody = Interactions.from_pairs([0, 1], [0, 0], n_users=2, n_items=1)
    >>> with Stage(Setting(), everybody, [Gesture(plain=np.ones(3))]) as stage:
    ...     stage.play()
    ...     [(each.plan.round, each.participation.users) for each in stage.releases]
    [(0, 2)]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.numpy

from palate_audit.harness.probe_algorithm import Gesture, performing
from palate_audit.harness.watched_grid import WatchedGrid
from palate_client.floors import Floors
from palate_client.flower import Host, Shards, node_app
from palate_client.ledger.device_ledger import DeviceLedger
from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.mechanism.accounting import mu_of
from palate_common.mechanism.cohort import CohortTerms
from palate_common.mechanism.update import Int64
from palate_common.models.model import catalogue_hash
from palate_common.records.closing import Closing
from palate_common.records.signing import SigningKey
from palate_common.rounds.plan import Noise
from palate_common.rounds.privacy_mode import CENTRAL, PrivacyMode
from palate_server.flower.transport import GridTransport
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.identities import Identities

POPULATION = "audited"
DELTA = 1e-5


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is run.

    Attributes:
        mode: who adds the noise.
        noise: seeded noise is the same in two worlds with one seed, so that their difference has none.
        users_per_node: devices a node hosts.
        rounds: releases of the run.
        width: coordinates of the gestures' widest block.
        clip_norm: not 1, so that steps and units can't be taken for each other.
        grid: steps per clip norm.
        epsilon: of the run.
        lost: with distributed, how many devices an attempt bears to lose.
        c_max: with distributed, how many may be the adversary's.
        masks: with distributed, whether the sum is computed under masks.
        seed: public, of seeded noise too.
        algorithm: another one than the gestures, with its settings.
        settings: of that algorithm.
    """

    mode: PrivacyMode = CENTRAL
    noise: Noise = Noise.SEEDED
    users_per_node: int = 4
    rounds: int = 1
    width: int = 24
    clip_norm: float = 2.5
    grid: int = 2**14
    epsilon: float = 8.0
    lost: int = 0
    c_max: int = 1
    masks: bool = False
    seed: int = 11
    algorithm: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def terms(self, name: str, *, n_users: int, n_items: int, directory: str | None) -> RunTerms:
        """The terms of a run on so many users."""
        cohort, delta = None, DELTA - self.mode.reserved_delta()
        if self.mode.cohort:
            least = n_users - self.lost
            cohort = CohortTerms(
                n_max=n_users, n_min=least, c_max=self.c_max, masks=self.masks, directory=directory, max_tosses=4
            )
        mu = mu_of(epsilon=self.epsilon, delta=delta)
        return RunTerms(
            population=POPULATION,
            run="run",
            algorithm=name,
            settings=self.settings if self.algorithm else {"rounds": self.rounds, "width": self.width},
            facts=PublicFacts(n_users=n_users, n_items=n_items, mu=mu, seed=self.seed, local=self.mode.alone),
            catalogue=catalogue_hash([f"item-{row}" for row in range(n_items)]),
            dp=self.mode.name,
            noise=self.noise,
            epsilon=self.epsilon,
            delta=DELTA,
            clip_norm=self.clip_norm,
            grid=self.grid,
            cohort=cohort,
            per_node=self.users_per_node,
        )


class Stage(Closing):
    """One run, ready to be played.

    Args:
        setting: what is run.
        histories: whose items are gestures, or, with another algorithm, items.
        script: the gestures.

    Attributes:
        coordinator: the server's side; a new one after `restart`.
        releases: what came out, in order.
        seen: what the grid carried.
    """

    def __init__(self, setting: Setting, histories: Interactions, script: Sequence[Gesture] = ()) -> None:
        self.setting, self.histories = setting, histories
        self._stack = ExitStack()
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=_memory(), prefix="palate-")))
            name = setting.algorithm or self._stack.enter_context(performing(script))
            self.key = release_key()
            identities = _identities(histories.n_users) if setting.masks else None
            self.directory = None if identities is None else identities.directory
            directory = None if self.directory is None else self.directory.hash
            sizes = {"n_users": histories.n_users, "n_items": histories.n_items}
            self.terms = setting.terms(name, **sizes, directory=directory)
            (self.folder / "run").mkdir()
            self.devices = self._stack.enter_context(DeviceLedger(self.folder / "devices.db", durable=False))
            floors = Floors(
                allow_seeded=setting.noise is Noise.SEEDED,
                allow_central=setting.mode.trusts_server,
                allow_unmasked=not setting.masks,
                population=POPULATION,
            ).for_few()
            self.host = Host(
                Shards(histories, setting.users_per_node),
                self.devices,
                self.key.public,
                floors,
                identity_of=identities.of if identities else None,
            )
            nodes = -(-histories.n_users // setting.users_per_node)
            self.grid = WatchedGrid(node_app(lambda _: self.host), nodes=nodes)
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
        """The server's process ends and starts again: everything in its memory is gone."""
        self._server.close()
        self._open()

    def play(self, *, rounds: int | None = None, absent: Collection[int] = (), repeated: Collection[int] = ()) -> None:
        """The next rounds, or all that are left.

        Args:
            rounds: how many; None for all.
            absent: nodes whose messages are lost.
            repeated: nodes whose answers are delivered twice.

        Raises:
            PalateError: what the path raises.
        """
        self.grid.absent, self.grid.repeated = frozenset(absent), frozenset(repeated)
        transport = GridTransport(self.grid, ttl=self.terms.plan_seconds)
        told, directory = self.releases.append, self.directory
        run_rounds(self.coordinator, transport, directory=directory, on_release=told, most=rounds)

    def files(self) -> dict[str, bytes]:
        """Every file of the run folder, by its name in it."""
        run = self.folder / "run"
        return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}

    def sealed(self, round_: int, attempt: int = 0) -> Int64:
        """The numbers of a release, as they lie on the disk."""
        return steps_of(self.files()[f"releases/round-{round_}-attempt-{attempt}.safetensors"])

    def _open(self) -> None:
        self.coordinator = self._server.enter_context(
            open_run(self.terms, self.folder / "run", ledger=self.ledger_file, key=self.key)
        )
        self.ledger = self.coordinator.ledger

    def __enter__(self) -> Self:
        return self


def crowd(acts: Sequence[Sequence[int]], *, n_items: int) -> Interactions:
    """Histories from each user's items."""
    sizes = [len(each) for each in acts]
    items = [item for each in acts for item in each]
    return Interactions.from_pairs(np.repeat(np.arange(len(acts)), sizes), items, n_users=len(acts), n_items=n_items)


def steps_of(release: bytes) -> Int64:
    """The noised integers of a release's file."""
    steps: Int64 = safetensors.numpy.load(release)["steps"].astype(np.int64)
    return steps


@lru_cache(maxsize=1)
def release_key() -> SigningKey:
    """One key for all stages: making one takes longer than a round."""
    return SigningKey.generate()


@lru_cache(maxsize=4)
def _identities(devices: int) -> Identities:
    """Identities of simulated devices."""
    return Identities.generate(devices)


def _memory() -> Path | None:
    """A folder in memory where the system offers one: nothing here has to outlive a power cut."""
    memory = Path("/dev/shm")  # noqa: S108, a folder of our own is made in it
    return memory if os.access(memory, os.W_OK) else None
