"""Vault: the key of a device's store. HAZMAT: what is wrong here is wrong for ever.

The store is encrypted with a random 256-bit data key. On disk lies only that key wrapped (AES-256-GCM) by a key of
somebody else: the caller, or the operating system's keyring. Destroy the wrapped key, and no copy of the store can be
read again by anybody, its owner included.

    key.json: see `palate_client.store.key_file`; everything in it but the wrapped key is authenticated

**Guarantees:** a wrong key, another app's name, or a changed file opens nothing; the data key never reaches the disk
unwrapped; after `destroy` the wrapped key is on no path of this folder, and the keyring's entry is gone.

**Assumes:** the caller's key has 256 bits that nobody can guess; the disk forgets what is overwritten, or at least what
is unlinked. Flash memory and snapshots may keep old blocks: whoever has such a block AND the caller's key can still
unwrap it.
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

from palate_client.store.key_file import KEY_FILE, NONCE_BYTES, SALT_BYTES, Tombstone, Wrapped, bury, read
from palate_common.errors import InputError, PalateError, WrongKeyError
from palate_common.records.files import create_durably

KEY_BYTES = 32
_INFO = b"palate device store, key of the data key, version 1"


def new_key() -> bytes:
    """32 random bytes to open a store with. Keep them where the app keeps its secrets."""
    return secrets.token_bytes(KEY_BYTES)


class Holder(Protocol):
    """Who keeps the key that wraps the data key."""

    @property
    def name(self) -> Literal["caller", "keyring"]:
        """How the key file calls it."""

    def make(self, app: str, store: str) -> bytes:
        """The key for a new store."""

    def get(self, app: str, store: str) -> bytes:
        """The key of an existing store."""

    def forget(self, app: str, store: str) -> None:
        """Destroy the key, where that is ours to do."""


@dataclass(frozen=True)
class Caller:
    """The app keeps the key and brings it each time.

    Raises:
        InputError: the key is no bytes, or too short to be random.
    """

    key: bytes = field(repr=False)
    name: Literal["caller"] = "caller"

    def __post_init__(self) -> None:
        if not isinstance(self.key, bytes) or len(self.key) < KEY_BYTES:
            got = f"{len(self.key)} bytes" if isinstance(self.key, bytes) else type(self.key).__name__
            raise InputError(f"`key` must be at least {KEY_BYTES} random bytes, as palate.new_key() makes, got {got}")

    def make(self, app: str, store: str) -> bytes:
        """The same key as always."""
        return self.key

    def get(self, app: str, store: str) -> bytes:
        """The same key as always."""
        return self.key

    def forget(self, app: str, store: str) -> None:
        """The caller's key is the caller's."""


@dataclass(frozen=True)
class Keyring:
    """The operating system keeps the key: Keychain, Secret Service, Credential Locker."""

    name: Literal["keyring"] = "keyring"

    def make(self, app: str, store: str) -> bytes:
        """A new random key, kept by the keyring."""
        key = new_key()
        self._call("set_password", app, store, base64.b64encode(key).decode())
        return key

    def get(self, app: str, store: str) -> bytes:
        """The key that the keyring keeps.

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
        """Ask the keyring, loaded only now."""
        try:
            import keyring
            from keyring.errors import KeyringError, NoKeyringError
        except ModuleNotFoundError:
            raise InputError("`key` must be given, or the keyring installed: pip install 'palate[keyring]'") from None
        try:
            return getattr(keyring, name)(f"palate/{app}", store, *values)
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
        folder: where it lies.
        app: whose store it is.
        holder: who keeps the wrapping key.
    """

    folder: Path
    app: str
    holder: Holder = field(repr=False)

    @cached_property
    def file(self) -> Path:
        """The key file."""
        return self.folder / KEY_FILE

    def create(self, store: str) -> None:
        """Make a data key for a new store, and wrap it."""
        wrapped = Wrapped(
            self.app, store, self.holder.name, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        )
        wrapping = _derive(self.holder.make(self.app, store), wrapped.salt)
        data = AESGCM(wrapping).encrypt(wrapped.nonce, secrets.token_bytes(KEY_BYTES), wrapped.header)
        create_durably(self.file, replace(wrapped, data=data).to_bytes(), mode=0o600)

    def store(self) -> str | None:
        """The id of the store whose key this is; None where there is no key.

        Raises:
            IntegrityError: the file is damaged.
        """
        found = read(self.file)
        return found.store if isinstance(found, Wrapped) else None

    def open(self) -> bytes:
        """The data key.

        Raises:
            WrongKeyError: this is not the key it was wrapped with.
            InputError: the store is another app's, or its key is kept elsewhere.
            IntegrityError: the file is damaged.
        """
        found = read(self.file)
        if not isinstance(found, Wrapped):
            raise WrongKeyError("the store must have its key, got a folder without one")
        if found.app != self.app:
            raise InputError(f"`app` must be {found.app!r}, whose store this is, got {self.app!r}")
        if found.holder != self.holder.name:
            expected = (
                "be given: the caller keeps it" if found.holder == "caller" else "be left out: the keyring has it"
            )
            raise InputError(f"`key` of this store must {expected}")
        wrapping = _derive(self.holder.get(self.app, found.store), found.salt)
        try:
            return AESGCM(wrapping).decrypt(found.nonce, found.data, found.header)
        except InvalidTag:
            raise WrongKeyError(
                "`key` must be the one this store was made with, got another (or the key file was changed)"
            ) from None

    def destroy(self, store: str) -> None:
        """Write a tombstone over the key of a store. It needs no room on the disk.

        Raises:
            PalateError: the disk doesn't take it; nothing was erased.
        """
        bury(self.file, store)

    def erased(self) -> str | None:
        """The id of a store that is being erased: its key is gone, its files may not be."""
        found = read(self.file)
        return found.store if isinstance(found, Tombstone) else None

    def clear(self) -> None:
        """Take the tombstone away, when all else is gone."""
        self.file.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove the drafts that a process which was killed while it wrote the key file has left. Under the lock."""
        for draft in self.folder.glob(f".{KEY_FILE}.*"):
            draft.unlink(missing_ok=True)

    def stamp(self) -> tuple[int, int, int] | None:
        """What changes when anybody writes the key file, or takes it away; None where it is away."""
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _derive(key: bytes, salt: bytes) -> bytes:
    """The key that wraps, from the one that is kept (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_INFO).derive(key)
