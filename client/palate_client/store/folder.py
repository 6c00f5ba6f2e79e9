"""StoreFolder: the files of one device's store, and who may make or remove them.

    key.json       the wrapped key, or the tombstone of an erased store
    <store>.db     the encrypted events, beside it SQLite's -wal and -shm
    <store>.new    nothing; there until the events' file is, so that one that gets lost later is missed
    <store>.journal, <store>.ledger    what came from a server and went to it, and what that cost; encrypted, too
    <store>.sync   held while the device is online
    <store>.deliveries    what was to be told to the user, and what became of it; encrypted, too
    <store>.reserve       random bytes, given up when the disk is full
    <store>.denied-<purpose>    nothing; a purpose that was revoked and whose revocation could not be written
    lock           held for a moment while a store is opened or erased

A store's file is named by its random id: a process that still has an erased store open can't touch its successor.
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
from palate_common.errors import InputError, IntegrityError, LockedError, PalateError, WrongKeyError
from palate_common.records.file_lock import FileLock
from palate_common.records.files import create_durably, sync_folder

FILES = ("db", "db-wal", "db-shm", "new", "journal", "ledger", "sync", "deliveries", "reserve")
"""Names, after the store's id, by which a folder is known to hold a store."""
LOCK_FILE = "lock"
LOCK_SECONDS = 10.0
RESERVE = 2**18
"""Bytes that are kept for what must go on when a disk is full: opening, a decision, an export."""


@dataclass(frozen=True)
class StoreFolder:
    """The folder of a store.

    Attributes:
        path: the folder.
        vault: its key.
    """

    path: Path
    vault: Vault

    def make(self) -> None:
        """Make the folder, for its owner alone, if it isn't there.

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
        """Keep other processes from opening or erasing; a process that dies lets go.

        Raises:
            LockedError: another process held it for ten seconds.
            InputError: the folder can't be written.
        """
        with self.hold(LOCK_FILE, seconds=LOCK_SECONDS, doing="opening"):
            yield

    @contextmanager
    def hold(self, name: str, *, seconds: float, doing: str) -> Iterator[None]:
        """Hold a file of this name, as one thread of one process can; who dies lets go.

        Args:
            name: the file's.
            seconds: to wait for it.
            doing: what another process does that holds it, for the message.

        Raises:
            LockedError: it was held for as long.
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
        """A file of a store."""
        return self.path / f"{store}.{name}"

    def settle(self) -> tuple[str, bytes]:
        """Finish what was begun, then the store's id and data key, made if there is none. Call it under the lock.

        Raises:
            WrongKeyError: the key is another one, or is gone while a store is there.
            InputError: the store is another app's.
            IntegrityError: the key file is damaged, or the events' file is gone.
        """
        self.vault.tidy()
        if (erased := self.vault.erased()) is not None:
            self._bury(erased)
        store = self.vault.store()
        if store is None:
            store = self._begin()
        key, events = self.vault.open(), self.file(store)
        if not _has_bytes(events) and not self.file(store, "new").exists():
            raise IntegrityError(
                f"the store must have its events, got {events.name} missing or empty: bring it back, or"
                f" `palate.erase` the folder and begin anew: {self.path}"
            )
        return store, key

    def opened(self, store: str) -> None:
        """The events' file is there: from now on it is missed. A reserve is laid in where there is room for it."""
        self.file(store, "new").unlink(missing_ok=True)
        reserve = self.file(store, "reserve")
        if not reserve.exists() and self._room() >= 4 * RESERVE:
            with suppress(OSError):
                reserve.write_bytes(secrets.token_bytes(RESERVE))  # random: no file system packs it

    def make_room(self, store: str) -> None:
        """Give up the reserve, where the disk is about full."""
        if self._room() < RESERVE:
            self.file(store, "reserve").unlink(missing_ok=True)

    def erase(self, store: str) -> None:
        """Destroy the key, then remove the files. Call it under the lock.

        Raises:
            PalateError: the key can't be overwritten, and nothing was erased; or the keyring keeps its entry, or a file
                can't be removed now, and the key is gone.
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
            if is_id(begun.stem):  # killed before its key was there
                begun.unlink()
        store = secrets.token_hex(16)
        create_durably(self.file(store, "new"), b"", mode=0o600)
        self.vault.create(store)
        return store

    def _bury(self, store: str) -> None:
        """What is left to do about a store whose key is gone."""
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
        PalateError: one of them can't be removed, such as one that another process has open on Windows.
    """
    try:
        for path in folder.glob(f"{store}.*"):
            path.unlink(missing_ok=True)
        sync_folder(folder)  # before the tombstone goes: a power cut must not bring back one without the other
    except OSError as error:
        raise PalateError(
            f"the files of an erased store must be removed, got {error.strerror}: the key is destroyed, and"
            " what is left of them goes at the next opening"
        ) from None


def _has_bytes(file: Path) -> bool:
    """Whether a file is there and not empty."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
