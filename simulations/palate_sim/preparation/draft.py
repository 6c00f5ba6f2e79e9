"""Draft: the private folder in which a log that is too large for memory is prepared, for one run alone.

    CACHE/prepared/NAME/         train/ validation/ test/ as `histories` writes them, and rows while they are read
    CACHE/prepared/NAME.lock     held as long as the folder is used

It goes with the last reference to it. What a killed process left is removed by the next one that makes a draft.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from palate_common.records.file_lock import FileLock
from palate_core.errors import InputError, LockedError
from palate_sim.data.columns import show
from palate_sim.data.download import cache_dir
from palate_sim.data.events import when_gone


class Draft:
    """A folder that is made when it is first asked for.

    Args:
        cache: the configured folder for drafts; None: the user's cache.

    Raises:
        InputError: no folder can have that name.
    """

    def __init__(self, cache: str | None) -> None:
        if cache is not None and "\0" in cache:
            raise InputError(f"`data.cache` must be the name of a folder, got {show(cache)}")
        self._parent = (cache_dir() if cache is None else Path(cache)) / "prepared"
        self._path: Path | None = None

    def path(self) -> Path:
        """The folder.

        Raises:
            OSError: it can't be made.
        """
        if self._path is None:
            self._parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sweep(self._parent)
            path, lock = _locked(self._parent)
            path.mkdir(mode=0o700)
            self._removal = when_gone(self, _discard, path, lock)
            self._path = path
        return self._path

    def discard(self) -> None:
        """Remove the folder, if there is one, whoever still refers to it."""
        if self._path is not None:
            self._removal()
            self._path = None


def _locked(parent: Path) -> tuple[Path, FileLock]:
    """The name of a new draft, and its lock; another name where a sweep was between the lock's file and the lock."""
    while True:
        path = parent / secrets.token_hex(8)
        lock = FileLock(path.with_suffix(".lock"), seconds=1.0)
        if lock.is_there():
            return path, lock
        lock.close()


def _discard(path: Path, lock: FileLock) -> None:
    """Remove a draft, and its lock's file while it is held."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        lock.path.unlink()
    lock.close()


def _sweep(parent: Path) -> None:
    """Remove the drafts of processes that were killed: nobody holds their locks."""
    for left in parent.glob("*.lock"):
        with suppress(LockedError, OSError):
            _discard(left.with_suffix(""), FileLock(left))
