"""Palate beside pfl-research: CPU-seconds to a quality on MovieLens 1M; the same work with 1e5 users, Flower's too.

PALATE_BENCH_DATA=PATH PFL_PYTHON=PATH/bin/python PYTHONPATH=simulations python simulations/benchmarks/pfl/run.py

pfl can't share Palate's environment. PFL_PYTHON is the interpreter of one with `pip install pfl torch`; without it
nothing is run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import DELTA, METRIC, ML_1M, prepared_of, quality, real_run
from benchmarks.pfl import users
from benchmarks.sheet import Part, Table, cell, main
from palate_common.interactions import Interactions
from palate_core.errors import InputError, PalateError
from palate_sim.preparation.splits import Split

GOAL, EPSILON = 0.30, 5.0
PLAIN = "Palate, als without item features"
FEATURES = {"Palate, als": "auto", PLAIN: "none"}
# Chosen on the validation users of seed 0; see README.md.
COMMON: dict[str, Any] = {
    "epsilon": EPSILON,
    "delta": DELTA,
    "size": 48,
    "init": 0.153,
    "length": 1.2,
    "bias_scale": 1.0,
    "rate": 2.8,
    "momentum": 0.5,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "frugal": COMMON | {"rounds": 240, "sampling": 0.1, "bias_rate": 17.3, "every": 10},
    "best": COMMON | {"rounds": 480, "sampling": 0.2, "bias_rate": 14.0, "every": 20},
}


@dataclass(frozen=True)
class Factors:
    """pfl's item table and bias as a scorer, with the same user vector that was trained with."""

    table: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    length: float

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """Bias plus the product with the normalised sum of the history."""
        users = foldin.matmul(self.table)
        norms = np.linalg.norm(users, axis=1, keepdims=True)
        return np.asarray(self.bias + self.length * users / np.maximum(norms, 1e-12) @ self.table.T, np.float32)


def train_pfl(python: Path, split: Split, settings: dict[str, Any]) -> dict[str, Any]:
    """Train in pfl's own process and environment; what it kept by round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = split.train
        np.savez(folder / "split.npz", train_indptr=train.indptr, train_indices=train.indices, n_items=train.n_items)
        (folder / "settings.json").write_text(json.dumps(settings))
        script = Path(__file__).parent / "train_pfl.py"
        call = [str(python), "-W", "ignore", str(script), "split.npz", "out.npz", "settings.json"]
        bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(call, cwd=folder, env=bare, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PalateError(f"pfl's process must end with 0, got {done.returncode}: {done.stderr.strip()[-300:]}")
        with np.load(folder / "out.npz") as kept:
            return {key: kept[key] for key in kept.files}


def measure_pfl(python: Path, split: Split, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Quality on validation and test users after each kept round, with CPU-seconds."""
    kept = train_pfl(python, split, {**settings, "seed": seed})
    curve = []
    for round_, cpu, table, bias in zip(kept["rounds"], kept["cpu"], kept["tables"], kept["biases"], strict=True):
        model = Factors(table, bias, settings["length"])
        point = {"round": int(round_), "cpu": float(cpu), "test": quality(model, split.test, split, seed)}
        curve.append(point)
    reached = next((point["cpu"] for point in curve if point["test"] >= GOAL), None)
    return {
        "seed": seed,
        "curve": curve,
        "reached_cpu": reached,
        "best": max(point["test"] for point in curve),
        "final": curve[-1]["test"],
        "train_cpu": curve[-1]["cpu"],
        "whole_cpu": float(kept["whole"]),
        "noise_multiplier": float(kept["noise"]),
        "updates": settings["rounds"] * settings["sampling"] * split.train.n_users,
    }


def compared(settings: dict[str, Any], data: Path, seeds: int) -> Any:
    """Both systems on the same splits."""
    if PYTHON is None:
        sys.stdout.write("pfl: skipped, PFL_PYTHON names no environment with pfl and torch\n")
        return None
    if not PYTHON.exists():
        raise InputError(f"PFL_PYTHON must be an interpreter, got {PYTHON}")
    theirs: list[Any] = []
    ours: dict[str, list[Any]] = {label: [] for label in FEATURES}
    for seed in range(seeds):
        theirs.append(measure_pfl(PYTHON, prepared_of(ML_1M, data, seed).split, seed, settings))
        for label, features in FEATURES.items():
            result = real_run(ML_1M, data, epsilon=EPSILON, seed=seed, features=features)
            costs = {"train_cpu": result["seconds"]["train_cpu"], "rate": result["updates_per_cpu_second"]}
            ours[label].append({"seed": seed, "final": result["metrics"][METRIC]["mean"], **costs})
    return {"settings": settings, "pfl": theirs, "palate": ours}


def beside(_: Path, seeds: int) -> Any:
    """The same work with more and more users; see `users`."""
    if PYTHON is None:
        sys.stdout.write("pfl: skipped, PFL_PYTHON names no environment with pfl and torch\n")
        return None
    return users.measured(PYTHON, seeds)


def compared_tables(name: str, figures: Any) -> list[Table]:
    """One row a system."""
    theirs, settings = figures["pfl"], figures["settings"]
    reached = [each["reached_cpu"] for each in theirs if each["reached_cpu"] is not None]
    said = cell(reached, 1) + f" ({len(reached)} of {len(theirs)} seeds)" if reached else "never"
    rows = []
    for label, ours in figures["palate"].items():
        spent, rates = cell([each["train_cpu"] for each in ours], 3), [each["rate"] for each in ours]
        quality_ = cell([each["final"] for each in ours])
        rows.append((label, quality_, f"{spent} (the whole run)", spent, f"{np.mean(rates):,.0f}"))
    rows.append(
        (
            f"pfl-research, DP-FedAvg on MF, {settings['rounds']} rounds, cohort {settings['sampling']:.0%}",
            cell([each["final"] for each in theirs]),
            said,
            cell([each["train_cpu"] for each in theirs], 1),
            f"{np.mean([each['updates'] / each['train_cpu'] for each in theirs]):,.0f}",
        )
    )
    header = (
        "system",
        f"{METRIC} at the end",
        f"CPU-s to {GOAL:.2f}",
        "CPU-s of training",
        "client updates per CPU-s",
    )
    note = (
        "Test users, same splits, real runs. CPU-seconds of training: imports, loading, pfl's search for its noise and "
        "judging are left out on both sides; Palate's have noise, both ledgers and signatures in them."
    )
    if reached:
        fair = np.mean([each["train_cpu"] for each in figures["palate"][PLAIN]])
        note += f" {PLAIN.replace(', als', '')} gets there with {np.mean(reached) / fair:,.0f} times fewer CPU-seconds."
    return [Table(f"Palate and pfl-research ({name}), MovieLens 1M, eps 5", header, rows, note)]


PYTHON = Path(os.environ["PFL_PYTHON"]) if os.environ.get("PFL_PYTHON") else None
PARTS = {name: Part(partial(compared, settings), partial(compared_tables, name)) for name, settings in SETTINGS.items()}
PARTS["users"] = Part(beside, users.tables)


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
