"""A whole run in a temporary folder, on made histories, for the tests of the path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_client.contribution import Contributor, Floors
from palate_common.accounting import mu_of
from palate_common.algorithms import PublicFacts
from palate_common.algorithms.popularity import Popularity, PopularitySettings
from palate_common.device_ledger import DeviceLedger
from palate_common.interactions import Interactions
from palate_common.ledger import Ledger
from palate_common.model import catalogue_hash
from palate_common.plan import Charge, DpMode, RoundPlan, SignedPlan, sign_plan
from palate_common.signing import SigningKey
from palate_server import replay
from palate_server.coordinator import Coordinator, Release
from palate_server.lock import RunLock
from palate_server.registry import Registry
from palate_server.terms import RunTerms
from palate_sim.round import run_round

EPSILON, DELTA = 5.0, 1e-5
MU = mu_of(epsilon=EPSILON, delta=DELTA)


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


@dataclass
class Run:
    """Everything one run needs; `coordinator()` opens or resumes it."""

    folder: Path
    histories: Interactions
    terms: RunTerms
    ledger: Ledger
    devices: DeviceLedger
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

    def kinds(self) -> list[str]:
        """What the ledger holds of the run."""
        return [entry.kind for entry in self.ledger.entries(self.terms.run)]

    def one_round(self, coordinator: Coordinator, nodes: Sequence[Contributor] | None = None) -> Release:
        return run_round(coordinator, self.nodes() if nodes is None else nodes)

    def first(self) -> tuple[bytes, bytes]:
        """The first attempt's plan, and the model it starts from."""
        coordinator = self.coordinator()
        return coordinator.open_attempt(), coordinator.model.data

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
        charge = Charge(
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
        settings = {"ledger": self.devices, "public_key": self.key.public, "floors": self.floors, **changes}
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
            terms |= {"grid": 2**14, "noise": "seeded", **changes}
            ledger = stack.enter_context(Ledger(":memory:", population="readers"))
            devices = stack.enter_context(DeviceLedger(":memory:", durable=False))
            loose = Floors(allow_seeded=True, allow_off=off, allow_central=changes.get("dp", "central") == "central")
            run = Run(tmp_path, made, RunTerms.model_validate(terms), ledger, devices, floors or loose)
            stack.callback(lambda: run.lock.close())
            return run

        yield make
