"""Directory: the devices that are invited to one attempt, and their identities; the plan names it by its hash.

    >>> directory = Directory({0: "aa" * 32, 7: "bb" * 32})
    >>> Directory.from_bytes(directory.to_bytes()) == directory
    True

It comes with the plan, 36 bytes a device, and a device checks it before it is charged: all devices of an attempt have
the same one, and nobody enters it once the plan is signed. It is whole, since a device draws members of the whole
cohort by itself, and tells nobody which. The salt keeps the plan's hash from telling who was invited.

Whoever draws it up can put corrupt devices into it: `c_max` must count those.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from typing import Final

from palate_core.errors import InputError
from palate_core.masks.transcript import MAX_DEVICES

SALT: Final = 32
"""Bytes of the salt."""
LINE: Final = 4 + 32
"""Bytes of a device: its number, its key."""
_TAG: Final = b"palate/secagg/directory/1\x00"
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Directory:
    """Ed25519 public keys by the numbers of their devices.

    **Guarantees:** no key twice: one identity is one number.
    **Guarantees:** one hash: the hash names the keys and their numbers, and nothing else.

    Attributes:
        identities: number -> public key, 64 lower-case hexadecimal digits; by rising number.
        salt: random bytes; fresh ones where none are given.

    Raises:
        InputError: a number out of range or order, another spelling of a key, a repeated key, or a salt of another
            length.
    """

    identities: Mapping[int, str]
    salt: bytes = field(default_factory=partial(os.urandom, SALT))

    def __post_init__(self) -> None:
        if len(self.salt) != SALT or len(self.identities) > MAX_DEVICES:
            raise InputError(
                f"`directory` must have a salt of {SALT} bytes and at most {MAX_DEVICES} devices, got {len(self.salt)} "
                f"and {len(self.identities)}"
            )
        first: dict[str, int] = {}
        for number, key in self.identities.items():
            if not 0 <= number < 2**32:
                raise InputError(f"a device's number must be from 0, of 32 bits, got {number}")
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                raise InputError(f"identity {number} must be 64 lower-case hexadecimal digits, got {key!r:.80}")
            if key in first:
                raise InputError(f"identity {number} must be another key than identity {first[key]}, got {key[:16]}…")
            first[key] = number
        if not all(one < other for one, other in pairwise(self.identities)):
            raise InputError("`identities` must be by rising number, got another order")

    def __len__(self) -> int:
        return len(self.identities)

    @cached_property
    def hash(self) -> str:
        """What a plan names, 64 hexadecimal digits."""
        return hashlib.sha256(_TAG + self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The salt, and of each device its number (u32, little endian) and its key (32 bytes)."""
        lines = (number.to_bytes(4, "little") + bytes.fromhex(key) for number, key in self.identities.items())
        return self.salt + b"".join(lines)

    @classmethod
    def from_bytes(cls, data: bytes) -> Directory:
        """Read what `to_bytes` wrote.

        Raises:
            InputError: not a directory.
        """
        return _read(data)


@lru_cache(maxsize=1)  # devices of a process are sent the same bytes
def _read(data: bytes) -> Directory:
    """The directory in these bytes."""
    if len(data) < SALT or (len(data) - SALT) % LINE or len(data) > SALT + LINE * MAX_DEVICES:
        raise InputError(f"`directory` must be {SALT} bytes, and {LINE} a device, got {len(data)} bytes")
    lines = [data[at : at + LINE] for at in range(SALT, len(data), LINE)]
    identities = {int.from_bytes(line[:4], "little"): line[4:].hex() for line in lines}
    if len(identities) < len(lines):
        raise InputError("`directory` must have each number once, got one twice")
    return Directory(identities, data[:SALT])
