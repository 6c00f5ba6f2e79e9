"""Twelve releases under one lifetime budget, each judged on what users do after it, beside one release made once.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/releases/run.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import DELTA, JOURNEY, METRIC, RETAIL, DataSet
from benchmarks.releases.series import COLD, LATE, MODELS, ONCE, ONCE_LATE, OWN, measure
from benchmarks.sheet import Part, Table, main, mean_error
from palate_sim.config import load_config

EPSILON, RELEASES = 8.0, 12
SETTINGS: dict[str, dict[str, Any]] = {
    RETAIL.label: {"positives.half_life_days": 90.0},
    JOURNEY.label: {"features.source": "none"},
}
"""Every model of a log has the same. The half-life was chosen on validation users; features are left out for time."""


def measured(set_: DataSet, data: Path, seeds: int, models: Sequence[str]) -> dict[str, Any]:
    """The facts of a series on one log."""
    keys = {"privacy.delta": DELTA, "privacy.epsilon": EPSILON, "evaluation.ks": [20]}
    config = load_config(None, keys | SETTINGS[set_.label])
    return measure(
        config,
        releases=RELEASES,
        seeds=seeds,
        source=set_.source(data),
        validation=False,
        models=models,
        notify=lambda e: sys.stderr.write(f"{set_.label}, seed {e['seed']}, {e['what']}: {e['value']:.4f}\n"),
    ).facts()


def tables(label: str, facts: Mapping[str, Any]) -> list[Table]:
    """Each release's quality by model, and warm start less the others, seed by seed."""
    header = ("release", "eps so far", "users", "items", "test users (with history)", *facts["values"])
    rows, gains = [], []
    for row, (spent, size) in enumerate(zip(facts["spent"], facts["sizes"], strict=True)):
        judged = f"{size['test_users']:,} ({size['test_users_with_history']:,})"
        cells = [_quality(facts["values"][name], row) for name in facts["values"]]
        rows.append((str(row + 1), f"{spent:.2f}", f"{size['users']:,}", f"{size['items']:,}", judged, *cells))
        gains.append((str(row + 1), *(_gain(facts["values"], name, row) for name in (ONCE, ONCE_LATE, COLD))))
    note = (
        f"{METRIC} on the test users' new items in the span after each release; "
        f"{len(facts['seeds'])} seeds of noise and first tables. eps {facts['epsilon']:g} "
        f"over all releases, {facts['privacy']}; division {facts['division']}."
    )
    beside = f"Paired difference. The bar is the first column, from release {LATE + 1} on."
    found = [Table(f"{label}: {METRIC} after each release", header, rows, note)]
    if OWN in facts["values"]:
        found.append(Table(f"{label}: warm start less", ("release", ONCE, ONCE_LATE, COLD), gains, beside))
    return found


def _quality(values: Any, row: int) -> str:
    """Mean and standard error over seeds; nothing before there is a model."""
    found = [seed[row] for seed in values]
    if found[0] is None:
        return ""
    mean, error = mean_error(found)
    return f"{mean:.4f} ± {error:.4f}"


def _gain(values: Mapping[str, Any], name: str, row: int) -> str:
    """The paired difference."""
    if OWN not in values or values[name][0][row] is None:
        return ""
    mean, error = mean_error([own[row] - other[row] for own, other in zip(values[OWN], values[name], strict=True)])
    return f"{mean:+.4f} ± {error:.4f}"


def part(set_: DataSet, models: Sequence[str] = MODELS) -> Part:
    """One log."""
    return Part(
        lambda data, seeds: measured(set_, data, seeds, models),
        lambda facts: tables(set_.label, facts),
    )


PARTS = {"retail": part(RETAIL), "journey": part(JOURNEY, MODELS[:4]), "journey-beside": part(JOURNEY, MODELS[4:])}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
