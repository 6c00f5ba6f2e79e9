"""Intervals: confidence intervals of sums from noised sums with known noise.

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

from palate_core.errors import InputError

CONFIDENCE = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Noised:
    """A noised number.

    Attributes:
        value: the released value.
        noise: standard deviation of its Gaussian noise.
    """

    value: float
    noise: float

    def interval(self, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The confidence interval of the number without noise."""
        reach = quantile(confidence) * self.noise
        return self.value - reach, self.value + reach

    def __add__(self, other: Noised) -> Noised:
        return Noised(self.value + other.value, math.hypot(self.noise, other.noise))

    def __mul__(self, factor: float) -> Noised:
        return Noised(self.value * factor, self.noise * abs(factor))


def quantile(confidence: float) -> float:
    """The normal quantile of a two-sided interval.

    Raises:
        InputError: `confidence` is out of range.
    """
    if not 0 < confidence < 1:
        raise InputError(f"`confidence` must be a share above 0 and below 1, got {confidence!r}")
    return _NORMAL.inv_cdf(0.5 + confidence / 2)


def ratio_interval(numerator: Noised, denominator: Noised, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The confidence interval of the ratio of two independently noised numbers (Fieller 1954).

    It is the set of ratios r for which numerator - r x denominator is within its own noise of 0: exact, whatever the
    denominator's noise. If the denominator may be 0, the interval is unbounded.
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
    """One arm of an A/B test, with noised sums.

    Attributes:
        users: number of users that answered.
        outcome: sum of their outcomes, each from 0 to 1.
        square: sum of the squares.
    """

    users: Noised
    outcome: Noised
    square: Noised

    def mean(self) -> Noised:
        """The mean outcome; its noise is that of the privacy, in numerator and denominator, and the sampling error."""
        users = max(self.users.value, 1.0)
        mean = self.outcome.value / users
        spread = min(max(self.square.value / users - mean**2, 0.0), 0.25)  # the largest variance of numbers from 0 to 1
        # The error of the variance by the noise is added, so that the interval isn't too small.
        off = math.sqrt(self.square.noise**2 + (2 * mean * self.outcome.noise) ** 2) / users
        variance = min(spread + off, 0.25) / users
        privacy = (self.outcome.noise**2 + (mean * self.users.noise) ** 2) / users**2
        return Noised(mean, math.sqrt(variance + privacy))


@dataclass(frozen=True)
class Comparison:
    """The result of one look at an A/B test.

    Attributes:
        difference: mean of B minus mean of A.
        low: lower end of its interval.
        high: upper end of its interval.
        p_value: the two-sided p-value.
        confidence: confidence of the interval.
    """

    difference: float
    low: float
    high: float
    p_value: float
    confidence: float

    @property
    def different(self) -> bool:
        """Whether the arms differ, at this confidence."""
        return not self.low <= 0 <= self.high


def compare(a: Arm, b: Arm, *, confidence: float = CONFIDENCE, unit: float = 1.0) -> Comparison:
    """The difference of two arms, with sampling error and privacy noise (delta method), in a unit of the outcome."""
    difference = (b.mean() + a.mean() * -1.0) * unit
    low, high = difference.interval(confidence=confidence)
    away = abs(difference.value)
    p_value = 2 * _NORMAL.cdf(-away / difference.noise) if difference.noise else float(away == 0)
    return Comparison(difference.value, low, high, p_value, confidence)
