"""Directory: the devices that are invited to one attempt, and their identities; the plan names it by its hash.

    >>> directory = Directory({0: "aa" * 32, 7: "bb" * 32})
    >>> Directory.from_bytes(directory.to_bytes()) == directory
    True

It comes with the plan, 36 bytes a device, and a device checks it before it is charged: all devices of an attempt have
the same one, and nobody enters it once the plan is signed. It is whole, since a device draws members of the whole
cohort by itself, and tells nobody which. The salt keeps the plan's hash from telling who was invited.

In an attempt with sub-cohorts each has a directory of its own, and the plan names the list of their hashes. A device
gets that list and the one directory in which it is: it sees that all of them were fixed before the plan was signed.

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
HASH: Final = 32
"""Bytes of a directory's hash."""
_TAG: Final = b"palate/secagg/directory/1\x00"
_TAG_OF_ALL: Final = b"palate/secagg/directories/1\x00"
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Directory:
    """Ed25519 public keys by the numbers of their devices.

    **Guarantees:** no key twice: one identity is one number.
    **Guarantees:** one hash: the hash names the keys and their numbers, and nothing else.

    Attributes:
        identities: number -> public key, 64 lower-case hexadecimal digits; by rising number.
        salt: random bytes; fresh ones where none are given.
        beside: the hashes of the directories of all sub-cohorts, this one's among them; none with one cohort.

    Raises:
        InputError: a number out of range or order, another spelling of a key, a repeated key, a salt of another
            length, or a list of hashes that hasn't this one's, or has one twice.
    """

    identities: Mapping[int, str]
    salt: bytes = field(default_factory=partial(os.urandom, SALT))
    beside: tuple[str, ...] = ()

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
        if self.beside and (self.own_hash not in self.beside or len(set(self.beside)) < len(self.beside)):
            raise InputError("`directory` must be one of those that are named with it, each once, got another")

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def hash(self) -> str:
        """What a plan names, 64 hexadecimal digits: this directory, or with sub-cohorts all of them."""
        if not self.beside:
            return self.own_hash
        return hashlib.sha256(_TAG_OF_ALL + self._hashes).hexdigest()

    @cached_property
    def own_hash(self) -> str:
        """The hash of this directory alone."""
        return hashlib.sha256(_TAG + self._lines).hexdigest()

    def to_bytes(self) -> bytes:
        """The hashes beside it, the salt, and of each device its number (u32, little endian) and its key (32 bytes)."""
        return self._hashes + self._lines

    @classmethod
    def from_bytes(cls, data: bytes, subcohorts: int = 1) -> Directory:
        """Read what `to_bytes` wrote.

        Args:
            data: the bytes.
            subcohorts: how many the plan has.

        Raises:
            InputError: not a directory.
        """
        return _read(data, subcohorts)

    @property
    def _hashes(self) -> bytes:
        return b"".join(map(bytes.fromhex, self.beside))

    @property
    def _lines(self) -> bytes:
        lines = (number.to_bytes(4, "little") + bytes.fromhex(key) for number, key in self.identities.items())
        return self.salt + b"".join(lines)


@lru_cache(maxsize=1)  # devices of a process are sent the same bytes
def _read(data: bytes, subcohorts: int) -> Directory:
    """The directory in these bytes."""
    salt = HASH * subcohorts if subcohorts > 1 else 0
    first = salt + SALT
    if len(data) < first or (len(data) - first) % LINE or len(data) > first + LINE * MAX_DEVICES:
        raise InputError(f"`directory` must be {first} bytes, and {LINE} a device, got {len(data)} bytes")
    beside = tuple(data[at : at + HASH].hex() for at in range(0, salt, HASH))
    lines = [data[at : at + LINE] for at in range(first, len(data), LINE)]
    identities = {int.from_bytes(line[:4], "little"): line[4:].hex() for line in lines}
    if len(identities) < len(lines):
        raise InputError("`directory` must have each number once, got one twice")
    return Directory(identities, data[salt:first], beside)
