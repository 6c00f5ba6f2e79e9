"""What public data sets keep of their quality without privacy, against the signal mu x users.

    PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/feasibility/run.py

Writes `simulations/palate_sim/studies/feasibility.json`, the basis of `palate feasibility`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from palate_core.accounting import mu_of
from palate_sim.config import load_config
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.preparation import Prepared, prepare

SETS = {"ml-1m": 0, "online-retail": 5, "movietweetings-100k": 5, "deskdrop": 5}
EPSILONS = (0.5, 1.0, 2.0, 5.0, 10.0)
FACTORS = (1, 4, 16, 64)
DELTA = 1e-5
METRIC = "recall_capped@20"
TARGET = Path(__file__).parents[2] / "palate_sim" / "studies" / "feasibility.json"


def quality(prepared: Prepared, epsilon: float | None, factor: int, seed: int) -> float:
    """Recall on the test users of one rehearsal."""
    train = prepared.split.train
    model = rehearse(train, algorithm="als", settings={}, epsilon=epsilon, delta=DELTA, population=factor, seed=seed)
    return judge(model, prepared.split.test, prepared.split, ks=(20,), seed=seed).mean(METRIC)


def main() -> None:
    """Measure every set, epsilon and multiple of the users."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = os.environ.get("PALATE_BENCH_DATA")
    parser.add_argument("--data", type=Path, default=home, required=home is None, help=f"has {', '.join(SETS)}")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    points = []
    for name, core in SETS.items():
        kept: dict[tuple[float, int], list[float]] = {}
        for seed in range(chosen.seeds):
            overrides = {"data.path": str(chosen.data / name), "filters.user_core": core, "filters.item_core": core}
            prepared = prepare(load_config(None, {**overrides, "seed": seed}))
            best = quality(prepared, None, 1, seed)
            for epsilon in EPSILONS:
                for factor in FACTORS:
                    kept.setdefault((epsilon, factor), []).append(quality(prepared, epsilon, factor, seed) / best)
        users = prepared.split.train.n_users
        for (epsilon, factor), shares in kept.items():
            signal = mu_of(epsilon=epsilon, delta=DELTA) * users * factor
            share = round(float(np.mean(shares)), 4)
            facts = {"set": name, "epsilon": epsilon, "users": users * factor}
            points.append({**facts, "signal": round(signal), "kept": share})
            print(points[-1], flush=True)
    points.sort(key=lambda point: (point["signal"], point["set"]))
    about = {"metric": METRIC, "delta": DELTA, "seeds": chosen.seeds, "unit": "user", "adjacency": "zero-out"}
    TARGET.write_text(json.dumps({"about": about, "points": points}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
