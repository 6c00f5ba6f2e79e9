"""Engines: what a client update costs through Flower's Ray engine with one user a node, and through the local engine.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/engines/run.py [--seeds RUNS]

Every run has seed 1; `--seeds` is how many of the local engine are made, of which the median is taken.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context

from benchmarks.measure import DELTA, ML_1M, split_of
from benchmarks.sheet import Part, Table, main
from palate_client.flower import Host, node_app
from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.models.model import catalogue_hash
from palate_common.records.key_file import save_key
from palate_common.rounds.wire import REFUSED
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_core.plan import MAX_USERS
from palate_server.flower.transport import GridTransport
from palate_server.rounds.cohort import choose_cohort
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import Request, first_answers
from palate_server.rounds.terms import RunTerms, make_terms
from palate_sim.engines import Job, Outcome
from palate_sim.engines.flower import run_flower
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.job import node_size
from palate_sim.engines.local import run_local
from palate_sim.engines.processes import PROC, descendants
from palate_sim.preparation.splits import Split

EPSILON, ROUNDS, MESSAGES = 5.0, 4, 5000
BAR = 300.0
USERS = (200, 1000, 0)
"""Cohorts; 0 is every training user."""
CASES = (("local", 2048), ("local", 1), ("flower", 2048), ("flower", 1))
LARGE = (112_000, 27_000, 130)
"""Users, items and mean draws a user of the large population."""
SIZES, WORKERS = (2048, 4096, 16_384), (2, 4)
NAMES = {"local": "Palate local", "flower": "Flower Ray"}


def job_in(folder: Path, split: Split, histories: Interactions, users_per_node: int) -> Job:
    """The same work for every engine: seeded noise, so that the models can be compared."""
    facts = PublicFacts(
        n_users=histories.n_users, n_items=histories.n_items, mu=mu_of(epsilon=EPSILON, delta=DELTA), seed=1
    )
    terms = RunTerms(
        population="bench", run="run", algorithm="als", settings={"rounds": ROUNDS}, facts=facts, noise="seeded",
        catalogue=catalogue_hash(split.items), epsilon=EPSILON, delta=DELTA, per_node=users_per_node,
    )  # fmt: skip
    key = folder / "release.key"
    save_key(SigningKey.generate(), key)
    floors = Floors(allow_seeded=True, allow_central=True)
    ledger = folder / "ledger.db"
    return Job(folder=folder, terms=terms, ledger=ledger, key=key, users_per_node=users_per_node, floors=floors)


def measured(engine: str, users_per_node: int, split: Split, histories: Interactions) -> Outcome:
    """One whole run."""
    with tempfile.TemporaryDirectory() as name:
        job = job_in(Path(name), split, histories, users_per_node)
        return (run_local if engine == "local" else run_flower)(job, histories)


def update(data: Path, repeats: int) -> Any:
    """CPU seconds of all processes a client update, from the first plan to the last release."""
    split, figures = split_of(ML_1M, data, 0), []
    for size in USERS:
        histories = split.train.users(slice(0, size or split.train.n_users))
        measured("local", 2048, split, histories)  # what is imported and allocated once
        hashes, cohort = set(), []
        for engine, users_per_node in CASES:
            runs = [
                measured(engine, users_per_node, split, histories) for _ in range(repeats if engine == "local" else 1)
            ]
            best = sorted(runs, key=lambda run: run.cpu_seconds)[len(runs) // 2]
            hashes |= {run.model.hash for run in runs}
            seconds = {key: value for key, value in asdict(best).items() if key.endswith("seconds")}
            cohort.append(
                {"engine": engine, "users": histories.n_users, "users_per_node": users_per_node, "runs": len(runs),
                 "rate": best.updates / best.cpu_seconds, "updates": best.updates, **seconds}
            )  # fmt: skip
            sys.stderr.write(f"{cohort[-1]}\n")
        figures += [{**each, "same": len(hashes) == 1} for each in cohort]
    return figures


def update_tables(figures: Any) -> list[Table]:
    """The ratios, one row a cohort, and every engine."""
    rows = [
        (NAMES[each["engine"]], f"{each['users']:,}", f"{each['users_per_node']:,}", f"{each['updates']:,}",
         f"{each['cpu_seconds']:.3f}", f"{each['rate']:,.0f}", f"{each['wall_seconds']:.2f}",
         f"{each['startup_cpu_seconds']:.2f}", f"{each['startup_wall_seconds']:.2f}")
        for each in figures
    ]  # fmt: skip
    ratios = []
    for users in dict.fromkeys(each["users"] for each in figures):
        cohort = {(each["engine"], each["users_per_node"]): each for each in figures if each["users"] == users}
        ratio = cohort["local", 2048]["rate"] / cohort["flower", 1]["rate"]
        same = all(each["same"] for each in cohort.values())
        ratios.append((f"{users:,}", f"{ratio:,.0f} x", f">= {BAR:.0f} x", "yes" if same else "NO"))
    header = ("engine", "users", "users a node", "updates", "CPU-s", "updates / CPU-s", "wall s")
    return [
        Table(
            "Local engine against Flower's Ray engine with one user a node",
            ("users", "updates per CPU-second", "bar", "same model, bit for bit"),
            ratios,
        ),
        Table(
            f"Client updates of {ROUNDS} rounds of als at eps {EPSILON:g}",
            (*header, "start-up CPU-s", "start-up wall s"),
            rows,
            "CPU-s: all processes, from the first plan to the last release; start-up comes before the first plan and "
            f"is not in it. Local with 2,048 users a node: the median of {figures[0]['runs']} runs.",
        ),
    ]


def message(_: Path, __: int) -> Any:
    """What a message and its answer cost in the in-process grid, without any work on the device."""

    class Idle(Host):
        def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
            return REFUSED

    def host(context: Context) -> Host:
        return idle

    idle: Host = Idle(None, None, "")  # type: ignore[arg-type] # nothing of it is used
    grid = LocalGrid(node_app(host), nodes=MESSAGES)
    transport = GridTransport(grid, ttl=60.0)
    begun = time.process_time()
    request = Request(transport.invite(masked=False), {"plan": bytes(3000), "model": bytes(500_000)})
    found = list(first_answers(transport.exchange(request)))
    each = (time.process_time() - begun) / len(found) * 1e6
    return [{"messages": len(found), "microseconds": each}]


def message_tables(figures: Any) -> list[Table]:
    """One row."""
    rows = [(f"{each['messages']:,}", f"{each['microseconds']:.0f}") for each in figures]
    return [Table("A message and its answer in the local grid", ("messages", "CPU microseconds each"), rows)]


def made(users: int, items: int, mean: float) -> Interactions:
    """Histories of made users: log-normal lengths, items by Zipf's law; about `mean` draws each, repeats left out."""
    rng = np.random.default_rng(1)
    chance = 1 / np.arange(1, items + 1) ** 0.8
    ends, lengths = np.cumsum(chance / chance.sum()), rng.lognormal(-0.5, 1.0, users)
    parts, counts = [], []
    for first in range(0, users, 4096):
        drawn = rng.poisson(mean * lengths[first : first + 4096])
        owners = np.repeat(np.arange(len(drawn)), drawn)
        pairs = np.unique(owners * items + np.minimum(np.searchsorted(ends, rng.random(len(owners))), items - 1))
        parts.append((pairs % items).astype(np.int32))
        counts.append(np.bincount(pairs // items, minlength=len(drawn)))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    indices = np.concatenate(parts)
    return Interactions(indptr, indices, np.broadcast_to(np.float32(1), indices.shape), items)


def distributed_job(folder: Path, histories: Interactions, size: int, **more: Any) -> Job:
    """The default kind of run, with repeatable noise: each node draws its devices' shares."""
    users, delta = histories.n_users, min(DELTA, 1 / (10 * histories.n_users))
    terms = make_terms(
        population="bench", run="run", algorithm="als", settings={}, n_users=users, n_items=histories.n_items,
        catalogue="0" * 64, inputs={}, seed=1, dp="distributed", noise="seeded", epsilon=EPSILON, delta=delta,
        cohort=choose_cohort(n_users=users, corrupt=0.05, dropout=0.05, directory=None), cohort_floor=1,
        per_node=MAX_USERS, about={},
    )  # fmt: skip
    save_key(SigningKey.generate(), folder / "release.key")
    floors = Floors(allow_seeded=True, allow_unmasked=True).for_few()
    files = {"folder": folder, "ledger": folder / "ledger.db", "key": folder / "release.key"}
    return Job(**files, terms=terms, users_per_node=size, floors=floors, **more)


def large(size: int, workers: int, histories: Interactions) -> dict[str, Any]:
    """One run of a large population, with the memory of its workers after each release."""
    kilobytes = dict.fromkeys(("Rss", "Pss"), 0)

    def look(_: Release) -> None:
        for process in descendants(os.getpid()):
            lines = (PROC / str(process.pid) / "smaps_rollup").read_text().splitlines()
            found = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
            kilobytes.update({name: max(most, found[name]) for name, most in kilobytes.items()})

    with tempfile.TemporaryDirectory() as name:
        job = distributed_job(Path(name), histories, size, workers=workers)
        outcome = run_local(job, histories, look)
    seconds = {key: value for key, value in asdict(outcome).items() if key.endswith("seconds")}
    return {
        "users": histories.n_users, "users_per_node": size, "nodes": job.nodes(histories.n_users), "workers": workers,
        "updates": outcome.updates, "rate": outcome.updates / outcome.cpu_seconds, "model": outcome.model.hash,
        "rss_mb": kilobytes["Rss"] / 1024, "pss_mb": kilobytes["Pss"] / 1024, **seconds,
    }  # fmt: skip


def cores(_: Path, repeats: int) -> Any:
    """A large population by size of node, and by number of workers; of several runs the one of median cost."""
    histories, figures = made(*LARGE), list[Any]()
    chosen = node_size(LARGE[0])
    for size, workers in (*((size, 1) for size in SIZES), *((chosen, each) for each in WORKERS)):
        runs = [large(size, workers, histories) for _ in range(repeats)]
        figures.append(sorted(runs, key=lambda run: run["cpu_seconds"])[len(runs) // 2] | {"runs": len(runs)})
        sys.stderr.write(f"{figures[-1]}\n")
    return figures


def _megabytes(number: float) -> str:
    """Memory of a worker; nothing where there was none."""
    return f"{number:.0f}" if number else ""


def cores_tables(figures: Any) -> list[Table]:
    """By size of node, and by number of workers."""
    shared = ("CPU-s", "updates / CPU-s", "wall s")
    cells = [
        ((f"{each['users_per_node']:,}", f"{each['nodes']}"), f"{each['workers']}",
         (f"{each['cpu_seconds']:.1f}", f"{each['rate']:,.0f}", f"{each['wall_seconds']:.1f}"),
         (f"{each['startup_cpu_seconds']:.1f}", _megabytes(each["rss_mb"]), _megabytes(each["pss_mb"])))
        for each in figures
    ]  # fmt: skip
    sizes = [(*node, *cost) for node, workers, cost, _ in cells if workers == "1"]
    chosen = f"{node_size(figures[0]['users']):,}"
    workers = [(number, *cost, *rest) for node, number, cost, rest in cells if node[0] == chosen]
    same = len({each["model"] for each in figures if f"{each['users_per_node']:,}" == chosen}) == 1
    users, items, mean = LARGE
    runs = figures[0]["runs"]
    counted = "Each row is one run." if runs == 1 else f"Each row is the median of {runs} runs."
    about = f"{users:,} made users, {items:,} items, about {mean} draws each; als at eps {EPSILON:g}, dp distributed"
    return [
        Table("Size of a node", ("users a node", "nodes", *shared), sizes, f"{about}. {chosen} is what is chosen."),
        Table(
            "Workers",
            ("workers", *shared, "start-up CPU-s", "MB a worker, all pages", "MB a worker, its share"),
            workers,
            f"{about}; {chosen} users a node; the same model in every row: {'yes' if same else 'NO'}. {counted} "
            "One worker is the command itself. Memory: the largest seen after a release.",
        ),
    ]


PARTS = {
    "update": Part(update, update_tables),
    "message": Part(message, message_tables),
    "cores": Part(cores, cores_tables),
}


if __name__ == "__main__":
    threads = os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main(
        __doc__,
        PARTS,
        Path(__file__).parent,
        seeds=5,
        set=f"{ML_1M.label}; cores: made users",
        OPENBLAS_NUM_THREADS=threads,
    )
