"""Parts that hang, are killed or get no time: it is said within ten seconds, and each is back without a hand, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run

pytestmark = pytest.mark.slow
DEV = False
PARTS = ("superlink", "edge", "serverapp", "gateway")
BUSY = 12
"""Busy loops on one core: a start takes minutes."""


def groups(server: Any) -> dict[str, int]:
    """The leader of each part's processes; there is one."""
    found = {}
    for part in PARTS:
        leaders = {os.getpgid(pid) for pid in server.pid_of(part)}
        assert len(leaders) == 1, (part, leaders)
        found[part] = leaders.pop()
    return found


def ready(server: Any) -> dict[str, bool]:
    found = server.get("ready").json()
    return {part: found[part] for part in PARTS}


@pytest.mark.parametrize("how", ["SIGSTOP", "SIGKILL"])
def test_parts_that_hang_or_are_killed_are_told_and_come_back(
    server: Any, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All at once. What has stopped listens to no SIGTERM, and a killed nginx leaves a worker that listens."""
    server.wait(lambda: all(ready(server).values()), seconds=120.0)
    before = groups(server)
    starts = Counter(event["part"] for event in server.events("restarted"))
    for leader in before.values():
        if how == "SIGSTOP":
            os.killpg(leader, signal.SIGSTOP)
        else:
            os.kill(leader, signal.SIGKILL)
    server.wait(lambda: not any(ready(server).values()), seconds=10.0)
    told = set[str]()

    def all_told() -> bool:
        """Each was seen ended, or its end: the file that says what runs is made anew every second."""
        run(["serve", "status", str(server.site.folder)])
        said = capsys.readouterr().out
        told.update(part for part in PARTS if f"{part}: good" not in said or f"{part} ended by {how}" in said)
        return told == set(PARTS)

    server.wait(all_told, seconds=10.0)
    server.wait(lambda: all(ready(server).values()), seconds=240.0)
    after = groups(server)
    assert not set(after.values()) & set(before.values())
    assert Counter(event["part"] for event in server.events("restarted")) - starts == Counter(PARTS)
    words = "hadn't answered" if how == "SIGSTOP" else "SIGKILL"
    assert {event["part"] for event in server.events("ended") if words in event["how"]} == set(PARTS)


@contextmanager
def busy(cores: set[int]) -> Iterator[None]:
    """Loops that never pause, on some cores."""
    loops = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        for loop in loops:
            os.sched_setaffinity(loop.pid, cores)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.soak
def test_on_a_starved_machine_no_part_is_ever_started_twice(parts: Any, tmp_path: Path, server: Any) -> None:
    """The server has one core, which it shares with loops. It may take long, but it doesn't make it worse."""
    server.stop()
    core = {min(os.sched_getaffinity(0))}
    before, most = os.sched_getaffinity(0), Counter[str]()
    try:
        with busy(core):
            os.sched_setaffinity(0, core)  # what it starts has it, too
            process = subprocess.Popen([sys.executable, "-m", "palate_cli", "serve", "run", str(server.site.folder)])
            os.sched_setaffinity(0, before)
            server.process, until = process, time.monotonic() + 900.0
            while time.monotonic() < until:
                for part in PARTS:
                    most[part] = max(most[part], len({os.getpgid(pid) for pid in server.pid_of(part)}))
                if server.serving() and all(ready(server).values()):
                    break
                time.sleep(0.5)
            assert all(ready(server).values()), server.words()
    finally:
        os.sched_setaffinity(0, before)
    assert most == Counter(dict.fromkeys(PARTS, 1)), most
