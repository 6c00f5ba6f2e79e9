"""World: what victims find. A store with a model, a ledger and events; models and plans of an operator's to come."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import palate
from benchmarks.durability.victims import opened
from palate_common.algorithms import PublicFacts
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_core.accounting import mu_of
from palate_core.log.consistency import Shown
from palate_core.log.merkle import MerkleTree
from palate_core.log.signing import SigningKey
from palate_core.plan import ChargeProof, RoundPlan, SignedPlan, sign_plan
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.run import open_run
from palate_server.rounds.terms import RunTerms

ITEMS, MODELS, PLANS = 2_000, 60, 40
LINES, KEPT = 4_000, 300
"""Lines of an import; events that an erasing begins with."""
FIRST = 100
"""The version of the model in use: of those that an update brings each is one higher. It is above every size of ledger
that a plan shows: models and plans have ledgers of their own here, which at one size would prove a fork."""


@dataclass(frozen=True)
class World:
    """An operator, and a store that knows it.

    Attributes:
        home: where all of it lies.
        public_key: the release key.
        plan_hashes: file name of a plan -> its hash.
    """

    home: Path
    public_key: str
    plan_hashes: dict[str, str]

    @property
    def store(self) -> Path:
        """A store that is copied for each victim, closed."""
        return self.home / "template"

    def version(self, model: str) -> int:
        """The version of a model by the name of its folder."""
        return FIRST if model == "first" else int(model)

    def job(self, task: str) -> dict[str, Any]:
        """What a victim is told beside its folder."""
        if task == "import":
            return {"file": str(self.home / "lines.jsonl")}
        if task in ("track", "batch", "retention"):
            return {}
        plans = [str(self.home / "plans" / name) for name in sorted(self.plan_hashes)]
        models = sorted(map(str, (self.home / "models").iterdir()))
        model = str(self.home / "start.safetensors")
        return {"public_key": self.public_key, "models": models, "plans": plans, "model": model}


def made(home: Path) -> World:
    """Make it, with the code that operators run."""
    items = tuple(f"item-{row}" for row in range(ITEMS))
    facts = PublicFacts(n_users=10_000, n_items=ITEMS, mu=mu_of(epsilon=5.0, delta=1e-5))
    terms = RunTerms(
        population="readers",
        run="run-1",
        algorithm="als",
        settings={},
        facts=facts,
        catalogue=ItemCatalogue(items).hash,
        epsilon=5.0,
        delta=1e-5,
        dp="central",
        cohort_floor=500,
    )
    key, folder = SigningKey.generate(), home / "operator"
    folder.mkdir()
    with Ledger(folder / "ledger.db", population="readers") as ledger:
        while (size := ledger.checkpoint().size) < FIRST + MODELS:  # models are older than every plan, in one ledger
            ledger.open_run(f"earlier-{size}", {})
        log = MerkleTree(entry.leaf() for entry in ledger.entries())
        with open_run(terms, folder, ledger=ledger, key=key) as coordinator:
            model, plan = coordinator.model, coordinator.open_attempt()
        (home / "start.safetensors").write_bytes(model.data)
        hashes = _plans(home / "plans", plan, ledger, key)
    first = _models(home, model, items, key, log)
    world = World(home, key.public, hashes)
    with opened(world.store, key.public) as device:
        for purpose in ("store", "train"):
            device.consent.grant(purpose)
        device.update_model(first)
        device.track_many([palate.Event("like", items[n], id=f"kept-{n}") for n in range(KEPT)])
    lines = [{"kind": "purchase", "item": f"item-{n}", "time": 10**9 + n, "id": str(n)} for n in range(LINES)]
    (home / "lines.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return world


def _plans(folder: Path, first: bytes, ledger: Ledger, key: SigningKey) -> dict[str, str]:
    """Attempts at the first round, each charged and signed."""
    folder.mkdir()
    plan, hashes = SignedPlan.model_validate_json(first).plan, {}
    for number in range(1, PLANS + 1):
        fields = {name: getattr(plan, name) for name in RoundPlan.model_fields}
        each = RoundPlan.model_validate({**fields, "attempt": plan.attempt + number})
        place: dict[str, Any] = {"run": each.run, "round_": each.round, "attempt": each.attempt}
        earlier = ledger.checkpoint().size
        charged = ledger.charge(**place, plan_hash=each.hash, mu2=each.mu2, facts={}, run_limit=1e9)
        size = charged.checkpoint.size
        charge = ChargeProof(
            entry=charged.entry.body,
            checkpoint=charged.checkpoint,
            inclusion=ledger.inclusion_proof(charged.seq, size),
            consistency={old: ledger.consistency_proof(old, size) for old in range(1, earlier + 1)},
        )
        name = f"plan-{number:03}"
        (folder / name).write_bytes(sign_plan(each, charge, key).to_bytes())
        hashes[name] = each.hash
    return hashes


def _models(home: Path, start: GlobalModel, items: tuple[str, ...], key: SigningKey, log: MerkleTree) -> Path:
    """Models of rising versions, each told by its numbers and its domains."""
    for version in range(FIRST, FIRST + MODELS + 1):
        state = {"counts": np.full(ITEMS, version, np.float32), "floor": np.ones(1, np.float32)}
        catalogue = ItemCatalogue(items, domains=(f"shelf {version}",) * ITEMS)
        place: dict[str, Any] = {"population": "readers", "shown": Shown.of(log, version, since=range(1, version))}
        files = published.pack(GlobalModel(start.header, state), catalogue, {}, key, **place)
        folder = home / ("first" if version == FIRST else f"models/{version:04}")
        folder.parent.mkdir(exist_ok=True)
        published.write(folder, files)
    return home / "first"


def copied(world: World, folder: Path) -> None:
    """A victim's own copy of the store."""
    shutil.copytree(world.store, folder)
