"""The live ledger of a population, replayed from a snapshot as far as it is what was written.

live = read_live(Path("readers.ledger.db"))
live.leaves, live.broken
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate_common.database import Database
from palate_common.errors import InputError, IntegrityError, PalateError
from palate_common.history import Entry
from palate_common.ledger import KIND
from palate_common.log import Log
from palate_sim.audit.snapshot import snapshot


@dataclass(frozen=True)
class LiveLedger:
    """What a ledger's file says.

    Attributes:
        path: the file.
        leaves: its entries in order, up to the first that is not what was written.
        entries: the same, read.
        rows: how many it has in all.
        broken: the first bad entry and what is wrong with it; None if all is as written.
    """

    path: Path
    leaves: tuple[bytes, ...]
    entries: tuple[Entry, ...]
    rows: int
    broken: tuple[int, str] | None


def read_live(path: Path) -> LiveLedger:
    """Read and replay a ledger's file; it stays as it is.

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
            return LiveLedger(path, (), (), 0, (0, reason))
    log, broken = Log(), None
    for seq, *columns, leaf, chain in rows:
        whole = log.size
        try:
            log.replay(seq, columns, leaf, chain)
        except IntegrityError as error:
            broken = whole, _reason(error)
            log.leaves[whole:] = []
            break
    if broken is None:
        broken = _head(head, log)
    return LiveLedger(path, tuple(log.leaves), tuple(log.entries()), len(rows), broken)


def _head(head: list[Any], log: Log) -> tuple[int, str] | None:
    """Whether the stored head is that of the stored entries."""
    root = log.tree.root() if log.size else ""
    if head == [(log.size, root)]:
        return None
    size = head[0][0] if len(head) == 1 else None
    if isinstance(size, int) and size > log.size:
        return log.size, f"it is missing: the head says that there were {size} entries"
    if isinstance(size, int) and 0 <= size < log.size:
        return size, f"it was added: the head says that there were {size} entries"
    return log.size, "the head has the root of another log"


def _reason(error: IntegrityError) -> str:
    """What is wrong, without the sentence around it."""
    return str(error).partition(": ")[2]
