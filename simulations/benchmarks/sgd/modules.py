"""Torch modules beside `sgd` in numpy and `als`: quality on the same splits, updates per CPU-second. A part of run.py.

The settings were chosen on validation users of seed 0 of MovieLens 1M; the tables are of test users.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import DELTA, DESKDROP, METRIC, ML_1M, DataSet, epsilon_label, prepared_of, quality, rehearsed
from benchmarks.sheet import Table, cell
from palate_common.algorithms import PublicFacts, make_algorithm, next_state
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_core.accounting import mu_of

GRID, COHORT, ROUNDS, ALONE = 2**20, 200, 5, 50
EPSILONS = (5.0, None)


@dataclass(frozen=True)
class Entrant:
    """A row of the table.

    Attributes:
        label: how the table calls it.
        algorithm: an installed algorithm.
        features: whether it sees the public item features.
        most: without noise, where every item is learned, it is run on catalogues of at most so many items.
    """

    label: str
    algorithm: str
    features: bool = False
    most: int = 10**6


ENTRANTS = (
    Entrant("popularity", "popularity"),
    Entrant("`als`", "als"),
    Entrant("`als`, features", "als", features=True),
    Entrant("`sgd`", "sgd"),
    Entrant("`sgd`, features", "sgd", features=True),
    Entrant("`torch-mf`", "torch-mf", most=0),
    Entrant("`torch-two-tower`", "torch-two-tower", most=2500),
    Entrant("`torch-two-tower`, features", "torch-two-tower", features=True, most=2500),
)


def qualities(set_: DataSet, data: Path, seeds: int) -> dict[str, dict[str, list[float]]]:
    """Entrant -> epsilon -> one figure a seed, on test users."""
    found: dict[str, dict[str, list[float]]] = {entrant.label: {} for entrant in ENTRANTS}
    for seed in range(seeds):
        prepared = prepared_of(set_, data, seed)
        split = prepared.split
        for entrant in ENTRANTS:
            for epsilon in EPSILONS:
                if epsilon is None and split.train.n_items > entrant.most:
                    continue
                model = rehearsed(
                    split.train,
                    epsilon=epsilon,
                    seed=seed,
                    algorithm=entrant.algorithm,
                    inputs=prepared.inputs if entrant.features else None,
                )
                figure = quality(model, split.test, split, seed)
                found[entrant.label].setdefault(epsilon_label(epsilon), []).append(figure)
    return found


def speeds(train: Interactions, seed: int) -> dict[str, tuple[float, float, float]]:
    """On the devices: updates per CPU-second of 200 clients at once, and CPU-ms of one user's update and ranking."""
    found = {}
    for entrant in ENTRANTS[3:8]:  # the learners of this folder
        features = np.random.default_rng(0).normal(size=(train.n_items, 28)).astype(np.float32)
        inputs = {"features": features} if entrant.features else {}
        mu, width = mu_of(epsilon=5.0, delta=DELTA), features.shape[1] if inputs else 0
        facts = PublicFacts(n_users=train.n_users, n_items=train.n_items, mu=mu, seed=seed, n_features=width)
        learner = make_algorithm(entrant.algorithm, {}, facts)
        rng, state, spent = np.random.default_rng(seed), learner.start(), 0.0
        for round_ in range(ROUNDS + 2):
            cohort = train.users(np.sort(rng.permutation(train.n_users)[:COHORT])) if round_ else train
            layout, begun = learner.layout(state, round_), time.process_time()
            total = clip(learner.contribute(state, round_, cohort), layout, clip_norm=1.0, grid=GRID).total()
            spent += time.process_time() - begun if round_ > 1 else 0.0
            ends = np.cumsum([spec.size for spec in layout])[:-1]
            parts = zip(layout, np.split(total, ends), strict=True)
            sums = {spec.name: part.reshape(spec.shape) / (GRID * spec.weight) for spec, part in parts}
            state = next_state(learner, state, round_, sums, dict.fromkeys(sums, 0.0), inputs)
        some, begun = min(ALONE, train.n_users), time.process_time()
        for row in range(some):
            learner.contribute(state, 1, train.user(row))
        between = time.process_time()
        for row in range(some):
            learner.scores(state, train.user(row))
        alone = [1e3 * span / some for span in (between - begun, time.process_time() - between)]
        found[entrant.label] = (cohort.n_users * ROUNDS / spent, alone[0], alone[1])
    return found


def judged_tables(set_: DataSet, found: Any) -> list[Table]:
    """The table of one set."""
    columns = [epsilon_label(epsilon) for epsilon in EPSILONS]
    rows = [
        (label, *(cell(cells[column]) if column in cells else "not run" for column in columns))
        for label, cells in ((entrant.label, found[entrant.label]) for entrant in ENTRANTS)
    ]
    note = (
        f"Test users; {METRIC}; rehearsals, defaults; user-level, zero-out, delta {DELTA:g}. `torch-mf` computes what "
        "`sgd` with momentum has in closed form."
    )
    return [Table(f"Torch modules, {set_.label}", ("algorithm", "eps 5", "no DP"), rows, note)]


def run_deskdrop(data: Path, seeds: int) -> Any:
    """Quality on DeskDrop, which has no features."""
    return qualities(DESKDROP, data, seeds)


def run_ml_1m(data: Path, seeds: int) -> Any:
    """Quality on MovieLens 1M, with genres and decades."""
    return qualities(ML_1M, data, seeds)


def run_updates(data: Path, seeds: int) -> Any:
    """What updates and rankings cost a device."""
    train = prepared_of(ML_1M, data, 0).split.train
    return [speeds(train, seed) for seed in range(seeds)]


def updates_tables(figures: Any) -> list[Table]:
    """One row a learner."""
    rows = [
        (label, *(cell([each[label][place] for each in figures], digits) for place, digits in enumerate((0, 2, 2))))
        for label in (entrant.label for entrant in ENTRANTS)
        if label in figures[0]
    ]
    note = (
        f"MovieLens 1M, eps 5; {COHORT} clients a round, {ROUNDS} rounds, one thread. `sgd` and `torch-mf` have every "
        "head item as a negative, the others a sampled one for each own."
    )
    header = ("algorithm", "updates per CPU-s", "one alone, CPU-ms", "one ranking, CPU-ms")
    return [Table("Client updates of torch modules", header, rows, note)]
