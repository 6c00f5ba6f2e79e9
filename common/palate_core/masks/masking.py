"""Masks: keystreams that are added on one device, subtracted on another, and cancel in the sum.

HAZMAT. A key that masks two vectors reveals their difference, and nothing downstream can notice: a retry needs fresh
keys. Whoever holds the key of a mask can remove it.

Path of a contribution: residues -> `Masker.add` -> `pack` -> server.

    >>> masker, total, key = Masker(4, 20), np.zeros(4, np.uint32), bytes(range(32))
    >>> masker.add(total, key)
    >>> masker.subtract(total, key)
    >>> total.tolist()
    [0, 0, 0, 0]

A mask is the AES-256-CTR keystream (NIST SP 800-38A) of its key, counter from zero, read as little-endian words: 32
bits each for residues of up to 32 bits, else 64. Sums wrap at the word, which 2^bits divides: reducing to `bits` at the
end, as `pack` does, is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from palate_core.errors import InputError
from palate_core.masks.packing import Residues, residue_type

_Keystream = Callable[[memoryview, memoryview], int]
_KEY_BYTES: Final = 32
# Bytes a step: keystream, zeros and a part of the total stay in the second-level cache between cipher and sum.
_STEP: Final = 1 << 17
# Encrypted over and over: counter mode over zeros is the keystream itself.
_ZEROS: Final = memoryview(bytes(_STEP))
_BLOCK: Final = 16


class Masker:
    """Adds and subtracts masks of one length, in place, through one buffer. It isn't thread-safe.

    **Guarantees:** masks cancel: `add` and `subtract` under one key leave a total as it was, in any order of many.
    **Guarantees:** whole length: each of the `size` words gets its own words of keystream.
    **Assumes:** key used once: no two vectors are ever masked under one key.
    **Assumes:** aes256: the AES-256 keystream can't be told from uniform bits.

    Args:
        size: words in a vector.
        bits: residues are modulo 2^bits, 1 to 64.

    Raises:
        InputError: a size below 1, or bits that aren't 1 to 64.
    """

    def __init__(self, size: int, bits: int) -> None:
        self.dtype = residue_type(bits)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"`size` must be a whole number of at least 1, got {size!r}")
        self.size = size
        # Steps as equal as whole cipher blocks allow: a short last one would cost as many calls as a long one.
        blocks = -(-size * self.dtype.itemsize // _BLOCK)
        self._step = -(-blocks // -(-blocks * _BLOCK // _STEP)) * _BLOCK // self.dtype.itemsize
        self._room = memoryview(bytearray(_STEP + _BLOCK))  # `update_into` wants a block to spare
        self._words = np.frombuffer(self._room[:_STEP], self.dtype.newbyteorder("<"))

    def add(self, total: Residues, key: bytes) -> None:
        """Add the mask of `key` to `total`, in place.

        Args:
            total: `dtype` [size], contiguous.
            key: 32 bytes.

        Raises:
            InputError: another type, shape or length of key; the total is then as it was.
        """
        self.apply(total, added=[key])

    def subtract(self, total: Residues, key: bytes) -> None:
        """Subtract the mask of `key` from `total`, in place; arguments and errors as in `add`."""
        self.apply(total, subtracted=[key])

    def apply(self, total: Residues, *, added: Sequence[bytes] = (), subtracted: Sequence[bytes] = ()) -> None:
        """Add and subtract many masks, in place: faster than one by one, because a total is read and written once.

        Args:
            total: `dtype` [size], contiguous.
            added: keys of 32 bytes.
            subtracted: keys of 32 bytes.

        Raises:
            InputError: another type, shape or length of a key; the total is then as it was.
        """
        if total.dtype != self.dtype or total.shape != (self.size,) or not total.flags.c_contiguous:
            raise InputError(
                f"`total` must be a contiguous row of {self.size} {self.dtype},"
                f" got {total.dtype} of shape {total.shape}"
            )
        streams: list[tuple[np.ufunc, _Keystream]] = [(np.add, _keystream(key)) for key in added]
        streams += [(np.subtract, _keystream(key)) for key in subtracted]
        for start in range(0, self.size, self._step):
            part = total[start : start + self._step]
            zeros, words = _ZEROS[: part.nbytes], self._words[: len(part)]
            for operation, update_into in streams:
                update_into(zeros, self._room)
                operation(part, words, part)


def _keystream(key: bytes) -> _Keystream:
    """A function that writes the next bytes of a key's keystream into a buffer."""
    if len(key) != _KEY_BYTES:
        raise InputError(f"`key` must be {_KEY_BYTES} bytes, got {len(key)}")
    # The counter may start at zero because no key is ever used for a second stream.
    return Cipher(AES(key), CTR(bytes(16))).encryptor().update_into
