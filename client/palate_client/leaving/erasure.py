"""Erasure with a statement: what is erased is what the statement is of.

    statement -> the file of the person's choice -> nothing has left since, and nothing can -> the key is destroyed

A round may run in another thread or process meanwhile. What leaves is recorded in the journal while nobody can erase
(`StoreFile.there`). So while nobody can record, the journal is looked at once more: if it has anything that the
statement lacks, nothing is erased, and another statement is made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate_client.leaving.statement import Statement
from palate_client.store.journal import Journal, Opened
from palate_client.store.store import EventStore
from palate_common.records.files import write_durably
from palate_core.errors import InputError, LockedError

Recorded = tuple[int, tuple[Opened, ...]]
TRIES = 10
"""Statements that are made, at most: a round has few messages."""


def erase_with_statement(store: EventStore, make: Callable[[], Statement], path: Path | None) -> Statement:
    """Make a statement, write it, and erase the store; see `Device.erase`.

    **Guarantees:** whatever left is in it: nothing is recorded, and so nothing leaves, between statement and erasure.

    Raises:
        LockedError: messages go on leaving; nothing was erased.
        InputError, PalateError: as `Device.erase`.
    """
    if path is not None and path.resolve().parent == store.file.folder.path.resolve():
        raise InputError(f"`statement` must be a file outside of the store's own folder, got {path}")
    for _ in range(TRIES):
        journal = Journal(store.file)
        try:
            before = _what_has_left(journal)
            made = make()
            if path is not None:
                _write(path, made)

            def still(journal: Journal = journal, before: Recorded = before) -> bool:
                same = _what_has_left(journal) == before
                journal.close()  # an open file can't be removed everywhere
                return same

            if store.erase(still=still):
                return made
        finally:
            journal.close()
    raise LockedError("the store must be free, got one from which messages of a round go on leaving: stop the sync")


def _what_has_left(journal: Journal) -> Recorded:
    """What has left; opened logs beyond a number are dropped, so that how many there are says too little."""
    return len(journal.sent()), journal.opened_logs()


def _write(path: Path, made: Statement) -> None:
    try:
        write_durably(path, made.to_bytes(), mode=0o600)
    except OSError as error:
        raise InputError(f"`statement` must be a file that can be written, got {path}: {error.strerror}") from None
