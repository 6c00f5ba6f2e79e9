"""Fusion: the sources of a score, each by itself, together as the model has them, and fused on every user's device.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/fusion/run.py
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    DELTA,
    METRIC,
    ML_1M,
    ML_SMALL,
    SECOND,
    TWEETINGS,
    DataSet,
    epsilon_label,
    prepared_of,
    rehearsed,
)
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_client.recommend.adaptation.fusion import NOTHING, fused_weights
from palate_client.recommend.scoring import Scorer as DeviceScorer
from palate_client.recommend.scoring import scorer_of
from palate_common.algorithms import State
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.interactions import Floats, Interactions
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.evaluation.on_device import OnDevice
from palate_sim.features.features import joined_features
from palate_sim.preparation.preparation import Prepared

SOURCES = {"genres": "genres", "titles": "titles"}
EPSILONS = (5.0, None)
PLAIN, FUSED = "together", "fused on devices"
PROTOCOL = f"eps 5 where private, delta {DELTA:g}, unit user, adjacency zero-out; rehearsals; test users once"


@dataclass(frozen=True)
class Alone:
    """One source of a model's scores by itself, by the code of a device."""

    scorer: DeviceScorer
    source: str

    def scores(self, foldin: Interactions) -> Floats:
        """That part alone, [n_users, n_items]."""
        rows, found = np.arange(foldin.n_items), np.empty((foldin.n_users, foldin.n_items))
        weights = {source: float(source == self.source) for source in self.scorer.sources}
        for user in range(foldin.n_users):
            found[user] = self.scorer.scores(self.scorer.taste(foldin.user(user), NOTHING, weights), rows)
        return found


def fusion(set_: DataSet) -> Part:
    """One set, with privacy and without: sources, model and devices."""

    def measured(data: Path, seeds: int) -> Any:
        return [
            figure(set_, prepared_of(set_, data, seed), epsilon, seed) for seed in range(seeds) for epsilon in EPSILONS
        ]

    return Part(measured, lambda figures: [_table(figures, set_.label, metric) for metric in (METRIC, SECOND)])


def figure(set_: DataSet, prepared: Prepared, epsilon: float | None, seed: int) -> dict[str, Any]:
    """Every arm on the test users of one seed."""
    split = prepared.split
    matrix, widths = joined_features(prepared.catalogue, split.items, SOURCES)
    if matrix is None:
        raise InputError(f"`fusion` needs titles and genres of {set_.label}, and its folder has none")

    def trained(inputs: State | None, settings: Mapping[str, Any] | None = None) -> GlobalModel:
        return rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=inputs, settings=settings)

    model = trained({FEATURES: matrix}, {"feature_sources": widths})
    scorer, end = scorer_of(model), 0
    arms: dict[str, CatalogueScorer] = {source: Alone(scorer, source) for source in scorer.sources}
    arms["no features"] = trained(None)
    for name, width in widths.items():
        arms[f"only {name}"] = trained({FEATURES: matrix[:, end : end + width]})
        end += width
    arms |= {PLAIN: model, FUSED: OnDevice(model)}
    found = {}
    for name, arm in arms.items():
        judged = judge(arm, split.test, split, ks=(20,), seed=seed)
        found[name] = {metric: judged.mean(metric) for metric in (METRIC, SECOND)}
    clock = time.process_time()
    for user in range(split.test.foldin.n_users):
        fused_weights(scorer, split.test.foldin.user(user))
    spent = (time.process_time() - clock) / split.test.foldin.n_users
    return {"seed": seed, "epsilon": epsilon, "milliseconds": 1e3 * spent, "found": found}


def _table(figures: Sequence[Mapping[str, Any]], label: str, metric: str) -> Table:
    """A column for each eps; below, fused against the best source, and against the best model of one source."""
    columns = defaultdict[str, dict[str, list[float]]](lambda: defaultdict(list))
    for each in figures:
        for name, values in each["found"].items():
            columns[f"eps {epsilon_label(each['epsilon'])}"][name].append(values[metric])
    names = list(next(iter(columns.values())))
    rows = [(name, *(cell(column[name]) for column in columns.values())) for name in names]
    models = [name for name in names if name.startswith("only ") or name == "no features"]
    sources = [name for name in names if name not in (*models, PLAIN, FUSED)]
    said = {f"{FUSED} / best source alone, bar 1": sources, f"{FUSED} / best model with one source of features": models}
    for row, rivals in {**said, f"{FUSED} / {PLAIN}": [PLAIN]}.items():
        ratios = []
        for column in columns.values():
            best = max(mean_error(column[name])[0] for name in rivals)
            ratio = mean_error(column[FUSED])[0] / best
            ratios.append(f"{ratio:.3f}" + (": met" if ratio >= 1 else ": MISSED") * ("bar" in row))
        rows.append((row, *ratios))
    spent = np.array([each["milliseconds"] for each in figures])
    note = (
        f"Learning the weights takes a device {spent.mean():.1f} ms of CPU time on average ({spent.max():.1f} at most)."
    )
    return Table(f"{label}, sources alone, together and fused: {metric}", ("", *columns), rows, note)


PARTS = {"movietweetings": fusion(TWEETINGS), "movielens-small": fusion(ML_SMALL), "ml-1m": fusion(ML_1M)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
