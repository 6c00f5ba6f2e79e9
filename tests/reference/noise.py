"""The noise in plain whole numbers: Canonne, Kamath and Steinke's sampler, and the shares of many devices.

Words are read in the order that the format of seeded noise fixes: all candidates of a batch are at the same step before
any goes on. So the same words give the same numbers as in production, and as many words are used.

    >>> words = iter(range(0, 2**64, 2**64 // 2000))
    >>> len(discrete_gaussian(words, 3, 64))
    3
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import islice

from palate_core.errors import IntegrityError

TOP = 2**64 - 1
BATCH = 2**16
SHARED = 10
"""The first coins 1/2 .. 1/10 of the chain for 1/e share one word."""

Words = Iterator[int]


def discrete_gaussian(words: Words, n: int, sigma: int) -> list[int]:
    """`n` draws of P(y) proportional to exp(-y^2 / (2 sigma^2)), on the whole numbers.

    Raises:
        IntegrityError: there are too few words.
    """
    found: list[int] = []
    while len(found) < n:
        found += _batch(words, min(BATCH, 64 + (n - len(found)) * 9 // 4), sigma)[: n - len(found)]
    return found


def _batch(words: Words, count: int, sigma: int) -> list[int]:
    """What is kept of `count` candidates: a discrete Laplace, by the ratio of the two laws (algorithms 2 and 3)."""
    drawn = _below(words, count, sigma)
    lucky = _coins(words, drawn, sigma)
    offsets = [offset for offset, kept in zip(drawn, lucky, strict=True) if kept]
    laps = _runs(words, len(offsets))
    bits = [word >> place & 1 for word in _next(words, -(-len(offsets) // 64)) for place in _bit_order()]
    sizes = [offset + sigma * lap for offset, lap in zip(offsets, laps, strict=True)]
    twice = 2 * sigma**2
    exponents = [divmod((size - sigma) ** 2, twice) for size in sizes]
    parts = _coins(words, [part for _, part in exponents], twice)
    far = [place for place, (whole, _) in enumerate(exponents) if whole]
    reached = dict(zip(far, _runs(words, len(far)), strict=True))
    return [
        -size if negative else size
        for place, (size, negative) in enumerate(zip(sizes, bits, strict=False))
        if (size or not negative) and parts[place] and reached.get(place, 0) >= exponents[place][0]
    ]


def _bit_order() -> Iterator[int]:
    """A word's bits: its bytes from the least on, each from its highest bit on."""
    return (8 * byte + bit for byte in range(8) for bit in reversed(range(8)))


def _uniform(words: Words, count: int, limit: int) -> list[int]:
    """`count` words below a limit; those that aren't are drawn again, all at once."""
    found = _next(words, count)
    while again := [place for place, word in enumerate(found) if word >= limit]:
        for place, word in zip(again, _next(words, len(again)), strict=True):
            found[place] = word
    return found


def _next(words: Words, count: int) -> list[int]:
    """The next words."""
    found = list(islice(words, count))
    if len(found) < count:
        raise IntegrityError("noise takes more words than there are")
    return found


def _below(words: Words, count: int, limit: int) -> list[int]:
    """`count` whole numbers below a limit, all equally likely."""
    unit = TOP // limit
    return [word // unit for word in _uniform(words, count, unit * limit)]


def _coins(words: Words, numerators: Sequence[int], denominator: int) -> list[bool]:
    """Coins of probability e^-x, x = numerator / denominator: x/1, x/2, ... until one fails; is its place odd?"""
    unit = TOP // denominator
    odd, alive, place = [True] * len(numerators), list(range(len(numerators))), 0
    while alive:
        place += 1
        drawn = _uniform(words, len(alive), unit * denominator)
        hit = [word < numerators[each] * unit for word, each in zip(drawn, alive, strict=True)]
        if place > 1:
            hit = [one and other for one, other in zip(hit, _one_in(words, place, len(alive)), strict=True)]
        alive = [each for each, kept in zip(alive, hit, strict=True) if kept]
        for each in alive:
            odd[each] = place % 2 == 0
    return odd


def _one_in(words: Words, number: int, count: int) -> list[bool]:
    """Coins of probability 1 / number."""
    return [drawn == 0 for drawn in _below(words, count, number)]


def _runs(words: Words, count: int) -> list[int]:
    """How many coins of probability 1/e succeed in a row."""
    run, alive, length = [0] * count, list(range(count)), 0
    while True:
        alive = [each for each, kept in zip(alive, _one_over_e(words, len(alive)), strict=True) if kept]
        if not alive:
            return run
        length += 1
        for each in alive:
            run[each] = length


def _one_over_e(words: Words, count: int) -> list[bool]:
    """The chain of `_coins` for x = 1; how far one gets among the first coins is read from one word."""
    limit = TOP // math.factorial(SHARED) * math.factorial(SHARED)
    drawn, rising = _uniform(words, count, limit), [limit // math.factorial(place) for place in range(SHARED, 0, -1)]
    reached = [SHARED - bisect(rising, word) for word in drawn]  # the last place whose bound the word is below
    alive, place = [each for each, far in enumerate(reached) if far == SHARED], SHARED
    while alive:
        place += 1
        alive = [each for each, kept in zip(alive, _one_in(words, place, len(alive)), strict=True) if kept]
        for each in alive:
            reached[each] = place
    return [place % 2 == 0 for place in reached]


def shares(words: Words, n: int, sigma: int, devices: int) -> list[int]:
    """The noise of so many devices together, as few draws whose variances sum to devices sigma^2."""
    total = [0] * n
    for root in roots(devices):
        total = [one + other for one, other in zip(total, discrete_gaussian(words, n, root * sigma), strict=True)]
    return total


def roots(number: int) -> list[int]:
    """The fewest whole numbers whose squares sum to `number`, the largest first."""
    return next(found for count in range(1, 5) for found in _squares(number, count))


def _squares(number: int, count: int, most: int | None = None) -> Iterator[list[int]]:
    """All falling lists of `count` whole numbers from 1 whose squares sum to `number`."""
    top = math.isqrt(number) if most is None else min(most, math.isqrt(number))
    if count == 1:
        if top and top**2 == number:
            yield [top]
        return
    for first in range(top, 0, -1):
        if first**2 * count < number:
            return
        for rest in _squares(number - first**2, count - 1, first):
            yield [first, *rest]
