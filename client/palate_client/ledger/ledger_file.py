"""LedgerFile: the SQLite file of a device's ledger, and the last state of each population's ledger that was seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palate_common.records.closing import Closing
from palate_common.records.database import Database, Driver
from palate_core.errors import RefusedError
from palate_core.log.merkle import Checkpoint

SEEN = "CREATE TABLE seen(population TEXT PRIMARY KEY, size INTEGER NOT NULL, root TEXT NOT NULL, signed BLOB NOT NULL)"
Seen = tuple[Checkpoint | None, bytes | None]
"""The last state of a population's ledger that was seen, and the signed bytes that showed it."""


class LedgerFile(Closing):
    """One file, with what was seen of the populations' ledgers.

    Args:
        path: the file, made if missing, or ":memory:".
        kind: identifies this kind of file.
        schema: makes the tables of a new file, `SEEN` among them.
        durable: wait for the disk on every change.
        driver: the SQLite library that opens the file; on a device it encrypts.

    Raises:
        InputError: not such a file, or not writable.
        IntegrityError: the file is damaged.
        LockedError: another process held it for a minute.
    """

    def __init__(self, path: Path | str, *, kind: int, schema: Sequence[str], durable: bool, driver: Driver) -> None:
        self._database = Database(path, kind=kind, schema=schema, durable=durable, driver=driver)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._database.close()

    def seen(self, population: str) -> Seen:
        """The last checkpoint of a population's ledger that was seen here, and what showed it.

        Together with a checkpoint that contradicts it these bytes prove a fork.
        """
        query = "SELECT size, root, signed FROM seen WHERE population = ?"
        with self._database.transaction() as connection:
            row = connection.execute(query, (population,)).fetchone()
        return (None, None) if row is None else (Checkpoint(row[0], row[1]), row[2])

    def seen_checkpoint(self, population: str) -> Checkpoint | None:
        """The checkpoint alone."""
        return self.seen(population)[0]

    def seen_payload(self, population: str) -> bytes | None:
        """The signed bytes alone."""
        return self.seen(population)[1]

    def see(self, population: str, checkpoint: Checkpoint, signed: bytes = b"", *, after: Checkpoint | None) -> None:
        """Store a checkpoint whose signature and consistency proof the caller has verified.

        Args:
            population: whose ledger.
            checkpoint: the new state.
            signed: the signed payload and its signature, kept as evidence.
            after: the state that the proof was checked against; None: none had been seen.

        Raises:
            RefusedError: the ledger got shorter, or has the same size and another root: rolled back or forked; or
                another state was seen since the proof was checked.
        """
        with self._database.transaction(write=True) as connection:
            row = connection.execute("SELECT size, root FROM seen WHERE population = ?", (population,)).fetchone()
            seen = None if row is None else Checkpoint(*row)
            if seen == checkpoint:
                return
            if seen is not None and checkpoint.size <= seen.size:
                raise RefusedError(
                    f"the ledger of {population!r} must extend size {seen.size}, got size {checkpoint.size}: "
                    f"{'rolled back' if checkpoint.size < seen.size else 'forked'}"
                )
            if seen != after:
                raise RefusedError(f"the ledger of {population!r} must extend what was seen meanwhile: ask again")
            values = (population, checkpoint.size, checkpoint.root, signed)
            connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", values)
