"""StoreFolder: makes, locks and removes the files of one device's store.

    key.json       the wrapped key, or the tombstone of an erased store
    <store>.db     the encrypted events, beside it SQLite's -wal and -shm
    <store>.new    empty; exists until the events' file does, so that a later loss of that file is noticed
    <store>.journal, <store>.ledger    messages from and to the server, and their privacy cost; both encrypted
    <store>.sync   locked while the device is online
    <store>.deliveries    messages to the user and the decisions on them; encrypted
    <store>.reserve       random bytes, deleted when the disk is full
    <store>.denied-<purpose>    empty; the purpose is denied, although its revocation could not be written
    lock           locked for a moment while a store is opened or erased

A file's name has the store's random id: a process that still has an erased store open can't change its successor.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from palate_client.store.key_file import is_id
from palate_client.store.vault import Vault
from palate_common.records.file_lock import FileLock
from palate_common.records.files import create_durably
from palate_common.system import sync_folder
from palate_core.errors import InputError, IntegrityError, LockedError, PalateError, WrongKeyError

FILES = ("db", "db-wal", "db-shm", "new", "journal", "ledger", "sync", "deliveries", "reserve")
"""Endings, after the store's id, by which files of a store are recognised."""
LOCK_FILE = "lock"
LOCK_SECONDS = 10.0
RESERVE = 2**18
"""Bytes that are reserved for what must work on a full disk: opening, a decision on consent, an export."""


@dataclass(frozen=True)
class StoreFolder:
    """The folder of a store.

    Attributes:
        path: the folder.
        vault: its key file.
    """

    path: Path
    vault: Vault

    def make(self) -> None:
        """Make the folder, readable by its owner only, if it doesn't exist.

        Raises:
            InputError: it can't be made.
        """
        try:
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(self.path.parent)
        except OSError as error:
            raise InputError(f"the store must be in a folder that can be made, got {self.path}: {error}") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder, so that no other process opens or erases the store. The lock of a killed process is free.

        Raises:
            LockedError: another process held it for ten seconds.
            InputError: the folder can't be written.
        """
        with self.hold(LOCK_FILE, seconds=LOCK_SECONDS, doing="opening"):
            yield

    @contextmanager
    def hold(self, name: str, *, seconds: float, doing: str) -> Iterator[None]:
        """Lock a file of this name, which only one thread of one process can. The lock of a killed process is free.

        Args:
            name: name of the file.
            seconds: how long to wait for the lock.
            doing: what another process with the lock is doing, for the error message.

        Raises:
            LockedError: another one had the lock all that time.
            InputError: the folder can't be written.
        """
        try:
            lock = FileLock(self.path / name, seconds=seconds)
        except LockedError:
            raise LockedError(f"the store must be free, got one that another process is {doing}: {self.path}") from None
        except OSError as error:
            said = f"{self.path}: {error.strerror}"
            raise InputError(f"the store must be a folder that can be written, got {said}") from None
        with lock:
            yield

    def file(self, store: str, name: str = "db") -> Path:
        """The path of a store's file."""
        return self.path / f"{store}.{name}"

    def settle(self) -> tuple[str, bytes]:
        """Finish an interrupted erasure; then the store's id and data key, made if there is none. Needs the lock.

        Raises:
            WrongKeyError: the key is another one, or the key file of an existing store is missing.
            InputError: the store is of another app.
            IntegrityError: the key file is damaged, or the events' file is missing.
            PalateError: the disk is full, or can't be written.
        """
        try:
            self.vault.tidy()
            if (erased := self.vault.store_in_erasure()) is not None:
                self._bury(erased)
            store = self.vault.store() or self._begin()
        except OSError as error:
            raise PalateError(
                f"the store must be on a disk that can be written, got {error.strerror}: {self.path}"
            ) from None
        key, events = self.vault.open(), self.file(store)
        if not _has_bytes(events) and not self.file(store, "new").exists():
            raise IntegrityError(
                f"the store must have its events, got {events.name} missing or empty: bring it back, or"
                f" `palate.erase` the folder and begin anew: {self.path}"
            )
        return store, key

    def note_opened(self, store: str) -> None:
        """Note that the events' file exists, so that its loss is noticed; and make the reserve, if there is room."""
        self.file(store, "new").unlink(missing_ok=True)
        reserve = self.file(store, "reserve")
        if not reserve.exists() and self._room() >= 4 * RESERVE:
            with suppress(OSError):
                reserve.write_bytes(secrets.token_bytes(RESERVE))  # random, so that no file system compresses it

    def make_room(self, store: str) -> None:
        """Delete the reserve if the disk is almost full."""
        if self._room() < RESERVE:
            self.file(store, "reserve").unlink(missing_ok=True)

    def erase(self, store: str) -> None:
        """Destroy the key, then remove the files. Needs the lock.

        Raises:
            PalateError: the key can't be overwritten, and nothing was erased; or the key is destroyed, but its entry in
                the keyring or a file can't be removed now.
        """
        if self.vault.store() == store:
            self.vault.destroy(store)
            self._bury(store)

    def _begin(self) -> str:
        """Make the key of a new store."""
        orphans = sorted(path for path in self.path.glob("*.db") if is_id(path.stem))
        if orphans:
            raise WrongKeyError(
                f"the store must have its key file, got {orphans[0].name} without one: nobody can open it any more;"
                f" `palate.erase` the folder to begin anew: {self.path}"
            )
        for begun in self.path.glob("*.new"):
            if is_id(begun.stem):  # the process was killed before it wrote the key
                begun.unlink()
        store = secrets.token_hex(16)
        create_durably(self.file(store, "new"), b"", mode=0o600)
        self.vault.create(store)
        return store

    def _bury(self, store: str) -> None:
        """Remove what is left of a store whose key is destroyed."""
        try:
            self.vault.holder.forget(self.vault.app, store)
        finally:
            remove(self.path, store)
            self.vault.clear()

    def _room(self) -> int:
        """Free bytes of the disk."""
        try:
            return shutil.disk_usage(self.path).free
        except OSError:
            return 0


def remove(folder: Path, store: str) -> None:
    """Remove a store's files.

    Raises:
        PalateError: one of them can't be removed, for example as another process has it open on Windows.
    """
    try:
        for path in sorted(folder.glob(f"{store}.*")):
            path.unlink(missing_ok=True)
        sync_folder(folder)  # before the tombstone: a power cut must not restore files without it
    except OSError as error:
        raise PalateError(
            f"the files of an erased store must be removed, got {error.strerror}: the key is destroyed, and"
            " what is left of them goes at the next opening"
        ) from None


def _has_bytes(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
