"""RunLock: a run folder has one owner at a time, and the operating system frees it when the owner dies."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from palate_common.closing import Closing
from palate_common.errors import LockedError


class RunLock(Closing):
    """An exclusive lock on `folder/lock`, held by this process until it closes the lock or ends.

    A forked child does not own it: it gives its copy up at once, so that the lock ends with the process that took it.

    Raises:
        LockedError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._descriptor: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise LockedError(f"the run folder has an owner already, wait for it or end it: {folder}") from None
        _held.add(self)

    def check(self) -> None:
        """Refuse to go on if the folder was taken away or replaced since the lock was taken.

        Raises:
            LockedError: this process no longer owns the folder.
        """
        try:
            same = self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            same = False
        if not same:
            raise LockedError(f"this process no longer owns the run folder: {self.path.parent}")

    def close(self) -> None:
        """Give the folder up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _give_up_copies() -> None:
    """In a forked child."""
    for lock in _held:
        lock.close()


os.register_at_fork(after_in_child=_give_up_copies)
