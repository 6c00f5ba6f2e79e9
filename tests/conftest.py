"""A whole run in a temporary folder, on made histories, for the tests of the path."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import logging as absl_logging
from hypothesis import HealthCheck, settings

from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import PublicFacts
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.popularity import Popularity, PopularitySettings
from palate_common.interactions import Interactions
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel, catalogue_hash
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.plan import MAX_USERS, ChargeProof, RoundPlan, SignedPlan, sign_plan
from palate_core.privacy_mode import DpMode
from palate_server.ledger.ledger import Ledger
from palate_server.rounds import replay
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import Registry
from palate_server.rounds.run import run_round
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.evaluation.rehearsal import rehearse

EPSILON, DELTA = 5.0, 1e-5
MU = mu_of(epsilon=EPSILON, delta=DELTA)


# No deadline: how long an example takes is the machine's affair. Some tens of examples, and others in each run; in
# `make soak` ten times as many.
for profile, examples in (("palate", 40), ("thorough", 400)):
    settings.register_profile(
        profile, deadline=None, max_examples=examples, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("palate")

# absl, which accountants import, keeps the stderr of that moment, which may be pytest's own file, and closes it when a
# server of a test sets up uvicorn's logging. It leaves the one of the process open.
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

# What a worker imports stays, a million objects: to look through them for circles is a sixth of all its time.
gc.set_threshold(50_000)


def pytest_collection_finish() -> None:
    """What is there by now is never looked through again; what a test leaves still is."""
    gc.collect()
    gc.freeze()


LONG = ("docs", "mechanism", "mutants", "simulations/audit", "integration", "simulations", "server/service")
"""Folders of the files that take longest: they come first, so that no worker waits alone for the last of them."""


class FromItsEnd(pytest.Dir):
    """A folder whose files are read from the last to the first."""

    def collect(self) -> Sequence[pytest.Item | pytest.Collector]:
        return [*super().collect()][::-1]


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> FromItsEnd | None:
    """Every second worker begins at the end: each then finds half of what they all read compiled by another."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return FromItsEnd.from_parent(parent, path=path) if number % 2 else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, then by their names; the order within a file is as it was."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[int, str]:
        name = item.path.relative_to(tests).as_posix()
        return next((number for number, folder in enumerate(LONG) if name.startswith(folder)), len(LONG)), name

    items.sort(key=place)


def made_histories(*, n_users: int = 40, n_items: int = 30, seed: int = 7) -> Interactions:
    """Users with 0 to 12 items, popular ones first; user 0 has none and user 1 a single one."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 13, n_users)
    sizes[:2] = 0, 1
    odds = 1 / np.arange(1, n_items + 1)
    items = [rng.choice(n_items, size, replace=False, p=odds / odds.sum()) for size in sizes]
    return Interactions.from_pairs(
        np.repeat(np.arange(n_users), sizes), np.concatenate(items), n_users=n_users, n_items=n_items
    )


@pytest.fixture(scope="session")
def tastes() -> Interactions:
    """300 users of two tastes, with weighted events; the first has none and the second a single one."""
    rng, n_items = np.random.default_rng(0), 60
    users, items = [1], [3]
    for user in range(2, 300):
        odds = np.where(np.arange(n_items) % 2 == user % 2, 4.0, 1.0) / np.arange(1, n_items + 1)
        count = int(rng.integers(2, 12))
        users += [user] * count
        items += rng.choice(n_items, count, replace=False, p=odds / odds.sum()).tolist()
    weights = rng.uniform(0.3, 2, len(users))
    return Interactions.from_pairs(users, items, weights, n_users=300, n_items=n_items)


@pytest.fixture(scope="session")
def trained(tastes: Interactions) -> Callable[..., GlobalModel]:
    """`trained(algorithm=..., settings=..., features=True)`: a model of these tastes, rehearsed without noise, once."""
    made: dict[str, GlobalModel] = {}

    def train(
        algorithm: str = "als", settings: Mapping[str, Any] | None = None, *, features: bool = False
    ) -> GlobalModel:
        items = np.arange(tastes.n_items)
        inputs = {FEATURES: np.stack([items % 2, items % 3 == 0], axis=1).astype(np.float32)} if features else None
        key = f"{algorithm} {sorted((settings or {}).items())} {features}"
        if key not in made:
            settings = settings or {}
            made[key] = rehearse(
                tastes, algorithm=algorithm, settings=settings, epsilon=None, delta=1e-5, inputs=inputs
            )
        return made[key]

    return train


@dataclass
class Run:
    """Everything one run needs; `coordinator()` opens or resumes it."""

    folder: Path
    histories: Interactions
    terms: RunTerms
    ledger: Ledger
    devices: SimulatedLedger
    floors: Floors
    key: SigningKey = field(default_factory=SigningKey.generate)

    @cached_property
    def lock(self) -> RunLock:
        return RunLock(self.folder)

    @property
    def registry(self) -> Registry:
        return Registry(self.folder)

    @property
    def items(self) -> tuple[str, ...]:
        return tuple(f"item-{row}" for row in range(self.histories.n_items))

    def coordinator(self, **changes: Any) -> Coordinator:
        parts: Mapping[str, Any] = {"ledger": self.ledger, "registry": self.registry, "key": self.key}
        return Coordinator(**{"terms": self.terms, "lock": self.lock, **parts, **changes})

    def publish(self, coordinator: Coordinator) -> Path:
        """Publish the run's model as it is now; where it lies."""
        place: dict[str, Any] = {"population": self.terms.population, "shown": self.ledger.shown()}
        self.registry.publish(coordinator.model, ItemCatalogue(self.items), {"run": self.terms.run}, self.key, **place)
        return self.registry.folder / "model"

    def kinds(self) -> list[str]:
        """What the ledger holds of the run."""
        return [entry.kind for entry in self.ledger.entries(self.terms.run)]

    def one_round(self, coordinator: Coordinator, nodes: Sequence[Contributor] | None = None) -> Release:
        return run_round(coordinator, InProcess(self.nodes() if nodes is None else nodes))

    def first(self, directory: Directory | None = None) -> tuple[bytes, bytes]:
        """The first attempt's plan, and the model it starts from."""
        coordinator = self.coordinator()
        return coordinator.open_attempt(directory), coordinator.model.data

    def altered(self, base: bytes, **changes: Any) -> bytes:
        """A later attempt with changes, charged in the ledger and signed by the operator like any other."""
        plan = SignedPlan.model_validate_json(base).plan
        fields = {name: getattr(plan, name) for name in RoundPlan.model_fields}
        plan = RoundPlan.model_validate({**fields, "attempt": plan.attempt + 1, **changes})
        if plan.dp is DpMode.OFF:
            return sign_plan(plan, None, self.key).to_bytes()
        earlier = self.ledger.checkpoint().size
        place = {"run": plan.run, "round_": plan.round, "attempt": plan.attempt}
        charged = self.ledger.charge(**place, plan_hash=plan.hash, mu2=plan.mu2, facts={}, run_limit=1e9)
        size = charged.checkpoint.size
        charge = ChargeProof(
            entry=charged.entry.body,
            checkpoint=charged.checkpoint,
            inclusion=self.ledger.inclusion_proof(charged.seq, size),
            consistency={old: self.ledger.consistency_proof(old, size) for old in range(1, earlier + 1)},
        )
        return sign_plan(plan, charge, self.key).to_bytes()

    def again(self, name: str) -> None:
        """The next run of the same population, in a folder of its own."""
        self.lock.close()
        del self.lock
        self.folder = self.folder / name
        self.folder.mkdir()
        self.terms = self.terms.model_copy(update={"run": name})

    def nodes(self, users_per_node: int = 16, **changes: Any) -> list[Contributor]:
        """The devices, so many a node."""
        histories = self.histories
        settings = {
            "ledger": self.devices,
            "public_key": self.key.public,
            "floors": self.floors,
            "pinned": None,
            **changes,
        }
        starts = range(0, histories.n_users, users_per_node)
        shards = [range(first, min(first + users_per_node, histories.n_users)) for first in starts]
        return [
            Contributor(histories=histories.users(slice(shard.start, shard.stop)), devices=shard, **settings)
            for shard in shards
        ]


