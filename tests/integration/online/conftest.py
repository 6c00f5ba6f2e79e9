"""Devices of one run at one deployment, which all tests here share."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import palate
from palate_client.online.sync import SyncResult
from palate_common.interactions import Interactions
from palate_common.models.catalogue import ItemCatalogue
from palate_core.log.canonical import digest
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

sys.path.insert(0, str(Path(__file__).parent))  # tests have no packages
from deployment import Deployment

FLOORS = palate.Floors(allow_seeded=True, allow_central=True, allow_unmasked=True).for_few()
N = 6
POPULARITY = {"algorithm": "popularity", "settings": {}}


@dataclass
class Fleet:
    """Some devices of one run, and the deployment they are at."""

    deployment: Any
    run: Any
    folder: Path
    stack: ExitStack
    devices: list[palate.Device] = field(default_factory=list)
    floors: palate.Floors = FLOORS
    job: Any = None

    def add(self, *, enrol: bool = True, **changes: Any) -> palate.Device:
        """A device with the events of the next user."""
        number = len(self.devices)
        service = {"public_key": self.run.key.public, "population": "readers", "epsilon": 20.0, "floors": FLOORS}
        device = palate.open(
            self.folder / f"device-{number}",
            app="shelf",
            key=bytes(range(32)),
            service=palate.Service(**{**service, **changes}),
        )
        self.stack.enter_context(device)
        for purpose in ("store", "train"):
            device.consent.grant(purpose)  # type: ignore[arg-type] # names of purposes
        items = [f"item-{row}" for row in self.run.histories.user(number).indices]
        device.track_many([palate.Event("like", item) for item in items])
        if enrol:
            device.enroll(self.deployment.invitation(self.run.key.public))
        self.devices.append(device)
        return device

    def publish(self) -> None:
        """Enter the run in the ledger, and publish the model that it starts from."""
        folder = self.folder / "run"
        folder.mkdir()
        self.job = SimpleNamespace(
            folder=folder, terms=self.run.terms, ledger=self.folder / "ledger.db", key=self.run.key
        )
        opened = open_run(self.job.terms, folder, ledger=self.job.ledger, key=self.run.key)
        with opened as coordinator, Ledger(self.job.ledger, population="readers") as ledger:
            place: dict[str, Any] = {"population": "readers", "shown": ledger.shown()}
            catalogue = ItemCatalogue(self.run.items)
            coordinator.registry.publish(coordinator.model, catalogue, {}, self.run.key, **place)
        manifest = (folder / "model" / "manifest.json").read_bytes()
        public = self.deployment.site.public / "models"
        shutil.copytree(folder / "model", public / digest(manifest))
        (public / "latest").write_text(json.dumps({"version": ledger_size(manifest), "manifest": digest(manifest)}))

    def order(self, **changes: Any) -> Callable[[], dict[str, Any]]:
        found: Callable[[], dict[str, Any]] = self.deployment.order(
            **{"nodes": len(self.devices), "job": self.job, **changes}
        )
        return found

    def simulated(self, **terms: Any) -> list[str]:
        """The models of the same run without any network."""
        run = self.run
        run.folder, run.terms = self.folder / "simulated", RunTerms.model_validate({**dict(run.terms), **terms})
        run.folder.mkdir()
        releases: list[Any] = []
        with SimulatedLedger(":memory:", durable=False) as ledger:
            nodes = run.nodes(users_per_node=1, ledger=ledger, floors=FLOORS)
            run_rounds(run.coordinator(), InProcess(nodes), on_release=releases.append)
        return [release.model.hash for release in releases]

    def sync(self, pool: ThreadPoolExecutor, **changes: Any) -> list[Future[SyncResult]]:
        options = {"seconds": 300.0, "poll_seconds": 0.25, **changes}
        return [pool.submit(device.sync, **options) for device in self.devices]


def ledger_size(manifest: bytes) -> int:
    size = json.loads(manifest)["checkpoint"]["size"]
    assert isinstance(size, int)
    return size


def few(n: int = N, n_items: int = 30) -> Interactions:
    """Users with 1 to n different items."""
    pairs = [(user, (7 * user + item) % n_items) for user in range(n) for item in range(user + 1)]
    users, items = zip(*pairs, strict=True)
    return Interactions.from_pairs(users, items, n_users=n, n_items=n_items)


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("deployment"))
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.end()


@pytest.fixture
def deployment(started: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """The deployment without trouble, and without the devices of other tests."""
    started.forget()
    started.watch(monkeypatch)
    return started


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


@pytest.fixture
def fleet(deployment: Any, make_run: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """`fleet(n, **terms)`: a run with so many users, and an enrolled device for each of them."""
    models = deployment.site.public / "models"
    with ExitStack() as stack:

        def make(n: int = N, *, histories: Any = None, publish: bool = True, **terms: Any) -> Fleet:
            run = make_run(histories=few(max(n, 2)) if histories is None else histories, **{**POPULARITY, **terms})
            made = Fleet(deployment, run, tmp_path, stack)
            for _ in range(n):
                made.add()
            if publish:
                made.publish()
            return made

        yield make
        shutil.rmtree(models, ignore_errors=True)
