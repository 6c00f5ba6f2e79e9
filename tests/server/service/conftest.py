"""A server folder and its devices in this process: the real code of both sides, and no sockets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mechanism.secagg.hostile import PLANS, Turn
from palate_common.interactions import Interactions
from palate_common.rounds.exchange import SURVEYS, TRAINING, Availability
from palate_core.device.floors import Floors
from palate_core.masks.messages import step_of
from palate_core.plan import read_plan
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.operation.operation import Operation
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.run import Request, run_round
from palate_server.service.setup import make_site
from palate_sim.engines.client_app import Host, Shards
from palate_sim.engines.identities import Identities
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

ITEMS = tuple(f"item-{number}" for number in range(12))
CONFIG = """
population = "readers"
[privacy]
epsilon = {epsilon}
lifetime_epsilon = {lifetime}
period_epsilon = {period}
dropout = {dropout}
[training]
every_hours = {every_hours}
algorithm = "{algorithm}"
features = "{features}"
[cohort]
size = {size}
wait_seconds = {wait}
pause_seconds = {pause}
attempts = {attempts}
"""
DEFAULTS: dict[str, Any] = {
    "epsilon": 4.0, "lifetime": 100.0, "period": 100.0, "dropout": 0.13, "every_hours": 720.0, "algorithm": "sgd",
    "features": "",
    "size": 8, "wait": 0.2, "pause": 0.0, "attempts": 3,
}  # fmt: skip


@dataclass
class Devices:
    """Simulated devices, enrolled at a site, that answer in this process: its operation's `MessageTransport`."""

    site: Site
    folder: Path
    count: int
    away: set[int] = field(default_factory=set)
    """Who doesn't come."""
    spoil: Callable[[int, bytes], bytes] = lambda device, answer: answer
    """What becomes of a device's answer on the way."""
    lies: dict[int, str] = field(default_factory=dict)
    """Who lies under masks, and how: a key of the auditor's `PLANS`."""
    silent: set[int] = field(default_factory=set)
    """Who comes, and never says anything."""
    heard: set[int] = field(default_factory=set)
    declared: dict[int, Availability] = field(default_factory=dict)
    """What a device declares that doesn't stay for ten minutes, or takes part in something alone."""
    home: dict[int, float] = field(default_factory=dict)
    """Device -> seconds after which it was asked to come back."""
    cohorts: list[Set[int]] = field(default_factory=list)
    before: Callable[[Coordinator], None] = lambda coordinator: None
    """Called before each attempt."""
    closed: int = 0
    """How often all was forgotten that had been asked."""
    on_close: Callable[[], None] = lambda: None
    floors: Floors = field(default_factory=lambda: Floors().for_few())

    def __post_init__(self) -> None:
        self.identities = Identities.generate(self.count)
        with Enrolments(self.site.enrolment_file) as register:
            for device in range(self.count):
                token = register.invite(now=0.0, hours=1e6)
                register.enrol(token, identity=self.identities.of(device).public, now=1.0)
        users = [user for user in range(self.count) for _ in range(3)]
        items = [(7 * user + step) % len(ITEMS) for user in range(self.count) for step in range(3)]
        self.histories = Interactions.from_pairs(users, items, n_users=self.count, n_items=len(ITEMS))
        self.ledger = SimulatedLedger(self.folder / "devices.db", durable=False)

    def open_attempt(self, coordinator: Coordinator) -> bytes:
        """Charge an attempt to which all devices are invited."""
        terms = coordinator.terms.cohort
        masks = terms is not None and terms.masks
        return coordinator.open_attempt(self.identities.directory(range(self.count)) if masks else None)

    def online(self, *, wait: float = 0.0, enough: int = 1) -> dict[int, Availability]:
        there = [device for device in range(self.count) if device not in self.away]
        return {device: self.declared.get(device, Availability(600.0, TRAINING | SURVEYS)) for device in there}

    def transport(self, cohort: Collection[int], *, timeout: float) -> _Transport:
        self.heard.clear()
        return _Transport(self, set(cohort))

    def send_home(self, devices: Mapping[int, float]) -> None:
        self.home |= devices

    def close(self) -> None:
        self.closed += 1
        assert list(self.site.round_models.glob("*")) == []
        self.on_close()


class _Transport:
    """The messages of an attempt to a cohort, one device after the other."""

    def __init__(self, devices: Devices, cohort: Set[int]) -> None:
        self._devices, self._cohort = devices, cohort

    def begin(self, coordinator: Coordinator) -> None:
        """What comes before an attempt; then the devices as they are now."""
        devices = self._devices
        devices.before(coordinator)
        devices.cohorts.append(self._cohort)
        public = devices.site.key().public
        shards = Shards(devices.histories, 1)
        self._host = _Spoiling(shards, devices.ledger, public, devices.floors, key_of=devices.identities.of)
        self._host.devices = devices

    def invite(self, *, masked: bool) -> Collection[int]:
        return self._cohort

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        plan = request.shared.get("plan", b"")
        for device in request.to:
            own = {} if request.own is None else {**request.shared, **request.own(device)}
            if not own:
                answer = self._host.answer(device, plan, b"")
            elif plan:
                answer = self._host.join(device, plan, b"", own["directory"], own["request"])
            else:
                answer = self._host.go_on(device, own["request"])
            if device not in self._devices.silent:
                self._devices.heard.add(device)
                yield device, answer


