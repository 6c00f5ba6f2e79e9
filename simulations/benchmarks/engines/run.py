"""Engines: what a client update costs through Flower's Ray engine with one user a node, and through the local engine.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/engines/run.py --users 200,1000,0
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flwr.app import Context

from benchmarks.measure import DELTA, ML_1M, split_of
from benchmarks.sheet import Sheet, Table, arguments, chosen_parts, data_folder
from palate_client.floors import Floors
from palate_client.flower import Host, node_app
from palate_common.algorithms import PublicFacts
from palate_common.errors import PalateError
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
PARTS = ("update", "message")
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


def update_part(split: Split, sizes: Sequence[int], repeats: int) -> tuple[list[dict[str, Any]], list[Table]]:
    """CPU seconds of all processes a client update, from the first plan to the last release."""
    figures: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    ratios: list[tuple[str, ...]] = []
    for size in sizes:
        histories = split.train.users(slice(0, size or split.train.n_users))
        measured("local", 2048, split, histories)  # what is imported and allocated once
        rates = {}
        hashes = set()
        for engine, users_per_node in CASES:
            runs = [
                measured(engine, users_per_node, split, histories) for _ in range(repeats if engine == "local" else 1)
            ]
            best = sorted(runs, key=lambda run: run.cpu_seconds)[len(runs) // 2]
            hashes |= {run.model.hash for run in runs}
            rates[engine, users_per_node] = rate = best.updates / best.cpu_seconds
            seconds = {key: value for key, value in asdict(best).items() if key.endswith("seconds")}
            figures.append(
                {"engine": engine, "users": histories.n_users, "users_per_node": users_per_node, "rate": rate,
                 "updates": best.updates, **seconds}
            )  # fmt: skip
            rows.append(
                (NAMES[engine], f"{histories.n_users:,}", f"{users_per_node:,}", f"{best.updates:,}",
                 f"{best.cpu_seconds:.3f}", f"{rate:,.0f}", f"{best.wall_seconds:.2f}",
                 f"{best.startup_cpu_seconds:.2f}", f"{best.startup_wall_seconds:.2f}")
            )  # fmt: skip
            sys.stderr.write(f"{rows[-1]}\n")
        ratio = rates["local", 2048] / rates["flower", 1]
        ratios.append(
            (f"{histories.n_users:,}", f"{ratio:,.0f} x", f">= {BAR:.0f} x", "yes" if len(hashes) == 1 else "NO")
        )
    header = ("engine", "users", "users a node", "updates", "CPU-s", "updates / CPU-s", "wall s")
    return figures, [
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
            f"is not in it. Local with 2,048 users a node: the median of {repeats} runs.",
        ),
    ]


def message_part() -> tuple[list[dict[str, Any]], list[Table]]:
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
    found = first_answers(transport.exchange(request))
    each = (time.process_time() - begun) / len(found) * 1e6
    row = (f"{len(found):,}", f"{each:.0f}")
    return [{"messages": len(found), "microseconds": each}], [
        Table("A message and its answer in the local grid", ("messages", "CPU microseconds each"), [row])
    ]


def main() -> int:
    """Measure, and write results.json and results.md."""
    parser = arguments(__doc__ or "", PARTS, Path(__file__).parent, seeds=1)
    parser.add_argument("--users", default="200,1000,0", help="cohorts by comma; 0 is every training user")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the local engine")
    chosen = parser.parse_args()
    try:
        parts = chosen_parts(chosen.parts, PARTS)
        sheet = Sheet(chosen.out)
        command = f"engines/run.py --users {chosen.users}"
        facts = {
            "command": command,
            "set": ML_1M.label,
            "seed": 1,
            "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS"),
        }
        if "update" in parts:
            split = split_of(ML_1M, data_folder(chosen.data), 0)
            sizes = [int(size) for size in chosen.users.split(",")]
            figures, tables = update_part(split, sizes, chosen.repeats)
            sheet.record("update", figures=figures, tables=tables, facts=facts)
        if "message" in parts:
            figures, tables = message_part()
            sheet.record("message", figures=figures, tables=tables, facts={"command": command})
        sheet.write(order=PARTS)
    except PalateError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
