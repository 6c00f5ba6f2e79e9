"""Compression: what 8 x and 32 x fewer numbers a device cost in quality, and the plan for a million items.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/compression/run.py
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import DELTA, METRIC, ML_1M, RETAIL, DataSet, epsilon_label, quality, rehearsed, split_of
from benchmarks.sheet import Part, Table, cell, main
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.algorithms.als.algorithm import Als
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import packed_bytes
from palate_core.accounting import mu_of
from palate_core.layout import layout_size
from palate_sim.evaluation.rehearsal import GRID

FACTORS, PLANNED = (1, 8, 32), (100_000, 1_000_000)
MILLION, USERS, TASTES, HELD = 1_000_000, 20_000, 64, 300
WIDTH = 96
"""d of a table without noise: what a dense table would take, for comparison."""


def sent(model: GlobalModel) -> tuple[int, int]:
    """Numbers a device sends over a run, and the bytes of them as packed integers of the grid."""
    learner = make_algorithm(model.header.algorithm, model.header.settings, model.header.facts)
    rounds = range(len(learner.shares))
    sizes = [layout_size(learner.layout(learner.start() if r == 0 else model.state, r)) for r in rounds]
    return sum(sizes), sum(packed_bytes(size, GRID) for size in sizes)


def update_seconds(model: GlobalModel, histories: Interactions) -> float:
    """CPU-seconds of one device's updates over a run, mean over users."""
    learner = make_algorithm(model.header.algorithm, model.header.settings, model.header.facts)
    users, begun = range(min(50, histories.n_users)), time.process_time()
    for round_ in range(len(learner.shares)):
        state = learner.start() if round_ == 0 else model.state
        layout = learner.layout(state, round_)
        for user in users:
            clip(learner.contribute(state, round_, histories.user(user)), layout, clip_norm=1.0, grid=GRID)
    return (time.process_time() - begun) / len(users)


def sets(algorithm: str) -> Part:
    """Quality on test users by factor, with noise and without."""

    def measure(data: Path, seeds: int) -> Any:
        figures = list[dict[str, Any]]()
        for set_ in (ML_1M, RETAIL):
            splits = [split_of(set_, data, seed) for seed in range(seeds)]
            for epsilon in (5.0, None):
                for factor in FACTORS:
                    figures += [_one(algorithm, set_, splits[seed], epsilon, factor, seed) for seed in range(seeds)]
        return figures

    def tables(figures: Any) -> list[Table]:
        grouped = defaultdict[tuple[str, float | None, int], list[dict[str, Any]]](list)
        for each in figures:
            grouped[each["set"], each["epsilon"], each["factor"]].append(each)
        rows = [_row(of, grouped[set_, epsilon, FACTORS[0]][0]) for (set_, epsilon, _), of in grouped.items()]
        note = (
            f"Test users; {METRIC}; rehearsals without item features; user-level, zero-out, delta {DELTA:g}. "
            "Numbers and bytes (packed integers of the grid 2^20) over the whole run. CPU: one device's updates."
        )
        header = ("log", "eps", "asked", "numbers", "KiB", "fewer", METRIC, "CPU ms")
        return [Table(f"`{algorithm}`: fewer numbers a device", header, rows, note)]

    return Part(measure, tables)


def _one(algorithm: str, set_: DataSet, split: Any, epsilon: float | None, factor: int, seed: int) -> dict[str, Any]:
    """One run's figures."""
    settings = {"compression": factor} if factor > 1 else {}
    model = rehearsed(split.train, epsilon=epsilon, seed=seed, algorithm=algorithm, settings=settings)
    numbers, size = sent(model)
    facts = {"set": set_.label, "epsilon": epsilon, "factor": factor, "seed": seed, "numbers": numbers, "bytes": size}
    return facts | {METRIC: quality(model, split.test, split, seed), "cpu_s": update_seconds(model, split.train)}


