"""Panel: what people who share their log openly bring, drawn at random, the most active, and of one taste.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/panel/run.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    DELTA,
    DESKDROP,
    METRIC,
    ML_1M,
    ML_SMALL,
    RETAIL,
    DataSet,
    prepared_of,
    quality,
    rehearsed,
)
from benchmarks.panel.ways import drawn
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_sim.baselines.panel_only import PanelOnly
from palate_sim.evaluation.model_evaluation import without_weight
from palate_sim.panel.panel import fit_panel
from palate_sim.preparation.preparation import Prepared

EPSILONS = (1.0, 5.0)
PANELS = (("random", 0.03), ("random", 0.1), ("activity", 0.1), ("taste", 0.1))
"""How a panel is drawn, and its share of the training users."""
WORSE = 0.99
"""A panel does harm if with it quality is less than this times that without one."""
PROTOCOL = (
    f"delta {DELTA:g}, unit user, adjacency zero-out; rehearsals, with features where there are any; test users once"
)
NO, ALONE, BOTH, PRIVATE = "no panel", "panel alone", "both", "both, weight 0"


def panel(set_: DataSet) -> Part:
    """One set: each panel at each eps, beside the same run without it."""

    def measured(data: Path, seeds: int) -> Any:
        return [figure(prepared_of(set_, data, seed), seed) for seed in range(seeds)]

    return Part(measured, lambda figures: [_table(figures, set_.label)])


def figure(prepared: Prepared, seed: int, *, validation: bool = False) -> dict[str, Any]:
    """Every arm of one seed, on the test users or on the validation users."""
    split, inputs = prepared.split, prepared.inputs
    heldout = split.validation if validation and split.validation is not None else split.test
    opened = {}
    for way, share in PANELS:
        rows = drawn(split.train, share, way, seed=seed)
        opened[f"{way} {share:g}"] = fit_panel(split.train.users(rows), seed=seed)
    alone = {name: quality(PanelOnly.of(each), heldout, split, seed) for name, each in opened.items()}
    found: dict[str, Any] = {"seed": seed, "users": {n: int(each["panel_users"][0]) for n, each in opened.items()}}
    found["cells"] = []
    for epsilon in EPSILONS:
        model = rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=inputs)
        without = quality(model, heldout, split, seed)
        for name, each in opened.items():
            model = rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=inputs | each)
            private = without_weight(model)
            arms = {NO: without, ALONE: alone[name], BOTH: quality(model, heldout, split, seed)}
            if private is not None:
                arms[PRIVATE] = quality(private, heldout, split, seed)
            weight = float(model.state["open_weight"][0])
            found["cells"].append({"epsilon": epsilon, "panel": name, "weight": weight, METRIC: arms})
    return found


def _table(figures: Sequence[Mapping[str, Any]], label: str) -> Table:
    """A row for each panel and eps: the arms, their paired difference, and whether the panel does harm."""
    arms = defaultdict[tuple[float, str], dict[str, list[float]]](lambda: defaultdict(list))
    for each in figures:
        for one in each["cells"]:
            for arm, value in {**one[METRIC], "weight": one["weight"]}.items():
                arms[one["epsilon"], one["panel"]][arm].append(value)
    rows = []
    for (epsilon, name), found in arms.items():
        way, _, share = name.partition(" ")
        difference = np.asarray(found[BOTH]) - np.asarray(found[NO])
        ratio = mean_error(found[BOTH])[0] / mean_error(found[NO])[0]
        users = mean_error([each["users"][name] for each in figures])[0]
        rows.append(
            (
                f"{epsilon:g}",
                f"{100 * float(share):g} % ({users:.0f} people), {way}",
                *(cell(found[arm]) for arm in (NO, ALONE, PRIVATE, BOTH)),
                f"{mean_error(difference)[0]:+.4f} ± {mean_error(difference)[1]:.4f}",
                f"{ratio:.3f}" + ("" if ratio >= WORSE else ": WORSE"),
                f"{np.median(found['weight']):g}",
            )
        )
    header = ("eps", "panel", NO, ALONE, PRIVATE, BOTH, "both - no panel", "both / no panel, bar 0.99", "weight")
    return Table(f"{label}, with and without an open panel: {METRIC}", header, rows)


PARTS = {
    "movielens-small": panel(ML_SMALL),
    "deskdrop": panel(DESKDROP),
    "online-retail": panel(RETAIL),
    "ml-1m": panel(ML_1M),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
