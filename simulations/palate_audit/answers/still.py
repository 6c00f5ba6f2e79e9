"""Still: in its context nothing is left to chance: no key, secret or random word, nor the umask; time stands still."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from palate_core.log.signing import SigningKey
from palate_core.masks.agreement import KeyPair

NOW = 1_760_000_000.0
"""The time, in seconds since 1970."""


@contextmanager
def still(seed: str) -> Iterator[None]:
    """Make everything that is drawn follow from a seed, in this process, until the context ends."""
    stream, chosen = _Stream(seed), _Stream(f"{seed}\nchosen")

    def identity() -> SigningKey:
        return SigningKey(Ed25519PrivateKey.from_private_bytes(stream.take(32)))

    def pair() -> KeyPair:
        return KeyPair(X25519PrivateKey.from_private_bytes(stream.take(32)))

    def name() -> uuid.UUID:
        return uuid.UUID(bytes=stream.take(16))

    patches = (
        (os, "urandom", stream.take),
        (random, "_urandom", chosen.take),  # its own: modules draw from it at their import
        (secrets, "token_bytes", stream.take),
        (secrets, "token_hex", stream.text),
        (secrets, "token_urlsafe", stream.text),
        (secrets, "randbelow", stream.below),
        (uuid, "uuid4", name),
        (time, "time", lambda: NOW),
        (zlib, "compress", _stored),
        (zlib, "compressobj", _Storing),
        (SigningKey, "generate", identity),
        (KeyPair, "generate", pair),
    )
    with ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o022))
        for owner, attribute, settled in patches:
            stack.enter_context(mock.patch.object(owner, attribute, settled))
        yield


def _stored(data: bytes, *_: object, **__: object) -> bytes:
    """A zlib stream of blocks that are stored as they are: what else it has depends on who wrote the library."""
    view = memoryview(data).cast("B")
    parts = [view[at : at + 65535] for at in range(0, len(view), 65535)] or [view]
    made = b"".join(
        struct.pack("<BHH", part is parts[-1], len(part), 65535 - len(part)) + bytes(part) for part in parts
    )
    return b"\x78\x01" + made + struct.pack(">I", zlib.adler32(view))


class _Storing:
    """The same, of pieces."""

    def __init__(self, *_: object, **__: object) -> None:
        self._data = bytearray()

    def compress(self, data: bytes) -> bytes:
        """Take a piece."""
        self._data += data
        return b""

    def flush(self) -> bytes:
        """The stream."""
        return _stored(bytes(self._data))


class _Stream:
    """Bytes that follow from a seed; as many as are asked for."""

    def __init__(self, seed: str) -> None:
        self._seed, self._taken = seed.encode(), 0

    def take(self, n: int = 32) -> bytes:
        """The next `n`."""
        self._taken += 1
        return hashlib.shake_256(self._seed + b"\n%d" % self._taken).digest(n)

    def text(self, n: int = 32) -> str:
        """The next `n`, as text."""
        return self.take(n).hex()

    def below(self, n: int) -> int:
        """The next number from 0 to `n` - 1."""
        return int.from_bytes(self.take(16)) % n
