"""A lock on a file: one holder, in threads, processes and forks, and none after its end."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from palate_common import system
from palate_common.records.file_lock import FileLock
from palate_core.errors import LockedError


def test_it_is_waited_for_and_given_up_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = FileLock(path)
    with pytest.raises(LockedError, match="somebody else holds: lock"):
        FileLock(path, seconds=0.02)
    threading.Timer(0.05, held.close).start()
    with FileLock(path, seconds=60):
        assert path.read_bytes() == b""
    held.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_holds_no_copy(tmp_path: Path) -> None:
    read, write = os.pipe()
    held = FileLock(tmp_path / "lock")
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)  # until the parent is done
        os._exit(0)
    os.close(read)
    held.close()
    FileLock(tmp_path / "lock").close()  # free, while the child is alive
    os.close(write)
    os.waitpid(child, 0)


def test_a_file_that_was_replaced_is_no_longer_there(tmp_path: Path) -> None:
    held = FileLock(tmp_path / "lock")
    assert held.is_there()
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").touch()
    assert not held.is_there()
    held.close()
    assert not held.is_there()


def test_what_cannot_be_locked_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> bool:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(system, "lock", refuse)
    with pytest.raises(OSError, match="no locks"):
        FileLock(tmp_path / "lock", seconds=60)
