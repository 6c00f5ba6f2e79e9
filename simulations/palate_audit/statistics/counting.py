"""Bounds from counts alone: how many canaries a fixed rule called right or wrong (rungs L0 and L1).

    >>> upper(3, 100, alpha=0.05) > 0.03
    True
    >>> round(epsilon_raw(ErrorCounts(misses=0, inside=1000, false=0, outside=1000), delta=1e-6, alpha=0.05), 2)
    5.6

A rule is fixed before its counts are seen, so the counts are binomial, and no distribution of scores is assumed. L0
converts them to (eps, delta). L1 assumes in addition a Gaussian trade-off curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import LEAST_P

_NORMAL = NormalDist()
MOST_MU = 60.0
"""Largest bound on mu: a canary that is always told right gives no larger one."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TradeOff = Callable[[float], float]
"""The least miss rate that a claim allows to a test with a given false alarm rate."""


@dataclass(frozen=True)
class ErrorCounts:
    """The errors of a fixed rule.

    Attributes:
        misses: canaries that took part and were called absent.
        inside: canaries that took part.
        false: canaries that did not, and were called present.
        outside: canaries that did not take part.
    """

    misses: int
    inside: int
    false: int
    outside: int

    def rates(self, alpha: float) -> tuple[float, float]:
        """Upper bounds on miss rate and false alarm rate, each with confidence 1 - alpha."""
        misses = upper(self.misses, self.inside, alpha=alpha / 2)
        return misses, upper(self.false, self.outside, alpha=alpha / 2)


def upper(successes: int, trials: int, *, alpha: float) -> float:
    """The largest rate that so few successes don't refute at level alpha (Clopper and Pearson 1934)."""
    if successes >= trials:
        return 1.0
    return float(special.betainccinv(successes + 1, trials - successes, alpha))


def uppers(successes: Ints, trials: int, *, alpha: float) -> Floats:
    """`upper` of each of several numbers of successes."""
    left = np.maximum(trials - successes, 1)
    return np.where(successes >= trials, 1.0, special.betainccinv(successes + 1, left, alpha))


def epsilon_raw(errors: ErrorCounts, *, delta: float, alpha: float) -> float:
    """L0, many canaries or runs: the eps that both rates refute (Kairouz, Oh and Viswanath 2015; Jagielski 2020).

    **Guarantees:** lower bounds lie below the claim: with probability 1 - alpha it is at most the true one, whatever
    the mechanism, if canaries are independent.
    """
    misses, false = np.asarray(errors.misses), np.asarray(errors.false)
    return float(epsilons_raw(misses, false, inside=errors.inside, outside=errors.outside, delta=delta, alpha=alpha))


def epsilons_raw(misses: Ints, false: Ints, *, inside: int, outside: int, delta: float, alpha: float) -> Floats:
    """`epsilon_raw` of each of several rules, by their errors."""
    missed, called = uppers(misses, inside, alpha=alpha / 2), uppers(false, outside, alpha=alpha / 2)
    return np.maximum(0.0, np.maximum(_ratio(1 - missed - delta, called), _ratio(1 - called - delta, missed)))


def mu_counted(errors: ErrorCounts, *, alpha: float) -> float:
    """L1, many canaries or runs: the mu whose Gaussian trade-off curve allows no fewer errors than an upper bound.

    Misses and false alarms are counted together. Under mu-GDP their expected number is at least that of the best test,
    and of independent errors with a given expected number, equally likely ones are most often as few as were seen
    (Hoeffding 1956). So the upper bound of the common rate is Clopper and Pearson's, and nothing is shared between two
    rates, as in Nasr et al. (2023): the bound is above the truth as often as stated, not twenty times less.

    **Guarantees:** mu counted: above the true mu with probability alpha at most, whatever the mechanism, if canaries
    are independent and the trade-off curve is Gaussian or above.
    """
    trials = errors.inside + errors.outside
    share = errors.inside / trials
    rate = upper(errors.misses + errors.false, trials, alpha=alpha)
    if not 0 < share < 1 or rate >= min(share, 1 - share):
        return 0.0

    def less(mu: float) -> float:
        """How much fewer errors the best test makes than the upper bound has."""
        place = mu / 2 + math.log((1 - share) / share) / mu
        return (1 - share) * _NORMAL.cdf(-place) + share * _NORMAL.cdf(place - mu) - rate

    low, high = 1e-6, MOST_MU
    if less(low) <= 0:
        return 0.0
    return MOST_MU if less(high) >= 0 else float(optimize.brentq(less, low, high, xtol=1e-12))


