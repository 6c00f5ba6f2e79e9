"""FileLock: a file that one thread of one process holds at a time. The operating system frees it when its owner dies.

It writes nothing, so it works on a full disk too.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with FileLock(path):
    ...     FileLock(path)
    Traceback (most recent call last):
    palate_core.errors.LockedError: the file must be free, got one that somebody else holds: lock

A forked child does not own the lock: it closes its copy at once, and the lock ends with the process that took it.
"""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from pathlib import Path

from palate_common import system
from palate_common.records.closing import Closing
from palate_core.errors import LockedError

_PAUSE = 0.01


class FileLock(Closing):
    """An exclusive lock on a file, made if missing, held until it is closed.

    Args:
        path: the file.
        seconds: to wait for it.

    Raises:
        LockedError: somebody else held it for as long.
        OSError: the file can't be made or locked.
    """

    def __init__(self, path: Path, *, seconds: float = 0.0) -> None:
        self.path, self._owner = path, os.getpid()
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        _held.add(self)  # before it is taken: a child forked meanwhile shares it
        until = time.monotonic() + seconds
        try:
            while not system.lock(self._descriptor):
                if time.monotonic() >= until:
                    raise LockedError(f"the file must be free, got one that somebody else holds: {path.name}")
                time.sleep(_PAUSE)
        except BaseException:
            self.close()
            raise

    def is_there(self) -> bool:
        """Whether the locked file is still the one at its path."""
        try:
            return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    def close(self) -> None:
        """Release the lock; closing twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if os.getpid() == self._owner:  # for all copies, such as a child's that has just been forked
            with suppress(OSError):
                system.unlock(descriptor)
        os.close(descriptor)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _give_up_copies() -> None:
    """Close the copies of all locks, in a forked child."""
    for lock in list(_held):
        lock.close()


system.at_fork(in_child=_give_up_copies)
