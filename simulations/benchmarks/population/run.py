"""Population: quality with a real number of users, beside what fewer users project it to be.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/population/run.py
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import METRIC, ML_1M, TWEETINGS, DataSet, epsilon_label
from benchmarks.sheet import Part, Table, cell, main
from palate_common.algorithms import PublicFacts
from palate_common.models.model import catalogue_hash
from palate_common.records.key_file import save_key
from palate_core.accounting import ACCOUNTANT, mu_of
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_server.rounds.terms import RunTerms
from palate_sim.config import load_config
from palate_sim.engines import Job
from palate_sim.engines.job import node_size
from palate_sim.engines.local import run_local
from palate_sim.evaluation.model_evaluation import judge
from palate_sim.evaluation.projection import with_new_users
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.evaluation.sampling import TESTED, some_heldout
from palate_sim.preparation.preparation import Prepared, prepare

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Case:
    """One log: with how many users it is learned, and from how many it is projected.

    Attributes:
        set: the log.
        delta: of every epsilon.
        sizes: numbers of training users; 0: all.
        starts: numbers of users that are projected to each larger one of `targets`.
        targets: numbers of users; 0: all.
        once: sizes that are measured with the first seed alone.
        test: test users at most.
        validation: validation users at most.
        quiet: sizes that are measured without privacy too.
    """

    set: DataSet
    delta: float
    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    targets: tuple[int, ...]
    once: tuple[int, ...] = ()
    test: int | None = None
    validation: int | None = None
    quiet: tuple[int, ...] = ()


CASES = {
    "million": Case(
        DataSet("A simulated log of a million users", "a1m.parquet"),
        delta=1e-7,
        sizes=(1000, 3000, 10_000, 30_000, 100_000, 300_000, 0),
        starts=(1000, 10_000),
        targets=(10_000, 100_000, 0),
        once=(300_000, 0),
        test=5000,
        validation=1000,
        quiet=(1000, 10_000),
    ),
    "ml-1m": Case(
        ML_1M, delta=1e-5, sizes=(500, 1000, 2000, 0), starts=(500, 1000), targets=(1000, 2000, 0), quiet=(500, 1000, 0)
    ),
    "movietweetings-100k": Case(
        replace(TWEETINGS, core=0),
        delta=1e-5,
        sizes=(500, 1000, 2000, 4000, 8000, 0),
        starts=(500, 1000, 2000),
        targets=(2000, 4000, 0),
        quiet=(500, 2000, 0),
    ),
}


def prepared_of(case: Case, data: Path, seed: int) -> Prepared:
    """The split; a log on disk is cut once, and only users are drawn anew by the seed."""
    whole = case.set.folder is not None and (data / case.set.folder).is_file()
    config = load_config(None, case.set.overrides(**({} if whole else {"seed": seed})))
    return prepare(config, case.set.source(data))


def measured(name: str, data: Path, seed: int) -> list[dict[str, Any]]:
    """Every point of one seed: for how many users, from how many, at which eps, and the quality."""
    case = CASES[name]
    prepared = prepared_of(case, data, seed)
    split, points = prepared.split, []
    judges = {"test": some_heldout(split.test, case.test, seed=0, purpose=TESTED)}
    if split.validation is not None:
        judges["validation"] = some_heldout(split.validation, case.validation, seed=0, purpose=TESTED)
    order = np.random.default_rng([seed, 31]).permutation(split.train.n_users)

    def found(epsilon: float | None, users: int, rows: slice) -> dict[str, float]:
        model = rehearse(
            split.train.users(np.sort(order[rows])),
            algorithm="als",
            settings={},
            epsilon=epsilon,
            delta=case.delta,
            users=users,
            seed=seed,
            inputs=prepared.inputs,
        )
        return {
            role: judge(model, heldout, split, ks=(20,), seed=0, threads=1).mean(METRIC)
            for role, heldout in judges.items()
        }

    for epsilon, users, start in _asked(case, split.train.n_users, seed):
        point: dict[str, Any] = {"seed": seed, "epsilon": epsilon, "users": users, "from": start}
        point |= found(epsilon, users, slice(0, start))
        if start < users:
            middle = start // 2
            point["halves"] = [found(epsilon, users, rows) for rows in (slice(0, middle), slice(middle, 2 * middle))]
        points.append(point)
        sys.stderr.write(f"{name} {point}\n")
    return points


def _asked(case: Case, everyone: int, seed: int) -> Iterator[tuple[float | None, int, int]]:
    """At which eps, for how many users, and how many of them learn."""
    sizes = [size or everyone for size in case.sizes if not seed or size not in case.once]
    targets = [target or everyone for target in case.targets]
    for epsilon in EPSILONS:
        yield from ((epsilon, size, size) for size in sizes)
        yield from ((epsilon, target, start) for start in case.starts for target in targets if target > start)
    yield from ((None, size or everyone, size or everyone) for size in case.quiet)


def points_of(name: str, data: Path, seeds: int) -> Any:
    """All points of all seeds, two seeds at a time where there are two cores."""
    workers = min(seeds, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(partial(measured, name, data), range(seeds)))
    return {"delta": CASES[name].delta, "points": [point for each in found for point in each]}


def real(figures: Any, role: str = "test") -> dict[tuple[float | None, int], list[float]]:
    """Quality with so many users, by seed."""
    found: dict[tuple[float | None, int], list[float]] = {}
    for point in figures["points"]:
        if point["users"] == point["from"]:
            found.setdefault((point["epsilon"], point["users"]), []).append(point[role])
    return found


def projected(figures: Any, role: str = "test") -> dict[tuple[float, int, int], tuple[float, float, float]]:
    """(eps, from, users) -> quality measured, with these users repeated, and with new users: means over the seeds.

    A size that was measured with the first seed alone stands beside the projections of all seeds.
    """
    truth, found = real(figures, role), dict[tuple[float, int, int], list[tuple[float, float]]]()
    for point in figures["points"]:
        if "halves" in point:
            halves = [half[role] for half in point["halves"]]
            mended = with_new_users(point[role], halves, trained=point["from"], users=point["users"])
            found.setdefault((point["epsilon"], point["from"], point["users"]), []).append((point[role], mended))
    means = {key: np.mean(values, axis=0) for key, values in found.items()}
    return {key: (float(np.mean(truth[key[0], key[2]])), float(a), float(b)) for key, (a, b) in means.items()}


def population_tables(name: str, figures: Any) -> Sequence[Table]:
    """Quality by users and eps; then how far each projection is off."""
    label, truth, delta = CASES[name].set.label, real(figures), figures["delta"]
    sizes = sorted({users for _, users in truth})
    chosen = [*EPSILONS, *([None] if any(epsilon is None for epsilon, _ in truth) else [])]
    rows = [
        (f"{users:,}", *(cell(truth[epsilon, users]) if (epsilon, users) in truth else "" for epsilon in chosen))
        for users in sizes
    ]
    header = ("users who learn", *(f"eps {epsilon_label(epsilon)}" for epsilon in chosen))
    seeds = len({point["seed"] for point in figures["points"]})
    privacy = f"Unit user, adjacency zero-out, delta {delta:g}, accountant {ACCOUNTANT}"
    note = (
        f"{METRIC} over the whole catalogue, the same test users in a row; {seeds} seeds, ± 0 where one was measured. "
        f"{privacy}. Rehearsals."
    )
    off = {key: ((repeated / own - 1), (new / own - 1)) for key, (own, repeated, new) in projected(figures).items()}
    pairs = sorted({(start, users) for _, start, users in off})
    errors = [
        (f"{start:,}", f"{users:,}", *(", ".join(f"{each:+.1%}" for each in off[e, start, users]) for e in EPSILONS))
        for start, users in pairs
    ]
    every = np.array(list(off.values()))
    rms = np.sqrt((every**2).mean(axis=0))
    said = (
        "These users repeated, then with what new users add. "
        f"Root of the mean square: {rms[0]:.1%} and {rms[1]:.1%}; mean {every[:, 0].mean():+.1%} and "
        f"{every[:, 1].mean():+.1%}; largest {np.abs(every[:, 1]).max():.1%}. {privacy}."
    )
    names = ("from", "to users", *(f"eps {epsilon:g}" for epsilon in EPSILONS))
    return [
        Table(f"{label}: quality with so many users", header, rows, note),
        Table(f"{label}: how far projections are off", names, errors, said),
    ]


def production(data: Path, seeds: int) -> Any:
    """Runs on a part of the million, by the engine with signatures, ledgers and secure noise, beside rehearsals."""
    case = CASES["million"]
    prepared = prepared_of(case, data, 0)
    split, found = prepared.split, []
    heldout = some_heldout(split.test, case.test, seed=0, purpose=TESTED)
    order = np.random.default_rng([0, 31]).permutation(split.train.n_users)
    train = split.train.users(np.sort(order[:PRODUCED]))
    for seed in range(seeds):
        mu = mu_of(epsilon=PRODUCED_AT, delta=case.delta)
        facts = PublicFacts(n_users=train.n_users, n_items=train.n_items, mu=mu, seed=seed)
        terms = RunTerms(
            population="part", run="run", algorithm="als", settings={}, facts=facts, epsilon=PRODUCED_AT,
            delta=case.delta, catalogue=catalogue_hash(split.items), per_node=node_size(train.n_users),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_key(SigningKey.generate(), folder / "release.key")
            job = Job(
                folder=folder,
                terms=terms,
                ledger=folder / "ledger.db",
                key=folder / "release.key",
                users_per_node=terms.per_node,
                floors=Floors(allow_central=True),
            )
            ran = run_local(job, train).model
        rehearsed = rehearse(train, algorithm="als", settings={}, epsilon=PRODUCED_AT, delta=case.delta, seed=seed)
        pair = [judge(m, heldout, split, ks=(20,), seed=0, threads=1).mean(METRIC) for m in (ran, rehearsed)]
        found.append({"seed": seed, "run": pair[0], "rehearsal": pair[1]})
    return {"delta": case.delta, "epsilon": PRODUCED_AT, "users": train.n_users, "pairs": found}


def production_tables(figures: Any) -> Sequence[Table]:
    """One row."""
    pairs = figures["pairs"]
    apart = [pair["run"] - pair["rehearsal"] for pair in pairs]
    row = (
        f"{figures['users']:,}",
        *(cell([pair[name] for pair in pairs]) for name in ("run", "rehearsal")),
        cell(apart),
    )
    note = (
        f"{METRIC}; eps {figures['epsilon']:g}, unit user, adjacency zero-out, delta {figures['delta']:g}, accountant "
        f"{ACCOUNTANT}; {len(pairs)} seeds. A run: signed plans, both ledgers, secure noise."
    )
    header = ("users who learn", "runs", "rehearsals", "difference")
    return [Table("Runs and rehearsals on the same users", header, [row], note)]


def heads(data: Path, seeds: int) -> Any:
    """Validation users' quality with fewer items in the collaborative rounds than the rule of `als` takes."""
    case, users, epsilon = CASES["million"], 100_000, 8.0
    prepared = prepared_of(case, data, 0)
    split, found = prepared.split, dict[str, list[float]]()
    assert split.validation is not None  # noqa: S101 - a million users leave some
    heldout = some_heldout(split.validation, case.validation, seed=0, purpose=TESTED)
    for seed in range(seeds):
        order = np.random.default_rng([seed, 31]).permutation(split.train.n_users)
        train = split.train.users(np.sort(order[:users]))
        for head in HEADS:
            settings = {} if head is None else {"head_items": head}
            model = rehearse(train, algorithm="als", settings=settings, epsilon=epsilon, delta=case.delta, seed=seed)
            items = len(model.state["head"])
            quality = judge(model, heldout, split, ks=(20,), seed=0, threads=1).mean(METRIC)
            found.setdefault(f"{items:,}" + ("" if head else ", the rule's"), []).append(quality)
    return {"delta": case.delta, "epsilon": epsilon, "users": users, "heads": found}


def heads_tables(figures: Any) -> Sequence[Table]:
    """One row a size of the head."""
    rows = [(head, cell(values)) for head, values in figures["heads"].items()]
    note = (
        f"{METRIC} of validation users; {figures['users']:,} users who learn, eps {figures['epsilon']:g}, unit user, "
        f"adjacency zero-out, delta {figures['delta']:g}, accountant {ACCOUNTANT}."
    )
    title = "A simulated log of a million users: items in the collaborative rounds"
    return [Table(title, ("`head_items`", METRIC), rows, note)]


HEADS = (1000, 2000, 4000, None)
PRODUCED, PRODUCED_AT = 30_000, 2.0
PARTS = {name: Part(partial(points_of, name), partial(population_tables, name)) for name in CASES}
PARTS |= {"heads": Part(heads, heads_tables), "production": Part(production, production_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3)
