"""Residues modulo 2^bits, packed without gaps: what a masked contribution weighs on the wire.

    >>> packed = pack(np.array([1, 2, 7], np.uint32), 3)
    >>> packed.hex(), unpack(packed, 3, 3).tolist()
    ('d101', [1, 2, 7])

Value i takes the bits `i * bits` to `(i + 1) * bits - 1` of the bytes read as one little-endian number; the bits that
fill the last byte are zero. Masked residues look uniform, so nothing shorter exists.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.errors import InputError, IntegrityError

Residues = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]

_WORD = 64
# Values a step: they and their words stay in the second-level cache.
_STEP = 1 << 15


def residue_type(bits: int) -> np.dtype[np.uint32] | np.dtype[np.uint64]:
    """The words that residues modulo 2^bits are computed in: uint32 up to 32 bits, uint64 above.

    2^bits divides the word's own modulus, so sums may wrap as they like and are reduced once, at the end.

    Raises:
        InputError: `bits` is not 1 to 64.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= _WORD:
        raise InputError(f"`bits` must be a whole number from 1 to 64, got {bits!r}")
    return np.dtype(np.uint32) if bits <= 32 else np.dtype(np.uint64)


def packed_bytes(size: int, bits: int) -> int:
    """How many bytes `size` residues of `bits` bits take."""
    return (size * bits + 7) // 8


def pack(values: Residues, bits: int) -> bytes:
    """Pack residues; bits above `bits` are dropped, which is the reduction modulo 2^bits.

    Args:
        values: the type of `residue_type(bits)`, [size].
        bits: width of a residue, 1 to 64.

    Returns:
        ceil(size * bits / 8) bytes.

    Raises:
        InputError: another width, type or shape.
    """
    kind = residue_type(bits)
    if values.dtype != kind or values.ndim != 1:
        raise InputError(f"`values` must be one row of {kind}, got {values.dtype} of shape {values.shape}")
    if bits in (32, 64):
        return values.astype(kind.newbyteorder("<"), copy=False).tobytes()
    columns, words = _pattern(bits)
    step = _STEP // columns * columns
    mask = np.uint64((1 << bits) - 1)
    parts = []
    for start in range(0, len(values), step):
        part = values[start : start + step].astype(np.uint64)
        part &= mask
        rows = -(-len(part) // columns)
        part.resize(rows * columns, refcheck=False)  # with zeros
        grid = np.ascontiguousarray(part.reshape(rows, columns).T)
        packed = np.zeros((words, rows), np.uint64)
        for column in range(columns):
            word, shift = divmod(column * bits, _WORD)
            packed[word] |= grid[column] << np.uint64(shift)
            if shift + bits > _WORD:
                packed[word + 1] |= grid[column] >> np.uint64(_WORD - shift)
        parts.append(packed.T.astype("<u8", order="C").tobytes())
    return b"".join(parts)[: packed_bytes(len(values), bits)]


def unpack(data: bytes, size: int, bits: int) -> Residues:
    """The residues that `pack` packed.

    **Guarantees:** one spelling: another length, or padding that isn't zero, raises.

    Args:
        data: ceil(size * bits / 8) bytes.
        size: how many residues.
        bits: width of a residue, 1 to 64.

    Returns:
        The type of `residue_type(bits)`, [size], below 2^bits; the array belongs to the caller.

    Raises:
        IntegrityError: the bytes have another length, or the bits after the last residue are not zero.
    """
    kind = residue_type(bits)
    if len(data) != packed_bytes(size, bits):
        raise IntegrityError(
            f"{size} residues of {bits} bits must be {packed_bytes(size, bits)} bytes, got {len(data)}"
        )
    used = size * bits % 8
    if used and data[-1] >> used:
        raise IntegrityError(f"the {8 - used} padding bits must be zero, got a last byte of {data[-1]:#04x}")
    if bits in (32, 64):
        whole: npt.NDArray[Any] = np.frombuffer(data, kind.newbyteorder("<")).astype(kind)
        return whole
    columns, words = _pattern(bits)
    step = _STEP // columns * columns
    mask = np.uint64((1 << bits) - 1)
    values: npt.NDArray[Any] = np.empty(size, kind)
    for start in range(0, size, step):
        count = min(step, size - start)
        rows = -(-count // columns)
        part = bytes(data[start * bits // 8 : (start + step) * bits // 8]).ljust(8 * rows * words, b"\0")
        packed = np.frombuffer(part, "<u8").reshape(rows, words).T.astype(np.uint64, order="C")
        grid = np.empty((columns, rows), np.uint64)
        for column in range(columns):
            word, shift = divmod(column * bits, _WORD)
            np.right_shift(packed[word], np.uint64(shift), out=grid[column])
            if shift + bits > _WORD:
                grid[column] |= packed[word + 1] << np.uint64(_WORD - shift)
        grid &= mask
        values[start : start + count] = grid.T.reshape(-1)[:count]
    return values


def _pattern(bits: int) -> tuple[int, int]:
    """After how many values the residues meet a word's end again, and after how many words."""
    common = math.gcd(bits, _WORD)
    return _WORD // common, bits // common
