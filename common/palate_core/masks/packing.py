"""Packing: residues modulo 2^bits without gaps between their bits, the wire format of masked contributions.

    >>> packed = pack(np.array([1, 2, 7], np.uint32), 3)
    >>> packed.hex(), unpack(packed, 3, 3).tolist()
    ('d101', [1, 2, 7])

Value i takes the bits `i * bits` to `(i + 1) * bits - 1` of the bytes read as one little-endian number; the bits that
fill the last byte are zero. Masked residues look uniform, so nothing shorter exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError, IntegrityError

Residues = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]

# Rows that are added together, so that the sum is loaded into the cache once for all of them.
_ROWS = 8
# Values a step: few enough for the second-level cache, and enough to outweigh the cost of numpy's calls.
_STEP = 1 << 17


def residue_type(bits: int) -> np.dtype[np.uint32] | np.dtype[np.uint64]:
    """The words that residues modulo 2^bits are computed in: uint32 up to 32 bits, uint64 above.

    2^bits divides the word's own modulus, so sums may wrap and are reduced once, at the end.

    Raises:
        InputError: `bits` is not 1 to 64.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 64:
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
    columns, words = _pattern(bits, kind)
    step = _STEP // columns * columns
    parts = []
    for start in range(0, len(values), step):
        part: npt.NDArray[Any] = values[start : start + step] & kind.type((1 << bits) - 1)
        rows = -(-len(part) // columns)
        part.resize(rows * columns, refcheck=False)  # with zeros
        grid = np.ascontiguousarray(part.reshape(rows, columns).T)
        packed = np.zeros((words, rows), kind)
        for column, word, left, right in _pieces(bits, kind):
            packed[word] |= grid[column] >> left if left else grid[column] << right
        parts.append(packed.T.astype(kind.newbyteorder("<"), order="C").tobytes())
    return b"".join(parts)[: packed_bytes(len(values), bits)]


def unpack(data: bytes | memoryview, size: int, bits: int) -> Residues:
    """Unpack the residues that `pack` packed.

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
    total = PackedSum(size, bits)
    total.add(data)
    return total.values()


class PackedSum:
    """The sum of packed rows, which are added a few at a time and put into order at the end.

    **Guarantees:** same as unpacked: `values` is the sum of the rows' residues modulo 2^bits.
    **Guarantees:** all or nothing: a row that `unpack` would refuse raises, and the sum is as it was.

    A residue that crosses the end of a word is added in two pieces. A piece also holds bits of the next residue, above
    `bits`: they don't change sums modulo 2^bits, and are cleared at the end.

    Args:
        size: residues in a row.
        bits: width of a residue, 1 to 64.

    Raises:
        InputError: bits that aren't 1 to 64.
    """

    def __init__(self, size: int, bits: int) -> None:
        self._size, self._bits, self._kind = size, bits, residue_type(bits)
        self._columns, self._words = _pattern(bits, self._kind)
        rows = max(1, min(_STEP, size + self._columns - 1) // self._columns)
        steps = -(-size // (rows * self._columns))
        self._sums = np.zeros((steps, self._columns, rows), self._kind)
        self._packed = np.empty((self._words, rows), self._kind)
        self._waiting: list[memoryview] = []
        self._piece, self._pieces = np.empty(rows, self._kind), tuple(_pieces(bits, self._kind))

    def add(self, data: bytes | memoryview) -> None:
        """Add a row of ceil(size * bits / 8) bytes, which must not change afterwards.

        Raises:
            IntegrityError: the bytes have another length, or the bits after the last residue are not zero.
        """
        self._check(data)
        self._waiting.append(memoryview(data))
        if len(self._waiting) == _ROWS:
            self._add_waiting()

    def values(self) -> Residues:
        """The sum, the type of `residue_type(bits)`, [size], below 2^bits; the array belongs to the caller."""
        self._add_waiting()
        ordered: npt.NDArray[Any] = self._sums.transpose(0, 2, 1).reshape(-1)[: self._size].copy()
        ordered &= self._kind.type((1 << self._bits) - 1)
        return ordered

    def _add_waiting(self) -> None:
        """Add the rows that wait."""
        packed, piece = self._packed, self._piece
        width = packed.nbytes
        for step, sums in enumerate(self._sums):
            for whole in self._waiting:
                part = whole[step * width : (step + 1) * width]
                filled = part if len(part) == width else bytes(part).ljust(width, b"\0")
                np.copyto(packed, np.frombuffer(filled, self._kind.newbyteorder("<")).reshape(-1, self._words).T)
                for column, word, left, right in self._pieces:
                    if left:
                        np.left_shift(packed[word], left, out=piece)
                    else:
                        np.right_shift(packed[word], right, out=piece)
                    np.add(sums[column], piece, out=sums[column])
        self._waiting.clear()

    def _check(self, data: bytes | memoryview) -> None:
        """Refuse another length, and padding bits that aren't zero: residues have one spelling."""
        size, bits = self._size, self._bits
        if len(data) != packed_bytes(size, bits):
            raise IntegrityError(
                f"{size} residues of {bits} bits must be {packed_bytes(size, bits)} bytes, got {len(data)}"
            )
        used = size * bits % 8
        if used and data[-1] >> used:
            raise IntegrityError(f"the {8 - used} padding bits must be zero, got a last byte of {data[-1]:#04x}")


def _pattern(bits: int, kind: np.dtype[Any]) -> tuple[int, int]:
    """After how many residues, and how many words, a residue ends at the end of a word."""
    common = math.gcd(bits, 8 * kind.itemsize)
    return 8 * kind.itemsize // common, bits // common


def _pieces(bits: int, kind: np.dtype[Any]) -> Iterator[tuple[int, int, Any, Any]]:
    """The pieces of a pattern's residues: column, word, and by how much the word is shifted left, else right."""
    size = 8 * kind.itemsize
    for column in range(_pattern(bits, kind)[0]):
        word, shift = divmod(column * bits, size)
        yield column, word, kind.type(0), kind.type(shift)
        if shift + bits > size:
            yield column, word + 1, kind.type(size - shift), kind.type(0)
