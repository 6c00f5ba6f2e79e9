"""RunLock: a run folder has one owner at a time, and the operating system frees it when the owner dies."""

from __future__ import annotations

from pathlib import Path

from palate_common.errors import LockedError
from palate_common.records.closing import Closing
from palate_common.records.file_lock import FileLock


class RunLock(Closing):
    """An exclusive lock on `folder/lock`, held by this process until it closes the lock or ends.

    Raises:
        LockedError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        try:
            self._lock = FileLock(self.path)
        except LockedError:
            raise LockedError(f"the run folder has an owner already, wait for it or end it: {folder}") from None

    def check(self) -> None:
        """Refuse to go on if the folder was taken away or replaced since the lock was taken.

        Raises:
            LockedError: this process no longer owns the folder.
        """
        if not self._lock.is_there():
            raise LockedError(f"this process no longer owns the run folder: {self.path.parent}")

    def close(self) -> None:
        """Give the folder up."""
        self._lock.close()
