"""The noise of long vectors: `reference.noise` for batches of numbers at once, where plain ones would take minutes.

It reads the same words in the same order. A test compares the two on short vectors.

    >>> import numpy as np
    >>> words = Taken(np.arange(2**12, dtype=np.uint64) * np.uint64(2**52))
    >>> len(long_gaussian(words, 100, 64))
    100
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from palate_audit.reference.noise import SHARED, TOP, roots

from palate_audit.reference import noise
from palate_core.errors import InputError, IntegrityError

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MOST = 2**22
"""Largest sigma: squares of what is 256 times as large fit 64 bits."""


@dataclass
class Taken:
    """Words, of which the next ones are taken.

    Attributes:
        words: all of them.
        place: how many were taken.
    """

    words: Words
    place: int = 0

    def next(self, count: int) -> Words:
        """The next words.

        Raises:
            IntegrityError: there are too few.
        """
        found = self.words[self.place : self.place + count]
        if len(found) < count:
            raise IntegrityError("noise takes more words than there are")
        self.place += count
        return found

    @property
    def left(self) -> int:
        """How many were not taken."""
        return len(self.words) - self.place


def long_gaussian(words: Taken, n: int, sigma: int) -> Ints:
    """`n` draws, int64 [n]; as `reference.noise.discrete_gaussian`.

    Raises:
        IntegrityError: there are too few words.
        InputError: a sigma above `MOST`.
    """
    if sigma > MOST:
        raise InputError(f"`sigma` must be at most {MOST}, got {sigma}")
    found, filled = [np.zeros(0, np.int64)], 0
    while filled < n:
        kept = _batch(words, min(noise.BATCH, 64 + (n - filled) * 9 // 4), sigma)[: n - filled]
        found.append(kept)
        filled += len(kept)
    return np.concatenate(found)


def long_shares(words: Taken, n: int, sigma: int, devices: int) -> Ints:
    """The noise of so many devices together, int64 [n]; as `reference.noise.shares`."""
    total = np.zeros(n, np.int64)
    for root in roots(devices):
        total += long_gaussian(words, n, root * sigma)
    return total


def _batch(words: Taken, count: int, sigma: int) -> Ints:
    """What is kept of `count` candidates."""
    drawn = _below(words, count, sigma)
    offsets = drawn[_coins(words, drawn, sigma)].astype(np.int64)
    sizes = offsets + sigma * _runs(words, len(offsets))
    octets = words.next(-(-len(offsets) // 64)).astype("<u8").tobytes()
    negative = np.unpackbits(np.frombuffer(octets, np.uint8))[: len(offsets)] == 1
    whole, part = np.divmod((sizes - sigma) ** 2, 2 * sigma**2)
    kept = ((sizes > 0) | ~negative) & _coins(words, part.astype(np.uint64), 2 * sigma**2)
    far = whole > 0
    kept[far] &= _runs(words, int(far.sum())) >= whole[far]
    found: Ints = np.where(negative, -sizes, sizes)[kept]
    return found


def _uniform(words: Taken, count: int, limit: int) -> Words:
    """Words below a limit; those that aren't are drawn again, all at once."""
    found = words.next(count).copy()
    while (again := found >= np.uint64(limit)).any():
        found[again] = words.next(int(again.sum()))
    return found


def _below(words: Taken, count: int, limit: int) -> Words:
    """Whole numbers below a limit."""
    unit = TOP // limit
    return _uniform(words, count, unit * limit) // np.uint64(unit)


def _coins(words: Taken, numerators: Words, denominator: int) -> Bools:
    """Coins of probability e^-x, x = numerator / denominator: whether the first of x/1, x/2, ... to fail is odd."""
    unit, place = TOP // denominator, 0
    odd, alive = np.ones(len(numerators), np.bool_), np.arange(len(numerators))
    while len(alive):
        place += 1
        hit = _uniform(words, len(alive), unit * denominator) < numerators[alive] * np.uint64(unit)
        if place > 1:
            hit &= _below(words, len(alive), place) == 0
        alive = alive[hit]
        odd[alive] = place % 2 == 0
    return odd


def _runs(words: Taken, count: int) -> Ints:
    """How many coins of probability 1/e succeed in a row."""
    run, alive = np.zeros(count, np.int64), np.arange(count)
    while True:
        alive = alive[_one_over_e(words, len(alive))]
        if not len(alive):
            return run
        run[alive] += 1


def _one_over_e(words: Taken, count: int) -> Bools:
    """The chain of `_coins` for x = 1; how far one gets among the first coins is read from one word."""
    limit = TOP // math.factorial(SHARED) * math.factorial(SHARED)
    drawn, reached = _uniform(words, count, limit), np.zeros(count, np.int64)
    for place in range(1, SHARED + 1):
        reached += drawn < np.uint64(limit // math.factorial(place)) if place > 1 else 1
    alive, place = np.flatnonzero(reached == SHARED), SHARED
    while len(alive):
        place += 1
        alive = alive[_below(words, len(alive), place) == 0]
        reached[alive] = place
    return np.asarray(reached % 2 == 0, np.bool_)
