"""Random words: where every secret bit of a release comes from.

HAZMAT. A key used twice, a seed in a release or a keystream shared by two processes voids every privacy guarantee of
the project, and nothing downstream can notice. Make a fresh `SecureSource()` for each release and drop it afterwards;
`SeededSource` is for experiments and tests whose artefacts are stamped "not for release".

The noise of the path starts here: source -> `discrete_gaussian` -> noised sum.

    >>> SecureSource().words(3).shape
    (3,)
    >>> SeededSource(b"demo").words(2).tolist() == SeededSource(b"demo").words(2).tolist()
    True

Both sources are AES-256 in counter mode over zeros (NIST SP 800-38A): a guarantee that rests on them is computational.
Python can't erase a key; dropping the source drops the last reference to it.
"""

from __future__ import annotations

import os
import threading
from typing import ClassVar, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from palate_core.errors import InputError

Words = npt.NDArray[np.uint64]

_KEY_BYTES = 32
_SEED_INFO = b"palate/randomness/seeded/v1"
# Encrypted over and over: counter mode over zeros is the keystream itself.
_ZEROS = memoryview(bytes(1 << 20))

_forks = 0


def _count_fork() -> None:
    """Runs in the child of every `os.fork`; it tells processes apart that were given the same process id."""
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_count_fork)


class Source(Protocol):
    """Interface of random sources: uniform 64-bit words."""

    @property
    def secure(self) -> bool:
        """Whether a release may use it."""

    def words(self, n: int) -> Words:
        """The next `n` words, uint64 [n]; the array belongs to the caller."""


class _Keystream:
    """One AES-256-CTR keystream, cut into words under a lock."""

    def __init__(self, key: bytes) -> None:
        # The counter may start at zero because no key is ever used for a second stream.
        self._encryptor = Cipher(AES(key), CTR(bytes(16))).encryptor()
        self._lock = threading.Lock()

    def words(self, n: int) -> Words:
        """The next `n` little-endian words."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise InputError(f"`n` must be a whole number of at least 0, got {n!r}")
        size = 8 * int(n)
        # Two words more than asked for: `update_into` wants a block to spare behind what it writes.
        words = np.empty(int(n) + 2, dtype="<u8")
        room = words.data.cast("B")
        with self._lock:
            for start in range(0, size, len(_ZEROS)):
                self._encryptor.update_into(_ZEROS[: size - start], room[start:])
        return words[: int(n)].astype(np.uint64, copy=False)


class _Unpicklable:
    """Refuses pickle and copy, each of which would repeat a keystream."""

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise InputError(f"`{name}` must stay where it was made, got a pickle or a copy; make a new one there")


class SecureSource(_Unpicklable):
    """Words for a release, under a fresh 256-bit key from the operating system.

    **Guarantees:** fresh key: every instance draws its own 256 bits from `os.urandom`.
    **Guarantees:** fork safe: a child process draws a new key before its first word.
    **Guarantees:** thread safe: no two calls are given the same part of the keystream.
    **Guarantees:** never copied: pickle and copy are refused.
    **Assumes:** operating system randomness: `os.urandom` gives uniform, secret bytes.
    **Assumes:** aes256: the AES-256 keystream can't be told from uniform bits.
    """

    secure: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rekey()

    def words(self, n: int) -> Words:
        """The next `n` uniform words, uint64 [n].

        Raises:
            InputError: `n` is not a whole number of at least 0.
        """
        # Two threads of a fresh child may both re-key: each then reads a keystream nobody else has, which is harmless.
        owner, stream = self._state
        if owner != (os.getpid(), _forks):
            stream = self._rekey()
        return stream.words(n)

    def _rekey(self) -> _Keystream:
        """A keystream under a new key, owned by this process."""
        # One tuple, stored at once: a reader never sees the owner of one keystream beside another.
        stream = _Keystream(os.urandom(_KEY_BYTES))
        self._state = ((os.getpid(), _forks), stream)
        return stream


class SeededSource(_Unpicklable):
    """Words that repeat with their seed, for experiments and tests; never for a release.

    **Guarantees:** same seed same words: two instances with one seed give the same stream on every machine.
    **Guarantees:** different seeds differ: seeds are told apart by HKDF-SHA256 (RFC 5869), whatever their length.
    **Guarantees:** marked insecure: `secure` is False, so that a release can refuse it.

    Args:
        seed: at least one byte.

    Raises:
        InputError: the seed is not bytes, or empty.
    """

    secure: ClassVar[bool] = False

    def __init__(self, seed: bytes) -> None:
        if not isinstance(seed, bytes) or not seed:
            raise InputError(f"`seed` must be at least one byte, got {'none' if seed == b'' else type(seed).__name__}")
        self._stream = _Keystream(HKDF(SHA256(), _KEY_BYTES, salt=None, info=_SEED_INFO).derive(seed))

    def words(self, n: int) -> Words:
        """The next `n` words of the seed's stream, uint64 [n].

        Raises:
            InputError: `n` is not a whole number of at least 0.
        """
        return self._stream.words(n)
