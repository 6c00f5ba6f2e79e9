"""`sgd`: client updates per CPU-second beside pfl-research, rating error, quality beside `als`, torch modules.

PALATE_BENCH_DATA=PATH PFL_PYTHON=PATH/bin/python PYTHONPATH=simulations python simulations/benchmarks/sgd/run.py
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import DESKDROP, METRIC, ML_1M, epsilon_label, prepared_of, quality, rehearsed
from benchmarks.sgd.modules import judged_tables, run_deskdrop, run_ml_1m, run_updates, updates_tables
from benchmarks.sgd.tune import cuts, rmse, tuned, tuned_tables, validation_cut
from benchmarks.sheet import Part, Table, cell, main
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums, block_units
from palate_core.accounting import mu_of, sigma_for
from palate_core.errors import InputError, PalateError
from palate_core.layout import layout_size
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource
from palate_sim.config import load_config
from palate_sim.data import load
from palate_sim.preparation.preparation import weighed

FOLDS = 10
COHORT, ROUNDS, WIDTH, GRID, DELTA = 200, 20, 32, 2**20, 1e-5
WORK_A = {
    "loss": "logistic",
    "optimizer": "momentum",
    "server_rate": 1.0,
    "rounds": ROUNDS + 1,
    "embedding_size": WIDTH,
}


def work_a(train: Interactions, seed: int) -> dict[str, float]:
    """CPU-seconds of 20 rounds of 200 clients: on the devices, for the noise, and on the server."""
    facts = PublicFacts(n_users=COHORT, n_items=train.n_items, mu=mu_of(epsilon=5.0, delta=DELTA), seed=seed)
    learner = make_algorithm("sgd", {**WORK_A, "head_items": train.n_items}, facts)
    rng, state = np.random.default_rng(seed), learner.start()
    sigma = sigma_for(mu_r=float(facts.mu or 1.0) * (0.8 / ROUNDS) ** 0.5, sensitivity=GRID)
    spent = dict.fromkeys(("devices", "noise", "server"), 0.0)
    for round_ in range(ROUNDS + 1):
        cohort = train.users(np.sort(rng.permutation(train.n_users)[:COHORT])) if round_ else train
        layout, begun = learner.layout(state, round_), time.process_time()
        clipped = clip(learner.contribute(state, round_, cohort), layout, clip_norm=1.0, grid=GRID)
        total, summed = clipped.total(), time.process_time()
        total = total + sample_discrete_gaussian(layout_size(layout), sigma=sigma, source=SecureSource())
        noised = time.process_time()
        sums = block_sums(total, layout, 1.0 / GRID)
        noise = {name: sigma * unit for name, unit in block_units(layout, 1.0 / GRID).items()}
        state = learner.release(state, round_, sums, noise)
        if round_:  # round 0 only counts
            spent["devices"] += summed - begun
            spent["noise"] += noised - summed
            spent["server"] += time.process_time() - noised
    return spent


def pfl_work_a(python: Path, train: Interactions, seed: int) -> float:
    """CPU-seconds of the same rounds in pfl-research, in its own environment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "train.npz", indptr=train.indptr, indices=train.indices, n_items=train.n_items)
        facts = {"seed": seed, "cohort": COHORT, "rounds": ROUNDS, "size": WIDTH}
        script = Path(__file__).parent / "work_a_pfl.py"
        call = [str(python), "-W", "ignore", str(script), str(folder / "train.npz"), json.dumps(facts)]
        bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(call, cwd=folder, env=bare, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PalateError(f"pfl's process must end with 0, got {done.returncode}: {done.stderr.strip()[-300:]}")
        return float(done.stdout.strip().splitlines()[-1])


def run_speed(data: Path, seeds: int) -> Any:
    """Both systems on all 6,040 users."""
    log = load(data / "ml-1m")
    pairs = weighed(log, load_config())
    train = Interactions.from_pairs(
        pairs.user_rows, pairs.item_rows, n_users=len(pairs.users), n_items=len(pairs.items)
    )
    if PYTHON is not None and not PYTHON.exists():
        raise InputError(f"PFL_PYTHON must be an interpreter, got {PYTHON}")
    ours = [work_a(train, seed) for seed in range(seeds)]
    theirs = [] if PYTHON is None else [pfl_work_a(PYTHON, train, seed) for seed in range(seeds)]
    return {"items": train.n_items, "palate": ours, "pfl": theirs}


def speed_tables(figures: Any) -> list[Table]:
    """Palate, with more and more of its work, and pfl-research."""
    updates, ours, theirs = COHORT * ROUNDS, figures["palate"], figures["pfl"]
    rows = [
        ("Palate, devices: contribute, exact clip, sum", cell([updates / each["devices"] for each in ours], 0)),
        ("Palate, with the server's step", cell([updates / (each["devices"] + each["server"]) for each in ours], 0)),
        ("Palate, with secure discrete noise too", cell([updates / sum(each.values()) for each in ours], 0)),
    ]
    if theirs:
        rows.append(("pfl-research 0.6, noise included", cell([updates / each for each in theirs], 0)))
    note = (
        f"{COHORT} clients a round, {ROUNDS} rounds; {figures['items']:,} x {WIDTH} items; a client has its positives "
        "and as many sampled negatives, the mean of its item vectors as its own, and takes one full-batch step on "
        "cross-entropy. Palate's has an item bias too."
    )
    return [Table("Client updates per CPU-second", ("system", "updates"), rows, note)]


def run_ratings(data: Path, seeds: int) -> Any:
    """RMSE on MovieLens 100K, five folds, and MovieLens 1M, 90-10."""
    hundred = cuts(load(data / "ml-100k"), 5, 0)
    log = load(data / "ml-1m")
    million = [cuts(log, FOLDS, seed)[0] for seed in range(seeds)]
    cases = {
        "100K, 5 folds, no DP": (hundred, None, False),
        "1M, 90-10, no DP": (million, None, False),
        "1M, 90-10, no DP, with genres and decades": (million, None, True),
        "1M, 90-10, eps 5": (million, 5.0, False),
        "1M, 90-10, eps 5, with genres and decades": (million, 5.0, True),
    }
    return {
        name: [rmse(cut, epsilon=epsilon, features=features) for cut in parts]
        for name, (parts, epsilon, features) in cases.items()
    }


def ratings_tables(figures: Any) -> list[Table]:
    """One row a case."""
    rows = [(name, cell(values)) for name, values in figures.items()]
    note = f"Rehearsals: seeded noise, no ledger; user-level, zero-out, delta {DELTA:g}. Over all held-out ratings."
    return [Table("RMSE of `sgd`, MovieLens", ("data", "RMSE"), rows, note)]


def run_tune(data: Path, seeds: int) -> Any:
    """The settings for ratings, chosen where nothing is tested."""
    return tuned(validation_cut(load(data / "ml-1m"), FOLDS, seeds))


def run_quality(data: Path, seeds: int) -> Any:
    """recall_capped@20 on the strong split's test users, beside `als`."""
    figures = {}
    for name in ("sgd", "als"):
        for epsilon in (5.0, None):
            found = []
            for seed in range(seeds):
                split = prepared_of(ML_1M, data, seed).split
                model = rehearsed(split.train, epsilon=epsilon, seed=seed, algorithm=name)
                found.append(quality(model, split.test, split, seed))
            figures[f"{name} {epsilon_label(epsilon)}"] = found
    return figures


def quality_tables(figures: Any) -> list[Table]:
    """One row an algorithm."""
    rows = [(f"`{name}`", *(cell(figures[f"{name} {eps}"]) for eps in ("5", "off"))) for name in ("sgd", "als")]
    note = f"Test users; {METRIC}; rehearsals without item features; user-level, zero-out, delta {DELTA:g}."
    return [Table("Implicit feedback, MovieLens 1M", ("algorithm", "eps 5", "no DP"), rows, note)]


PYTHON = Path(os.environ["PFL_PYTHON"]) if os.environ.get("PFL_PYTHON") else None
PARTS = {
    "speed": Part(run_speed, speed_tables),
    "tune": Part(run_tune, tuned_tables),
    "ratings": Part(run_ratings, ratings_tables),
    "quality": Part(run_quality, quality_tables),
    "torch-deskdrop": Part(run_deskdrop, partial(judged_tables, DESKDROP)),
    "torch-ml-1m": Part(run_ml_1m, partial(judged_tables, ML_1M)),
    "torch-updates": Part(run_updates, updates_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=2)
