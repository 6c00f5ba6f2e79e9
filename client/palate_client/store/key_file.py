"""KeyFile: reads and writes `key.json`, which is not trusted. HAZMAT: an error here can't be repaired later.

    wrapped     format, app, store id, holder, salt, nonce, wrapped key
    tombstone   format, the id of the store that is being erased

Anyone who can write to the folder can write a tombstone, because it isn't signed. So each member's type and size are
checked before use, and an id must be 32 hexadecimal digits before it becomes part of a path. A symbolic link is no key
file: what it leads to is neither read nor overwritten.

    >>> parse(b'{"erased":"../photos","format":1}')
    Traceback (most recent call last):
    palate_core.errors.IntegrityError: key.json must be the key file of a store, got something else
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate_common.system import AT_ONCE, NO_LINK, sync
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json

KEY_FILE = "key.json"
MOST_BYTES = 4096
"""The most bytes of the file that are read."""
SALT_BYTES, NONCE_BYTES, WRAPPED_BYTES = 16, 12, 48
MOST_APP = 133
"""The longest name of an app, with what stands for its user."""
USER = "\n"
"""Between the two; no app has it in its name."""
HOLDERS = ("caller", "keyring")

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MEMBERS = {"format", "app", "store", "holder", "salt", "nonce", "wrapped"}


@dataclass(frozen=True)
class Wrapped:
    """The wrapped key of a store.

    Attributes:
        app: the app that the store belongs to, and which of its users.
        store: the store's id.
        holder: who keeps the wrapping key: the caller or the keyring.
        salt: salt for deriving the wrapping key.
        nonce: nonce of the wrapping.
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
        """All members but the wrapped key, as authenticated data."""
        return canonical_json(self._members())

    def to_bytes(self) -> bytes:
        """The bytes of the key file."""
        return canonical_json(self._members() | {"wrapped": self.data.hex()})

    def _members(self) -> dict[str, Any]:
        named = {"format": 1, "app": self.app, "store": self.store, "holder": self.holder}
        return named | {"salt": self.salt.hex(), "nonce": self.nonce.hex()}


@dataclass(frozen=True)
class Tombstone:
    """Marks a store that is being erased: its key is destroyed, but files may be left.

    Attributes:
        store: the store's id.
    """

    store: str


def is_id(text: object) -> bool:
    """Whether this is the id of a store, and so may become part of a file's name."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def read(file: Path) -> Wrapped | Tombstone | None:
    """Read the key file; None if there is none.

    Raises:
        IntegrityError: the file is damaged.
        InputError: it was made by a newer Palate, or can't be read.
    """
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | AT_ONCE | NO_LINK), "rb") as opened:
            return parse(opened.read(MOST_BYTES + 1))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{KEY_FILE} must be a file that can be read, got {file}: {error.strerror}") from None


def parse(data: bytes) -> Wrapped | Tombstone:
    """Parse the bytes of a key file.

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
            if set(found) == _MEMBERS and (wrapped := _parse_wrapped(found)) is not None:
                return wrapped
    raise IntegrityError(f"{KEY_FILE} must be the key file of a store, got something else")


def bury(file: Path, store: str) -> None:
    """Overwrite a key file in place with a tombstone: that needs no space on a full disk, and leaves no copy.

    Raises:
        PalateError: the file can be neither overwritten nor removed; the key may still be readable.
    """
    overwrite(file, canonical_json({"format": 1, "erased": store}))


def overwrite(file: Path, data: bytes = b"") -> None:
    """Overwrite the whole key file in place. If the disk can't be written, or it is no file, remove it.

    What a symbolic link leads to stays. A hard link, such as in a backup, is another name of the same file, and is
    overwritten with it.

    Raises:
        PalateError: neither succeeded; the key may still be readable.
    """
    try:
        with os.fdopen(os.open(file, os.O_RDWR | AT_ONCE | NO_LINK), "r+b", buffering=0) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            size = min(opened.seek(0, os.SEEK_END), MOST_BYTES)
            opened.seek(0)
            opened.write(data.ljust(size))
            sync(opened.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        try:
            file.unlink()
        except OSError:
            raise PalateError(f"the store's key must be destroyed, got {error.strerror}: nothing was erased") from None


def _parse_wrapped(found: dict[str, Any]) -> Wrapped | None:
    """The members of a wrapped key; None if one is invalid."""
    app, holder = found["app"], found["holder"]
    if not isinstance(app, str) or not 1 <= len(app) <= MOST_APP or not is_id(found["store"]) or holder not in HOLDERS:
        return None
    sizes = {"salt": SALT_BYTES, "nonce": NONCE_BYTES, "wrapped": WRAPPED_BYTES}
    if not all(_is_hex(found[name], size) for name, size in sizes.items()):
        return None
    salt, nonce, data = (bytes.fromhex(found[name]) for name in sizes)
    return Wrapped(app, found["store"], holder, salt, nonce, data)


def _is_hex(text: object, size: int) -> bool:
    """Whether this is `size` bytes as lower-case hexadecimal digits."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]*", text, re.ASCII) is not None and len(text) == 2 * size
