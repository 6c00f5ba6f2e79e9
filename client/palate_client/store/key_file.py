"""Key file: what `key.json` says, read as if a stranger had written it. HAZMAT: what is wrong here is wrong for ever.

    wrapped     format, app, store id, holder, salt, nonce, wrapped key
    tombstone   format, the id of the store that is being erased

Whoever can write into the folder can write the tombstone: it is signed by nobody. So an id is 32 hexadecimal digits
and nothing else before it becomes part of a path, and each member has a type and a size before anything is done.

    >>> parse(b'{"erased":"../photos","format":1}')
    Traceback (most recent call last):
    palate_common.errors.IntegrityError: key.json must be the key file of a store, got something else
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate_common.errors import InputError, IntegrityError, PalateError
from palate_common.records.canonical import canonical_json

KEY_FILE = "key.json"
MOST_BYTES = 4096
"""Of the file; a longer one isn't read."""
SALT_BYTES, NONCE_BYTES, WRAPPED_BYTES = 16, 12, 48
HOLDERS = ("caller", "keyring")

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MEMBERS = {"format", "app", "store", "holder", "salt", "nonce", "wrapped"}


@dataclass(frozen=True)
class Wrapped:
    """The wrapped key of a store.

    Attributes:
        app: whose store it is.
        store: its id.
        holder: who keeps the key that wraps.
        salt: of that key's derivation.
        nonce: of the wrapping.
        data: the data key, encrypted.
    """

    app: str
    store: str
    holder: str
    salt: bytes
    nonce: bytes
    data: bytes = field(default=b"", repr=False)

    @property
    def header(self) -> bytes:
        """All but the wrapped key, as it is authenticated."""
        return canonical_json(self._members())

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical_json(self._members() | {"wrapped": self.data.hex()})

    def _members(self) -> dict[str, Any]:
        """The header's members."""
        named = {"format": 1, "app": self.app, "store": self.store, "holder": self.holder}
        return named | {"salt": self.salt.hex(), "nonce": self.nonce.hex()}


@dataclass(frozen=True)
class Tombstone:
    """What is left of a store that is being erased: its key is gone, its files may not be.

    Attributes:
        store: its id.
    """

    store: str


def is_id(text: object) -> bool:
    """Whether this is the id of a store, which alone may become part of a file's name."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def read(file: Path) -> Wrapped | Tombstone | None:
    """What the key file says; None where there is none.

    Raises:
        IntegrityError: the file is damaged.
        InputError: it was made by a newer Palate, or can't be read.
    """
    try:
        with file.open("rb") as opened:
            return parse(opened.read(MOST_BYTES + 1))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{KEY_FILE} must be a file that can be read, got {file}: {error.strerror}") from None


def parse(data: bytes) -> Wrapped | Tombstone:
    """What the bytes of a key file say.

    Raises:
        IntegrityError: they are damaged.
        InputError: a newer Palate wrote them.
    """
    try:
        found = json.loads(data) if len(data) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        if isinstance(made := found.get("format"), int) and made > 1:
            raise InputError(f"the store must be of format 1, got {made!r:.40}: made by a newer Palate")
        if type(made) is int and made == 1:
            if set(found) == {"format", "erased"} and is_id(found["erased"]):
                return Tombstone(found["erased"])
            if set(found) == _MEMBERS and (wrapped := _wrapped(found)) is not None:
                return wrapped
    raise IntegrityError(f"{KEY_FILE} must be the key file of a store, got something else")


def bury(file: Path, store: str) -> None:
    """Put a tombstone over a key file, byte for byte in its place: it takes no room on a full disk, and leaves no copy.

    Raises:
        PalateError: neither that nor removing the file succeeded; it may still be whole.
    """
    overwrite(file, canonical_json({"format": 1, "erased": store}))


def overwrite(file: Path, data: bytes = b"") -> None:
    """Write over the whole of a key file, in its place. Where the disk doesn't take that, remove it.

    Raises:
        PalateError: neither succeeded; the file may still be whole.
    """
    try:
        with file.open("r+b", buffering=0) as opened:
            size = min(opened.seek(0, os.SEEK_END), MOST_BYTES)
            opened.seek(0)
            opened.write(data.ljust(size))
            os.fsync(opened.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        try:
            file.unlink()
        except OSError:
            raise PalateError(f"the store's key must be destroyed, got {error.strerror}: nothing was erased") from None


def _wrapped(found: dict[str, Any]) -> Wrapped | None:
    """The members of a wrapped key; None if one of them can't be."""
    app, holder = found["app"], found["holder"]
    if not isinstance(app, str) or not 1 <= len(app) <= 100 or not is_id(found["store"]) or holder not in HOLDERS:
        return None
    sizes = {"salt": SALT_BYTES, "nonce": NONCE_BYTES, "wrapped": WRAPPED_BYTES}
    if not all(_is_hex(found[name], size) for name, size in sizes.items()):
        return None
    salt, nonce, data = (bytes.fromhex(found[name]) for name in sizes)
    return Wrapped(app, found["store"], holder, salt, nonce, data)


def _is_hex(text: object, size: int) -> bool:
    """Whether this is as many bytes in lower-case hexadecimal digits."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]*", text, re.ASCII) is not None and len(text) == 2 * size
