"""A small durable SQLite file: how both ledgers reach the disk.

Opens a file of one kind and no other, in WAL mode with `synchronous` read back, and turns every SQLite error into one
line. Threads take turns; other processes wait their turn up to `timeout` seconds.

    >>> with Database(":memory:", kind=1, schema=("CREATE TABLE notes(text TEXT)",)) as database:
    ...     with database.transaction(write=True) as connection:
    ...         _ = connection.execute("INSERT INTO notes VALUES ('kept')")
    ...     with database.transaction() as connection:
    ...         connection.execute("SELECT text FROM notes").fetchall()
    [('kept',)]
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from palate_common.closing import Closing
from palate_common.errors import InputError, IntegrityError, LockedError, PalateError

_FULL, _NORMAL = 2, 1  # https://sqlite.org/pragma.html#pragma_synchronous
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Database(Closing):
    """One SQLite file of one kind.

    Args:
        path: the file, made if missing (its folder isn't), or ":memory:".
        kind: SQLite's application_id, which tells this kind of file from every other.
        schema: statements that make the tables of a new file.
        durable: a commit has reached the disk (`synchronous=FULL`); otherwise a power cut may lose the last ones.
        read_only: never write; the file must exist.
        timeout: seconds to wait for another process.

    Raises:
        InputError: the path can't be opened or written, or holds something else.
        IntegrityError: the file is damaged.
        LockedError: another process held it for `timeout` seconds.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kind: int,
        schema: Sequence[str],
        durable: bool = True,
        read_only: bool = False,
        timeout: float = 60.0,
    ) -> None:
        self.path = str(path)
        self._lock = threading.RLock()
        self._process = os.getpid()
        with self._one_line():
            self._connection = sqlite3.connect(
                _address(self.path, read_only), uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(kind, schema, durable=durable, read_only=read_only, deadline=time.monotonic() + timeout)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        with self._lock, self._one_line():
            self._connection.close()

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing: commit at the end, or roll back on any exception. A writer excludes other writers."""
        if os.getpid() != self._process:  # https://sqlite.org/howtocorrupt.html, "carrying a connection across fork()"
            raise PalateError(f"{self.path} must be opened again in a forked process, got the parent's connection")
        with self._lock, self._one_line():
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _prepare(self, kind: int, schema: Sequence[str], *, durable: bool, read_only: bool, deadline: float) -> None:
        """Look before touching: a file of another kind stays as it is."""
        known = self._known(kind)
        if read_only:
            if not known:
                raise InputError(f"the ledger must be an existing ledger file, got an empty file: {self.path}")
            return
        if self.path != ":memory:":
            self._use_wal(deadline)
            self._set("synchronous", _FULL if durable else _NORMAL)
        self._set("fullfsync", 1)  # macOS: fsync alone stops at the drive's cache
        with self.transaction(write=True) as connection:
            if not self._known(kind):  # nobody made the tables in the meantime
                connection.execute(f"PRAGMA application_id = {kind:d}")
                for statement in schema:
                    connection.execute(statement)

    def _known(self, kind: int) -> bool:
        """Whether the file has our tables; False for an empty one."""
        query = "SELECT (SELECT count(*) FROM sqlite_master), (SELECT application_id FROM pragma_application_id)"
        tables, found = self._connection.execute(query).fetchone()
        if (tables or found) and found != kind:
            raise InputError(f"the ledger must be a file of its own, got another kind of database: {self.path}")
        return bool(tables)

    def _use_wal(self, deadline: float) -> None:
        """Switch to WAL; SQLite doesn't wait by itself when two processes do so at once."""
        while True:
            try:
                (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise InputError(f"the ledger must be on a disk that SQLite's WAL supports, got mode {mode!r}")
            return

    def _set(self, name: str, value: int) -> None:
        """Set a pragma and read it back: SQLite ignores what it can't do."""
        self._connection.execute(f"PRAGMA {name} = {value:d}")
        (found,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        if found != value:
            raise PalateError(f"SQLite's {name} must be {value}, got {found}: this build can't keep a ledger")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Say in one line what SQLite said, in the terms of the error tree."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error, self.path) from None


def _address(path: str, read_only: bool) -> str:
    """The URI that SQLite opens."""
    if path == ":memory:":
        return "file::memory:"
    file = Path(path).absolute()
    if file.is_dir():
        raise InputError(f"the ledger must be a writable file in an existing folder, got a folder: {path}")
    if not read_only:
        return f"{file.as_uri()}?mode=rwc"
    # On a read-only disk SQLite can't make the WAL's index; without a WAL the file can't change there either.
    frozen = not os.access(file.parent, os.W_OK) and not Path(f"{file}-wal").exists()
    return f"{file.as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"


def _explain(error: sqlite3.Error, path: str) -> PalateError:
    """The error of our tree for an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _BUSY:
        return LockedError(f"the ledger must be free, got one that another process keeps locked: {path}")
    if code == sqlite3.SQLITE_CORRUPT:
        return IntegrityError(f"the ledger must be intact, got a damaged file: {path}")
    if code == sqlite3.SQLITE_NOTADB:
        return InputError(f"the ledger must be a ledger file, got something else: {path}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return InputError(f"the ledger must be a writable file in an existing folder, got {path}: {error}")
    return PalateError(f"the ledger {path} must be usable, got SQLite's error: {error}")
