"""StoreFile: the open SQLCipher file of a store, shared by threads, and safe across a fork.

SQLite must not be carried across a fork: a child that inherits an open connection believes in locks it doesn't hold.
So every file is closed before a fork, and parent and child open it again when they next need it. Python's `os.fork` and
`multiprocessing` announce a fork; one that C code makes without telling Python leaves a child that is refused.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlcipher3.dbapi2 as sqlcipher

from palate_client.folder import StoreFolder
from palate_client.pace import give_way
from palate_client.schema import KIND, migrate
from palate_common.closing import Closing
from palate_common.database import Database, Driver
from palate_common.errors import ClosedError, ErasedError, LockedError, PalateError

BUSY_SECONDS = 5.0
"""How long a transaction waits for another process before it is given up."""

PAGES = 1000
"""Pages of the WAL that the commit which reaches them moves to the main file."""


class StoreFile(Closing):
    """The file of one store; opened by the first transaction, and again after a fork.

    Attributes:
        folder: where it is.
        lock: held by the thread that works on it.
        openings: how often it was opened; what was remembered of an earlier opening is void.
    """

    def __init__(self, folder: StoreFolder) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._opening = threading.RLock()
        self.openings = 0
        self._database: Database | None = None
        self._store = ""
        self._end: PalateError | None = None
        folder.make()
        self.open()
        _files.add(self)

    def open(self) -> Database:
        """The file, opened if it isn't.

        Raises:
            ErasedError: the store was erased.
            ClosedError: it was closed.
        """
        with self.lock:
            if self._end is not None:
                raise type(self._end)(*self._end.args)  # a new one: an old one would grow with each traceback
            if self._database is None:
                with self.folder.lock():
                    if self._store and self.folder.vault.store() != self._store:
                        raise ErasedError("the store must be there, got one that was erased")
                    self._database = self._connect()
                    self.openings += 1
            return self._database

    @contextmanager
    def transaction(self, *, write: bool = False, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing; with `durable` the commit, and all before it, has reached the disk at the end."""
        with self.lock:
            database = self.open()
            if not durable:
                with database.transaction(write=write) as connection:
                    yield connection
                return
            database.wait_for_disk(True)
            try:
                with database.transaction(write=write) as connection:
                    yield connection
            finally:
                database.wait_for_disk(False)

    @contextmanager
    def beside(self, name: str) -> Iterator[tuple[Path, Driver]]:
        """Where another encrypted file of this store lies, and what opens it, for as long as it takes to open it.

        Raises:
            ErasedError: the store was erased.
            ClosedError: it was closed.
        """
        self.open()
        give_way()
        with self._opening, self.folder.lock():  # not the store's own lock: opening takes a while, and events wait
            if self.folder.vault.store() != self._store:
                raise ErasedError("the store must be there, got one that was erased")
            file = self.folder.file(self._store, name)
            yield file, _driver(file, self.folder.vault.open())

    @contextmanager
    def at_leisure(self) -> Iterator[None]:
        """Many commits are made; none of them moves the WAL to the main file, `checkpoint` does, also at the end."""
        self.open().checkpoint_every(0)
        try:
            yield
        finally:
            with suppress(PalateError):  # erased or closed: nothing to move
                self.checkpoint()
                self.open().checkpoint_every(PAGES)

    def checkpoint(self) -> None:
        """Move what the WAL holds to the main file, which waits for the disk, while others read and store.

        Raises:
            PalateError: it can't be done now; nothing is lost.
        """
        with (
            self.beside("db") as (path, driver),  # to its end: no connection may be open when the process forks
            Database(path, kind=KIND, schema=(), durable=False, timeout=BUSY_SECONDS, driver=driver) as database,
        ):
            database.checkpoint()

    @contextmanager
    def alone_online(self) -> Iterator[None]:
        """Be the only one that is online with this store.

        Raises:
            LockedError: another thread or process is.
        """
        self.open()
        name = self.folder.file(self._store, "sync").name
        with self.folder.hold(name, seconds=0, doing="syncing"):
            yield

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        with self.lock:
            self._end = self._end or ClosedError("the store must be open, got one that was closed")
            self.disconnect()

    def disconnect(self) -> None:
        """Let go of the file; the next transaction opens it again."""
        with self.lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def erase(self) -> None:
        """Mark the store as erased for every process that has it open, destroy its key, and remove its files.

        Raises:
            LockedError: another process holds it; nothing was erased.
            PalateError: the keyring did not let go of its entry; all else is gone.
        """
        with self.lock:
            self._wipe()
            self._end = ErasedError("the store must be there, got one that was erased")
            self.disconnect()
            with self.folder.lock():
                self.folder.erase(self._store)

    def _wipe(self) -> None:
        """Leave only the mark; what is damaged or gone needs none."""
        try:
            with self.transaction(write=True, durable=True) as connection:
                for table in ("events", "consent", "meta"):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608 # our own names
                connection.execute("INSERT INTO meta VALUES ('erased', 1)")
        except LockedError:
            raise
        except PalateError:
            return

    def _connect(self) -> Database:
        """Open the file; one whose erasing was cut short is erased, and a new one made."""
        while True:
            self._store, key = self.folder.settle()
            file = self.folder.file(self._store)
            driver = _driver(file, key)
            database = Database(file, kind=KIND, schema=(), durable=False, timeout=BUSY_SECONDS, driver=driver)
            try:
                migrate(database)
                with database.transaction() as connection:
                    erased = connection.execute("SELECT 1 FROM meta WHERE name = 'erased'").fetchone()
            except BaseException:
                database.close()
                raise
            if erased is None:
                return database
            database.close()
            self.folder.erase(self._store)


def _driver(file: Path, key: bytes) -> Driver:
    """SQLCipher under a raw key, with nothing on stderr."""
    is_new = not file.exists() or not file.stat().st_size
    first = (
        "PRAGMA cipher_log_level = NONE",
        f"PRAGMA key = \"x'{key.hex()}'\"",
        "PRAGMA temp_store = MEMORY",  # what is sorted must not spill into a plain file
        *(("PRAGMA auto_vacuum = INCREMENTAL",) if is_new else ()),  # later it would write, and wait for the disk
        f"PRAGMA wal_autocheckpoint = {PAGES}",  # the commit that moves them to the main file is the slowest
        "PRAGMA cache_size = -4096",
    )
    return Driver(sqlcipher.connect, sqlcipher.Error, first, "the store")


_files: weakref.WeakSet[StoreFile] = weakref.WeakSet()
_held: list[StoreFile] = []


def _before_fork() -> None:
    """Wait until no thread is inside SQLite, and let go of every file."""
    for file in list(_files):
        file.lock.acquire()
        file._opening.acquire()
        _held.append(file)
        file.disconnect()


def _after_fork() -> None:
    """Go on, in parent and child."""
    while _held:
        file = _held.pop()
        file._opening.release()
        file.lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
