"""RunLock: only one process at a time owns a run folder; the operating system frees the lock when it ends."""

from __future__ import annotations

from pathlib import Path

from palate_common.records.closing import Closing
from palate_common.records.file_lock import FileLock
from palate_core.errors import LockedError


class RunLock(Closing):
    """An exclusive lock on `folder/lock`, until this process closes it or ends.

    Raises:
        LockedError: another process has the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        try:
            self._lock = FileLock(self.path)
        except LockedError:
            raise LockedError(f"the run folder has an owner already, wait for it or end it: {folder}") from None

    def check(self) -> None:
        """Raise an error if the folder was removed or replaced since it was locked.

        Raises:
            LockedError: this process no longer owns the folder.
        """
        if not self._lock.is_there():
            raise LockedError(f"this process no longer owns the run folder: {self.path.parent}")

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def own_folder(folder: Path) -> RunLock:
    """Own a server folder whose server must not run.

    Raises:
        LockedError: it runs, or another command has the folder.
    """
    try:
        return RunLock(folder)
    except LockedError:
        raise LockedError(
            f"the server must not run, got a folder that `palate serve run` or another command has: {folder}"
        ) from None
