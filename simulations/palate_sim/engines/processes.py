"""Processes: which ones belong to an engine, what they cost, and how to end them. Read from Linux's /proc.

A process belongs to an engine if it descends from the engine's guard or carries the engine's mark in its environment.
Both are needed: Ray overwrites the environment of its workers, and a helper may not descend from the guard.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "PALATE_ENGINE"
"""Environment variable that holds an engine's id in each of its processes."""
PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A line of /proc/PID/stat.

    Attributes:
        pid: its number.
        parent: its parent's number.
        ticks: processor time of it and of its children that ended, in clock ticks.
    """

    pid: int
    parent: int
    ticks: int


def running() -> dict[int, Process]:
    """Every process that hasn't ended, by number."""
    found = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended in the meantime
                # The name in parentheses may hold anything: the fields start after the last one.
                state, *fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if state not in "ZX":
                    ticks = sum(map(int, fields[10:14]))  # utime, stime, cutime, cstime: proc_pid_stat(5)
                    found[int(folder.name)] = Process(int(folder.name), int(fields[0]), ticks)
    return found


def descendants(root: int) -> list[Process]:
    """The processes that descend from `root`, without it."""
    everybody = running()
    family = {root}
    grown = True
    while grown:
        young = {process.pid for process in everybody.values() if process.parent in family} - family
        family |= young
        grown = bool(young)
    return [everybody[pid] for pid in family - {root} if pid in everybody]


def marked(mark: str) -> list[int]:
    """The processes of this user whose environment carries an engine's mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in running():
        with contextlib.suppress(OSError):  # ended, or somebody else's
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def cpu_seconds(root: int) -> float:
    """Processor time of `root` and its descendants, ended ones included as soon as they were waited for."""
    ticks = sum(process.ticks for process in descendants(root))
    own = running().get(root)
    return (ticks + (own.ticks if own else 0)) / os.sysconf("SC_CLK_TCK")


def end(find: Callable[[], Collection[int]], *, grace: float, patience: float = 15.0) -> bool:
    """Send SIGTERM to processes, and SIGKILL after `grace` seconds.

    Args:
        find: returns the processes that are left; called repeatedly, because a process may start others meanwhile.
        grace: seconds between SIGTERM and SIGKILL.
        patience: seconds after which to give up.

    Returns:
        Whether no process is left.
    """
    begun = time.monotonic()
    for elapsed in _clock(begun, patience):
        left = find()
        if not left:
            return True
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if elapsed < grace else signal.SIGKILL)
        time.sleep(0.05)
    return not find()


def _clock(begun: float, patience: float) -> Iterator[float]:
    """Yield the seconds since `begun`, until `patience` seconds have passed."""
    while (elapsed := time.monotonic() - begun) < patience:
        yield elapsed
