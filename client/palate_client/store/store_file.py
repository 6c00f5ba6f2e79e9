"""StoreFile: the open SQLCipher file of a store, shared by threads, and safe across a fork.

A SQLite connection must not be used across a fork: the child would rely on locks that it doesn't hold. So every file is
closed before a fork, and parent and child open it again when they next need it. Python's `os.fork` and
`multiprocessing` announce a fork; after one by C code that Python doesn't know of, the child's access is refused.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlcipher3.dbapi2 as sqlcipher

from palate_client.store.folder import StoreFolder
from palate_client.store.forking import ForkGuard
from palate_client.store.pace import give_way
from palate_client.store.schema import KIND, make_tables
from palate_common.records.closing import Closing
from palate_common.records.database import Database, Driver
from palate_common.system import identity_of
from palate_core.errors import ClosedError, ErasedError, PalateError

BUSY_SECONDS = 5.0
"""Seconds that a transaction waits for another process."""
_DENIED = "denied-"
_ERASED = "the store must be there, got one that was erased"

PAGES = 1000
"""Number of pages of the WAL at which a commit moves them to the main file."""


class StoreFile(Closing):
    """The file of one store. It is opened by the first transaction, and again after a fork.

    Attributes:
        folder: the folder of the store.
        lock: the lock of the thread that works on the file.
        openings: how often it was opened; cached data of an earlier opening is invalid.
    """

    def __init__(self, folder: StoreFolder) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._opening = threading.RLock()
        self.openings = 0
        self._database: Database | None = None
        self._denied = set[str]()
        self._stamp: tuple[int, int, int] | None = None
        self._store = ""
        self._end: PalateError | None = None
        folder.make()
        self.open()
        _files.add(self)

    def open(self) -> Database:
        """Open the file if it isn't open, and return it.

        Raises:
            ErasedError: the store was erased.
            ClosedError: the store was closed.
        """
        with self.lock:
            self._check_end()
            if self._database is None:
                with self.folder.lock():
                    if self._store:
                        self._check()
                    self._database = self._connect()
                    self.openings += 1
            elif self._stamp != (
                stamp := self.folder.vault.stamp()
            ):  # erased, or a purpose was denied without a decision
                self._check()
                self._stamp, self.openings = stamp, self.openings + 1
            return self._database

    @property
    def state(self) -> str:
        """Open, closed or erased, as far as this process knows."""
        return "open" if self._end is None else "erased" if isinstance(self._end, ErasedError) else "closed"

    @contextmanager
    def transaction(self, *, write: bool = False, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction; with `durable` it waits until the commit, and all before it, are on the disk."""
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
        """Path and driver of another encrypted file of this store. The folder is locked while the context lasts.

        Raises:
            ErasedError: the store was erased.
            ClosedError: the store was closed.
        """
        self.open()
        give_way()
        with self._opening, self.folder.lock():  # not the store's own lock: opening is slow, and tracking must not wait
            self._check()
            self.folder.make_room(self._store)
            file = self.folder.file(self._store, name)
            yield file, _driver(file, self.folder.vault.open())

    def identities(self) -> str:
        """What tells key file, events and ledger from copies of them; empty for one that there isn't."""
        found = list[str]()
        for path in (self.folder.vault.file, *(self.folder.file(self._store, name) for name in ("db", "ledger"))):
            try:
                found.append(identity_of(path))
            except OSError:
                found.append("")
        return " ".join(found)

    @contextmanager
    def at_leisure(self) -> Iterator[None]:
        """For many commits: none of them moves the WAL to the main file; `checkpoint` does, also at the end."""
        self._checkpoint_every(0)
        try:
            yield
        finally:
            with suppress(PalateError):  # after an error, such as a full disk, a later commit does it
                self.checkpoint()
            with suppress(PalateError):
                self._checkpoint_every(PAGES)

    def checkpoint(self) -> None:
        """Move the WAL to the main file; this waits for the disk, but others can read and store meanwhile.

        Raises:
            PalateError: it failed; nothing is lost.
        """
        with (
            self.beside("db") as (path, driver),  # until the end, as no connection may be open when the process forks
            Database(path, kind=KIND, schema=(), durable=False, timeout=BUSY_SECONDS, driver=driver) as database,
        ):
            database.checkpoint()

    @contextmanager
    def alone_online(self) -> Iterator[None]:
        """Lock the store, so that only one thread or process is online with it.

        Raises:
            LockedError: another thread or process is online.
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
        """Close the connection; the next transaction opens it again."""
        with self.lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def deny(self, purpose: str) -> None:
        """Mark a purpose as denied before the decision is written, for this process, others and later ones.

        The mark is an empty file, which can be made on a full disk; if that fails, it holds in this process only.
        """
        with self.lock:
            self._check_end()
            self._check()
            try:
                self._mark(purpose).touch(mode=0o600)
                self._tell()
            except OSError:
                self._denied.add(purpose)
            self.folder.make_room(self._store)

    def clear_denial(self, purpose: str) -> None:
        """Remove the mark of `deny`: a decision on the purpose is written."""
        with self.lock, suppress(OSError):
            self._denied.discard(purpose)
            self._mark(purpose).unlink()  # usually there is none
            self._tell()

    def denied_purposes(self) -> set[str]:
        """The purposes that are marked as denied."""
        start = f"{self._store}.{_DENIED}"
        names = os.listdir(self.folder.path)  # noqa: PTH208 # called often, and only names are needed
        return self._denied | {name.removeprefix(start) for name in names if name.startswith(start)}

    @contextmanager
    def there(self) -> Iterator[None]:
        """While the context lasts, no thread or process erases the store.

        Raises:
            ErasedError: the store was erased.
            ClosedError: the store was closed.
        """
        self._check_end()
        with self._opening, self.folder.lock():
            self._check()
            yield

    def erase(self, *, still: Callable[[], bool] = lambda: True) -> bool:
        """Destroy the store's key, and remove its files; every process that has it open notices it.

        Args:
            still: asked when nobody can leave `there` any more, and may open no file: whether to go on.

        Returns:
            Whether it was erased: False as `still` said.

        Raises:
            LockedError: another process is opening or erasing it; nothing was erased.
            PalateError: the key can't be overwritten, and nothing was erased; or the key is destroyed, but its entry in
                the keyring or a file can't be removed now.
        """
        with self.lock, self.folder.lock():
            if not still():
                return False
            self.disconnect()
            try:
                self.folder.erase(self._store)
            finally:
                if self.folder.vault.store() != self._store:
                    self._end = ErasedError(_ERASED)
        return True

    def _checkpoint_every(self, pages: int) -> None:
        with self.lock:  # no fork can close the file meanwhile
            self.open().checkpoint_every(pages)

    def _check_end(self) -> None:
        """Refuse a file that this process has closed or erased."""
        if self._end is not None:
            raise type(self._end)(*self._end.args)  # a new error, as the traceback of an old one would grow

    def _check(self) -> None:
        """Refuse a store that was erased by any process."""
        if self.folder.vault.store() != self._store:
            raise ErasedError(_ERASED)

    def _tell(self) -> None:
        """Touch the key file, so that every process that has the store open reads it again."""
        now = time.time_ns()
        os.utime(self.folder.vault.file, ns=(now, now))

    def _mark(self, purpose: str) -> Path:
        """The file that marks a purpose as denied."""
        return self.folder.file(self._store, f"{_DENIED}{purpose}")

    def _connect(self) -> Database:
        """Open the file. Needs the folder's lock."""
        self._store, key = self.folder.settle()
        self._stamp = self.folder.vault.stamp()
        self.folder.make_room(self._store)
        file = self.folder.file(self._store)
        driver = _driver(file, key)
        database = Database(file, kind=KIND, schema=(), durable=False, timeout=BUSY_SECONDS, driver=driver)
        try:
            make_tables(database)
        except BaseException:
            database.close()
            raise
        self.folder.note_opened(self._store)
        return database


def _driver(file: Path, key: bytes) -> Driver:
    """SQLCipher with a raw key, without output on stderr."""
    is_new = not file.exists() or not file.stat().st_size
    first = (
        "PRAGMA cipher_log_level = NONE",
        f"PRAGMA key = \"x'{key.hex()}'\"",
        "PRAGMA temp_store = MEMORY",  # sorting must not write plain data to a temporary file
        *(("PRAGMA auto_vacuum = INCREMENTAL",) if is_new else ()),  # on an existing file it would write
        f"PRAGMA wal_autocheckpoint = {PAGES}",  # the commit that moves the WAL to the main file is the slowest
        "PRAGMA cache_size = -4096",
    )
    return Driver(sqlcipher.connect, sqlcipher.Error, first, "the store")


def _enter(file: StoreFile) -> None:
    """Before a fork: wait until no thread uses SQLite, and close the connection."""
    file.lock.acquire()
    file._opening.acquire()
    with suppress(PalateError):
        file.disconnect()


def _leave(file: StoreFile) -> None:
    """After a fork: release the locks, in parent and child."""
    file._opening.release()
    file.lock.release()


_files: ForkGuard[StoreFile] = ForkGuard(_enter, _leave)