def _begun(coordinator: Coordinator, watched: Any, **options: Any) -> Release:
    """The round, and what comes before it."""
    watched.carrier.begin(coordinator)
    return run_round(coordinator, watched, **options)


class _Spoiling(Host):
    """A host whose answers something may happen to."""

    devices: Devices

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        return super().answer(node, plan, self._fetched(plan))

    def join(self, node: int, plan: bytes, model: bytes, directory: bytes, request: bytes) -> bytes:
        return super().join(node, plan, self._fetched(plan), directory, request)

    def _fetched(self, plan: bytes) -> bytes:
        """What the gateway has by the hash in a plan."""
        return (self.devices.site.round_models / read_plan(plan).plan.model_hash).read_bytes()

    def go_on(self, node: int, request: bytes) -> bytes:
        moves = PLANS[self.devices.lies[node]] if node in self.devices.lies else {}
        if (step := step_of(request)) in moves:
            machine = self._masked[node][1]
            turn = Turn(step, machine, request, {}, {}, np.random.default_rng(node))
            return self.devices.spoil(node, moves[step](turn) or b"")
        return self.devices.spoil(node, super().go_on(node, request))


@dataclass
class Service:
    """A site, its devices, and its operation."""

    site: Site
    devices: Devices

    def operate(self, steps: int = 1) -> None:
        """Start, and go so many times around the loop."""
        operation = Operation(self.site, self.devices)
        left = iter(range(steps))
        operation.serve(lambda: next(left, None) is None)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in EventLog(self.site.events).all() if event["event"] == kind]


Maker = Callable[..., Service]


@dataclass
class Clock:
    """What the server takes for the time, Unix seconds."""

    now: float = 1_795_950_000.0
    slept: float = 0.0
    """What each sleep adds."""
    ticks: float = 0.0
    """What each look at it adds."""

    def read(self) -> float:
        """The time; the next look finds a later one where it ticks."""
        self.now += self.ticks
        return self.now


@pytest.fixture
def clock(make_service: Maker, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The server's clock, which stands still between two sleeps, unless it ticks."""
    made = Clock()

    def sleep(seconds: float) -> None:
        made.now += made.slept

    monkeypatch.setattr("palate_server.operation.operation.time.time", made.read)
    monkeypatch.setattr("palate_server.operation.operation.sleep", sleep)
    return made


@pytest.fixture
def make_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    """Makes services; nobody waits in their operations."""
    monkeypatch.setattr("palate_server.operation.operation.sleep", lambda seconds: None)
    with services(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """Makes services of a module, to be copied."""
    with services(tmp_path_factory.mktemp("shared")) as make:
        yield make


@contextmanager
def services(folder: Path) -> Iterator[Maker]:
    """Makes services in a folder; their rounds begin with what `Devices.before` has to do."""
    made: list[Service] = []

    def make(
        name: str = "site", *, count: int = 8, matrix: Any = None, extra: str = "", start: Any = None, **changes: Any
    ) -> Service:
        config = CONFIG.format(**{**DEFAULTS, **changes}) + extra
        if start is None:
            site = make_site(folder / name, config, ITEMS, matrix)
        else:
            site = make_site(
                folder / name, config, start.items, matrix, start.panel, start.table, start.about, start.model
            )
        place = folder / f"{name}-devices"
        place.mkdir()
        made.append(Service(site, Devices(site, place, count)))
        return made[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate_server.operation.operation.run_round", _begun)
        yield make
    for service in made:
        service.devices.ledger.close()


@pytest.fixture
def copy_of(tmp_path: Path) -> Iterator[Callable[[Service], Service]]:
    """Copies a service with its devices, as they are, to be changed; a folder that is lost stays lost."""
    with ExitStack() as stack:

        def copied(service: Service) -> Service:
            site, devices = Site(tmp_path / service.site.folder.name), copy(service.devices)
            if service.site.folder.exists():
                shutil.copytree(service.site.folder, site.folder)
            service.devices.ledger.close()  # all of it is in its file
            devices.site, devices.folder = site, tmp_path / service.devices.folder.name
            shutil.copytree(service.devices.folder, devices.folder)
            devices.ledger = SimulatedLedger(devices.folder / "devices.db", durable=False)
            stack.callback(devices.ledger.close)
            for name in ("away", "silent", "heard", "declared", "home", "cohorts"):
                setattr(devices, name, copy(getattr(devices, name)))
            return Service(site, devices)

        yield copied
