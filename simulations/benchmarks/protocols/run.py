"""Two protocols, the same models: leave-one-out with 99 sampled items as published, and with a full ranking.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/protocols/run.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import DELTA, ML_1M, DataSet, prepared_of, rehearsed
from benchmarks.protocols.private_scores import TrainerSettings, trained
from benchmarks.sheet import Part, Table, cell, main
from palate_common.interactions import Interactions
from palate_sim.baselines.ease import Ease
from palate_sim.baselines.ials import Ials
from palate_sim.evaluation.blocks import cores
from palate_sim.evaluation.evaluation import CatalogueScorer, evaluate
from palate_sim.evaluation.fitting import fit_baselines
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.preparation.splits import Split

ML_100K = DataSet("MovieLens 100K", "ml-100k")
EPSILON = 5.0
SAMPLED, FULL = "loo-heldout-excluded", "leave-last-out"
METRICS = {SAMPLED: ("hr@10[99 negatives]", "ndcg@10[99 negatives]"), FULL: ("hr@10", "ndcg@10")}
EXCLUDED = "private scores, held-out items never a training negative"
INCLUDED = "private scores, training items never a training negative"
SETTINGS = TrainerSettings()
RIDGES = (50.0, 200.0, 500.0)
"""Of EASE, among which validation users choose."""
CONFIDENCES = ((2.0, 20.0), (5.0, 20.0), (5.0, 50.0), (10.0, 50.0), (20.0, 100.0))
"""Confidence and regularization of iALS, among which they choose."""
PROTOCOL = f"Palate: eps {EPSILON:g}, delta {DELTA:g}, unit user, adjacency zero-out, rehearsals; others not private"

Found = dict[str, float]


def judged(scorer: CatalogueScorer, split: Split, seed: int, validation: bool = False) -> Found:
    """Both metrics of a split's protocol."""
    heldout = split.validation if validation and split.validation is not None else split.test
    evaluation = judge(scorer, heldout, split, ks=(10,), seed=seed)
    return {metric: evaluation.mean(metric) for metric in METRICS[split.name]}


def held_out(split: Split) -> Interactions:
    """Each training user's validation and test items."""
    place = {user: row for row, user in enumerate(split.train_users)}
    parts = [part for part in (split.validation, split.test) if part is not None]
    owners = [np.array([place[user] for user in part.users])[part.target.owners()] for part in parts]
    items = np.concatenate([part.target.indices for part in parts])
    return Interactions.from_pairs(
        np.concatenate(owners), items, n_users=split.train.n_users, n_items=split.train.n_items
    )


def private_scores(splits: Mapping[str, Split], never_negative: Interactions, seed: int) -> Found:
    """Test figures at the round that each protocol's validation items choose by HR@10."""
    best: dict[str, float] = {}
    found: Found = {}
    for round_, model in trained(splits[SAMPLED].train, never_negative, SETTINGS, seed):
        for name, split in splits.items():
            reached = judged(model, split, seed, validation=True)[METRICS[name][0]]
            if reached >= best.get(name, 0.0):
                best[name] = reached
                found |= judged(model, split, seed) | {f"round, {name}": float(round_)}
    return found


def best_of(fitted: Iterable[CatalogueScorer], split: Split, seed: int) -> CatalogueScorer:
    """The one with the highest recall_capped@20 on the validation users; the first of equals."""

    def quality(model: CatalogueScorer) -> float:
        users = split.validation or split.test
        found = evaluate(model, users, train=split.train, ks=(20,), rng=np.random.default_rng(seed))
        return found.mean("recall_capped@20")

    return max(fitted, key=quality)


def measured(set_: DataSet, data: Path, seed: int) -> dict[str, Found]:
    """Every model's figures under both protocols on one cut."""
    prepared = prepared_of(set_, data, seed, **{"split.name": FULL})
    splits = {SAMPLED: prepared_of(set_, data, seed, **{"split.name": SAMPLED}).split, FULL: prepared.split}
    train = prepared.split.train
    nobody = Interactions.from_pairs([], [], n_users=train.n_users, n_items=train.n_items)
    models: dict[str, CatalogueScorer] = {
        "popularity": fit_baselines(["popularity"], prepared.split, seed=seed)["popularity"],
        "iALS": best_of(
            (
                Ials.fit(train, seed=seed, threads=cores(), confidence=confidence, regularization=regularization)
                for confidence, regularization in CONFIDENCES
            ),
            prepared.split,
            seed,
        ),
        "EASE": best_of((Ease.fit(train, regularization=ridge) for ridge in RIDGES), prepared.split, seed),
        f"Palate, eps {EPSILON:g}": rehearsed(train, epsilon=EPSILON, seed=seed, inputs=prepared.inputs),
        "Palate, no privacy": rehearsed(train, epsilon=None, seed=seed, inputs=prepared.inputs),
    }
    found = {EXCLUDED: private_scores(splits, held_out(prepared.split), seed)}
    found[INCLUDED] = private_scores(splits, nobody, seed)
    for name, model in models.items():
        found[name] = judged(model, splits[SAMPLED], seed) | judged(model, splits[FULL], seed)
    return found


def both(set_: DataSet, most: int, data: Path, seeds: int) -> Any:
    """One log, at most so many seeds."""
    return [{"seed": seed, "found": measured(set_, data, seed)} for seed in range(min(seeds, most))]


def both_tables(set_: DataSet, figures: Any) -> list[Table]:
    """One row a model."""
    values = defaultdict(list)
    for each in figures:
        for name, metrics in each["found"].items():
            for metric, value in metrics.items():
                values[name, metric].append(value)
    shown = [metric for metrics in METRICS.values() for metric in metrics]
    names = dict.fromkeys(name for name, _ in values)
    table = Table(
        f"{set_.label}: one cut, two protocols",
        ("model", *(f"{metric.split('[')[0]}, {'99 sampled' if '[' in metric else 'all items'}" for metric in shown)),
        [(name, *(cell(values[name, metric]) for metric in shown)) for name in names],
        f"Seeds 0 to {len(figures) - 1}. Each user's last item is asked. 99 sampled: beside it 99 that the user has "
        "nowhere. All items: all but the user's training part.",
    )
    return [table]


PARTS = {
    name: Part(partial(both, set_, most), partial(both_tables, set_))
    for name, set_, most in (("ml-100k", ML_100K, 3), ("ml-1m", ML_1M, 1))
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
