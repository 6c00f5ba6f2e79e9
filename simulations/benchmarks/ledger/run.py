"""Ledger: what auditing a run folder costs, and which changes of a ledger it finds and names.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/ledger/run.py
"""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import ML_1M, ML_SMALL, DataSet, privacy
from benchmarks.sheet import Part, Table, cell, main
from palate_audit.evidence.evidence import Finding
from palate_audit.run.checkpoints import checkpoints
from palate_audit.run.ledger import first_bad_entry, records_of
from palate_audit.run.receipts import read_receipts, reconcile
from palate_core.log.merkle import Checkpoint
from palate_server.ledger.history import entry_from
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.log import Log, indexed
from palate_sim.config import load_config
from palate_sim.run.experiment import start

EPSILON, BAR = 5.0, 10.0
Bodies = list[dict[str, Any]]
PROTOCOL = f"real runs at eps {EPSILON:g}, delta 1e-05, unit user, adjacency zero-out; two runs on one population"


@contextmanager
def population(set_: DataSet, data: Path, seed: int) -> Iterator[Path]:
    """A folder with the finished runs `first` and `second` on one ledger."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("first", "second"):
            keys = set_.overrides(**privacy(EPSILON), **{"evaluation.baselines": [], "seed": seed})
            run = load_config(None, keys | {"privacy.population": "bench"})
            start(run, source=set_.source(data), out=root / name, ledger=root / "bench.ledger.db").run()
        yield root


def cost(data: Path, seeds: int) -> Any:
    """CPU-seconds of the two commands as processes of their own."""
    figures = []
    for set_ in (ML_SMALL, ML_1M):
        for seed in range(seeds):
            with population(set_, data, seed) as root:
                for command in ("ledger", "card"):
                    spent = _seconds(["audit", command, str(root / "second")])
                    figures.append({"set": set_.label, "seed": seed, "command": command, "cpu_seconds": spent})
    return figures


def cost_tables(figures: Any) -> list[Table]:
    """One row a set and command."""
    seconds = defaultdict[tuple[str, str], list[float]](list)
    for each in figures:
        seconds[each["set"], each["command"]].append(each["cpu_seconds"])
    rows = [
        (set_, f"`palate audit {command}`", cell(values, 2), "met" if max(values) < BAR else "MISSED")
        for (set_, command), values in seconds.items()
    ]
    title = f"CPU-seconds of an audit of a run folder (bar {BAR:g})"
    note = "Processes of their own, start of Python included: replay, every release hashed, the model made again, "
    note += "closed form and dp-accounting."
    return [Table(title, ("log", "command", "CPU s", "bar"), rows, note)]


def _seconds(words: list[str]) -> float:
    """CPU of a command that must find nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "palate_cli", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def edited(bodies: Bodies, at: int) -> Bodies:
    """One entry says something else."""
    body = dict(bodies[at])
    for name, value in (("mu2", body.get("mu2", 0) / 2), ("release_hash", "0" * 64), ("created", "2020-01-01")):
        if name in body:
            body[name] = value
            break
    else:
        body["facts"] = {**body["facts"], "changed": True}
    return [*bodies[:at], body, *bodies[at + 1 :]]


def reordered(bodies: Bodies, at: int) -> Bodies:
    """Two neighbours change places."""
    return [*bodies[:at], *reversed(bodies[at : at + 2]), *bodies[at + 2 :]]


def truncated(bodies: Bodies, at: int) -> Bodies:
    """The end is gone: also what a restored backup looks like."""
    return bodies[:at]


def forked(bodies: Bodies, at: int) -> Bodies:
    """A backup that went on otherwise, to the same length."""
    return [*bodies[:at], *(edited(bodies, seq)[seq] for seq in range(at, len(bodies)))]


CHANGES: dict[str, Callable[[Bodies, int], Bodies]] = {
    "edited": edited,
    "reordered": reordered,
    "truncated, restored from a backup": truncated,
    "forked": forked,
}
WITNESSES = ("the run's own extract", "an expected head", "devices' receipts", "the extracts of both runs")


