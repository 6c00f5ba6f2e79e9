"""Shamir's sharing once more: the polynomial through shares, one byte after the other, from multiplication by hand.

>>> shares = {1: bytes([5 ^ 9]), 2: bytes([5 ^ 18]), 3: bytes([5 ^ 27])}  # 5 + 9 x over GF(2^8)
>>> [row.hex() for row in polynomial(shares, bits=8)]
['05', '09', '00']
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

POLYNOMIALS = {8: 0x11D, 16: 0x1100B}


@cache
def product(one: int, other: int, bits: int) -> int:
    """The product of two elements, bit by bit."""
    found = 0
    while other:
        if other & 1:
            found ^= one
        one <<= 1
        if one >> bits:
            one ^= POLYNOMIALS[bits]
        other >>= 1
    return found


def power(base: int, exponent: int, bits: int) -> int:
    """A power, by repeated squaring."""
    found = 1
    while exponent:
        if exponent & 1:
            found = product(found, base, bits)
        base = product(base, base, bits)
        exponent >>= 1
    return found


def polynomial(shares: Mapping[int, bytes], *, bits: int) -> list[bytes]:
    """The coefficients of the polynomial of least degree through some shares, lowest first, as many as shares.

    Args:
        shares: index -> share, elements little-endian.
        bits: of an element, 8 or 16.
    """
    size, points = bits // 8, list(shares)
    rows = {x: [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
            for x, data in shares.items()}  # fmt: skip
    width = len(next(iter(rows.values())))
    found = [[0] * width for _ in points]
    for x in points:
        # Lagrange: the product of (X - y) / (x - y) over the other points y; minus is plus.
        basis, scale = [1], 1
        for y in points:
            if y == x:
                continue
            times = [0, *basis]
            for place, coefficient in enumerate(basis):
                times[place] ^= product(coefficient, y, bits)
            basis, scale = times, product(scale, x ^ y, bits)
        inverse = power(scale, 2**bits - 2, bits)
        for place, coefficient in enumerate(basis):
            factor = product(coefficient, inverse, bits)
            if factor:
                for at, value in enumerate(rows[x]):
                    found[place][at] ^= product(factor, value, bits)
    return [b"".join(value.to_bytes(size, "little") for value in row) for row in found]
