"""Published private recommenders beside Palate's default: the same split, clipping, noise and accounting.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/published/run.py
"""

from __future__ import annotations

import importlib
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import DELTA, METRIC, ML_1M, epsilon_label, quality, split_of
from benchmarks.sheet import Part, Table, cell, main
from palate_common.algorithms import lent, make_algorithm
from palate_common.models.model import GlobalModel
from palate_core.layout import layout_size
from palate_sim.evaluation.fitting import fit_baselines
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.splits import Split

EPSILONS = (1.0, 5.0, 10.0, None)
ALGORITHMS = ("als", "dp-als", "dp-fedavg", "dp-ease", "popularity")
LABELS = {
    "als": "`als` (default)",
    "dp-als": "`dp-als`: full statistics",
    "dp-fedavg": "`dp-fedavg`",
    "dp-ease": "`dp-ease`",
    "popularity": "noised popularity",
}
STATISTICS: tuple[tuple[str, Mapping[str, float]], ...] = (
    ("Gramians 30 %, ridge 1 x their noise", {"gramian_share": 0.3, "noise_regularization": 1.0}),
    ("Gramians 30 %, ridge 3 x", {"gramian_share": 0.3, "noise_regularization": 3.0}),
    ("Gramians 30 %, ridge 20 x", {"gramian_share": 0.3, "noise_regularization": 20.0}),
    ("Gramians 5 %, ridge 20 x (default)", {}),
    ("Gramians 1 %, ridge 20 x", {"gramian_share": 0.01}),
)
PROTOCOL = f"split strong, delta {DELTA:g}, unit user, adjacency zero-out, every release charged"


def trained(split: Split, algorithm: str, epsilon: float | None, seed: int, **settings: float) -> GlobalModel:
    """A rehearsal's model."""
    return rehearse(split.train, algorithm=algorithm, settings=settings, epsilon=epsilon, delta=DELTA, seed=seed)


def numbers_sent(model: GlobalModel) -> tuple[int, int]:
    """Releases of a model, and coordinates a device sends over all of them."""
    learner = make_algorithm(model.header.algorithm, model.header.settings, model.header.facts)
    rounds = range(len(learner.shares))
    sizes = [layout_size(learner.layout(learner.start() if r == 0 else model.state, r)) for r in rounds]
    return len(sizes), sum(sizes)


def comparison(data: Path, seeds: int) -> Any:
    """ML-1M at every eps, test users."""
    figures: list[dict[str, Any]] = []
    for seed in range(seeds):
        split = split_of(ML_1M, data, seed)
        for name, scorer in fit_baselines(["popularity", "ease"], split, seed=seed, items=None).items():
            found = quality(scorer, split.test, split, seed)
            figures.append({"seed": seed, "model": name, "epsilon": None, METRIC: found})
        for epsilon in EPSILONS:
            for algorithm in ALGORITHMS:
                if (algorithm, epsilon) == ("popularity", None):
                    continue
                begun = time.process_time()
                model = trained(split, algorithm, epsilon, seed)
                seconds = time.process_time() - begun
                found = quality(model, split.test, split, seed)
                figures.append(
                    {"seed": seed, "model": algorithm, "epsilon": epsilon, METRIC: found, "cpu_s": round(seconds, 2)}
                    | dict(zip(("releases", "numbers"), numbers_sent(model), strict=True))
                )
                sys.stderr.write(f"seed {seed} {algorithm} {epsilon_label(epsilon)} {found:.4f} {seconds:.1f} s\n")
    return figures


def comparison_tables(figures: Any) -> list[Table]:
    """One row an algorithm."""
    values: defaultdict[tuple[str, float | None], list[float]] = defaultdict(list)
    sent: dict[tuple[str, float | None], tuple[int, int]] = {}
    for each in figures:
        key = each["model"], each["epsilon"]
        values[key].append(each[METRIC])
        if "releases" in each:
            sent[key] = each["releases"], each["numbers"]
    rows = []
    for algorithm in ALGORITHMS:
        chosen = [values[algorithm, e] for e in EPSILONS]
        costs = [f"{s[0]} / {s[1]:,}" for e in EPSILONS[:3] if (s := sent.get((algorithm, e)))]
        label = LABELS[algorithm]
        if algorithm == "popularity":
            chosen[-1] = values["popularity", None]
        rows.append((label, *(cell(each) for each in chosen), ", ".join(costs)))
    rows.append(("EASE, not private", "", "", "", cell(values["ease", None]), ""))
    table = Table(
        f"MovieLens 1M: {METRIC} on test users",
        ("model", *(f"eps {e:g}" for e in EPSILONS[:3]), "no noise", "releases / numbers a device sends, by eps"),
        rows,
        "Rehearsals without public features; a seed has its own split, public randomness and noise.",
    )
    return [table]


def statistics(data: Path, seeds: int) -> Any:
    """What DP-ALS makes of the items' Gramians, on the validation users it was chosen with."""
    figures = []
    split = split_of(ML_1M, data, 0)
    heldout = split.test if split.validation is None else split.validation
    for label, settings in STATISTICS:
        for epsilon in (1.0, 5.0):
            models = [trained(split, "dp-als", epsilon, seed, **settings) for seed in range(seeds)]
            found = [quality(model, heldout, split, 0) for model in models]
            figures.append({"label": label, "settings": dict(settings), "epsilon": epsilon, METRIC: found})
    return figures


def statistics_tables(figures: Any) -> list[Table]:
    """One row a setting."""
    cells: defaultdict[str, list[str]] = defaultdict(list)
    for each in figures:
        cells[each["label"]].append(cell(each[METRIC]))
    rows = [(label, *row) for label, row in cells.items()]
    table = Table(
        f"DP-ALS: how much of a contribution goes to the items' Gramians, {METRIC} on validation users",
        ("dp-als", "eps 1", "eps 5"),
        rows,
        "One split. The ridge is in spectral norms of the noise of one item's Gramian.",
    )
    return [table]


PARTS = {"comparison": Part(comparison, comparison_tables), "statistics": Part(statistics, statistics_tables)}


if __name__ == "__main__":
    # of docs/examples
    als, fedavg, ease = (importlib.import_module(name) for name in ("dp_als", "dp_fedavg", "dp_ease"))
    with lent(als.DpAls), lent(fedavg.DpFedAvg), lent(ease.DpEase):
        main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
