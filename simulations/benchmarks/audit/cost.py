"""Cost: CPU seconds of the whole command at each speed, and of each of its tests.

Of the command it is what the operating system says of the process and its children, user and system together, with the
start of Python and the writing of the report. Each speed has a bound that it must keep.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.sheet import Table
from palate_audit.counted.claims import lower_bounds
from palate_audit.counted.seeds import QUICK_SEEDS, birthdays, plan_seed, seed_search
from palate_audit.harness.production import Production
from palate_audit.harness.trials import Trials, conduct
from palate_audit.run.mechanism import COUNTED, DEEP, QUICK
from palate_audit.run.path import same_sources

SPEEDS = {"--quick": 25, "": 40, "--deep": 120}
"""Option and most CPU seconds of the whole command."""
NAMES = {
    "claim_tests": "scores",
    "noise_variance": "size of the noise",
    "noise_shape": "law of the noise",
    "noise_correlation": "correlations",
    "output_lattice": "grid",
    "repeated_numbers": "repeated numbers",
    "exact_repeats": "repeats",
    "seed_search": "seeds",
}


def cost(_: Path, seeds: int) -> Any:
    """Each speed: the command, and its tests one by one."""
    figures = []
    for option, most in SPEEDS.items():
        figures.append({"option": option, "most": most, "command": _command(option), "tests": _tests(option)})
    return figures


def _command(option: str) -> float:
    """CPU seconds of `palate audit mechanism`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "palate_cli", "audit", "mechanism", "--seed", "1", "--out", folder]
        done = subprocess.Popen([*command, *filter(None, [option])], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(done.pid, 0)
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(command)} {option} must end well, got {os.waitstatus_to_exitcode(status)}")
        return used.ru_utime + used.ru_stime


def _tests(option: str) -> dict[str, float]:
    """CPU seconds of each test, in this process."""
    quick, target = option == "--quick", Production(dp="distributed")
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = _spent()
        result = work()
        found[name] = found.get(name, 0.0) + _spent() - begun
        return result

    trials: Trials = timed("runs", lambda: conduct(target, runs=DEEP if option == "--deep" else QUICK, seed=1))
    fewer = {"seeds": QUICK_SEEDS} if quick else {}
    for test in COUNTED:
        some = fewer if test is seed_search else {}
        timed(NAMES[test.__name__], partial(test, trials, **some))
    timed("bounds", lambda: lower_bounds(trials))
    timed("the plan's seed", lambda: plan_seed(trials, quick=quick))
    timed("fresh releases", lambda: birthdays(trials, count=128 if quick else 1024))
    timed("same path", lambda: same_sources(None))
    return found


def _spent() -> float:
    """CPU seconds of this process and its children so far."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def cost_tables(figures: Any) -> list[Table]:
    """Commands, and a row a test."""
    speeds = [f"`{each['option']}`" if each["option"] else "as it comes" for each in figures]
    commands = [
        (speed, f"{each['command']:.1f}", f"{each['most']}") for speed, each in zip(speeds, figures, strict=True)
    ]
    rows = [(name, *(f"{each['tests'][name]:.1f}" for each in figures)) for name in figures[0]["tests"]]
    note = "CPU seconds of `palate audit mechanism`, user and system, from the start of Python to the report."
    return [
        Table("Cost of the battery", ("speed", "CPU s", "at most"), commands, note),
        Table(
            "Cost of each test, CPU s",
            ("test", *speeds),
            rows,
            "The tables of 16-bit seeds are made once; what several tests share counts for the first of them.",
        ),
    ]
