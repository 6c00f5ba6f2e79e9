"""Vault: the key of a device's store. HAZMAT: an error here can't be repaired later.

The store is encrypted with a random 256-bit data key. The disk has only that key wrapped (AES-256-GCM) by another key,
which the caller or the operating system's keyring keeps. If the wrapped key is destroyed, nobody can read any copy of
the store again, not even its owner.

    key.json: see `palate_client.store.key_file`; all members but the wrapped key are authenticated data

**Guarantees:** a wrong key, another app's name, or a changed file can't open a store; the data key is never written to
the disk unwrapped; after `destroy` the wrapped key is in no file of this folder, and the keyring's entry is deleted.

**Assumes:** the caller's key has 256 random bits; the disk destroys what is overwritten, or at least what is unlinked.
Flash memory and snapshots may keep old blocks: with such a block AND the caller's key the data key can be unwrapped.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from palate_client.store.key_file import KEY_FILE, NONCE_BYTES, SALT_BYTES, USER, Tombstone, Wrapped, bury, read
from palate_common.extras import to_install
from palate_common.records.files import create_durably
from palate_core.errors import InputError, PalateError, WrongKeyError

KEY_BYTES = 32
_INFO = b"palate device store, key of the data key, version 1"


def new_key() -> bytes:
    """Make a key for a store: 32 random bytes. Keep them with the app's other secrets."""
    return secrets.token_bytes(KEY_BYTES)


class Holder(Protocol):
    """Keeps the key that wraps the data key."""

    @property
    def name(self) -> Literal["caller", "keyring"]:
        """Its name in the key file."""

    def make(self, app: str, store: str) -> bytes:
        """Make the key for a new store."""

    def get(self, app: str, store: str) -> bytes:
        """The key of an existing store."""

    def forget(self, app: str, store: str) -> None:
        """Destroy the key, if it is kept for Palate alone."""


@dataclass(frozen=True)
class Caller:
    """The app keeps the key and passes it at each opening.

    Raises:
        InputError: the key isn't bytes, or is too short to be random.
    """

    key: bytes = field(repr=False)
    name: Literal["caller"] = "caller"

    def __post_init__(self) -> None:
        if not isinstance(self.key, bytes) or len(self.key) < KEY_BYTES:
            got = f"{len(self.key)} bytes" if isinstance(self.key, bytes) else type(self.key).__name__
            raise InputError(f"`key` must be at least {KEY_BYTES} random bytes, as palate.new_key() makes, got {got}")

    def make(self, app: str, store: str) -> bytes:
        """The app's key."""
        return self.key

    def get(self, app: str, store: str) -> bytes:
        """The app's key."""
        return self.key

    def forget(self, app: str, store: str) -> None:
        """Do nothing: the key belongs to the app."""


@dataclass(frozen=True)
class Keyring:
    """The operating system keeps the key: Keychain, Secret Service, Credential Locker."""

    name: Literal["keyring"] = "keyring"

    def make(self, app: str, store: str) -> bytes:
        """Make a random key and store it in the keyring."""
        key = new_key()
        self._call("set_password", app, store, base64.b64encode(key).decode())
        return key

    def get(self, app: str, store: str) -> bytes:
        """Read the key from the keyring.

        Raises:
            WrongKeyError: it has none for this store.
        """
        found = self._call("get_password", app, store)
        if found is None:
            raise WrongKeyError(f"the keyring must have the key of this store of {app!r}, got none: it can't be opened")
        try:
            return base64.b64decode(str(found), validate=True)
        except ValueError:
            raise WrongKeyError(f"the keyring must have the key of this store of {app!r}, got something else") from None

    def forget(self, app: str, store: str) -> None:
        """Delete the keyring's entry."""
        if self._call("get_password", app, store) is not None:
            self._call("delete_password", app, store)

    def _call(self, name: str, app: str, store: str, *values: str) -> Any:
        """Call the keyring, which is imported only here."""
        try:
            import keyring
            from keyring.errors import KeyringError, NoKeyringError
        except ModuleNotFoundError:
            raise InputError(f"`key` must be given, or the keyring installed: {to_install('keyring')}") from None
        try:
            return getattr(keyring, name)(f"palate/{app.partition(USER)[0]}", store, *values)
        except NoKeyringError:
            raise InputError(
                "`key` must be given on a machine without a keyring: palate.open(..., key=...), 32 bytes as"
                " palate.new_key() makes"
            ) from None
        except KeyringError as error:
            raise PalateError(f"the keyring must give the key, got: {error!s:.200}") from None


@dataclass(frozen=True)
class Vault:
    """The key file of a store's folder.

    Attributes:
        folder: the store's folder.
        app: the app that the store belongs to, and which of its users.
        holder: keeps the wrapping key.
    """

    folder: Path
    app: str
    holder: Holder = field(repr=False)

    @cached_property
    def file(self) -> Path:
        """The path of the key file."""
        return self.folder / KEY_FILE

    def create(self, store: str) -> None:
        """Make a data key for a new store, and wrap it."""
        wrapped = Wrapped(
            self.app, store, self.holder.name, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        )
        wrapping = derive(self.holder.make(self.app, store), wrapped.salt, _INFO)
        data = AESGCM(wrapping).encrypt(wrapped.nonce, secrets.token_bytes(KEY_BYTES), wrapped.header)
        create_durably(self.file, replace(wrapped, data=data).to_bytes(), mode=0o600)

    def store(self) -> str | None:
        """The id of the store; None if there is no key.

        Raises:
            IntegrityError: the file is damaged.
        """
        found = read(self.file)
        return found.store if isinstance(found, Wrapped) else None

    def open(self) -> bytes:
        """The data key.

        Raises:
            WrongKeyError: the data key was wrapped with another key.
            InputError: the store is of another app, or its key is kept by another holder.
            IntegrityError: the file is damaged.
        """
        found = read(self.file)
        if not isinstance(found, Wrapped):
            raise WrongKeyError("the store must have its key, got a folder without one")
        if found.app != self.app:
            app, of = found.app.partition(USER)[0], self.app.partition(USER)[0]
            if app == of:
                raise InputError("`user` must be the one whose store this is, got another")
            raise InputError(f"`app` must be {app!r}, whose store this is, got {of!r}")
        if found.holder != self.holder.name:
            expected = (
                "be given: the caller keeps it" if found.holder == "caller" else "be left out: the keyring has it"
            )
            raise InputError(f"`key` of this store must {expected}")
        wrapping = derive(self.holder.get(self.app, found.store), found.salt, _INFO)
        try:
            return AESGCM(wrapping).decrypt(found.nonce, found.data, found.header)
        except InvalidTag:
            raise WrongKeyError(
                "`key` must be the one this store was made with, got another (or the key file was changed)"
            ) from None

    def destroy(self, store: str) -> None:
        """Overwrite the key file of a store with a tombstone. That needs no space on the disk.

        Raises:
            PalateError: the disk can't be written; nothing was erased.
        """
        bury(self.file, store)

    def store_in_erasure(self) -> str | None:
        """The id of a store that is being erased; None if there is none."""
        found = read(self.file)
        return found.store if isinstance(found, Tombstone) else None

    def clear(self) -> None:
        """Remove the tombstone, after all other files."""
        self.file.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove temporary files of a process that was killed while it wrote the key file. Needs the lock."""
        for draft in self.folder.glob(f".{KEY_FILE}.*"):
            draft.unlink(missing_ok=True)

    def stamp(self) -> tuple[int, int, int] | None:
        """A value that changes when the key file is written or replaced; None if there is no key file."""
        try:
            found = self.file.lstat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    """Derive a key for one purpose from the kept one (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(key)
