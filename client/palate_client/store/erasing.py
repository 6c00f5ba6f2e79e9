"""Erasing: destroys a store, even one that can't be opened or whose key is lost.

    palate.erase("palate-data")
    palate.erase("palate-data", user="4711")

It needs no key: anyone who can write to the folder could delete it anyway. As after `Device.erase`, the data can't be
read again, and the user's limits start anew, since the ledger of what was spent is erased, too.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from palate_client.store.folder import FILES, StoreFolder, remove
from palate_client.store.key_file import USER, Wrapped, bury, is_id, overwrite, read
from palate_client.store.vault import Keyring, Vault
from palate_core.errors import InputError, PalateError

USERS = "users"
"""The folder, in that of the app, of its users' stores."""


def folder_of(path: Path | str) -> Path:
    """The absolute path of an app's folder; "~" is the user's home, as in a shell.

    Raises:
        InputError: the path is empty or invalid; "." is the current folder.
    """
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise InputError(f"`path` must name the folder of the store, got {path!r:.80}")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise InputError(f"`path` must be text that names files, got {path!r:.80}") from None
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise InputError(f"`path` must be in the home of a user that there is, got {path!s:.80}") from None


def place_of(path: Path | str, app: str, user: str | None) -> tuple[Path, str]:
    """The folder of a user's store, and the name that it is made under: a hash, which tells who guesses the user.

    Raises:
        InputError: an argument is invalid.
    """
    folder = folder_of(path)
    for what, name in (("app", app), ("user", user)):
        if name is not None and (not isinstance(name, str) or not 1 <= len(name) <= 100 or not name.isprintable()):
            raise InputError(f"`{what}` must be a name of 1 to 100 printable characters, got {name!r:.80}")
    if user is None:
        return folder, app
    known = hashlib.sha256(f"palate user\n{user}".encode()).hexdigest()[:32]
    return folder / USERS / known, f"{app}{USER}{known}"


def erase(path: Path | str, *, user: str | None = None) -> None:
    """Destroy the key of the store in a folder, then remove its files, whatever state they are in.

    An open device notices it. Other files of the folder stay. `palate.open` makes a new, empty store.

    Args:
        path: the store's folder.
        user: as it was opened for.

    Raises:
        InputError: there is no store.
        LockedError: another process is opening or erasing it; nothing was erased.
        PalateError: the key can't be overwritten, and nothing was erased; or the key is destroyed, but its entry in the
            keyring or a file can't be removed now.
    """
    folder, _ = place_of(path, "app", user)
    keyring = Keyring()
    vault = Vault(folder, "", keyring)
    if not (vault.file.is_file() or _stores(folder)):
        raise InputError(f"`path` must be the folder of a store, got {folder}")
    with StoreFolder(folder, vault).lock():
        found = None
        with suppress(PalateError):
            found = read(vault.file)
        if found is None:
            overwrite(vault.file)
        else:
            bury(vault.file, found.store)
        vault.tidy()
        try:
            if isinstance(found, Wrapped) and found.holder == keyring.name:
                keyring.forget(found.app, found.store)
        finally:
            for store in sorted(_stores(folder) | (set() if found is None else {found.store})):
                remove(folder, store)
            vault.clear()


def _stores(folder: Path) -> set[str]:
    """Ids of stores that have files in a folder. Other programs' files with such names, like pictures, don't count."""
    names = (path.name.partition(".") for path in folder.glob("*.*"))
    return {store for store, _, name in names if is_id(store) and name in FILES}
