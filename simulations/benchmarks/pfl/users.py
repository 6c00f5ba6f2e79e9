"""The same work with a thousand and with a hundred thousand users: Palate, pfl-research, Flower's stock simulation.

Matrix factorisation on a made log: a user has positives and as many sampled negatives, the mean of the item vectors as
the user's own, and takes one full-batch step on cross-entropy; the change is clipped, summed and noised. Palate takes
all users in each round. The others are measured on a cohort that is drawn anew each round, since an update costs them
the same however many take part; their noise and server step are in their figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sheet import Table
from benchmarks.worlds.long_log import World
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums, block_units
from palate_core.accounting import mu_of, sigma_for
from palate_core.errors import PalateError
from palate_core.layout import layout_size
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource
from palate_sim.engines.job import node_size

USERS = (1000, 100_000)
ITEMS, MEAN, WIDTH = 20_000, 60, 32
GRID, EPSILON, DELTA = 2**20, 5.0, 1e-6
ROUNDS = 3
COHORTS = {"pfl": 300, "flower": 50}
"""Clients a round of the others."""
SETTINGS = {
    "loss": "logistic",
    "optimizer": "momentum",
    "server_rate": 1.0,
    "rounds": ROUNDS + 1,
    "embedding_size": WIDTH,
    "head_items": ITEMS,
}


def population(users: int) -> Interactions:
    """Users of the made log."""
    blocks = list(World(items=ITEMS, mean=MEAN).blocks(users))
    owners, items = (np.concatenate([block[place] for block in blocks]) for place in (0, 1))
    return Interactions.from_pairs(owners, items, n_users=users, n_items=ITEMS)


def palate_work(train: Interactions, seed: int) -> dict[str, Any]:
    """CPU-seconds of rounds in which every user takes part, noise and the server's step among them."""
    facts = PublicFacts(n_users=train.n_users, n_items=ITEMS, mu=mu_of(epsilon=EPSILON, delta=DELTA), seed=seed)
    learner = make_algorithm("sgd", SETTINGS, facts)
    state, at_once, spent = learner.start(), node_size(train.n_users, unit="user"), 0.0
    for round_ in range(ROUNDS + 1):
        begun = time.process_time()
        layout = learner.layout(state, round_)
        sigma = sigma_for(mu_r=float(facts.mu or 1) * learner.shares[round_] ** 0.5, sensitivity=GRID)
        total = sample_discrete_gaussian(layout_size(layout), sigma=sigma, source=SecureSource())
        for first in range(0, train.n_users, at_once):
            part = train.users(slice(first, first + at_once))
            total += clip(learner.contribute(state, round_, part), layout, clip_norm=1.0, grid=GRID).total()
        noise = {name: sigma * unit for name, unit in block_units(layout, 1.0 / GRID).items()}
        state = learner.release(state, round_, block_sums(total, layout, 1.0 / GRID), noise)
        spent += time.process_time() - begun if round_ else 0.0  # round 0 only counts
    return {"cpu": spent, "updates": ROUNDS * train.n_users}


def others(python: Path, train: Interactions, seed: int) -> dict[str, Any]:
    """CPU-seconds of the same in pfl's environment, and in Flower's simulation."""
    scripts = Path(__file__).parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = {"indptr": train.indptr, "indices": train.indices, "n_items": np.int64(ITEMS)}
        np.savez(folder / "train.npz", **arrays)
        for part, array in arrays.items():
            np.save(folder / f"{part}.npy", array)
        facts = {"seed": seed, "rounds": ROUNDS, "size": WIDTH, "users": train.n_users}
        script = scripts.parent / "sgd" / "work_a_pfl.py"
        said = json.dumps(facts | {"cohort": COHORTS["pfl"]})
        pfl = _last([str(python), "-W", "ignore", str(script), str(folder / "train.npz"), said])
        said = json.dumps(facts | {"cohort": COHORTS["flower"]})
        flower = _last([sys.executable, str(scripts / "work_a_flower.py"), str(folder), said])
    return {
        "pfl": {"cpu": float(pfl), "updates": ROUNDS * COHORTS["pfl"]},
        "flower": json.loads(flower) | {"updates": ROUNDS * COHORTS["flower"]},
    }


def _last(call: list[str]) -> str:
    """The last line that a process says; it finds modules beside the scripts, and none of Palate's."""
    bare = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(call, env=bare, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        raise PalateError(f"{call[1:4]} must end with 0, got {done.returncode}: {done.stderr.strip()[-300:]}")
    return lines[-1]


def measured(python: Path, seeds: int) -> Any:
    """All three, for each number of users."""
    found = []
    for users in USERS:
        train = population(users)
        palate_work(train.users(slice(0, 500)), 0)  # what is imported and allocated once
        for seed in range(seeds):
            one = {"users": users, "seed": seed, "palate": palate_work(train, seed), **others(python, train, seed)}
            found.append(one)
            sys.stderr.write(f"{one}\n")
    return {"items": ITEMS, "mean": MEAN, "width": WIDTH, "rounds": ROUNDS, "cohorts": COHORTS, "runs": found}


def tables(figures: Any) -> list[Table]:
    """One row a system; the ratios are of the medians."""
    runs = figures["runs"]
    sizes = list(dict.fromkeys(run["users"] for run in runs))
    rates = {
        (name, users): float(
            np.median([run[name]["updates"] / run[name]["cpu"] for run in runs if run["users"] == users])
        )
        for name in ("palate", "pfl", "flower")
        for users in sizes
    }
    names = {"palate": "Palate, `sgd`", "pfl": "pfl-research 0.6, one torch thread", "flower": "Flower 1.42, Ray"}
    rows = [
        (label, *(f"{rates[name, users]:,.0f}" for users in sizes), *(
            "" if name == "palate" else f"{rates['palate', users] / rates[name, users]:,.0f} x" for users in sizes
        ))
        for name, label in names.items()
    ]  # fmt: skip
    start = {users: [run["flower"] for run in runs if run["users"] == users] for users in sizes}
    waits = "; ".join(
        f"{users:,} users: {np.median([each['start'] for each in found]):,.0f} CPU-s, "
        f"{np.median([each['memory'] for each in found]) / 2**30:.1f} GiB"
        for users, found in start.items()
    )
    note = (
        f"Items: {figures['items']:,} x {figures['width']}; the made log with {figures['mean']} events a user; "
        f"{figures['rounds']} rounds. Palate: every user in each round, exact clip, secure discrete noise and the "
        f"server's step in it. The others: {figures['cohorts']['pfl']} and {figures['cohorts']['flower']} clients a "
        "round, drawn from all users; clip, noise and server in it, start-up not. Flower's start with its first round, "
        f"and its memory: {waits}."
    )
    header = ("client updates per CPU-second", *(f"{users:,} users" for users in sizes))
    header += tuple(f"Palate is ahead, {users:,}" for users in sizes)
    return [Table("The same work with more users: Palate, pfl-research, Flower", header, rows, note)]
