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

from flwr.app import Context

from benchmarks.measure import DELTA, ML_1M, split_of
from benchmarks.sheet import Part, Table, main
from palate_client.floors import Floors
from palate_client.flower import Host, node_app
from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.mechanism.accounting import mu_of
from palate_common.models.model import catalogue_hash
from palate_common.records.signing import SigningKey
from palate_common.rounds.wire import REFUSED
from palate_server.flower.transport import GridTransport
from palate_server.rounds.run import Request, first_answers
from palate_server.rounds.terms import RunTerms
from palate_sim.engines import Job, Outcome
from palate_sim.engines.flower import run_flower
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.local import run_local
from palate_sim.preparation.splits import Split

EPSILON, ROUNDS, MESSAGES = 5.0, 4, 5000
BAR = 300.0
USERS = (200, 1000, 0)
"""Cohorts; 0 is every training user."""
CASES = (("local", 2048), ("local", 1), ("flower", 2048), ("flower", 1))
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
    SigningKey.generate().save(key)
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


PARTS = {"update": Part(update, update_tables), "message": Part(message, message_tables)}


if __name__ == "__main__":
    threads = os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, set=ML_1M.label, OPENBLAS_NUM_THREADS=threads)
