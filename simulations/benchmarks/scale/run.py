"""Scale: what the whole command costs on logs from a million rows to a thousand million: CPU time, memory, disk.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/scale/run.py [--parts 30k,140k,1m,10m]

PATH holds the logs a30k.parquet, a140k.parquet, a1m.parquet and a10m.parquet; what isn't there is made, see
`worlds/long_log.py`, and removed again. Everything else lies in a new folder below TMPDIR, and is removed, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from benchmarks.scale import duck
from benchmarks.sheet import Part, Sheet, Table, main
from benchmarks.worlds import long_log
from palate_core.errors import PalateError
from palate_sim.progress.wording import display_name, epsilon_text

GIB = 2**30
EVERY = 1.0
"""Seconds between two looks at memory and disk."""
RATIO = 1.15
"""Ten million users: the most CPU-seconds a user, as a multiple of a million's."""


@dataclass(frozen=True)
class Case:
    """One log, what runs on it, and what it may cost.

    Attributes:
        users: in the log.
        items: of the made log.
        mean: events a user.
        options: of the command.
        cpu: CPU-seconds of all processes; the bar.
        stretch: CPU-seconds, what was hoped for.
        memory: GiB; the bar.
        memory_stretch: GiB.
        disk: GB at most of cache, run folder and what was spilled, together.
    """

    users: int
    items: int
    mean: float
    options: tuple[str, ...]
    cpu: float | None = None
    stretch: float | None = None
    memory: float | None = None
    memory_stretch: float | None = None
    disk: float | None = None


PAIR = ("--set", "evaluation.baselines=popularity,ials")
ALONE = ("--set", "evaluation.baselines=popularity", "--set", "evaluation.test_users=10000")
CASES = {
    "30k": Case(30_000, 41_000, 35, PAIR, cpu=45, memory=3),
    "140k": Case(140_000, 27_000, 140, PAIR, cpu=120, memory=3),
    "1m": Case(1_000_000, 100_000, 100, ALONE, cpu=600, stretch=400, memory=6, memory_stretch=4),
    "10m": Case(10_000_000, 100_000, 100, ALONE, memory=8, disk=60),
}


class Watch:
    """Looks at a tree of processes and at a folder, once a second: memory, disk, and how long nothing was said.

    Args:
        process: the root of the tree; its standard error is read.
        folder: what is measured of the disk.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.memory = self.anonymous = self.disk = self.processes = 0
        self.silence = 0.0
        self.lines = 0
        self._process, self._folder, self._over = process, folder, threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._look, self._listen)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """The tree has ended."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _look(self) -> None:
        """Take the largest sums seen."""
        while not self._over.wait(EVERY):
            found = [memory_of(pid) for pid in tree(self._process.pid)]
            self.processes = max(self.processes, len(found))
            self.memory = max(self.memory, sum(whole for whole, _ in found))
            self.anonymous = max(self.anonymous, sum(own for _, own in found))
            self.disk = max(self.disk, disk_of(self._folder))

    def _listen(self) -> None:
        """Take the longest time between two pieces of progress, the start and the end included."""
        stream, last = self._process.stderr, time.monotonic()
        assert stream is not None  # noqa: S101 - it was asked for
        while True:
            text = os.read(stream.fileno(), 1 << 16)
            now = time.monotonic()
            self.silence, last = max(self.silence, now - last), now
            if not text:
                return
            self.lines += text.count(b"\n") + text.count(b"\r")