@pytest.fixture
def shared_popularity() -> Callable[..., Callable[..., Popularity]]:
    """`shared_popularity(*shares)`: in the place of `make_algorithm`, popularity released in several rounds."""

    def maker(*shares: float) -> Callable[..., Popularity]:
        made = type("Shared", (Popularity,), {"shares": property(lambda _: shares)})
        return lambda name, chosen, facts: made(PopularitySettings(), facts)

    return maker


@pytest.fixture
def set_shares(
    monkeypatch: pytest.MonkeyPatch, shared_popularity: Callable[..., Callable[..., Popularity]]
) -> Callable[..., None]:
    """Every algorithm of the server is popularity in several rounds: `set_shares(0.5, 0.5)`."""
    return lambda *shares: monkeypatch.setattr(replay, "make_algorithm", shared_popularity(*shares))


@pytest.fixture(scope="session")
def hears_control_c() -> Callable[[], object]:
    """`Popen(..., preexec_fn=hears_control_c)`: a job in the background, as a whole suite may be, ignores SIGINT."""
    return lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def histories() -> Interactions:
    return made_histories()


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Make a run: `make_run(**terms)`; `histories` and `floors` may be given too."""
    with ExitStack() as stack:

        def make(*, histories: Interactions | None = None, floors: Floors | None = None, **changes: Any) -> Run:
            made = made_histories() if histories is None else histories
            off = changes.get("dp") == "off"
            facts = PublicFacts(n_users=made.n_users, n_items=made.n_items, mu=None if off else MU, seed=3)
            terms: dict[str, Any] = {"population": "readers", "run": "run-1", "algorithm": "popularity", "settings": {}}
            terms |= {"facts": facts, "delta": DELTA, "epsilon": None if off else EPSILON}
            terms |= {"catalogue": catalogue_hash([f"item-{row}" for row in range(made.n_items)])}
            terms |= {"grid": 2**14, "noise": "seeded", "per_node": MAX_USERS, **changes}
            ledger = stack.enter_context(Ledger(":memory:", population="readers"))
            devices = stack.enter_context(SimulatedLedger(":memory:", durable=False))
            loose = Floors(allow_seeded=True, allow_off=off, allow_central=changes.get("dp", "central") == "central")
            run = Run(tmp_path, made, RunTerms.model_validate(terms), ledger, devices, floors or loose.for_few())
            stack.callback(lambda: (run.lock.close(), run.ledger.close(), run.devices.close()))  # as they then are
            return run

        yield make
