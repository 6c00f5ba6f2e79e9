"""Snapshot: an SQLite file read without touching it: no lock, no `-wal`, no `-shm`, nothing written beside it.

The file and its WAL are copied to a temporary folder, and SQLite opens the copy. A file that is being written meanwhile
is copied again.

    with snapshot(Path("readers.ledger.db")) as copy, Ledger(copy, population=None, read_only=True) as ledger:
        ledger.checkpoint()
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate_common.errors import InputError

TRIES = 20
"""Copies of a file that changes while it is copied."""


@contextmanager
def snapshot(path: Path) -> Iterator[Path]:
    """A copy of a database as its last commit left it; gone at the end.

    Raises:
        InputError: no such file, or not readable.
    """
    with tempfile.TemporaryDirectory(prefix="palate-audit-") as folder:
        copy = Path(folder) / "copy.db"
        for _ in range(TRIES):
            before = _state(path)
            for suffix in ("", "-wal"):
                source = Path(f"{path}{suffix}")
                # A WAL that a closing process has just removed was moved to the file.
                if suffix and not source.exists():
                    Path(f"{copy}{suffix}").unlink(missing_ok=True)
                    continue
                try:
                    Path(f"{copy}{suffix}").write_bytes(source.read_bytes())
                except OSError as error:
                    raise InputError(f"the file must be readable, got {source}: {error.strerror}") from None
            if _state(path) == before:
                break
            time.sleep(0.05)
        yield copy


def _state(path: Path) -> list[tuple[int, int] | None]:
    """What changes when somebody writes."""
    found: list[tuple[int, int] | None] = []
    for suffix in ("", "-wal"):
        try:
            facts = Path(f"{path}{suffix}").stat()
        except OSError:
            found.append(None)
        else:
            found.append((facts.st_size, facts.st_mtime_ns))
    return found
