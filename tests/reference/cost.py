"""What releases cost, by other means than the accounting's: exact fractions, scipy's normal tails, quadrature.

Unit: the plan's; adjacency: zero-out. Epsilon and delta are those of the continuous Gaussian.

    >>> round(epsilon(mu2=1.0, delta=1e-5), 3)
    4.377
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from scipy import integrate, optimize, special  # type: ignore[import-untyped]  # scipy ships no types

ATTEMPT_FAILS = 2.0**-40
"""Probability that masks, or the bound of sampled sums, don't hold in an attempt: docs/secure-aggregation.md has it."""


def charge(*, grid: int, sigma: int) -> Fraction:
    """mu^2 of one sum of sensitivity `grid` with discrete Gaussian noise of `sigma` steps."""
    return Fraction(grid) ** 2 / (Fraction(sigma) ** 2 - 4)


def composed(charges: Iterable[Fraction]) -> Fraction:
    """mu^2 of all releases together: it adds up."""
    return sum(charges, Fraction(0))


def delta(*, mu2: float, epsilon: float) -> float:
    """The delta of mu-GDP: Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu)."""
    mu = math.sqrt(mu2)
    near, far = (special.log_ndtr(sign * mu / 2 - epsilon / mu) for sign in (1, -1))
    return float(math.exp(near) * -math.expm1(epsilon + far - near))


def epsilon(*, mu2: float, delta: float) -> float:
    """The epsilon of mu-GDP at a delta."""
    if _delta_less(0.0, mu2, delta) <= 0:
        return 0.0
    most = 1.0
    while _delta_less(most, mu2, delta) > 0:
        most *= 2
    return float(optimize.brentq(_delta_less, 0.0, most, args=(mu2, delta), xtol=1e-13, rtol=1e-13))


def shares_slack(*, sigma: int, shares: int) -> float:
    """Tau of a sum of so many discrete Gaussian shares of at least sigma together, for each number of a release.

    Kairouz, Liu and Steinke (2021), proposition 7, term by term: 10 sum over k of exp(-2 pi^2 s^2 k / (k + 1)).
    """
    share = max(2, math.floor(sigma / math.sqrt(shares)) - 1)
    while share**2 * shares < sigma**2:
        share += 1
    return 10 * math.fsum(math.exp(-2 * math.pi**2 * share**2 * k / (k + 1)) for k in range(1, shares))


def discrete_delta(*, sensitivity: int, sigma: int, epsilon: float) -> float:
    """The delta of one integer with discrete Gaussian noise that is moved by `sensitivity`: the sum, term by term.

    It is that of a release of which one number moves; where several move, by as much together, it is less.
    """
    reach = 12 * sigma + sensitivity
    weights = [math.exp(-(x**2) / (2 * sigma**2)) for x in range(-reach, reach + 1)]
    moved = [math.exp(-((x - sensitivity) ** 2) / (2 * sigma**2)) for x in range(-reach, reach + 1)]
    excess = math.fsum(max(b - math.exp(epsilon) * a, 0.0) for a, b in zip(weights, moved, strict=True))
    return excess / math.fsum(weights)


def _delta_less(epsilon: float, mu2: float, wanted: float) -> float:
    """By how much the logarithm of delta is above that of the wanted one."""
    found = delta(mu2=mu2, epsilon=epsilon)
    return math.log(max(found, 1e-300)) - math.log(wanted)


def sampled_delta(*, mu2: float, inclusion: float, epsilon: float, removed: bool) -> float:
    """The delta of one sum in which the unit takes part by a secret coin, in one order of the pair.

    `removed`: (1 - q) N(0, 1) + q N(mu, 1) against N(0, 1); else N(0, 1) against the mixture. It is the hockey-stick
    integral, by quadrature.
    """
    mu, q = math.sqrt(mu2), inclusion

    def excess(x: float) -> float:
        alone = math.exp(-(x**2) / 2)
        mixed = (1 - q) * alone + q * math.exp(-((x - mu) ** 2) / 2)
        first, second = (mixed, alone) if removed else (alone, mixed)
        return max(first - math.exp(epsilon) * second, 0.0) / math.sqrt(2 * math.pi)

    inner = (math.exp(epsilon if removed else -epsilon) - 1 + q) / q
    if inner <= 0:  # the mixture is never so much less likely
        return 1 - math.exp(epsilon) if removed else 0.0
    edge = (math.log(inner) + mu2 / 2) / mu  # where the two are in this proportion
    low, high = (edge, max(edge, mu) + 12) if removed else (min(edge, 0.0) - 12, edge)
    found, _ = integrate.quad(excess, low, high, epsabs=1e-18, epsrel=1e-10, limit=400)
    return float(found)
