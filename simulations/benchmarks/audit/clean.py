"""Clean runs: how often the audit is wrong about code that is as it should be, a record a run.

Two kinds: the statistical part on the production round, and the whole command, as somebody types it. Stop whenever you
like, and go on with the same command (`benchmarks.journal`). A run has fresh noise; its seed decides only what the
audit chooses.

p-values of clean runs are not below uniform ones: by Kolmogorov and Smirnov's test, one-sided, since many are the least
of several times their number, and so are larger.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.journal import once_each
from benchmarks.sheet import Table
from palate_audit.evidence.evidence import Finding, judge
from palate_audit.harness.production import Production
from palate_audit.harness.trials import conduct
from palate_audit.run.mechanism import QUICK, statistical

STATISTICAL, WHOLE = 200, 30
"""Runs of each kind."""
MODES, EPSILONS, DELTA = ("central", "distributed"), (1.0, 2.0, 4.0, 8.0, 13.0), 1e-6
SMALL: dict[str, Any] = {"users": 2**11, "counts": 2**13, "products": 2**13, "users_per_node": 2**10}
LEAST_RUNS = 20
"""Fewest p-values of a test for which their distribution is looked at."""


def clean(_: Path, seeds: int) -> Any:
    """The statistical part on the production round, as it is."""
    return _figures(
        once_each("audit-clean", range(STATISTICAL), one_statistical, about=(MODES, EPSILONS, DELTA, SMALL))
    )


def whole(_: Path, seeds: int) -> Any:
    """The whole command, as it comes."""
    return _figures(once_each("audit-whole", range(WHOLE), one_whole, about=()))


def one_statistical(seed: int) -> dict[str, Any]:
    """One run of the statistical part."""
    begun = time.process_time()
    target = Production(dp=MODES[seed % 2], epsilon=EPSILONS[seed % 5], delta=DELTA, **SMALL)
    found = judge(statistical(conduct(target, runs=QUICK, seed=seed)))
    return _record(found, time.process_time() - begun)


def one_whole(seed: int) -> dict[str, Any]:
    """One run of the command, in a process of its own; CPU seconds of it and of its children."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "palate_cli", "audit", "mechanism", "--seed", str(seed), "--out", folder]
        done = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(done.pid, 0)
        [part] = json.loads((Path(folder) / "audit.json").read_text())["sections"]
    found = [Finding(each["test"], each["verdict"], "", each.get("p_value")) for each in part["findings"]]
    return {**_record(found, used.ru_utime + used.ru_stime), "exit": os.waitstatus_to_exitcode(status)}


def _record(found: Iterable[Finding], cpu: float) -> dict[str, Any]:
    """What is kept of a run."""
    given = list(found)
    return {
        "cpu": round(cpu, 2),
        "verdicts": dict(Counter(str(each.verdict) for each in given)),
        "alarms": [each.test for each in given if each.verdict == "alarm"],
        "p": {each.test: float(f"{each.p_value:.3g}") for each in given if each.p_value is not None},
    }


def _figures(found: Sequence[Mapping[str, Any]]) -> Any:
    """What the tables say of some runs."""
    tests: dict[str, list[float]] = {}
    for each in found:
        for name, value in each["p"].items():
            tests.setdefault(name, []).append(value)
    seconds = [each["cpu"] for each in found]
    return {
        "runs": len(found),
        "alarms": sum(len(each["alarms"]) for each in found),
        "cpu_seconds": {"median": float(np.median(seconds)), "most": max(seconds)},
        "verdicts": dict(sum((Counter(each["verdicts"]) for each in found), Counter())),
        "p_values": {name: summary(values) for name, values in tests.items()},
    }


def summary(found: Sequence[float]) -> dict[str, Any]:
    """What the table says of a test's p-values."""
    values = np.array(found)
    return {
        "runs": len(values),
        "least": float(values.min()),
        **{f"<= {part:g}": float(np.mean(values <= part)) for part in (0.01, 0.1)},
        "uniform": too_small(values) if len(values) >= LEAST_RUNS else None,
    }


def too_small(values: Sequence[float]) -> float:
    """The p-value of "these are not below uniform ones"."""
    return float(stats.kstest(values, "uniform", alternative="greater").pvalue)


def clean_tables(figures: Any) -> list[Table]:
    """One row a test."""
    users, size, seconds = SMALL["users"], SMALL["counts"] + SMALL["products"], figures["cpu_seconds"]
    note = (
        f"{figures['alarms']} alarms in {figures['runs']:,} clean runs (family-wise alpha 1e-6 each), seeds 0 to "
        f"{figures['runs'] - 1}, half `central` and half `distributed --masks off`, epsilon 1 to 13; "
        f"{users:,} canaries, {size:,} coordinates, 3 runs of 3 releases. CPU seconds a run: median "
        f"{seconds['median']:.2f}, most {seconds['most']:.2f}. " + _uniform(figures)
    )
    return [Table("p-values of clean runs", *_of_tests(figures), note)]


def whole_tables(figures: Any) -> list[Table]:
    """One row a test that counts; the others are in the note."""
    seconds, told = figures["cpu_seconds"], figures["verdicts"]
    note = (
        f"`palate audit mechanism --seed S` as it comes, S from 0 to {figures['runs'] - 1}: {figures['alarms']} alarms "
        f"in {figures['runs']} runs, {told.get('pass', 0):,} passes, {told.get('not checkable', 0)} not checkable (the "
        f"same path: no run was given). CPU seconds of the whole command: median {seconds['median']:.1f}, most "
        f"{seconds['most']:.1f}. " + _uniform(figures)
    )
    return [Table("Clean runs of the whole command", *_of_tests(figures), note)]


def _of_tests(figures: Any) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Header and rows."""
    rows = [
        (
            name,
            f"{found['least']:.1e}",
            *(f"{found[part]:.2%}" for part in ("<= 0.01", "<= 0.1")),
            "-" if _ks(found) is None else f"{_ks(found):.2g}",
        )
        for name, found in figures["p_values"].items()
    ]
    return ("test", "least", "p <= 0.01", "p <= 0.1", "uniform or larger"), rows


def _ks(found: Mapping[str, Any]) -> float | None:
    """Whether p-values are not below uniform ones; of a record that has percentiles only, by those."""
    if "percentiles" not in found:
        return found["uniform"]
    above = max(place / 100 - value for place, value in enumerate(found["percentiles"], start=1))
    return float(stats.ksone.sf(max(above, 0.0), 1000)) if above > 0 else 1.0


def _uniform(figures: Any) -> str:
    """What the last column means, and the least of it."""
    found = [value for each in figures["p_values"].values() if (value := _ks(each)) is not None]
    if not found:
        return ""
    return (
        f"Last column: Kolmogorov and Smirnov's p-value of p-values that are not below uniform ones; the least of "
        f"{len(found)} is {min(found):.2g}, {min(1.0, len(found) * min(found)):.2g} by Bonferroni."
    )