def detection(data: Path, seeds: int) -> Any:
    """Every entry of a ledger with two runs changed in every way, all hashes right; found and named, by witness."""
    counts: dict[tuple[str, str], list[int]] = {(c, w): [0, 0, 0, 0] for c in CHANGES for w in WITNESSES}
    for seed in range(seeds):
        with population(ML_SMALL, data, seed) as root:
            with Ledger(root / "bench.ledger.db", population="bench", read_only=True) as ledger:
                bodies, head = [entry.body for entry in ledger.entries()], ledger.checkpoint()
            for change, make in CHANGES.items():
                for at in range(1, len(bodies) - (change == "reordered")):
                    _rewrite(root / "bench.ledger.db", make(bodies, at))
                    for witness in WITNESSES:
                        _count(counts[change, witness], _found(root, witness, head), at)
            _rewrite(root / "bench.ledger.db", bodies)
    return [
        {"change": c, "witness": w, "tried": n[0], "found": n[1], "exact": n[2], "within": n[3]}
        for (c, w), n in counts.items()
    ]


def detection_tables(figures: Any) -> list[Table]:
    """One row a change and witness."""
    rows = [
        (each["change"], each["witness"], *(f"{each[n]} of {each['tried']}" for n in ("found", "exact", "within")))
        for each in figures
    ]
    header = ("change", "what remembers", "found", "named exactly", "among those named")
    note = (
        "Each entry of the log of two runs, changed by somebody with this code, without the key. The devices saw the "
        "log up to the second run's last charge. Without any of them: "
        "0 found, and “rollback not checkable” is printed."
    )
    return [Table("Which change is found", header, rows, note)]


def _count(counts: list[int], named: tuple[int, int] | None, at: int) -> None:
    """One try."""
    counts[0] += 1
    if named is not None:
        counts[1] += 1
        counts[2] += named == (at, at)
        counts[3] += named[0] <= at <= named[1]


def _found(root: Path, witness: str, head: Checkpoint) -> tuple[int, int] | None:
    """The entries that an audit names with this witness alone; None if it finds nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "second"
        folder.mkdir()
        shutil.copy(root / "second" / "run.json", folder)
        if witness == WITNESSES[0]:
            shutil.copy(root / "second" / "ledger.json", folder)
        records = records_of(folder, ledger=root / "bench.ledger.db")
        kept = {WITNESSES[2]: ["second/devices.db"], WITNESSES[3]: ["first/ledger.json", "second/ledger.json"]}
        seen = [read_receipts(root / name, population="bench") for name in kept.get(witness, ())]
        findings: list[Finding] = list(
            checkpoints(records, head if witness == WITNESSES[1] else None, [], seen, public_key=None)
        )
        for each in seen:
            findings += reconcile(records, each, test="receipts")
    return first_bad_entry(findings)


def _rewrite(path: Path, bodies: Bodies) -> None:
    """A whole log with right numbers, chain and root."""
    forged = Log()
    forged.history.record = lambda entry: None  # type: ignore[method-assign]  # a forger has no rules
    connection = sqlite3.connect(path)
    connection.executescript("DROP TRIGGER IF EXISTS no_delete; DELETE FROM entries")
    connection.executescript(
        "DROP INDEX IF EXISTS one_run; DROP INDEX IF EXISTS one_charge; DROP INDEX IF EXISTS one_seal"
    )
    for seq, body in enumerate(bodies):
        entry = entry_from({**body, "seq": seq})
        forged.take(entry, entry.leaf())
        row = (entry.seq, *indexed(entry), entry.leaf(), forged.chain)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("UPDATE head SET size = ?, root = ?", (forged.size, forged.tree.root()))
    connection.commit()
    connection.close()


PARTS = {"cost": Part(cost, cost_tables), "detection": Part(detection, detection_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
