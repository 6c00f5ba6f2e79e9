"""What witnesses cost: a charge that three of them cosign, alone and as a server makes it, and a device's check of it.

PYTHONPATH=simulations python simulations/benchmarks/witness/run.py [--parts charge,server,check] [--seeds CHARGES]
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.sheet import Part, Table, main
from palate_core.log.checkpoints import log_key, sign_checkpoint
from palate_core.log.cosignatures import Quorum, cosign
from palate_core.log.merkle import MerkleTree
from palate_core.log.notes import COSIGNATURE, VerifierKey, read_note
from palate_core.log.signing import SigningKey
from palate_server.folder.server_folder import Site
from palate_server.folder.witness import Witness
from palate_server.ledger.cosigning import WitnessAddress, WitnessClient
from palate_server.ledger.ledger import Ledger
from palate_server.service.setup import make_site
from palate_server.witness.folder import WitnessConfig, WitnessFolder

WITNESSES = 3
ENTRIES = (0, 5000)
"""Entries of the ledger before the charges that are measured."""
PLAN_BYTES = 2**16
POPULATION = "readers"
BAR_MS, BAR_CPU_MS = 50.0, 2.0


@contextmanager
def running(folder: Path, log: VerifierKey) -> Iterator[list[WitnessFolder]]:
    """Witnesses that run as processes of their own."""
    folders, processes = [], []
    for place in range(WITNESSES):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = WitnessConfig(name=f"w{place}.example/palate", port=port, per_second=1000.0)
        folders.append(WitnessFolder.make(folder / f"w{place}", config))
        folders[-1].add(log)
        command = [sys.executable, "-m", "palate_cli", "witness", "run", str(folder / f"w{place}")]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        for process in processes:
            if process.stdout is None or "listens on" not in process.stdout.readline():
                raise SystemExit("a witness didn't start")
        yield folders
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)


def charge(_: Path, count: int) -> Any:
    """Charges on disk, alone and with the cosignatures of two and of all three witnesses."""
    figures: dict[str, Any] = {}
    key = SigningKey.generate()
    log = log_key(POPULATION, key.public)
    with tempfile.TemporaryDirectory() as name, running(Path(name), log) as folders:
        witnesses = [WitnessAddress(each.verifier_key, f"http://127.0.0.1:{each.config.port}") for each in folders]
        with Ledger(Path(name) / "ledger.db", population=POPULATION) as ledger:
            ledger.set_budget(mu2=1e6, epsilon=1e6, delta=1e-5)
            ledger.open_run("run", {})
            attempt = 0
            for needed in (0, 2, WITNESSES):
                wall, cpu = [], []
                with WitnessClient(witnesses, log=log, needed=max(1, needed)) as client:
                    for _ in range(count):
                        began, used = time.perf_counter(), time.process_time()
                        made = ledger.charge(
                            run="run",
                            round_=0,
                            attempt=attempt,
                            plan_hash="ab" * 32,
                            mu2=0.25,
                            run_limit=None,
                            facts={},
                        )
                        if needed:
                            note = sign_checkpoint(made.checkpoint, log.name, key)
                            client.cosigned(note, prove=ledger.consistency_proof)
                        wall.append(1e3 * (time.perf_counter() - began))
                        cpu.append(1e3 * (time.process_time() - used))
                        attempt += 1
                figures[str(needed)] = {"wall_ms": spread(wall[1:]), "cpu_ms": spread(cpu[1:])}
        states = [path.stat().st_size for each in folders for path in (each.folder / "states").iterdir()]
    return {"charges": count, "needed": figures, "state_bytes": max(states)}


def server(_: Path, count: int) -> Any:
    """Charges of a server folder, until its plan may be sent; and how long the mirror takes, which follows."""
    figures: dict[str, Any] = {}
    for before in ENTRIES:
        with tempfile.TemporaryDirectory() as name:
            figures[str(before)] = _served(Path(name), count, before)
    return {"charges": count, "entries": figures}


def _served(folder: Path, count: int, before: int) -> Any:
    """The same for a ledger of so many entries."""
    config = f'population = "{POPULATION}"\n[privacy]\nepsilon = 10.0\nlifetime_epsilon = 100.0\n'
    site = make_site(folder / "site", config, tuple(f"item {number}" for number in range(8)))
    plan, key = Witness(site.witness), site.key()
    found: dict[str, list[float]] = {
        name: [] for name in ("cosigned_ms", "wall_ms", "cpu_ms", "mirror_ms", "mirror_cpu_ms")
    }
    with running(folder, log_key(POPULATION, key.public)) as folders:
        urls = [f"http://127.0.0.1:{each.config.port}" for each in folders]
        keys = [str(each.verifier_key) for each in folders]
        told = f"\n[witnesses]\nkeys = {json.dumps(keys)}\nurls = {json.dumps(urls)}\nneeded = {WITNESSES}\n"
        site.config_file.write_text(config + told)
        site = Site.at(site.folder)
        with site.ledger() as ledger, contextlib.closing(site.witnesses(ledger)) as witnesses:
            ledger.open_run("run", {})
            for attempt in range(before + count + 1):
                began, used = time.perf_counter(), time.process_time()
                charged = ledger.charge(
                    run="run", round_=0, attempt=attempt, plan_hash="ab" * 32, mu2=1e-9, run_limit=1.0, facts={}
                )
                if attempt < before:
                    continue
                shown = witnesses.charged(ledger)
                ledger.inclusion_proof(charged.seq, shown.checkpoint.size)
                found["cosigned_ms"].append(1e3 * (time.perf_counter() - began))
                plan.write(b"x" * PLAN_BYTES)
                sent, spent = time.perf_counter(), time.process_time()
                witnesses.keep_last(ledger)
                if not site.mirror_cosigned(ledger):
                    raise SystemExit("what is cosigned must be mirrored")
                found["wall_ms"].append(1e3 * (sent - began))
                found["cpu_ms"].append(1e3 * (spent - used))
                found["mirror_ms"].append(1e3 * (time.perf_counter() - sent))
                found["mirror_cpu_ms"].append(1e3 * (time.process_time() - spent))
    return {name: spread(values[1:]) for name, values in found.items()}


def server_tables(figures: Any) -> list[Table]:
    """One row a size of the ledger."""
    rows, worst = [], 0.0
    for before, found in figures["entries"].items():
        wall, worst = found["wall_ms"], max(worst, found["wall_ms"]["median"])
        cosigned = f"{found['cosigned_ms']['median']:.1f}"
        times = (cosigned, f"{wall['median']:.1f}", f"{wall['p95']:.1f}", f"{found['cpu_ms']['median']:.1f}")
        mirror = (f"{found['mirror_ms']['median']:.1f}", f"{found['mirror_cpu_ms']['median']:.1f}")
        rows.append((f"{int(before):,}", *times, *mirror))
    note = (
        f"{figures['charges']} charges each of a server folder: on disk, signed, cosigned by all {WITNESSES}, "
        f"and the plan with that is kept in the folder of `backup.witness`. The mirror follows "
        f"later. Medians; witnesses as above, on the same disk. {worst:.0f} ms (bar {BAR_MS:.0f}: "
        f"{'met' if worst <= BAR_MS else 'MISSED'})."
    )
    columns = (
        "entries before", "cosigned ms", "plan may be sent ms", "95 % below ms", "CPU ms", "mirror ms", "mirror CPU ms"
    )  # fmt: skip
    return [Table("A charge of a server with three witnesses", columns, rows, note)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"median": statistics.median(values), "p95": statistics.quantiles(values, n=20)[-1]}


def charge_tables(figures: Any) -> list[Table]:
    """One row a quorum."""
    rows = []
    for needed, found in figures["needed"].items():
        wall, cpu = found["wall_ms"], found["cpu_ms"]
        label = "no witnesses" if needed == "0" else f"{needed} of {WITNESSES} cosign"
        rows.append((label, f"{wall['median']:.1f}", f"{wall['p95']:.1f}", f"{cpu['median']:.1f}"))
    most = figures["needed"][str(WITNESSES)]["wall_ms"]["median"]
    note = (
        f"{figures['charges']} charges each, on disk, ledger and witnesses as processes on one machine over loopback; "
        f"the server's own processor time. A witness keeps {figures['state_bytes']:,} bytes of a log. All three: "
        f"{most:.0f} ms (bar {BAR_MS:.0f}: {'met' if most <= BAR_MS else 'MISSED'})."
    )
    return [Table("A charge with witnesses", ("", "median ms", "95 % below ms", "CPU ms"), rows, note)]


def check(_: Path, count: int) -> Any:
    """A device's check of a cosigned checkpoint, parsed from bytes."""
    found = {}
    key = SigningKey.generate()
    log, now = log_key(POPULATION, key.public), MerkleTree([b"entry"]).checkpoint()
    for number in (1, 3, 5):
        theirs = [SigningKey.generate() for _ in range(number)]
        names = [f"w{place}.example/palate" for place in range(number)]
        note = sign_checkpoint(now, log.name, key)
        note = note.with_signatures(
            *(cosign(note.text, name, each, time=1) for name, each in zip(names, theirs, strict=True))
        )
        quorum = Quorum(
            tuple(VerifierKey.of(name, each, COSIGNATURE) for name, each in zip(names, theirs, strict=True)), number
        )
        data = note.to_bytes()
        began = time.process_time()
        for _ in range(count):
            quorum.check(read_note(data), log=log, checkpoint=now)
        found[str(number)] = {"cpu_ms": 1e3 * (time.process_time() - began) / count, "bytes": len(data)}
    return {"checks": count, "witnesses": found}


def check_tables(figures: Any) -> list[Table]:
    """One row a number of witnesses."""
    rows = [(name, f"{each['cpu_ms']:.2f}", f"{each['bytes']:,}") for name, each in figures["witnesses"].items()]
    three = figures["witnesses"]["3"]["cpu_ms"]
    note = (
        f"Mean of {figures['checks']:,} checks: the note parsed, the release key's signature and all cosignatures "
        f"verified (bar {BAR_CPU_MS:.0f} ms for three: {'met' if three <= BAR_CPU_MS else 'MISSED'})."
    )
    return [Table("A device's check of a cosigned checkpoint", ("witnesses", "CPU ms", "bytes"), rows, note)]


PARTS = {
    "charge": Part(charge, charge_tables),
    "server": Part(server, server_tables),
    "check": Part(check, check_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=200, needs_data=False)