def gaussian_trade_off(mu: float) -> TradeOff:
    """f(x) = Phi(Phi^-1(1 - x) - mu) of mu-GDP (Dong, Roth and Su 2022)."""
    return lambda false: _NORMAL.cdf(-_NORMAL.inv_cdf(false) - mu) if 0 < false < 1 else float(false <= 0)


def epsilon_trade_off(epsilon: float, delta: float) -> TradeOff:
    """f(x) of (eps, delta): the two lines of Wasserman and Zhou (2010)."""
    grow = math.exp(min(epsilon, 700.0))
    return lambda false: max(0.0, 1 - delta - grow * false, (1 - delta - false) / grow)


def refuted(errors: ErrorCounts, trade_off: TradeOff) -> float:
    """The p-value of the counts if no test may beat the claimed trade-off curve, without other assumptions.

    It is the smallest alpha at which the upper bounds of both rates lie below the curve.

    **Guarantees:** valid p values: if the claim holds, it is at most alpha with probability at most alpha.
    """

    def beaten(log_alpha: float) -> bool:
        misses, false = errors.rates(math.exp(log_alpha))
        return misses < trade_off(false)

    low, high = math.log(LEAST_P), 0.0
    if not beaten(high - 1e-9):
        return 1.0
    if beaten(low):
        return LEAST_P
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if beaten(middle) else (middle, high)
    return math.exp(high)


def one_run_p(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """L0, one run: p-value of so many correct guesses under (eps, delta) (Steinke, Nasr and Jagielski 2023, thm 5.2).

    Args:
        canaries: m, each in or out by a fair coin of its own.
        guesses: how many of them were guessed; the auditor abstained on the others.
        correct: right guesses, at least so many.
        epsilon: claimed.
        delta: claimed.
    """
    q = 1 / (1 + math.exp(-epsilon))
    beta = float(stats.binom.sf(correct - 1, guesses, q))
    if delta == 0 or correct == 0:
        return beta
    # Where the distribution function is 1 already, larger arguments only make the quotient smaller.
    spread = guesses * q - 40 * math.sqrt(guesses * q * (1 - q)) - 40
    far = min(correct, max(1, math.ceil(correct - spread)))
    room = np.arange(1, far + 1)
    gained = (stats.binom.sf(correct - room - 1, guesses, q) - beta) / room
    return min(1.0, beta + 2 * canaries * delta * max(0.0, float(gained.max())))


def epsilon_one_run(*, canaries: int, guesses: int, correct: int, delta: float, alpha: float) -> float:
    """The largest eps that `one_run_p` refutes at level alpha; 0 if it refutes none."""
    return _largest(
        lambda eps: one_run_p(canaries=canaries, guesses=guesses, correct=correct, epsilon=eps, delta=delta) - alpha,
        most=200.0,
    )


def _largest(excess: Callable[[float], float], *, most: float) -> float:
    """The largest argument from 0 to `most` at which an increasing function isn't above 0, rounded down."""
    if excess(1e-9) > 0:
        return 0.0
    high = 0.5
    while excess(high) <= 0:
        if high >= most:
            return most
        high = min(most, 2 * high)
    found = float(optimize.brentq(excess, 1e-9, high, xtol=1e-5))
    return max(0.0, found - 2e-5)


def _ratio(above: Floats, below: Floats) -> Floats:
    """The logarithms of quotients; 0 where they are undefined."""
    known = (above > 0) & (below > 0)
    return np.where(known, np.log(np.where(known, above, 1.0) / np.where(known, below, 1.0)), 0.0)
