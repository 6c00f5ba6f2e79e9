"""A part of the server that ends is started again, and nothing that it had started outlives it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palate_server.service.processes import child as processes
from palate_server.service.processes.child import Child

MASTER = """
import os, pathlib, signal, time
if os.fork():
    pathlib.Path("master").write_text(str(os.getpid()))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path("worker").write_text(str(os.getpid()))
time.sleep(600)
"""
"""A worker that is told nothing when its master goes, and doesn't end when it is asked to: nginx's, at its worst."""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.0)
    command = [sys.executable, "-S", "-c", MASTER]
    made = Child(
        "gateway", command, log=tmp_path / "log", environment={}, folder=tmp_path, pid_file=tmp_path / "master"
    )
    made.keep()
    try:
        yield made
    finally:
        made.stop()


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def number(file: Path) -> int:
    wait(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


def gone(pid: int) -> bool:
    """Whether a process has ended; who should collect it may be slow."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_worker_ends_with_its_master_before_the_next_one_starts(child: Child, tmp_path: Path) -> None:
    wait(lambda: child.up)
    first, worker = child.pid, number(tmp_path / "worker")
    assert first is not None
    (tmp_path / "worker").unlink()
    os.kill(first, signal.SIGKILL)
    wait(child.keep)
    wait(lambda: gone(worker))
    wait(lambda: child.up)
    assert child.pid != first
    second = number(tmp_path / "worker")
    child.stop()
    wait(lambda: gone(second))


def test_a_worker_ends_where_its_master_was_killed_and_no_other_is_started(child: Child, tmp_path: Path) -> None:
    """As between the kill and the end of the server."""
    worker = number(tmp_path / "worker")
    wait(lambda: child.up)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    wait(lambda: child.pid is None)
    child.stop()
    wait(lambda: gone(worker))


def test_a_part_that_runs_and_does_not_listen_is_not_up(child: Child, tmp_path: Path) -> None:
    """The file of a former master, or none: nginx tries for seconds to get a port before it gives up."""
    wait(lambda: child.up)
    for left in ("1", ""):
        (tmp_path / "master").write_text(left)
        assert child.pid is not None
        assert not child.up
    (tmp_path / "master").unlink()
    assert not child.up
