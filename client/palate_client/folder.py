"""StoreFolder: the files of one device's store, and who may make or remove them.

    key.json       the wrapped key, or the tombstone of an erased store
    <store>.db     the encrypted events, beside it SQLite's -wal and -shm
    <store>.journal, <store>.ledger    what came from a server and went to it, and what that cost; encrypted, too
    <store>.sync   held while the device is online
    <store>.deliveries    what was to be told to the user, and what became of it; encrypted, too
    lock           held for a moment while a store is opened or erased

A store's file is named by its random id: a process that still has an erased store open can't touch its successor.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from palate_client.vault import Vault
from palate_common.errors import InputError, LockedError, WrongKeyError
from palate_common.files import sync_folder

FILES = ("db", "journal", "ledger", "deliveries", "sync")
LOCK_FILE = "lock"
LOCK_SECONDS = 10.0


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
            connection = sqlite3.connect(self.path / name, timeout=seconds, isolation_level=None)
        except sqlite3.Error:
            raise InputError(f"the store must be a folder that can be written, got {self.path}") from None
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise InputError(f"the store must be a folder that can be written, got {self.path}: {error}") from None
            raise LockedError(f"the store must be free, got one that another process is {doing}: {self.path}") from None
        finally:
            connection.close()

    def file(self, store: str, name: str = "db") -> Path:
        """An encrypted file of a store."""
        return self.path / f"{store}.{name}"

    def settle(self) -> tuple[str, bytes]:
        """Finish what was begun, then the store's id and data key, made if there is none. Call it under the lock.

        Raises:
            WrongKeyError: the key is another one, or is gone while a store is there.
            InputError: the store is another app's.
            IntegrityError: the key file is damaged.
        """
        self.vault.tidy()
        if (erased := self.vault.erased()) is not None:
            self._remove(erased)
            self.vault.clear()
        store = self.vault.store()
        if store is None:
            orphans = sorted(self.path.glob("*.db"))
            if orphans:
                raise WrongKeyError(
                    f"the store must have its key file, got {orphans[0].name} without one: nobody can open it any more"
                )
            store = self.vault.create()
        return store, self.vault.open()

    def erase(self, store: str) -> None:
        """Destroy the key, then remove the files. Call it under the lock."""
        if self.vault.store() == store:
            try:
                self.vault.destroy()
            finally:
                self._remove(store)
                self.vault.clear()

    def _remove(self, store: str) -> None:
        """Remove a store's files."""
        for name in FILES:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.file(store, name)}{suffix}").unlink(missing_ok=True)
        sync_folder(self.path)  # before the tombstone goes: a power cut must not bring back one without the other
