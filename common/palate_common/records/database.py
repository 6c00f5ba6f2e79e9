"""Database: a small durable SQLite file, the base of both ledgers and of a device's encrypted store.

It opens only files of one kind, in WAL mode, checks that settings took effect, and turns every SQLite error into one
line. Threads take turns; other processes wait up to `timeout` seconds.

    >>> with Database(":memory:", kind=1, schema=("CREATE TABLE notes(text TEXT)",)) as database:
    ...     with database.transaction(write=True) as connection:
    ...         _ = connection.execute("INSERT INTO notes VALUES ('kept')")
    ...     with database.transaction() as connection:
    ...         connection.execute("SELECT text FROM notes").fetchall()
    [('kept',)]
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from palate_common.records.closing import Closing
from palate_core.errors import InputError, IntegrityError, LockedError, PalateError

_FULL, _NORMAL = 2, 1  # https://sqlite.org/pragma.html#pragma_synchronous
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
ROOM = 2**16
"""Bytes of a disk that SQLite needs even to read."""


class NoRoomError(PalateError):
    """The disk of a database is full, so that it can't even be read: nothing is known to be damaged."""


@dataclass(frozen=True)
class Driver:
    """The build of SQLite that opens a file.

    Attributes:
        connect: DB-API's `connect`.
        error: the base of its errors.
        first: statements before any other, such as a key.
        noun: the file's name in error messages.
    """

    connect: Callable[..., sqlite3.Connection]
    error: type[Exception]
    first: Sequence[str] = field(default=(), repr=False)
    noun: str = "the ledger"

    def explain(self, error: Exception, path: str) -> PalateError:
        """Palate's error for one of SQLite's, in one line."""
        code, noun = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF, self.noun
        if code in _BUSY:
            return LockedError(f"{noun} must be free, got one that another process keeps locked: {path}")
        # An encrypted file has no magic number: damage and another kind of file look alike.
        if code == sqlite3.SQLITE_CORRUPT or (self.first and code == sqlite3.SQLITE_NOTADB):
            return IntegrityError(f"{noun} must be intact, got a damaged file: {path}")
        if code == sqlite3.SQLITE_NOTADB:
            return InputError(f"{noun} must be a {noun.removeprefix('the ')} file, got something else: {path}")
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return InputError(f"{noun} must be a writable file in an existing folder, got {path}: {error}")
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_full(Path(path).parent)):
            return NoRoomError(f"{noun} must have room on its disk, got a full one: {path}")
        return PalateError(f"{noun} {path} must be usable, got SQLite's error: {error}")


def is_full(folder: Path) -> bool:
    """Whether a folder's disk has no room for the files that SQLite makes to read."""
    try:
        return shutil.disk_usage(folder).free < ROOM
    except OSError:
        return False


PLAIN = Driver(lambda *args, **kwargs: sqlite3.connect(*args, **kwargs), sqlite3.Error)
"""The standard library's SQLite."""