def _row(found: list[dict[str, Any]], plain: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    first = found[0]
    return (
        first["set"],
        epsilon_label(first["epsilon"]),
        f"{first['factor']} x",
        f"{first['numbers']:,}",
        f"{first['bytes'] / 1024:,.1f}",
        f"{plain['numbers'] / first['numbers']:.2f} x",
        cell([each[METRIC] for each in found]),
        f"{1000 * float(np.mean([each['cpu_s'] for each in found])):.2f}",
    )


def synthetic(seed: int) -> tuple[Interactions, Interactions, Interactions]:
    """A million items: training users, and what others had and take next.

    Popularity is 1 / (rank + 20)^1.1, about the slope of the logs above. Each item has one of 64 tastes, each user two.
    A user draws about 60 items (log-normal, spread 0.6), four in five of own tastes; one fifth is held out of the last
    300 users.
    """
    rng = np.random.default_rng(seed)
    odds = 1 / (np.arange(MILLION) + 20) ** 1.1
    taste = rng.integers(0, TASTES, MILLION)
    own = [np.flatnonzero(taste == each) for each in range(TASTES)]
    ends = [np.cumsum(odds[rows]) for rows in own]
    everything = np.cumsum(odds)
    owners, items = [], []
    for user in range(USERS + HELD):
        size = int(np.clip(rng.lognormal(np.log(60), 0.6), 10, 500))
        kinds = rng.choice(TASTES, 2, replace=False)[rng.integers(0, 2, size)]
        drawn = np.searchsorted(everything, rng.random(size) * everything[-1])
        for kind in np.unique(kinds):
            chosen = (kinds == kind) & (rng.random(size) < 0.8)
            drawn[chosen] = own[kind][np.searchsorted(ends[kind], rng.random(int(chosen.sum())) * ends[kind][-1])]
        items.append(np.unique(drawn))
        owners.append(np.full(len(items[-1]), user))
    log = Interactions.from_pairs(np.concatenate(owners), np.concatenate(items), n_users=USERS + HELD, n_items=MILLION)
    held = log.users(slice(USERS, USERS + HELD))
    hidden = rng.random(held.nnz) < 0.2
    return log.users(slice(0, USERS)), held.entries(~hidden), held.entries(hidden)


def recall(model: GlobalModel, shown: Interactions, hidden: Interactions) -> float:
    """recall_capped@20 over the whole catalogue without what was shown, mean over users with something hidden."""
    factors = model.algorithm.factors(model.state)
    if factors is None:
        return float("nan")
    table, users, found = factors.items(), factors.users(shown), []
    for user in np.flatnonzero(hidden.counts()).tolist():
        scores = table @ users[user].astype(np.float32)
        scores[shown.items_of(user)] = -np.inf
        best = np.argpartition(scores, -20)[-20:]
        wanted = hidden.items_of(user)
        found.append(np.isin(best, wanted).sum() / min(20, len(wanted)))
    return float(np.mean(found))


def million(data: Path, seeds: int) -> Any:
    """Runs on a million synthetic items, whole, with the plan's arithmetic beside them."""
    train, shown, hidden = synthetic(0)
    figures = list[dict[str, Any]]()
    for factor in FACTORS:
        for seed in range(seeds):
            settings = {"compression": factor} if factor > 1 else {}
            begun = time.process_time()
            model = rehearsed(train, epsilon=5.0, seed=seed, settings=settings)
            spent = time.process_time() - begun
            numbers, size = sent(model)
            facts: dict[str, Any] = {"factor": factor, "seed": seed, "numbers": numbers, "bytes": size}
            facts["rehearsal_cpu_s"] = spent
            facts |= {METRIC: recall(model, shown, hidden), "cpu_s": update_seconds(model, train)}
            figures.append(facts | {"plan": _plan(USERS, factor)})
    floor = rehearsed(train, epsilon=5.0, seed=0, settings={"rounds": 1})
    planned = [
        {"users": users, "factor": factor, "plan": _plan(users, factor)} for users in PLANNED for factor in FACTORS
    ]
    return {"runs": figures, "popularity": recall(floor, shown, hidden), "plans": planned}


def million_tables(figures: Any) -> list[Table]:
    """The runs, and the plans for more users."""
    rows = []
    for factor in dict.fromkeys(each["factor"] for each in figures["runs"]):
        found = [each for each in figures["runs"] if each["factor"] == factor]
        rows.append((*_plan_row(found[0]), cell([e[METRIC] for e in found]), f"{1000 * found[0]['cpu_s']:.1f}"))
    note = (
        f"`als`, eps 5 (delta {DELTA:g}, unit user, adjacency zero-out), {USERS:,} training and {HELD} held-out users, "
        f"made as `synthetic` says; popularity alone: {figures['popularity']:.4f}. A dense "
        f"table of {WIDTH} columns: {MILLION * WIDTH:,} numbers a round. CPU: one device's updates over the run."
    )
    header = ("asked", "round 0", "later rounds", "rows x columns", "numbers", "MiB", METRIC, "CPU ms")
    planned = [(f"{each['users']:,}", *_plan_row(each)) for each in figures["plans"]]
    plans = Table("The plan for 1,000,000 items at eps 5", ("users", *header[:-2]), planned, "By arithmetic alone.")
    return [Table("1,000,000 synthetic items", header, rows, note), plans]


def _plan(users: int, factor: int) -> dict[str, int]:
    """Sizes of `als` for a million items."""
    mu = mu_of(epsilon=5.0, delta=DELTA)
    facts = PublicFacts(n_users=users, n_items=MILLION, mu=mu)
    plan = Als(Als.Settings(compression=factor), facts).plan
    numbers = plan.counts + plan.later * plan.head_items * plan.embedding_size
    sizes = {"counts": plan.counts, "rounds": plan.later, "rows": plan.head_items, "width": plan.embedding_size}
    return sizes | {"numbers": numbers, "bytes": packed_bytes(numbers, GRID)}


def _plan_row(figure: dict[str, Any]) -> tuple[str, ...]:
    """The same as cells."""
    plan = figure["plan"]
    shape = f"{plan['rows']:,} x {plan['width']}"
    size = f"{plan['bytes'] / 2**20:.2f}"
    return f"{figure['factor']} x", f"{plan['counts']:,}", str(plan["rounds"]), shape, f"{plan['numbers']:,}", size


PARTS = {"als": sets("als"), "sgd": sets("sgd"), "million": Part(million, million_tables)}

if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
