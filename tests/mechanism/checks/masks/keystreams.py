"""S, keystreams: the mask of a key is AES-256 of a counter that never comes twice, over the whole length of a vector.

Each mask is made once more, block by block, from the cipher alone: at lengths around blocks and parts, and at those of
real vectors; several keys at once, added and subtracted.

**Assumes:** AES-256.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from palate_core.masks.masking import Masker
from palate_core.masks.packing import residue_type

LENGTHS = (1, 3, 4, 5, 2**15 - 1, 2**15, 2**15 + 1, 3 * 2**15 + 5, 2**18 + 3)
BITS = (20, 32, 33, 62)


def keystreams() -> Iterator[str]:
    """Every length, in words of 32 and of 64 bits."""
    for bits in BITS:
        kind: np.dtype[Any] = np.dtype(residue_type(bits))
        for size in LENGTHS if bits in (32, 62) else LENGTHS[1:4]:
            keys = [bytes([bits, number]) * 16 for number in range(4)]
            masks = [_mask(key, size, kind) for key in keys]
            begun: npt.NDArray[Any] = np.arange(size, dtype=kind)
            total = begun.copy()
            masker = Masker(size, bits)
            masker.apply(total, added=keys[:2], subtracted=keys[2:])
            masker.add(total, bytes(32))
            with np.errstate(over="ignore"):
                expected = begun + masks[0] + masks[1] - masks[2] - masks[3] + _mask(bytes(32), size, kind)
            if wrong := int((total != expected).sum()):
                yield f"{wrong} of {size} words are not masked by a counter's cipher blocks, modulo 2^{bits}"


def _mask(key: bytes, size: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """The first words of a key's blocks, each block that of its own number."""
    blocks = -(-size * kind.itemsize // 16)
    counters = np.zeros((blocks, 2), ">u8")
    counters[:, 1] = np.arange(blocks)
    data = Cipher(AES(key), ECB()).encryptor().update(counters.tobytes())  # noqa: S305 - of counters, that is CTR
    return np.frombuffer(data, kind.newbyteorder("<"))[:size].astype(kind)
