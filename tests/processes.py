"""Other processes of this machine, as psutil sees them, and a port for one."""

from __future__ import annotations

import socket
from contextlib import suppress

import psutil

MARK = "PALATE_TEST"
"""Environment variable by which a test finds all processes that it has started."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def runs(pid: int) -> bool:
    """Whether a process is there and hasn't ended; one that nobody has waited for has."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    return False


def named(pid: int, word: str) -> bool:
    """Whether a process has a word in its command line."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return word in " ".join(psutil.Process(pid).cmdline())
    return False


def descendants(pid: int) -> list[int]:
    """The processes that descend from one."""
    with suppress(psutil.NoSuchProcess):
        return [each.pid for each in psutil.Process(pid).children(recursive=True) if runs(each.pid)]
    return []


def marked(mark: str) -> list[int]:
    """The processes of this user that were started with a mark."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if each.environ().get(MARK) == mark and runs(each.pid):
                found.append(each.pid)
    return found
