"""A part that hangs is told apart from one that is slow, and is dead before another one is started."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from palate_server.service.processes import child as processes
from palate_server.service.processes.child import Child
from palate_server.service.processes.watch import MOST, PATIENCE, STARTING, PartWatch
from palate_server.service.supervisor import _Pulse

ALIVE = "import pathlib, time\nwhile True:\n    pathlib.Path('alive').touch()\n    time.sleep(0.01)\n"
"""It shows that it lives, as the ServerApp does."""


class Part:
    """A real process, asked at times of the test's own: it is another one after each start."""

    def __init__(self, folder: Path) -> None:
        self.now, self.says = 1000.0, True
        self.child = Child(
            "part", [sys.executable, "-S", "-c", ALIVE], log=folder / "log", environment={}, folder=folder
        )
        self.watch = PartWatch(self.child, lambda: self.says, clock=lambda: self.now)
        self.file, self.ends = folder / "alive", list[float]()

    def keep(self) -> bool:
        """As the supervisor does."""
        self.watch.keep()
        if self.child._why:  # it was killed, which takes no time of this clock
            wait(lambda: self.child.pid is None)
        return self.child.keep()

    def go(self, seconds: float, step: float = 2.0) -> None:
        """Let time pass, and note when it is started again."""
        until = self.now + seconds
        while self.now < until:
            self.now += step
            self.watch.look()
            if self.keep():
                self.ends.append(self.now)


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Part]:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(processes, "LAST_PAUSE", 0.0)
    found = Part(tmp_path)
    found.keep()
    try:
        yield found
    finally:
        found.child.stop()


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_part_that_hangs_is_said_within_ten_seconds_and_is_started_again(part: Part) -> None:
    part.go(4.0)
    assert part.watch.answers
    first = part.child.pid
    assert first is not None
    wait(part.file.exists)
    os.kill(first, signal.SIGSTOP)  # no SIGTERM would reach it
    part.says, since = False, part.now
    part.go(8.0)
    assert not part.watch.answers, "within ten seconds"
    assert part.child.pid == first, "it may be slow"
    while part.child.starts == 1:
        part.go(2.0)
    assert PATIENCE < part.now - since <= PATIENCE + 4.0
    assert part.child.pid not in (None, first)
    assert not Path(f"/proc/{first}").exists(), "the former is dead, and buried"
    assert "hadn't answered for 2" in part.child.how
    part.says = True
    part.go(4.0)
    assert part.watch.answers


def test_where_a_start_took_long_the_part_is_waited_for_longer(part: Part) -> None:
    """A machine without time for it: what took forty seconds may be silent for a hundred."""
    part.says = False
    part.go(40.0)
    part.says = True
    part.go(2.0)
    part.says = False
    part.go(100.0)
    assert part.child.starts == 1
    part.go(40.0)
    assert part.child.starts == 2


def test_starts_in_vain_do_not_pile_up(part: Part) -> None:
    """A start that never answers is ended ever more slowly, and one process is alive at any time."""
    part.says, former = False, part.child.pid
    while len(part.ends) < 5:
        part.go(2.0)
        if part.child.pid != former:
            assert not Path(f"/proc/{former}").exists()
            former = part.child.pid
    waits = [later - earlier for earlier, later in pairwise([1000.0, *part.ends])]
    assert [round(each / STARTING) for each in waits] == [1, 2, 4, MOST, MOST], waits


def test_a_supervisor_that_was_stopped_itself_blames_nobody(part: Part) -> None:
    part.go(4.0)
    part.now += 600.0
    part.keep()
    assert part.child.starts == 1
    part.go(8.0)
    assert part.child.starts == 1
    assert part.watch.answers
    part.now += 600.0
    part.says = False
    part.go(4.0)
    assert part.child.starts == 1, "two questions without an answer"


def test_an_answer_is_of_the_process_that_runs(part: Part) -> None:
    part.go(4.0)
    first = part.child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait(lambda: part.child.pid is None)
    assert not part.watch.answers
    part.keep()
    assert not part.watch.answers, "this one hasn't answered yet"
    part.go(4.0)
    assert part.watch.answers
    assert "SIGKILL" in part.child.how


def test_a_sign_of_life_that_the_former_has_left_is_none_of_the_new_ones(part: Part) -> None:
    """Else a ServerApp that was killed is well at once, and its slow start is taken for a short one."""
    watch = PartWatch(part.child, _Pulse(part.file), clock=lambda: part.now)
    wait(part.file.exists)
    watch.look()
    seen = part.file.stat().st_mtime_ns
    wait(lambda: part.file.stat().st_mtime_ns != seen)
    watch.look()
    assert watch.answers
    seen = part.file.stat().st_mtime_ns
    wait(lambda: part.file.stat().st_mtime_ns != seen)
    assert part.child.pid is not None
    os.kill(part.child.pid, signal.SIGSTOP)
    part.child.kill("for this test")
    wait(lambda: part.child.pid is None)
    part.child._command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    part.keep()
    for _ in range(3):
        watch.look()
        assert not watch.answers
