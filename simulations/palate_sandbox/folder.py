"""Folder: where a sandbox's server and stores are while it lives; gone afterwards, however it ends.

A process that is killed tidies nothing up. Beside each folder is a lock, which the operating system frees with its
owner: who makes a folder first removes those whose lock nobody holds.

    >>> with sandbox_folder() as made:
    ...     made.is_dir(), made.with_suffix(LOCK).exists()
    (True, True)
    >>> made.exists(), made.with_suffix(LOCK).exists()
    (False, False)
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from palate_common.records.file_lock import FileLock
from palate_core.errors import LockedError

PREFIX, LOCK = "palate-sandbox-", ".lock"


@contextmanager
def sandbox_folder() -> Iterator[Path]:
    """A new folder for one sandbox. It is made under its lock, so that no other process ever finds it without."""
    remove_left()
    made = Path(tempfile.gettempdir(), f"{PREFIX}{secrets.token_hex(6)}")
    with FileLock(made.with_suffix(LOCK)) as lock:
        made.mkdir(mode=0o700)
        try:
            yield made
        finally:
            _remove(made, lock)


def remove_left() -> None:
    """Remove the folders of sandboxes that were killed: those with a lock that nobody holds."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK}"):
        folder = path.with_suffix("")
        if folder.is_dir() and not path.is_symlink():
            with suppress(OSError, LockedError), FileLock(path) as lock:  # it lives, or is another account's
                _remove(folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    """Remove a folder, and the lock's name once it is free, as Windows removes no open file."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()
    lock.path.unlink(missing_ok=True)