class Database(Closing):
    """One SQLite file of one kind.

    Args:
        path: the file, made if missing (its folder isn't), or ":memory:".
        kind: SQLite's application_id, which identifies this kind of file.
        schema: statements that make the tables of a new file.
        durable: a commit waits for the disk (`synchronous=FULL`); otherwise a power cut may lose the last commits.
        read_only: never write; the file must exist.
        timeout: seconds to wait for another process.
        driver: the build of SQLite that opens it.

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
        driver: Driver = PLAIN,
    ) -> None:
        self.path = str(path)
        self._driver = driver
        self._noun = driver.noun
        self._lock = threading.RLock()
        self._process = os.getpid()
        with self._one_line():
            self._connection = driver.connect(
                _address(self.path, read_only, driver.noun),
                uri=True,
                timeout=timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                for statement in driver.first:
                    self._connection.execute(statement)
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
        """A transaction: commit at the end, or roll back on any exception. A writer excludes other writers."""
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

    def wait_for_disk(self, durable: bool) -> None:
        """Whether commits wait for the disk, from the next one on; the first that waits syncs all earlier ones."""
        with self._lock, self._one_line():
            self._set("synchronous", _FULL if durable else _NORMAL)

    def copy(self, path: Path) -> None:
        """Write a consistent copy to a new file, while this one is in use."""
        with self._lock, self._one_line():
            self._connection.execute("VACUUM INTO ?", (str(path),))

    def checkpoint(self) -> None:
        """Move the WAL's pages to the main file, except those that a reader needs."""
        with self._lock, self._one_line():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def empty_wal(self) -> None:
        """Move the WAL's pages to the main file, and cut it: it has what was deleted, too, as it was before.

        Raises:
            LockedError: somebody went on reading for `timeout` seconds.
        """
        with self._lock, self._one_line():
            ((busy, *_),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if busy:
            raise LockedError(f"{self._noun} must be free, got one that another process keeps reading: {self.path}")

    def checkpoint_every(self, pages: int) -> None:
        """Checkpoint with each commit after which the WAL has this many pages; 0: with none."""
        with self._lock, self._one_line():
            self._set("wal_autocheckpoint", pages)

    def _prepare(self, kind: int, schema: Sequence[str], *, durable: bool, read_only: bool, deadline: float) -> None:
        """Set the file up; check its kind first, so that a file of another kind isn't changed."""
        known = self._has_tables(kind)
        if read_only:
            if not known:
                raise InputError(f"{self._noun} must be an existing file of its kind, got an empty file: {self.path}")
            return
        if self.path != ":memory:":
            self._use_wal(deadline)
            self._set("synchronous", _FULL if durable else _NORMAL)
        self._set("fullfsync", 1)  # macOS: fsync alone stops at the drive's cache
        if known:
            return
        with self.transaction(write=True) as connection:
            if not self._has_tables(kind):  # nobody made the tables in the meantime
                connection.execute(f"PRAGMA application_id = {kind:d}")
                for statement in schema:
                    connection.execute(statement)

    def _has_tables(self, kind: int) -> bool:
        """Whether the file has our tables; False for an empty one."""
        query = "SELECT (SELECT count(*) FROM sqlite_master), (SELECT application_id FROM pragma_application_id)"
        tables, found = self._connection.execute(query).fetchone()
        if (tables or found) and found != kind:
            raise InputError(f"{self._noun} must be a file of its own, got another kind of database: {self.path}")
        return bool(tables)

    def _use_wal(self, deadline: float) -> None:
        """Switch to WAL, and wait for another process that does so: SQLite doesn't wait by itself."""
        while True:
            try:
                (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except self._driver.error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise InputError(f"{self._noun} must be on a disk that SQLite's WAL supports, got mode {mode!r}")
            return

    def _set(self, name: str, value: int) -> None:
        """Set a pragma and read it back: SQLite ignores what it can't do."""
        self._connection.execute(f"PRAGMA {name} = {value:d}")
        (found,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        if found != value:
            raise PalateError(f"SQLite's {name} must be {value}, got {found}: this build can't keep {self._noun}")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turn SQLite's errors into Palate's, in one line."""
        try:
            yield
        except self._driver.error as error:
            raise self._driver.explain(error, self.path) from None


def _address(path: str, read_only: bool, noun: str) -> str:
    """The URI that SQLite opens."""
    if path == ":memory:":
        return "file::memory:"
    file = Path(path).absolute()
    if file.is_dir():
        raise InputError(f"{noun} must be a writable file in an existing folder, got a folder: {path}")
    if not read_only:
        return f"{file.as_uri()}?mode=rwc"
    # On a read-only disk SQLite can't make the WAL's index; without a WAL the file can't change there either.
    frozen = not os.access(file.parent, os.W_OK) and not Path(f"{file}-wal").exists()
    return f"{file.as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"
