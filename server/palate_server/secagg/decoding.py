"""Decoding: many secrets from their shares at once, and which shares are false. The server alone does either.

`palate_core.masks.shamir` splits and combines one secret; its fields are used here for shares that their holders have
given, which are no secret any more. An error here costs a release, never a secret: what is recovered is compared with
what its owner committed to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError
from palate_core.masks.shamir import MAX_SHARES, STEP, Elements, Field, Shares, field_for, field_of


def combine_all(held: npt.NDArray[np.bool_], shares: Shares) -> Shares:
    """Many secrets at once, each from exactly the shares that are held of it: faster than `combine` for each.

    Args:
        held: bool [secrets, total], two or more of each; column i is index i + 1.
        shares: uint8 [secrets, total, bytes]; what isn't held is ignored.

    Returns:
        uint8 [secrets, bytes].

    Raises:
        InputError: shares of another shape, or fewer than two of a secret.
    """
    if held.dtype != np.bool_ or held.ndim != 2 or not 2 <= held.shape[1] <= MAX_SHARES:
        raise InputError(f"`held` must be bool [secrets, 2 to {MAX_SHARES}], got {held.dtype} {held.shape}")
    if shares.dtype != np.uint8 or shares.ndim != 3 or shares.shape[:2] != held.shape:
        raise InputError(f"`shares` must be uint8 {[*held.shape, 'bytes']}, got {shares.dtype} {shares.shape}")
    if len(held) and held.sum(axis=1).min() < 2:
        raise InputError(f"`held` must name at least two shares of each secret, got {held.sum(axis=1).min()}")
    field = _decoder_for(held.shape[1])
    field.check_length("shares", shares.shape[2])
    secrets = np.empty((len(held), shares.shape[2]), np.uint8)
    for start in range(0, len(held), STEP):
        part = slice(start, start + STEP)
        rows = np.ascontiguousarray(shares[part]).view(field.kind)
        secrets[part] = field.sums(field.many_weights(held[part]), rows).view(np.uint8)
    return secrets


def misfits(indices: Sequence[int], shares: Shares, *, threshold: int, total: int) -> npt.NDArray[np.bool_]:
    """Which shares are not on the polynomials that most of them are on.

    Source: Gao, A New Algorithm for Decoding Reed-Solomon Codes (2003), on random combinations of the shares' bytes:
    Euclid's algorithm on the polynomial with all points as zeros and the one through all values, stopped halfway.

    **Guarantees:** work by the square: at most 15 m^2 products, however many shares are wrong.

    Args:
        indices: the shares' indices, distinct.
        shares: uint8 [m, bytes].
        threshold: how many give the secret.
        total: how many shares were made; it decides the field.

    Returns:
        bool [m]. It is right, up to a chance of 2^-32, if at most (m - threshold) / 2 are wrong. All are true if there
        is no such polynomial. Compare the secret with what was committed to.
    """
    field, points = _decoder_for(total), np.asarray(indices, np.int64)
    rows = np.ascontiguousarray(shares).view(field.kind).astype(np.int64)
    most, bad = (len(points) - threshold) // 2, np.zeros(len(points), np.bool_)
    if most < 1:
        return ~bad
    random = np.frombuffer(os.urandom(4 * 8 * rows.shape[1]), np.uint64).reshape(4, -1)
    for weights in (random % np.uint64(field.order)).astype(np.int64) + 1:
        values = np.bitwise_xor.reduce(field.times(rows, weights), axis=1)
        found = field.errors(points, values, threshold=threshold, most=most)
        if found is None:
            return np.ones(len(points), np.bool_)
        bad |= found
    return bad


@dataclass(frozen=True)
class _Decoder(Field):
    """A field with what only shares that are no secret may be put through."""

    def times(self, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Products of elements, by tables: for shares that their holders have given, which are no secret any more."""
        product = self.exponents[(self.logarithms[one] + self.logarithms[other]) % self.order]
        found: npt.NDArray[np.int64] = np.where((one == 0) | (other == 0), 0, product)
        return found

    def errors(
        self, points: npt.NDArray[np.int64], values: npt.NDArray[np.int64], *, threshold: int, most: int
    ) -> npt.NDArray[np.bool_] | None:
        """Where values are not those of one polynomial, bool [m]; None if more than `most` of them may be wrong."""
        above, rest = self._with_roots(points), self._through(points, values)
        former, factor = np.zeros(len(above), np.int64), np.zeros(len(above), np.int64)
        factor[0] = 1
        # rest = above * something + interpolated * factor, of falling degree: Euclid's algorithm, stopped halfway.
        while 2 * _degree(rest) >= len(points) + threshold:
            quotient = self._divide(above, rest)
            for shift in np.flatnonzero(quotient).tolist():
                former[shift:] ^= self.times(factor[: len(factor) - shift], quotient[shift])
            above, rest, former, factor = rest, above, factor, former
        through = self._divide(rest, factor)
        if rest.any() or _degree(through) >= threshold:
            return None
        expected = np.zeros(len(points), np.int64)
        for coefficient in through[threshold - 1 :: -1].tolist():
            expected = self.times(expected, points) ^ coefficient
        wrong: npt.NDArray[np.bool_] = expected != values
        return wrong if int(wrong.sum()) <= most else None

    def _with_roots(self, points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The polynomial that is zero at the points alone, lowest coefficient first, [m + 1]."""
        made = np.zeros(len(points) + 1, np.int64)
        made[0] = 1
        for degree in range(len(points)):
            self._add_root(made, degree, points[degree : degree + 1])
        return made

    def _through(self, points: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The polynomial through all the values, [m + 1]: Newton's divided differences, multiplied out."""
        divided = values.copy()
        for step in range(1, len(points)):
            apart = self.exponents[-self.logarithms[points[step:] ^ points[:-step]] % self.order]
            divided[step:] = self.times(divided[step:] ^ divided[step - 1 : -1], apart)
        made = np.zeros(len(points) + 1, np.int64)
        for degree, place in enumerate(range(len(points) - 1, -1, -1)):
            self._add_root(made, degree - 1, points[place : place + 1])
            made[0] ^= divided[place]
        return made

    def _add_root(self, polynomial: npt.NDArray[np.int64], degree: int, root: npt.NDArray[np.int64]) -> None:
        """Multiply a polynomial of a degree by x - root, [1]."""
        scaled = self.times(polynomial[: degree + 2], root)
        scaled[1:] ^= polynomial[: degree + 1]
        polynomial[: degree + 2] = scaled

    def _divide(self, rest: npt.NDArray[np.int64], by: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The quotient; `rest` becomes what is left."""
        quotient, size = np.zeros(len(rest), np.int64), _degree(by)
        inverse = self.exponents[-self.logarithms[by[size]] % self.order]
        while (degree := _degree(rest)) >= size:
            factor = self.times(rest[degree], inverse)
            quotient[degree - size] = factor
            rest[degree - size : degree + 1] ^= self.times(by[: size + 1], factor)
        return quotient

    def many_weights(self, held: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Lagrange's weights of many sets of the points 1 to total, [sets, total]; 0 where a point isn't held."""
        total = held.shape[1]
        logs = self.logarithms[1 : total + 1]
        # Sums of logarithms as products of matrices: whole numbers far below 2^53, so exact in doubles.
        chosen = held.astype(np.float64)
        apart = (chosen @ _differences(self.bits, total)).astype(np.int64)
        sums = (chosen @ logs.astype(np.float64)).astype(np.int64)[:, None]
        weights: npt.NDArray[np.int64] = np.where(held, self.exponents[(sums - logs - apart) % self.order], 0)
        return weights

    def sums(self, scalars: npt.NDArray[np.int64], rows: Elements) -> Elements:
        """Public scalars [m, t] times secret rows [m, t, size], summed over t: elements [m, size].

        From the scalars' highest bit down: double, and add the rows whose scalar has the bit.
        """
        length = rows.shape[2] * self.kind.itemsize
        padded = np.zeros((*rows.shape[:2], -(-length // 8) * 8), np.uint8)  # whole words
        padded[:, :, :length] = rows.view(np.uint8)
        words, total = padded.view(np.uint64), np.zeros(rows[:, 0].shape, self.kind)
        for bit in range(self.bits - 1, -1, -1):
            named = np.negative(scalars.astype(np.uint64) >> np.uint64(bit) & np.uint64(1))[:, :, None]
            added = np.bitwise_xor.reduce(words & named, axis=1)
            total = self.doubled(total) ^ added.view(self.kind)[:, : rows.shape[2]]
        return np.ascontiguousarray(total)


@cache
def _decoder_for(total: int) -> _Decoder:
    """The decoder of the field that has an element for each share."""
    return _Decoder(**vars(field_for(total)))


@lru_cache(maxsize=8)
def _differences(bits: int, total: int) -> npt.NDArray[np.float64]:
    """Logarithms of the differences of the points 1 to total, [total, total]; 0 on the diagonal."""
    points = np.arange(1, total + 1)
    differences: npt.NDArray[np.float64] = field_of(bits).logarithms[points[:, None] ^ points].astype(np.float64)
    return differences


def _degree(polynomial: npt.NDArray[np.int64]) -> int:
    """Of a polynomial, lowest coefficient first; -1 of zero."""
    return int(np.flatnonzero(polynomial)[-1]) if polynomial.any() else -1
