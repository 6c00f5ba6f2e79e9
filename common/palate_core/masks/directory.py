"""Directory: the identities that may take part, which the device has pinned.

    >>> directory = Directory(("aa" * 32, "bb" * 32))
    >>> Directory.from_json(directory.to_json()) == directory
    True

A device's id is its place in the list. Whoever can add identities can add corrupt devices: `c_max` must count those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json, digest

VERSION: Final = 1
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HEAD, _BETWEEN, _TAIL = b'{"identities":["', b'","', b'"],"version":1}'


@dataclass(frozen=True)
class Directory:
    """Ed25519 public keys in the order of the device ids.

    **Guarantees:** no key twice: one identity is one id.
    **Guarantees:** one hash: the hash names the keys and their order, and nothing else.

    Attributes:
        identities: public keys, each 64 lower-case hexadecimal digits.

    Raises:
        InputError: no identities, another spelling of a key, or a repeated key.
    """

    identities: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.identities, tuple) or not self.identities:
            raise InputError("`identities` must be a tuple of at least one public key, got none")
        first: dict[str, int] = {}
        for place, key in enumerate(self.identities):
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                raise InputError(f"identity {place} must be 64 lower-case hexadecimal digits, got {key!r:.80}")
            if key in first:
                raise InputError(f"identity {place} must be another key than identity {first[key]}, got {key[:16]}…")
            first[key] = place

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits: what a plan names."""
        return digest(self.to_json())

    def to_json(self) -> bytes:
        """Canonical JSON: `{"identities":[...],"version":1}`."""
        return canonical_json({"version": VERSION, "identities": self.identities})

    @classmethod
    def from_json(cls, data: bytes) -> Directory:
        """Read what `to_json` wrote; one line feed at the end is allowed.

        Raises:
            InputError: not a directory of this version.
        """
        # There is one spelling: check the frame and the number of keys before anything is split.
        framed = data.startswith(_HEAD) and data.endswith((_TAIL, _TAIL + b"\n"))
        keys = data[len(_HEAD) : -len(_TAIL) - data.endswith(b"\n")] if framed else b""
        if not framed or keys.count(_BETWEEN) != len(keys) // (64 + len(_BETWEEN)):
            raise InputError(
                f'`directory` must be {{"identities":[...],"version":{VERSION}}} as canonical JSON, got something else'
            )
        return cls(tuple(keys.decode("ascii", errors="replace").split(_BETWEEN.decode())))

    @classmethod
    def load(cls, path: Path | str) -> Directory:
        """Read a directory file.

        Raises:
            InputError: no such file, or not a directory.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"`directory` must be a readable file, got {path}: {error.strerror}") from None
        return cls.from_json(data)