def tree(root: int) -> Iterator[int]:
    """A process and all that descend from it, while they live."""
    yield root
    for task in Path(f"/proc/{root}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield from tree(int(child))


def memory_of(pid: int) -> tuple[int, int]:
    """Bytes of a process, what it shares divided by its sharers; and of these what no file is mapped to."""
    whole = own = 0
    with suppress(OSError):  # it has ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Pss", "Pss_Anon", "Pss_Shmem"):
                size = int(rest.split()[0]) * 1024
                whole, own = (size, own) if name == "Pss" else (whole, own + size)
    return whole, own


def disk_of(folder: Path) -> int:
    """Bytes of the blocks below a folder; what is removed meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_blocks * 512
    return total


@contextmanager
def log_of(name: str, case: Case, data: Path) -> Iterator[tuple[Path, bool]]:
    """The log, from the data folder or made; and whether it was made."""
    given = data / f"a{name}.parquet"
    if given.exists():
        yield given, False
        return
    with tempfile.TemporaryDirectory(prefix="palate-log-") as folder:
        path = Path(folder) / f"a{name}.parquet"
        sys.stderr.write(f"scale: making {path.name}\n")
        long_log.write(path, users=case.users, items=case.items, mean=case.mean)
        yield path, True


def command(name: str, data: Path, repetitions: int) -> Any:
    """The whole command on one log, once a seed, each time with an empty cache."""
    case = CASES[name]
    with log_of(name, case, data) as (log, made):
        facts = {"rows": pq.read_metadata(log).num_rows, "bytes": log.stat().st_size, "made": made}
        runs = [once(log, case.options, seed) for seed in range(repetitions)]
    return {"users": case.users, "options": list(case.options), "log": facts, "runs": runs, **beside(name)}


def once(log: Path, options: Sequence[str], seed: int) -> dict[str, Any]:
    """One command in a process of its own, and everything that it took."""
    with tempfile.TemporaryDirectory(prefix="palate-scale-") as place:
        folder = Path(place)
        for name in ("cache", "spill"):
            (folder / name).mkdir()
        call = [sys.executable, "-m", "palate_cli", "simulate", "--data", str(log), "--seed", str(seed)]
        call += ["--epsilon", "5", "--out", str(folder / "run"), *options]
        own = {"PALATE_DATA": str(folder / "cache"), "TMPDIR": str(folder / "spill")}
        begun = time.perf_counter()
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(call, env={**os.environ, **own}, stdout=said, stderr=subprocess.PIPE)
        watch = Watch(process, folder)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        watch.close()
        if process.returncode:
            raise PalateError(f"the command must end with 0, got {process.returncode} for {log.name}")
        result = json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))
        kept = {name: disk_of(folder / name) for name in ("cache", "run")}
    return {
        "seed": seed,
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": wall,
        "largest": usage.ru_maxrss * 1024,
        "together": watch.memory,
        "anonymous": watch.anonymous,
        "processes": watch.processes,
        "disk": watch.disk,
        "kept": kept,
        "silence": watch.silence,
        "lines": watch.lines,
        **said_of(result),
    }


def said_of(result: Any) -> dict[str, Any]:
    """What the run's own result says of it."""
    models = {"palate": result["metrics"], **result["baselines"]}
    return {
        "train_users": result["users"],
        "items": result["items"],
        "interactions": result["interactions"],
        "rate": result["updates_per_cpu_second"],
        "seconds": result["seconds"],
        "quality": {name: each["recall_capped@20"]["mean"] for name, each in models.items()},
        "privacy": epsilon_text(result["epsilon"]),
        "delta": result["delta"],
        "accountant": result["accountant"],
    }


def beside(name: str) -> dict[str, Any]:
    """For ten million users: what the recorded million took a user."""
    million = Sheet(Path(__file__).parent).parts.get("1m")
    if name != "10m" or million is None:
        return {}
    figures = million["figures"]
    return {"million": max(run["cpu"] for run in figures["runs"]) / figures["users"]}


def command_tables(name: str, figures: Any) -> list[Table]:
    """One row a cost; the bars hold for the worst run."""
    case, runs, users = CASES[name], figures["runs"], figures["users"]
    worst = {key: max(run[key] for run in runs) for key in ("cpu", "wall", "largest", "together", "anonymous", "disk")}
    each = worst["cpu"] / users
    rows = [
        _row("CPU-seconds, all processes", f"{worst['cpu']:,.0f}", worst["cpu"], case.cpu, case.stretch, "CPU-s"),
        ("wall seconds (the machine is shared)", f"{worst['wall']:,.0f}", ""),
        ("CPU microseconds a user of the log", f"{1e6 * each:,.0f}", _ratio(each, figures.get("million"))),
        _row(
            "memory, largest process, GiB",
            f"{worst['largest'] / GIB:.2f}",
            worst["largest"] / GIB,
            case.memory,
            case.memory_stretch,
            "GiB",
        ),
        _row(
            "memory, all processes together, GiB",
            f"{worst['together'] / GIB:.2f}",
            worst["together"] / GIB,
            case.memory,
            case.memory_stretch,
            "GiB",
        ),
        ("of that, not mapped from files, GiB", f"{worst['anonymous'] / GIB:.2f}", ""),
        _row(
            "disk at the peak: cache, run folder, spill, GB",
            f"{worst['disk'] / 1e9:.1f}",
            worst["disk"] / 1e9,
            case.disk,
            None,
            "GB",
        ),
        ("of that, left in the run folder, GB", f"{max(run['kept']['run'] for run in runs) / 1e9:.2f}", ""),
        ("longest time without a word, wall seconds", f"{max(run['silence'] for run in runs):.1f}", ""),
        ("client updates per CPU-second", f"{min(run['rate'] for run in runs):,.0f}", ""),
    ]
    return [Table(f"{users:,} users: the whole command", ("what", "found", "bar"), rows, _note(figures))]


def _note(figures: Any) -> str:
    """Which log, which command, which privacy, and what came of it."""
    log, runs = figures["log"], figures["runs"]
    run = runs[0]
    quality = ", ".join(f"{display_name(name)} {value:.3f}" for name, value in run["quality"].items())
    options = " ".join(figures["options"])
    origin = "made by worlds/long_log.py" if log["made"] else "a given file of the same law"
    return (
        f"`palate simulate LOG {options}` with an empty cache; runs: {len(runs)}, the worst of each; processes "
        f"at once: {max(each['processes'] for each in runs)}. The log: {log['rows']:,} rows, {origin}; "
        f"{run['train_users']:,} training users, {run['items']:,} items, {run['interactions']:,} pairs of them. "
        f"recall_capped@20: {quality}; eps {run['privacy']}, delta {run['delta']:g}, unit user, adjacency zero-out, "
        f"accountant {run['accountant']}. Memory together: each process' share of what it has (PSS), looked at every "
        "second."
    )


def _row(what: str, shown: str, found: float, bar: float | None, stretch: float | None, unit: str) -> tuple[str, ...]:
    """A cost beside its bar."""
    if bar is None:
        return what, shown, ""
    verdict = "met" if found <= bar else "MISSED"
    hoped = "" if stretch is None else f" (stretch {stretch:g}: {'met' if found <= stretch else 'missed'})"
    return what, shown, f"<= {bar:g} {unit}: {verdict}{hoped}"


def _ratio(each: float, million: float | None) -> str:
    """A user's cost among ten million, beside one among a million."""
    if million is None:
        return ""
    ratio = each / million
    return f"<= {RATIO:g} x a million's: {'met' if ratio <= RATIO else 'MISSED'} ({ratio:.2f} x)"


PARTS = {name: Part(partial(command, name), partial(command_tables, name)) for name in CASES} | {"duck": duck.PART}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, needs_data=False)
