"""Intervals: what noised sums say about the sums, with the noise that is known to be in them.

>>> total = Noised(1000.0, 20.0)
>>> [round(bound) for bound in total.interval()]
[961, 1039]
>>> low, high = ratio_interval(Noised(300.0, 10.0), Noised(1000.0, 10.0))
>>> round(low, 3), round(high, 3)
(0.28, 0.321)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from palate_common.errors import InputError

CONFIDENCE = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Noised:
    """A noised number.

    Attributes:
        value: as released.
        noise: standard deviation of what was added, Gaussian.
    """

    value: float
    noise: float

    def interval(self, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """What the number was, with the given confidence."""
        reach = quantile(confidence) * self.noise
        return self.value - reach, self.value + reach

    def __add__(self, other: Noised) -> Noised:
        return Noised(self.value + other.value, math.hypot(self.noise, other.noise))

    def __mul__(self, factor: float) -> Noised:
        return Noised(self.value * factor, self.noise * abs(factor))


def quantile(confidence: float) -> float:
    """The normal quantile of a two-sided interval.

    Raises:
        InputError: no confidence.
    """
    if not 0 < confidence < 1:
        raise InputError(f"`confidence` must be a share above 0 and below 1, got {confidence!r}")
    return _NORMAL.inv_cdf(0.5 + confidence / 2)


def ratio_interval(numerator: Noised, denominator: Noised, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """What the ratio of two numbers was, from independently noised ones (Fieller 1954).

    It is the set of ratios r for which numerator - r x denominator is within its own noise of 0: exact, whatever the
    denominator's noise. Where the denominator may be 0 that set has no bound, and so has the interval.
    """
    z2 = quantile(confidence) ** 2
    n, d, vn, vd = numerator.value, denominator.value, numerator.noise**2, denominator.noise**2
    a, b, c = d * d - z2 * vd, n * d, n * n - z2 * vn
    if a <= 0:
        return -math.inf, math.inf
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (b - root) / a, (b + root) / a


@dataclass(frozen=True)
class Arm:
    """One arm of an A/B test, as released.

    Attributes:
        users: who answered.
        outcome: sum of their outcomes, each from 0 to 1.
        square: sum of the squares.
    """

    users: Noised
    outcome: Noised
    square: Noised

    def mean(self) -> Noised:
        """The mean outcome; its noise has both the privacy's, in numerator and denominator, and that of the users."""
        users = max(self.users.value, 1.0)
        mean = self.outcome.value / users
        spread = min(max(self.square.value / users - mean**2, 0.0), 0.25)  # the most that numbers from 0 to 1 have
        # How far the spread may be off for the noise in it: never too small an interval for that.
        off = math.sqrt(self.square.noise**2 + (2 * mean * self.outcome.noise) ** 2) / users
        variance = min(spread + off, 0.25) / users
        privacy = (self.outcome.noise**2 + (mean * self.users.noise) ** 2) / users**2
        return Noised(mean, math.sqrt(variance + privacy))


@dataclass(frozen=True)
class Comparison:
    """What an A/B test found at its one look.

    Attributes:
        difference: mean of B less mean of A.
        low: of its interval.
        high: of its interval.
        p_value: two-sided.
        confidence: of the interval.
    """

    difference: float
    low: float
    high: float
    p_value: float
    confidence: float

    @property
    def different(self) -> bool:
        """Whether the arms differ, at the stated level."""
        return not self.low <= 0 <= self.high


def compare(a: Arm, b: Arm, *, confidence: float = CONFIDENCE) -> Comparison:
    """The difference of two arms, with the noise of the users and of the privacy in it (delta method)."""
    difference = b.mean() + a.mean() * -1.0
    low, high = difference.interval(confidence=confidence)
    away = abs(difference.value)
    p_value = 2 * _NORMAL.cdf(-away / difference.noise) if difference.noise else float(away == 0)
    return Comparison(difference.value, low, high, p_value, confidence)
