"""What a round, and a new model, cost a device: CPU time of the very calls that an app makes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import palate
from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_core.accounting import mu_of
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey
from palate_core.plan import SignedPlan
from palate_server.rounds.run import open_run, run_round
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

ITEMS, WIDTH, EVENTS, OTHERS = 10_000, 64, 100, 2_000
EPSILON, DELTA = 5.0, 1e-5
SETTINGS = {"rounds": 3, "embedding_size": WIDTH, "head_items": ITEMS, "popularity_only_below": 0}


def measured(repetitions: int) -> list[dict[str, float]]:
    """CPU milliseconds of each step, for a device in the second round of a run, the first that has a table."""
    with tempfile.TemporaryDirectory() as home:
        return [_once(Path(home) / str(number), number) for number in range(repetitions)]


def _once(folder: Path, seed: int) -> dict[str, float]:
    """One run, one device."""
    folder.mkdir()
    rng, items = np.random.default_rng(seed), tuple(f"item-{row}" for row in range(ITEMS))
    others = Interactions.from_pairs(
        np.repeat(np.arange(OTHERS), 30), rng.integers(0, ITEMS, 30 * OTHERS), n_users=OTHERS, n_items=ITEMS
    )
    facts = PublicFacts(n_users=OTHERS, n_items=ITEMS, mu=mu_of(epsilon=EPSILON, delta=DELTA))
    terms = RunTerms(
        population="readers", run="run-1", algorithm="als", settings=SETTINGS, facts=facts,
        catalogue=ItemCatalogue(items).hash, epsilon=EPSILON, delta=DELTA, per_node=OTHERS,
    )  # fmt: skip
    key = SigningKey.generate()
    floors = palate.Floors(allow_central=True)
    service = palate.Service(public_key=key.public, population="readers", epsilon=20.0, floors=floors)
    with (
        open_run(terms, folder, ledger=folder / "ledger.db", key=key) as coordinator,
        SimulatedLedger(":memory:") as devices,
        palate.open(folder / "store", app="bench", key=bytes(range(32)), service=service) as device,
    ):
        node = Contributor(others, range(OTHERS), devices, key.public, floors, pinned=None)
        run_round(coordinator, InProcess([node]))
        place: dict[str, Any] = {"population": "readers", "shown": coordinator.ledger.shown()}
        coordinator.registry.publish(coordinator.model, ItemCatalogue(items), {}, key, **place)
        for purpose in ("store", "train"):
            device.consent.grant(purpose)
        chosen = rng.choice(ITEMS, EVENTS, replace=False)
        device.track_many([palate.Event("like", items[row]) for row in chosen])
        figures: dict[str, float] = {}
        begun = time.process_time()
        device.update_model(folder / "model")
        figures["update_model"] = 1000 * (time.process_time() - begun)
        plan, model = coordinator.open_attempt(), coordinator.model.data
        opened = SignedPlan.model_validate_json(plan).plan
        parsed, own = GlobalModel.from_bytes(model), device.interests(items).interactions()
        begun = time.process_time()
        raw = parsed.algorithm.contribute(parsed.state, opened.round, own)
        clip(raw, opened.layout, clip_norm=opened.clip_norm, grid=opened.grid).total()
        figures["step"] = 1000 * (time.process_time() - begun)
        begun = time.process_time()
        answer = device.contribute(plan, model)
        figures["contribute"] = 1000 * (time.process_time() - begun)
        if device.refusal:
            raise PalateError(f"a device must take part, got the refusal: {device.refusal}")
        figures["sent_bytes"] = len(answer)
        figures["model_bytes"] = len(model)
    return figures


def as_rows(figures: list[dict[str, Any]], bar: float) -> list[tuple[str, ...]]:
    """A row a step."""
    labels = {
        "step": "training step: contribution, clip, all numbers of the sum",
        "contribute": "`contribute`: all of it, with verifying, two durable files and encoding",
        "update_model": "`update_model`: verify, unpack, store",
    }
    rows = []
    for name, label in labels.items():
        values = [figure[name] for figure in figures]
        met = f"< {bar:g}: {'met' if max(values) < bar else 'MISSED'}" if name == "step" else ""
        rows.append((label, *(f"{value:.1f}" for value in (min(values), float(np.median(values)), max(values))), met))
    return rows
