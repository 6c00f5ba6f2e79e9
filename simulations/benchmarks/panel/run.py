"""Panel: what a public log of other people brings to a small population, each as one command's run.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/panel/run.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    DELTA,
    METRIC,
    ML_1M,
    ML_SMALL,
    TWEETINGS,
    DataSet,
    prepared_of,
    privacy,
    quality,
    rehearsed,
)
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_common.algorithms import State
from palate_sim.baselines.panel_only import PanelOnly
from palate_sim.config import load_config
from palate_sim.data import load, positives
from palate_sim.data.features import published_facts
from palate_sim.panel.panel import MatchedItems, choose, fit_panel, match_items, people_of
from palate_sim.preparation.preparation import Prepared
from palate_sim.progress.wording import matched_words
from palate_sim.run.experiment import start

BARS = {1.0: 1.6, 5.0: 1.2}
"""Epsilon -> how many times the quality without a public log is asked for with MovieLens 1M."""
LAST_YEAR = 1996
"""The old log has films until this year alone."""
SHARES = (0.1, 0.3)
OTHERS = (f"MovieLens 1M until {LAST_YEAR}", "MovieTweetings 100k", *(f"{share:.0%} of the people" for share in SHARES))
PROTOCOL = f"delta {DELTA:g}, unit user, adjacency zero-out; test users once"


def public(data: Path, seeds: int) -> Any:
    """Each eps and seed: the whole run, with secure noise, without a public log and with MovieLens 1M, of strangers."""
    return [
        {"seed": seed, "epsilon": epsilon, "log": "none" if log is None else log.label}
        | _figures(data, log, epsilon, seed)
        for epsilon in BARS
        for seed in range(seeds)
        for log in (None, ML_1M)
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


def logs(data: Path, seeds: int) -> Any:
    """Each seed, log and eps: rehearsals with the log, without, and the log alone; MovieLens 1M without genres, too."""
    found, fitted = list[dict[str, Any]](), dict[str, State]()
    for seed in range(seeds):
        prepared = prepared_of(ML_SMALL, data, seed)
        cut, plain, asked = prepared.split, dict[tuple[bool, float], float](), [("none", prepared.inputs)]
        fitted |= {name: fit() for name, fit in _fits(data, prepared) if name not in fitted}
        shares = {
            name: fit_panel(cut.train.users(choose(cut.train, share, seed=seed)), seed=seed)
            for name, share in zip(OTHERS[2:], SHARES, strict=True)
        }
        asked += [(name, prepared.inputs | inputs) for name, inputs in (fitted | shares).items()]
        asked += [("none", {}), (ML_1M.label, fitted[ML_1M.label])]
        for log, inputs in asked:
            for epsilon in BARS:
                genres = "features" in inputs
                model = rehearsed(cut.train, epsilon=epsilon, seed=seed, inputs=inputs)
                own = quality(model, cut.test, cut, seed)
                if log == "none":
                    plain[genres, epsilon] = own
                    continue
                alone = quality(PanelOnly.of(inputs), cut.test, cut, seed)
                weight = float(model.state["open_weight"][0])
                each = {"seed": seed, "epsilon": epsilon, "log": log, "genres": genres, METRIC: own, "weight": weight}
                found.append(each | {"without": plain[genres, epsilon], "alone": alone})
    return found


def _fits(data: Path, prepared: Prepared) -> Iterator[tuple[str, Callable[[], State]]]:
    """Each public log with what makes its model for the catalogue, of strangers."""
    for name, set_, last in (
        (ML_1M.label, ML_1M, None),
        (OTHERS[0], ML_1M, LAST_YEAR),
        (OTHERS[1], TWEETINGS, None),
    ):

        def fit(set_: DataSet = set_, last: int | None = last) -> State:
            items = prepared.split.items
            log = load(set_.source(data))
            pairs = positives(log, timed=False)
            theirs, facts = published_facts(log.items, pairs.items), published_facts(prepared.catalogue, items)
            matched = match_items(pairs.items, items, their_facts=theirs, facts=facts)
            if last is not None and theirs is not None:
                years = [0 if (row := theirs.get(item)) is None else row.year or 0 for item in pairs.items]
                old = (np.array(years) > 0) & (np.array(years) <= last)
                matched = MatchedItems(np.where(old, matched.columns, -1), matched.how)
            people, _, _ = people_of(pairs, items, matched, setting="data.panel")
            return fit_panel(people, seed=0)

        yield name, fit


def public_tables(figures: Any) -> list[Table]:
    """One row an eps and log."""
    rows = []
    for epsilon, bar in BARS.items():
        of = {log: [each for each in figures if (each["epsilon"], each["log"]) == (epsilon, log)] for log in LOGS}
        (plain, both), alone = ([[each[METRIC] for each in of[log]] for log in LOGS], [e["alone"] for e in of[LOGS[1]]])
        times = mean_error(both)[0] / mean_error(plain)[0]
        weights = ", ".join(f"{each['weight']:g}" for each in of[LOGS[1]])
        said = f"{times:.2f} x; bar {bar:g} x: {'met' if times >= bar else 'MISSED'}"
        rows.append((f"{epsilon:g}", cell(plain), cell(both), said, cell(alone), _above(both, alone), weights))
    header = ("eps", "without", "with it", "against without", "the log alone", "above the log alone", "weights")
    found = next(each for each in figures if each["log"] == LOGS[1])["matched"]
    note = f"Items of {LOGS[1]}: {matched_words(found)}."
    return [Table(f"{ML_SMALL.label} with {LOGS[1]} as a public log, whole runs: {METRIC}", header, rows, note)]


def logs_tables(figures: Any) -> list[Table]:
    """One row a log and eps; what is asked is that neither difference is below zero by more than its error."""
    rows = []
    for log, genres in ((LOGS[1], True), (LOGS[1], False), *((log, True) for log in OTHERS)):
        for epsilon in BARS:
            of = [each for each in figures if (each["log"], each["genres"], each["epsilon"]) == (log, genres, epsilon)]
            both, plain, alone = ([each[name] for each in of] for name in (METRIC, "without", "alone"))
            differences = [_above(both, other) for other in (plain, alone)]
            label, times = log if genres else f"{log}, no genres", mean_error(both)[0] / mean_error(plain)[0]
            weights = ", ".join(f"{each['weight']:g}" for each in of)
            rows.append((label, f"{epsilon:g}", cell(both), cell(plain), f"{times:.2f} x", *differences, weights))
    header = ("log", "eps", "with it", "without", "against without", "above without", "above the log alone", "weights")
    note = "Rehearsals: the same learning with seeded noise. MISSED: below by more than the error."
    return [Table(f"{ML_SMALL.label} with other open logs: {METRIC}", header, rows, note)]


def _above(both: list[float], other: list[float]) -> str:
    """The paired difference of two, and whether it is below zero by more than its error."""
    above = [one - two for one, two in zip(both, other, strict=True)]
    mean, error = mean_error(above)
    return cell(above) + ("; MISSED" if mean < -error else "")


LOGS = ("none", ML_1M.label)
PARTS = {"public": Part(public, public_tables), "logs": Part(logs, logs_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, protocol=PROTOCOL)
