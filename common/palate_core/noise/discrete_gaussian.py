"""Discrete Gaussian noise on the integer grid, sampled exactly.

It is the step between the sum of contributions and the noised sum. Canonne, Kamath and Steinke (2020), "The Discrete
Gaussian for Differential Privacy": rejection sampling from a discrete Laplace of scale sigma, where every coin is a
comparison of whole numbers. There is no table, no tail cut and no floating point.

    >>> from palate_core.noise.randomness import SeededSource
    >>> sample_discrete_gaussian(4, sigma=2**14, source=SeededSource(b"demo")).dtype
    dtype('int64')

A coin of probability n/d compares a word below d floor((2^64 - 1)/d) with n floor((2^64 - 1)/d); words at or above the
first bound are drawn again. How long a call takes depends on the words: its time must not be published.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError, PalateError
from palate_core.noise.randomness import Source, Words

MAX_SIGMA = 2**30
"""Largest standard deviation, in steps: keeps 4 sigma^2 below 2^63."""

_TOP = 2**64 - 1
# Candidates at once: more don't fit the cache, fewer leave numpy with short arrays (2^14 costs 1.5 times as much).
_CHUNK = 1 << 16
# Repeats of an event of probability at most 1/e after which the source is called stuck: e^-256 < 2^-369.
_PATIENCE = 256
# The first coins 1/2 .. 1/10 of the chain for e^-1 share one word, as thresholds on it.
_SHARED = 10
_FACTORIAL_LIMIT = _TOP // math.factorial(_SHARED) * math.factorial(_SHARED)

Bools = npt.NDArray[np.bool_]


def sample_discrete_gaussian(n: int, *, sigma: int, source: Source) -> npt.NDArray[np.int64]:
    """Draw `n` independent values of N_Z(0, sigma^2): P(y) proportional to exp(-y^2 / (2 sigma^2)) on the integers.

    **Guarantees:** exact law: given uniform words nothing is rounded or tabled.
    **Guarantees:** no tail cut: any value up to 256 sigma occurs; beyond, with probability < 2^-340, the call raises.
    **Guarantees:** reproducible: one seed gives one sequence of values.
    **Guarantees:** always ends: a stuck source raises; uniform words do so with probability < 2^-340 a value.
    **Assumes:** uniform words: `source` gives independent uniform 64-bit words that nobody else has.

    Args:
        n: how many values.
        sigma: standard deviation parameter in grid steps, 1 <= sigma <= 2^30.
        source: where the words come from; `SecureSource()` for a release.

    Returns:
        int64 [n], grid steps.

    Raises:
        InputError: `n` or `sigma` is not a whole number in its range.
        PalateError: the source is stuck.
    """
    for name, value, least, most in (("n", n, 0, 2**48), ("sigma", sigma, 1, MAX_SIGMA)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
            raise InputError(f"`{name}` must be a whole number in [{least}, {most}], got {value!r}")
    n, sigma = int(n), int(sigma)
    noise = np.empty(n, np.int64)
    filled = barren = 0
    while filled < n:
        # A candidate is kept with probability 0.48, whatever sigma. How many are tried depends only on how many values
        # are missing, so the first n kept ones are independent draws.
        kept = _kept_candidates(min(_CHUNK, 64 + (n - filled) * 9 // 4), sigma, source)[: n - filled]
        noise[filled : filled + len(kept)] = kept
        filled += len(kept)
        # At least 64 candidates at once: that none is kept has probability below e^-41.
        barren = 0 if len(kept) else barren + 1
        _refuse_stuck(16 * barren)
    return noise


def _kept_candidates(count: int, sigma: int, source: Source) -> npt.NDArray[np.int64]:
    """Discrete Gaussian values from `count` candidates, in order (their algorithm 3, with t = sigma)."""
    # |y| = offset + sigma laps with probability proportional to e^(-|y|/sigma): their algorithm 2.
    unit = _TOP // sigma
    offset = _words_below(count, unit * sigma, source) // np.uint64(unit)
    offset = offset[_exp_minus(offset, sigma, source)]
    laps = _geometric(len(offset), source)
    # laps <= 256, so |y| < 257 sigma < 2^39.
    value = (offset + np.uint64(sigma) * laps).view(np.int64)
    negative = _bits(len(value), source)
    # Zero would otherwise count twice, once per sign.
    keep = (value > 0) | ~negative
    whole, part = _exponent(offset, laps, sigma)
    keep &= _exp_minus(part, 2 * sigma * sigma, source)
    # e^-whole: at least `whole` coins of probability 1/e in a row.
    (far,) = whole.nonzero()
    keep[far] &= _geometric(len(far), source) >= whole[far]
    np.negative(value, out=value, where=negative)
    return value[keep]


def _exponent(offset: Words, laps: Words, sigma: int) -> tuple[Words, Words]:
    """(|y| - sigma)^2 / (2 sigma^2) as whole + part / (2 sigma^2), part < 2 sigma^2; each uint64 [n].

    Nothing overflows: with v = laps - 1 >= 1 and offset * v = a sigma + b the exponent is
    v^2/2 + a + (2 b sigma + offset^2) / (2 sigma^2), where offset < sigma <= 2^30, b < sigma and v <= 255. So
    offset v < 2^38, and (v mod 2) sigma^2 + 2 b sigma + offset^2 < 4 sigma^2 <= 2^62. For laps 0 and 1 the square
    is at most sigma^2.
    """
    gap = np.where(laps == 0, np.uint64(sigma) - offset, offset)
    whole, part = np.zeros_like(laps), gap * gap
    (far,) = (laps > 1).nonzero()
    x, v = offset[far], laps[far] - np.uint64(1)
    a, b = np.divmod(x * v, np.uint64(sigma))
    rest = (v & np.uint64(1)) * np.uint64(sigma * sigma) + b * np.uint64(2 * sigma) + x * x
    more, part[far] = np.divmod(rest, np.uint64(2 * sigma * sigma))
    whole[far] = (v * v >> np.uint64(1)) + a + more
    return whole, part


def _exp_minus(numerator: Words, denominator: int, source: Source) -> Bools:
    """Coins of probability exp(-numerator / denominator), each fraction in [0, 1] (von Neumann; their algorithm 1).

    Coins of probability fraction/1, fraction/2, ... are thrown until one fails; the answer is whether the failing one
    had an odd place. numerator <= denominator keeps every threshold within 64 bits.
    """
    unit = _TOP // denominator
    threshold = numerator * np.uint64(unit)
    hit = _words_below(len(threshold), unit * denominator, source) < threshold
    odd = ~hit
    (alive,) = hit.nonzero()
    threshold = threshold[alive]
    place = 1
    while alive.size:
        place += 1
        _refuse_stuck(place)
        hit = _words_below(len(alive), unit * denominator, source) < threshold
        hit &= _one_in(place, len(alive), source)
        alive, threshold = alive[hit], threshold[hit]
        odd[alive] ^= True
    return odd


def _exp_minus_one(count: int, source: Source) -> Bools:
    """`count` coins of probability 1/e: the same chain with every fraction 1, the first coins read from one word.

    The first k coins all succeed with probability 1/k!, i.e. when a uniform number below 10! m is below 10! m / k!.
    """
    words = _words_below(count, _FACTORIAL_LIMIT, source)
    odd = np.zeros(count, np.bool_)
    for place in range(2, _SHARED + 1):
        hit = words < np.uint64(_FACTORIAL_LIMIT // math.factorial(place))
        if not np.count_nonzero(hit):  # nor is there any later one; `any` takes ten times as long where they are few
            break
        odd ^= hit
    (alive,) = hit.nonzero()
    place = _SHARED
    while alive.size:
        place += 1
        _refuse_stuck(place)
        alive = alive[_one_in(place, len(alive), source)]
        odd[alive] ^= True
    return odd


def _geometric(count: int, source: Source) -> Words:
    """How many coins of probability 1/e succeed in a row, uint64 [count]."""
    run = np.zeros(count, np.uint64)
    (alive,) = _exp_minus_one(count, source).nonzero()
    length = 0
    while alive.size:
        length += 1
        _refuse_stuck(length)
        run[alive] = length
        alive = alive[_exp_minus_one(len(alive), source)]
    return run


def _one_in(denominator: int, count: int, source: Source) -> Bools:
    """`count` coins of probability 1 / denominator."""
    unit = _TOP // denominator
    return _words_below(count, unit * denominator, source) < np.uint64(unit)


def _bits(count: int, source: Source) -> Bools:
    """`count` fair coins, 64 a word."""
    words = source.words(-(-count // 64))
    return np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=count).view(np.bool_)


def _words_below(count: int, limit: int, source: Source) -> Words:
    """Words uniform on [0, limit): those at or above it are drawn again (at most one in eight for the limits here)."""
    words = source.words(count)
    (again,) = (words >= np.uint64(limit)).nonzero()
    tries = 0
    while again.size:
        tries += 1
        _refuse_stuck(tries)
        fresh = source.words(len(again))
        words[again] = fresh
        again = again[fresh >= np.uint64(limit)]
    return words


def _refuse_stuck(run: int) -> None:
    """Raise where an event of probability at most 1/e would have happened more than 256 times in a row."""
    if run > _PATIENCE:
        raise PalateError(f"`source` must give uniform words, got one improbable event {run} times in a row")
