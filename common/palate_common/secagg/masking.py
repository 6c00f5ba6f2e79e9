"""Masks: keystreams that are added on one device, subtracted on another, and cancel in the sum.

HAZMAT. A key that masks two vectors gives their difference away, and nothing downstream can notice: a retry needs fresh
keys. Whoever holds the key of a mask can take it off.

A contribution leaves the device under these: residues -> `Masker.add` -> `pack` -> server.

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

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from palate_common.errors import InputError
from palate_common.secagg.packing import Residues, residue_type

_KEY_BYTES: Final = 32
# Bytes a step: keystream, zeros and a part of the total stay in the second-level cache between cipher and sum.
_STEP: Final = 1 << 17
# Encrypted over and over: counter mode over zeros is the keystream itself.
_ZEROS: Final = memoryview(bytes(_STEP))
# `update_into` wants a block to spare behind what it writes.
_SPARE: Final = 16


class Masker:
    """Adds and subtracts masks of one length, in place, through one buffer. Not for two threads at a time.

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
        self._room = memoryview(bytearray(_STEP + _SPARE))
        self._words = np.frombuffer(self._room[:_STEP], self.dtype.newbyteorder("<"))

    def add(self, total: Residues, key: bytes) -> None:
        """Add the mask of `key` to `total`, in place.

        Args:
            total: `dtype` [size], contiguous.
            key: 32 bytes.

        Raises:
            InputError: another type, shape or length of key; the total is then as it was.
        """
        self._apply(np.add, total, key)

    def subtract(self, total: Residues, key: bytes) -> None:
        """Subtract the mask of `key` from `total`, in place; arguments and errors as in `add`."""
        self._apply(np.subtract, total, key)

    def _apply(self, operation: Callable[..., Any], total: Residues, key: bytes) -> None:
        """One pass: a step of keystream, then its sum, while both are in the cache."""
        if total.dtype != self.dtype or total.shape != (self.size,) or not total.flags.c_contiguous:
            raise InputError(
                f"`total` must be a contiguous row of {self.size} {self.dtype},"
                f" got {total.dtype} of shape {total.shape}"
            )
        if len(key) != _KEY_BYTES:
            raise InputError(f"`key` must be {_KEY_BYTES} bytes, got {len(key)}")
        # The counter may start at zero because no key is ever used for a second stream.
        update_into = Cipher(AES(key), CTR(bytes(16))).encryptor().update_into
        width = self.dtype.itemsize
        step = _STEP // width
        for start in range(0, self.size, step):
            part = total[start : start + step]
            update_into(_ZEROS[: len(part) * width], self._room)
            operation(part, self._words[: len(part)], out=part)
