"""LedgerFile: the SQLite file of a ledger. Its rows are read to memory and replayed, and never changed.

`palate_server.ledger.ledger` has the operations on it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate_common.records.closing import Closing
from palate_common.records.database import Database
from palate_common.records.tiles import MOST_LEAF
from palate_core.errors import InputError
from palate_core.log.entries import Entry, entry_from
from palate_server.ledger.log import Log, indexed, tampered

KIND = 0x50414C31  # "PAL1"
"""SQLite's application_id of a ledger."""
_SCHEMA = (
    "CREATE TABLE entries(seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, run TEXT, round INTEGER, attempt INTEGER,"
    " leaf BLOB NOT NULL, chain BLOB NOT NULL)",
    "CREATE TABLE head(one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root TEXT NOT NULL)",
    "INSERT INTO head VALUES (1, 0, '')",
    # The rules refuse all this first; indexes and triggers also stop a program that ignores the rules.
    "CREATE UNIQUE INDEX one_run ON entries(run, kind) WHERE kind IN ('open', 'close')",
    "CREATE UNIQUE INDEX one_charge ON entries(run, round, attempt) WHERE kind = 'charge'",
    "CREATE UNIQUE INDEX one_seal ON entries(run, round, attempt) WHERE kind = 'seal'",
    "CREATE TRIGGER at_end BEFORE INSERT ON entries WHEN NEW.seq != 1 + coalesce((SELECT max(seq) FROM entries), -1)"
    " BEGIN SELECT RAISE(ABORT, 'entries are appended'); END",
    "CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are final'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are final'); END",
)


class LedgerFile(Closing):
    """An append-only log in one SQLite file; see `Ledger` for arguments and errors."""

    def __init__(
        self, path: Path | str, *, population: str | None, unit: str | None = None, read_only: bool = False
    ) -> None:
        if population is None and not read_only:
            raise InputError("`population` must be given to write a ledger, got None")
        self._log = Log()
        self._database = Database(path, kind=KIND, schema=_SCHEMA, read_only=read_only)
        try:
            with self._view(write=not read_only) as connection:
                if self._log.size == 0 and not read_only:
                    created = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
                    first = {"population": population, "unit": unit or "user", "created": created}
                    self._append(connection, kind="population", **first)
            found = self._log.history.population
            if found is None or population not in (None, found):
                raise InputError(
                    f"`population` must be the ledger's, {found!r}, got {population!r}: use its own ledger"
                )
            self.population: str = found
            self.unit: str = self._log.history.unit
            if unit not in (None, self.unit):
                raise InputError(f"`unit` must be the ledger's, {self.unit}, got {unit}: use another population")
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._database.close()

    def copy(self, path: Path) -> None:
        """Make a consistent copy of the file, while it is in use."""
        self._database.copy(path)

    @contextmanager
    def _view(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction; the log in memory is first updated from the file."""
        known = -1
        try:
            with self._database.transaction(write=write) as connection:
                self._catch_up(connection)
                known = self._log.size
                yield connection
        except BaseException:
            if self._log.size != known:
                self._log = Log()  # memory may be ahead of the disk: read it again
            raise

    def _append(self, connection: sqlite3.Connection, **fields: Any) -> Entry:
        """Check an entry and write it; one that a mirror couldn't have is refused."""
        entry = entry_from({"seq": self._log.size, **fields})
        leaf = entry.leaf()
        if len(leaf) > MOST_LEAF:
            raise InputError(
                f"an entry of the ledger must have at most {MOST_LEAF} bytes, so that its mirror can have it, got "
                f"{len(leaf)}: say less in {'its facts' if 'facts' in fields else 'it'}"
            )
        self._log.take(entry, leaf)
        row = (entry.seq, *indexed(entry), leaf, self._log.chain)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE head SET size = ?, root = ?", (self._log.size, self._log.tree.root()))
        return entry

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Replay the rows that aren't in memory yet, and check them against the stored head."""
        rows = connection.execute("SELECT * FROM entries WHERE seq >= ? ORDER BY seq", (self._log.size - 1,))
        if self._log.size:
            last = rows.fetchone()
            if last is None or last[-2:] != (self._log.leaves[-1], self._log.chain):
                raise tampered(self._log.size - 1, "it was something else a moment ago")
        for seq, *columns, leaf, chain in rows:
            self._log.replay(seq, columns, leaf, chain)
        head = connection.execute("SELECT size, root FROM head").fetchall()
        if head != [(self._log.size, self._log.tree.root() if self._log.size else "")]:
            raise tampered(self._log.size, "the log's head says otherwise")
