"""Scratch: private folders of a process, each beside a lock that the operating system frees with its owner.

A process that is killed tidies nothing up. Whoever makes a folder first removes those whose lock nobody holds.

    >>> import tempfile
    >>> parent = Path(tempfile.mkdtemp())
    >>> folder, lock = scratch_folder(parent, "mine-")
    >>> sorted(path.suffix for path in parent.iterdir())
    ['', '.lock']
    >>> remove(folder, lock)
    >>> list(parent.iterdir())
    []
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from palate_common.records.file_lock import FileLock
from palate_core.errors import LockedError

LOCK = ".lock"


def scratch_folder(parent: Path, prefix: str = "") -> tuple[Path, FileLock]:
    """Make a folder under its lock, so that no other process ever finds it without; see `remove`.

    Args:
        parent: where, an existing folder.
        prefix: what the names of its kind begin with: those of killed processes are removed.

    Raises:
        OSError: it can't be made.
    """
    _remove_left(parent, prefix)
    folder = parent / f"{prefix}{secrets.token_hex(6)}"
    lock = FileLock(folder.with_suffix(LOCK))
    folder.mkdir(mode=0o700)
    return folder, lock


def remove(folder: Path, lock: FileLock) -> None:
    """Remove a folder, and the lock's name once it is free, as Windows removes no open file."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()
    lock.path.unlink(missing_ok=True)


def _remove_left(parent: Path, prefix: str) -> None:
    """Remove the folders of killed processes: those with a lock that nobody holds."""
    for path in parent.glob(f"{prefix}*{LOCK}"):
        folder = path.with_suffix("")
        if folder.is_dir() and not path.is_symlink():  # a lock without a folder gets one soon
            with suppress(OSError, LockedError), FileLock(path) as lock:  # it lives, or is another account's
                remove(folder, lock)
