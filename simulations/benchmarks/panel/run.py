"""Panel: what a public log of other people brings to a small population, each as one command's run.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/panel/run.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import DELTA, METRIC, ML_1M, ML_SMALL, TWEETINGS, DataSet, privacy
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_sim.config import load_config
from palate_sim.progress.wording import matched_words
from palate_sim.run.experiment import start

BARS = {1.0: 1.6, 5.0: 1.2}
"""Epsilon -> how many times the quality without a public log is asked for with MovieLens 1M."""
LOGS = {1.0: (ML_1M, TWEETINGS), 5.0: (ML_1M,)}
"""Epsilon -> the public logs."""
PROTOCOL = f"delta {DELTA:g}, unit user, adjacency zero-out; whole runs, secure noise; test users once"


def public(data: Path, seeds: int) -> Any:
    """Each eps and seed: the run without a public log, and with each, of people who are strangers."""
    return [
        {
            "seed": seed,
            "epsilon": epsilon,
            "log": "none" if log is None else log.label,
            **_figures(data, log, epsilon, seed),
        }
        for epsilon in BARS
        for seed in range(seeds)
        for log in (None, *LOGS[epsilon])
    ]


def _figures(data: Path, log: DataSet | None, epsilon: float, seed: int) -> dict[str, Any]:
    """One run; of one with a public log also the log alone, its weight and how its items were found."""
    panel = {} if log is None else {"data.panel": str(log.source(data))}
    keys = ML_SMALL.overrides(**privacy(epsilon), **panel, seed=seed)
    keys |= {"evaluation.baselines": ["popularity", "panel_only"]}
    with tempfile.TemporaryDirectory() as folder:
        run = start(load_config(None, keys), source=ML_SMALL.source(data), out=Path(folder) / "run").run()
        found = {METRIC: run.metrics[METRIC], "popularity": run.baselines["popularity"][METRIC]}
        if log is not None:
            found |= {"alone": run.baselines["panel_only"][METRIC], "matched": run.summary["panel"]["matched"]}
            found |= {"weight": float(run.model.state["open_weight"][0])}
    return found


def public_tables(figures: Any) -> list[Table]:
    """One row an eps and log."""
    rows = []
    for epsilon, bar in BARS.items():
        of = {log: [each for each in figures if (each["epsilon"], each["log"]) == (epsilon, log)] for log in _labels()}
        plain = [each[METRIC] for each in of["none"]]
        rows.append((f"{epsilon:g}", "none", cell(plain), "", "", "", ""))
        for log in LOGS[epsilon]:
            both, alone = ([each[name] for each in of[log.label]] for name in (METRIC, "alone"))
            times = mean_error(both)[0] / mean_error(plain)[0]
            asked = f"; bar {bar:g} x: {'met' if times >= bar else 'MISSED'}" if log is ML_1M else ""
            above = [one - other for one, other in zip(both, alone, strict=True)]
            weights = ", ".join(f"{each['weight']:g}" for each in of[log.label])
            rows.append(
                (f"{epsilon:g}", log.label, cell(both), f"{times:.2f} x{asked}", cell(alone), cell(above), weights)
            )
    header = (
        "eps",
        "public log",
        "Palate",
        "against none",
        "the log alone",
        "above the log alone",
        "weights voted for",
    )
    found = {log.label: next(each for each in figures if each["log"] == log.label)["matched"] for log in LOGS[1.0]}
    note = " ".join(f"Items of {label}: {matched_words(how)}." for label, how in found.items())
    return [Table(f"{ML_SMALL.label} with a public log: {METRIC}", header, rows, note)]


def _labels() -> tuple[str, ...]:
    return ("none", *(log.label for log in LOGS[1.0]))


PARTS = {"public": Part(public, public_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, protocol=PROTOCOL)
