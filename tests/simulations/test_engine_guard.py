"""The guard on families of dummy processes: whatever ends the command, nobody of the family is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from palate_sim.engines.processes import MARK, cpu_seconds, descendants, end, marked, running

FAMILY = """
import os, signal, sys, time
def child(body):
    if os.fork() == 0:
        body()
        time.sleep(600)
def detached():  # its parent ends, its session is new, its environment is overwritten, and it hears no SIGTERM
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.execve(sys.executable, [sys.executable, "-c", "import time, signal; signal.signal(15, signal.SIG_IGN);"
              "open(%r, 'w').write('there'); time.sleep(600)"], {})
child(detached)
child(lambda: None)
time.sleep(600)
"""
COMMAND = """
import subprocess, sys, time
guard = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
print(guard.pid, flush=True)
time.sleep(600)
"""
WAIT = 120.0


def until(true: Callable[[], object], seconds: float = WAIT) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def mark() -> Iterator[str]:
    """An engine's id; whoever carries it is ended after the test."""
    name = uuid4().hex
    yield name
    end(lambda: marked(name), grace=0.0)


def guard_words(mark: str, folder: Path, *command: str) -> list[str]:
    return [sys.executable, "-m", "palate_sim.engines.guard", mark, "--remove", str(folder), "--", *command]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nobody_is_left_however_the_command_ends(mark: str, tmp_path: Path, hears_control_c: Any, number: int) -> None:
    folder, there = tmp_path / "scratch", tmp_path / "there"
    folder.mkdir()
    words = guard_words(mark, folder, sys.executable, "-c", FAMILY % str(there))
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {MARK: mark},
        preexec_fn=hears_control_c,
    ) as command:
        try:
            assert command.stdout is not None
            guard = int(command.stdout.readline())
            assert until(there.exists)
            assert until(lambda: len(descendants(guard)) == 3)  # the one in the middle may still be ending
            family = {process.pid for process in descendants(guard)}
            assert until(lambda: len(marked(mark)) == 4)  # the command, the guard and two of the three
            command.send_signal(number)
        except BaseException:
            command.kill()  # or leaving would wait for it
            raise
    assert until(lambda: not (family | {guard}) & set(running()))
    assert marked(mark) == []
    assert not folder.exists()


def started(mark: str, folder: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        guard_words(mark, folder, *command),
        stdin=subprocess.PIPE,
        env=os.environ | {MARK: mark},
        start_new_session=True,
    )


def waiting(there: Path) -> tuple[str, ...]:
    """A command that says that it is there: a look at a file costs nothing, one at all processes does."""
    return ("sh", "-c", f"echo > '{there}'; exec sleep 600")


def test_a_closed_pipe_is_a_clean_end(mark: str, tmp_path: Path) -> None:
    with started(mark, tmp_path / "scratch", *waiting(tmp_path / "there")) as guard:
        assert until((tmp_path / "there").exists)
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(WAIT) == 0


def test_the_guard_ends_with_its_first_process_and_says_so(mark: str, tmp_path: Path) -> None:
    with started(mark, tmp_path / "scratch", "true") as guard:
        assert guard.wait(WAIT) == 1


def test_sigterm_to_the_guard_ends_the_family(mark: str, tmp_path: Path) -> None:
    with started(mark, tmp_path / "scratch", *waiting(tmp_path / "there")) as guard:
        assert until((tmp_path / "there").exists)
        guard.terminate()
        assert guard.wait(WAIT) == 1
    assert marked(mark) == []


def test_somebody_elses_processes_are_left_alone(mark: str, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: f"{mark}-other"}) as other:
        with started(mark, tmp_path / "scratch", *waiting(tmp_path / "there")) as guard:
            assert until((tmp_path / "there").exists)
            assert guard.stdin is not None
            guard.stdin.close()
        assert other.poll() is None
        other.kill()


def test_who_hears_sigterm_is_not_killed(mark: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = (
        "import signal, sys, time; signal.signal(15, lambda *_: (open(sys.argv[1], 'w').write('bye'), sys.exit()));"
        "print(1, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(said)], stdout=subprocess.PIPE, env=os.environ | {MARK: mark}
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert end(lambda: [pid for pid in marked(mark) if process.poll() is None], grace=WAIT)
    assert said.read_text() == "bye"


def test_giving_up_is_said(mark: str) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        assert not end(lambda: [process.pid + 2**22], grace=0.0, patience=0.2)
        process.kill()


def test_processor_time_counts_descendants_that_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert 0.25 < cpu_seconds(os.getpid()) - before < 3.0
