"""What a device downloads: int8 models on real sets, and what they lose.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/download/run.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.measure import (
    DELTA,
    DESKDROP,
    METRIC,
    ML_1M,
    ML_SMALL,
    RETAIL,
    SECOND,
    TWEETINGS,
    DataSet,
    epsilon_label,
    prepared_of,
    rehearsed,
)
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_common.models.compact import compact, expand
from palate_common.models.model import GlobalModel
from palate_sim.evaluation.model_evaluation import judge

SETS = (ML_1M, RETAIL, TWEETINGS, DESKDROP, ML_SMALL)
EPSILONS = (5.0, None)
SMALLER_BAR, LOSS_BAR = 3.9, 0.005
LIFETIME, COUNTS = 8.0, (4, 12, 52)
POPULATIONS = (1, 10, 100)
MOST = 2**30
Trained = tuple[GlobalModel, tuple[str, ...]]


def int8(data: Path, seeds: int) -> Any:
    """Each model, and what a device makes of its int8 copy, on the same test users."""
    return [_int8(set_, data, epsilon, seed) for set_ in SETS for epsilon in EPSILONS for seed in range(seeds)]


def int8_tables(figures: Any) -> list[Table]:
    """One row a set and eps."""
    rows = []
    for set_ in dict.fromkeys(each["set"] for each in figures):
        for epsilon in EPSILONS:
            found = [each for each in figures if (each["set"], each["epsilon"]) == (set_, epsilon)]
            ratio = min(each["whole"] / each["compact"] for each in found)
            losses = {
                metric: mean_error([1 - each["int8"][metric] / each["float"][metric] for each in found])
                for metric in (METRIC, SECOND)
            }
            met = ratio >= SMALLER_BAR and all(mean <= LOSS_BAR for mean, _ in losses.values())
            rows.append(
                (
                    set_,
                    epsilon_label(epsilon),
                    f"{found[0]['whole']:,}",
                    f"{found[0]['compact']:,}",
                    f"{ratio:.2f}",
                    cell([each["float"][METRIC] for each in found]),
                    *(f"{100 * mean:+.2f} ± {100 * error:.2f}" for mean, error in losses.values()),
                    "met" if met else "MISSED",
                )
            )
    header = (
        "log", "eps", "model, bytes", "int8, bytes", "times smaller, least", METRIC,
        f"loss of {METRIC}, %", f"loss of {SECOND}, %", f">= {SMALLER_BAR} x, <= {100 * LOSS_BAR} %",
    )  # fmt: skip
    note = f"`als`, rehearsals, delta {DELTA:g}, unit: user, adjacency: zero-out, paired seeds. Below 0 is a gain."
    return [Table("int8 in the place of float32", header, rows, note)]


def _int8(set_: DataSet, data: Path, epsilon: float | None, seed: int) -> dict[str, Any]:
    """One model and its copy."""
    prepared = prepared_of(set_, data, seed)
    split = prepared.split
    model = rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=prepared.inputs)
    packed = compact(model)
    judged = {
        name: judge(scorer, split.test, split, ks=(20,), seed=seed)
        for name, scorer in (("float", model), ("int8", expand(packed, most=MOST)))
    }
    values = {name: {metric: each.mean(metric) for metric in (METRIC, SECOND)} for name, each in judged.items()}
    facts = {"set": set_.label, "epsilon": epsilon, "seed": seed, "whole": len(model.data), "compact": len(packed)}
    return facts | values


PARTS = {"int8": Part(int8, int8_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
