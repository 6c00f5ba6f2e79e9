"""The live ledger of a population, replayed from a snapshot up to its first changed entry.

    live = read_live(Path("readers.ledger.db"))
    live.leaves, live.broken

A snapshot reads an SQLite file without touching it: no lock, no `-wal`, no `-shm`, no file beside it. The file and its
WAL are copied to a temporary folder, and SQLite opens the copy. A file that changes meanwhile is copied again.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate_common.records.database import Database
from palate_core.errors import InputError, PalateError
from palate_core.log.canonical import read_canonical
from palate_core.log.entries import MOST_ENTRY
from palate_core.log.merkle import MerkleTree
from palate_server.ledger.history import Entry, entry_from
from palate_server.ledger.ledger import KIND
from palate_server.ledger.log import CHAIN_START, Log, indexed

TRIES = 20
"""Attempts to copy a file that changes meanwhile."""


@contextmanager
def snapshot(path: Path) -> Iterator[Path]:
    """A copy of a database in the state of its last commit; removed at the end.

    Raises:
        InputError: no such file, or not readable.
    """
    with tempfile.TemporaryDirectory(prefix="palate-audit-") as folder:
        copy = Path(folder) / "copy.db"
        for _ in range(TRIES):
            before = _state(path)
            for suffix in ("", "-wal"):
                source = Path(f"{path}{suffix}")
                # A WAL that is missing now was merged into the file by a closing process.
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
    """What changes with every write."""
    found: list[tuple[int, int] | None] = []
    for suffix in ("", "-wal"):
        try:
            facts = Path(f"{path}{suffix}").stat()
        except OSError:
            found.append(None)
        else:
            found.append((facts.st_size, facts.st_mtime_ns))
    return found


@dataclass(frozen=True)
class Broken:
    """The first fault of a stored log.

    Attributes:
        first: the first entry that may be at fault.
        last: the entry at which the fault shows.
        reason: what is wrong with that entry.
    """

    first: int
    last: int
    reason: str


@dataclass(frozen=True)
class LiveLedger:
    """The contents of a ledger's file.

    Attributes:
        path: the file.
        leaves: its entries in order, up to the first that its hash chain doesn't confirm.
        entries: the same, parsed, up to the first that violates the rules.
        rows: number of rows in all.
        broken: the first fault; None if there is none, or if a forger also computed the hashes.
    """

    path: Path
    leaves: tuple[bytes, ...]
    entries: tuple[Entry, ...]
    rows: int
    broken: Broken | None


def read_live(path: Path) -> LiveLedger:
    """Read and replay a ledger's file without changing it.

    Raises:
        InputError: no such file, or not a ledger.
    """
    if not path.is_file():
        raise InputError(f"`--ledger` must be an existing file, got {path}")
    with snapshot(path) as copy:
        try:
            with Database(copy, kind=KIND, schema=(), read_only=True) as database, database.transaction() as connection:
                rows = connection.execute("SELECT * FROM entries ORDER BY seq").fetchall()
                head = connection.execute("SELECT size, root FROM head").fetchall()
        except InputError:
            raise InputError(f"`--ledger` must be a ledger, got another file: {path}") from None
        except PalateError as error:
            reason = str(error).replace(str(copy), str(path))
            return LiveLedger(path, (), (), 0, Broken(0, 0, reason))
    leaves, chained = _chained(rows)
    log, refused = ruled(leaves)
    broken = min((each for each in (chained, refused) if each), key=lambda each: each.last, default=None)
    return LiveLedger(path, tuple(leaves), tuple(log.entries()), len(rows), broken or _head(head, leaves))


def _chained(rows: Sequence[Sequence[Any]]) -> tuple[list[bytes], Broken | None]:
    """The entries with the right place, columns and chain hash, and the first fault."""
    leaves, chain = list[bytes](), CHAIN_START
    for at, (seq, *columns, leaf, stored) in enumerate(rows):
        if seq != at or not isinstance(leaf, bytes):
            return leaves, Broken(at, at, f"the row is numbered {seq}" if seq != at else "it isn't bytes")
        chain = hashlib.sha256(chain + leaf).digest()
        if chain != stored:
            return leaves, Broken(at, at, "its chain hash doesn't fit")
        try:
            fits = columns == indexed(entry_from(read_canonical(leaf, most=MOST_ENTRY)))
        except PalateError:
            fits = True  # a forger may also have computed the hash: the rules show what is wrong
        if not fits:
            return leaves, Broken(at, at, "its columns don't fit")
        leaves.append(leaf)
    return leaves, None


def ruled(leaves: Sequence[bytes]) -> tuple[Log, Broken | None]:
    """The log as far as the rules allow, and the first entry that they refuse: it, or one before it, was changed."""
    log = Log()
    for at, leaf in enumerate(leaves):
        try:
            entry = entry_from(read_canonical(leaf, most=MOST_ENTRY))
            if entry.seq != at or entry.leaf() != leaf:
                return log, Broken(at, at, f"it says that it is entry {entry.seq}")
            log.take(entry, leaf)
        except PalateError as error:
            return log, Broken(0, at, str(error))
    return log, None


def _head(head: Sequence[Sequence[Any]], leaves: Sequence[bytes]) -> Broken | None:
    """Whether the stored head belongs to the stored entries."""
    held, size = len(leaves), head[0][0] if len(head) == 1 else None
    if size == held and head[0][1] == (MerkleTree(leaves).root() if held else ""):
        return None
    if isinstance(size, int) and size > held:
        return Broken(held, held, f"it is missing: the head says that there were {size} entries")
    if isinstance(size, int) and 0 <= size < held:
        return Broken(size, size, f"it was added: the head says that there were {size} entries")
    return Broken(0, held, "the head has the root of another log")
