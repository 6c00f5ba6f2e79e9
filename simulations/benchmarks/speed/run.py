"""What a run costs: the whole command on MovieLens 1M, the rate between first plan and last release, and each step.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/speed/run.py
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import ML_1M, real_run
from benchmarks.sheet import Part, Table, main
from palate_core.errors import PalateError

ARGUMENTS = (
    "--epsilon",
    "5",
    "--delta",
    "1e-5",
    "--set",
    "evaluation.baselines=[]",
    "--set",
    "evaluation.projection=[]",
)
COMMAND = "palate simulate --data ml-1m " + " ".join(ARGUMENTS)
CPU_BAR, MEMORY_BAR, RATE_BAR, RATE_STRETCH = 12.0, 1024, 40_000, 100_000

# Step -> the functions whose own time it is; what they call and is listed too counts there.
STEPS: dict[str, tuple[str, ...]] = {
    "server: charge the population's ledger, prove it": ("palate_server.rounds.coordinator:Coordinator._charge",),
    "server: plan, price and signature": ("palate_server.rounds.coordinator:Coordinator.open_attempt",),
    "grid: Flower messages in this process": ("palate_sim.engines.grid:LocalGrid.send_and_receive",),
    "device: verify plan and floors": (
        "palate_core.device.participation:open_plan",
        "palate_core.device.participation:check_floors",
    ),
    "device: its own ledger": ("palate_sim.engines.ledger.simulated_ledger:SimulatedLedger.charge",),
    "device: read the model": ("palate_client.rounds.contribution:Contributor._read_model",),
    "device: learn (projection, normalise)": ("palate_client.rounds.contribution:Contributor._train_and_clip",),
    "device: clip and quantise": ("palate_client.rounds.contribution:clip",),
    "device: sum of the shard's users (integer product)": ("palate_common.mechanism.update:ClippedUpdate.total",),
    "device: exact discrete Gaussian share of the noise": ("palate_client.rounds.contribution:add_shares",),
    "device: encode": ("palate_client.rounds.contribution:encode_share",),
    "server: decode, check, sum": ("palate_server.rounds.coordinator:aggregate",),
    "server: check the cohort": ("palate_server.rounds.coordinator:noised",),
    "server: persist the release": ("palate_server.rounds.registry:Registry.persist",),
    "server: seal in the ledger": ("palate_server.ledger.ledger:Ledger.seal",),
    "server: next model (SVD)": ("palate_server.rounds.replay:Replay.apply",),
}


def command_once(data: Path, seed: int) -> dict[str, Any]:
    """Run the command in a process of its own: CPU seconds of its whole tree, wall seconds, memory, what it says."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        call = [sys.executable, "-m", "palate_cli", "simulate", "--data", str(data / "ml-1m"), "--seed", str(seed)]
        begun = time.perf_counter()
        process = subprocess.Popen([*call, "--out", str(out), *ARGUMENTS], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        if process.returncode:
            raise PalateError(f"the command must end with 0, got {process.returncode}")
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return {
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": wall,
        "memory_mib": usage.ru_maxrss / 1024,
        "rate": result["updates_per_cpu_second"],
        "train_cpu": result["seconds"]["train_cpu"],
        "recall": result["metrics"]["recall_capped@20"]["mean"],
    }


def whole_command(data: Path, repetitions: int) -> Any:
    """The bars on CPU seconds, memory and updates per CPU-second."""
    return [command_once(data, seed) for seed in range(repetitions)]


def command_tables(figures: Any) -> list[Table]:
    """One row a cost."""
    repetitions = len(figures)
    kinds = (
        ("CPU-seconds, whole command, all processes", "cpu", 2, f"< {CPU_BAR:g}", lambda v: max(v) < CPU_BAR),
        ("wall seconds (the machine is shared)", "wall", 2, "", None),
        ("peak memory, MiB", "memory_mib", 0, f"< {MEMORY_BAR}", lambda v: max(v) < MEMORY_BAR),
        ("CPU-seconds from first plan to last release", "train_cpu", 3, "", None),
        ("client updates per CPU-second", "rate", 0, f">= {RATE_BAR:,} (stretch {RATE_STRETCH:,})", _rate_met),
    )
    rows = []
    for label, key, digits, bar, met in kinds:
        values = [figure[key] for figure in figures]
        shown = [f"{value:,.{digits}f}" for value in (min(values), float(np.median(values)), max(values))]
        rows.append((label, *shown, f"{bar}: {'met' if met(values) else 'MISSED'}" if met else ""))
    note = (
        f"`{COMMAND}`, {repetitions} times, seeds 0 to {repetitions - 1}. The rate counts all processes; loading and "
        "judging are in the first line only."
    )
    header = ("what", "min", "median", "max", "bar")
    return [Table("Whole command, MovieLens 1M, eps 5", header, rows, note)]


def _rate_met(values: list[float]) -> bool:
    """Whether every repetition was fast enough."""
    return min(values) >= RATE_BAR


class Stopwatch:
    """Own CPU seconds by step: time in a watched function that a watched one calls counts for the inner one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def watch(self, step: str, target: str) -> Callable[[], None]:
        """Wrap `module:name` or `module:Class.name`; returns what puts the original back."""
        module, _, path = target.partition(":")
        *owners, name = path.split(".")
        owner = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        original = getattr(owner, name)

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begun = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                spent = time.process_time() - begun
                self.seconds[step] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        setattr(owner, name, timed)
        return lambda: setattr(owner, name, original)


def by_step(data: Path, repetitions: int) -> Any:
    """Where the time between first plan and last release goes."""
    figures = []
    for seed in range(repetitions):
        watch = Stopwatch()
        undo = [watch.watch(step, target) for step, targets in STEPS.items() for target in targets]
        try:
            result = real_run(ML_1M, data, epsilon=5.0, seed=seed)
        finally:
            for restore in undo:
                restore()
        figures.append({"train_cpu": result["seconds"]["train_cpu"], **watch.seconds})
    return figures


def steps_tables(figures: Any) -> list[Table]:
    """One row a step."""
    medians = {step: float(np.median([figure[step] for figure in figures])) for step in STEPS}
    whole = float(np.median([figure["train_cpu"] for figure in figures]))
    rows = [(step, f"{1000 * spent:.1f}", f"{spent / whole:.0%}") for step, spent in medians.items()]
    rest = whole - sum(medians.values())
    rows += [("everything else", f"{1000 * rest:.1f}", f"{rest / whole:.0%}"), ("sum", f"{1000 * whole:.1f}", "100%")]
    note = (
        f"CPU milliseconds of all 4 releases together, median of {len(figures)} runs; each step without those it calls."
    )
    return [Table("Between first plan and last release, by step", ("step", "ms", "share"), rows, note)]


PARTS = {"command": Part(whole_command, command_tables), "steps": Part(by_step, steps_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5)
