import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from palate_core.errors import LockedError
from palate_server.rounds.lock import RunLock

OWNER = """
import sys, time
from pathlib import Path
from palate_server.rounds.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("owned", flush=True)
time.sleep(60)
"""


@contextmanager
def other_owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the folder."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "owned\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_owner_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with other_owner(tmp_path) as process:
        with pytest.raises(LockedError, match="has an owner already"):
            RunLock(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with RunLock(tmp_path) as lock:
            lock.check()


def test_a_second_owner_in_this_process_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(LockedError, match="has an owner already"):
        RunLock(tmp_path)
    with RunLock(tmp_path):
        pass
    assert (tmp_path / "lock").exists()


def test_a_refused_owner_leaves_the_first_in_charge(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        with pytest.raises(LockedError):
            RunLock(tmp_path)
        lock.check()
        with pytest.raises(LockedError):
            RunLock(tmp_path)


@pytest.mark.parametrize("how", ["deleted", "replaced", "moved away", "closed"])
def test_an_owner_that_lost_the_folder_finds_out(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with RunLock(folder) as lock:
        lock.check()
        if how == "deleted":
            (folder / "lock").unlink()
        elif how == "replaced":
            (folder / "lock").unlink()
            RunLock(folder).close()
        elif how == "moved away":
            folder.rename(tmp_path / "elsewhere")
        else:
            lock.close()
        with pytest.raises(LockedError, match="no longer owns"):
            lock.check()
        lock.close()


FORK = """
import os, signal, sys
from pathlib import Path
from palate_core.errors import LockedError
from palate_server.rounds.lock import RunLock
folder = Path(sys.argv[1])
lock = RunLock(folder)
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    try:
        lock.check()
        os.write(writer, b"owns")
    except LockedError:
        os.write(writer, b"owns not")
    signal.pause()
print(os.read(reader, 99).decode(), flush=True)
lock.check()
lock.close()
RunLock(folder).check()
print("free", flush=True)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""


def test_a_forked_child_neither_owns_the_folder_nor_keeps_it_locked(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split("\n"), done.stderr) == (["owns not", "free", ""], "")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RunLock(tmp_path / "none")
