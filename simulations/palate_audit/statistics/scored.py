"""Bounds from the scores themselves (rung L2): the distance of present and absent canaries in standard deviations.

    >>> rng = np.random.default_rng(0)
    >>> inside, outside = rng.normal(1.0, 2.0, 20_000), rng.normal(0.0, 2.0, 20_000)
    >>> 0.47 < two_samples(inside, outside).lower(0.05) < 0.5
    True

Both are t statistics whose spread is estimated from the scores, so only the shape of the noise is assumed: Gaussian,
independent scores of one variance. Tests B2, C and J look for violations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special  # type: ignore[import-untyped]  # scipy ships no types

Scores = npt.NDArray[np.float64]
_STEPS = 1501


@dataclass(frozen=True)
class Shift:
    """A t statistic and its law: noncentral t with `freedom` degrees, centred at mu times `root`.

    Attributes:
        t: the statistic.
        freedom: degrees of freedom.
        root: the square root of the effective sample size.
    """

    t: float
    freedom: int
    root: float

    @property
    def estimate(self) -> float:
        """The mu at which the data are centred."""
        return self.t / self.root

    def p_value(self, mu: float) -> float:
        """Probability of a statistic as large, or larger, under mu-GDP with Gaussian scores."""
        return noncentral_t_above(self.t, freedom=self.freedom, centre=mu * self.root)

    def lower(self, alpha: float) -> float:
        """The smallest mu that the data don't refute at level alpha; 0 if they refute none.

        **Guarantees:** a lower bound: with Gaussian independent scores it is above the true mu with probability alpha.
        """
        if self.p_value(0.0) > alpha:
            return 0.0
        spread = math.sqrt(1 + self.t**2 / (2 * self.freedom))
        low, high = max(0.0, self.t - 12 * spread), self.t + 2 * spread
        centre = optimize.brentq(
            lambda c: noncentral_t_above(self.t, freedom=self.freedom, centre=c) - alpha, low, high, xtol=1e-9
        )
        return float(centre) / self.root


def two_samples(inside: Scores, outside: Scores) -> Shift:
    """Compare canaries that took part with those that did not, with a pooled variance."""
    n1, n0 = len(inside), len(outside)
    squares = float(((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum())
    root = math.sqrt(1 / (1 / n1 + 1 / n0))
    spread = math.sqrt(squares / (n1 + n0 - 2))
    return Shift(_quotient(float(inside.mean() - outside.mean()), spread) * root, n1 + n0 - 2, root)


def known_null(inside: Scores) -> Shift:
    """All canaries took part: the mean score of absent ones is known to be 0, because the noise is symmetric."""
    root = math.sqrt(len(inside))
    return Shift(_quotient(float(inside.mean()), float(inside.std(ddof=1))) * root, len(inside) - 1, root)


def noncentral_t_above(t: float, *, freedom: int, centre: float) -> float:
    """P[T >= t] for T noncentral t.

    T is (Z + centre) / S with S^2 = chi^2 / freedom, so this is the mean of Phi(centre - t S), here a trapezoid sum
    over log S, whose density has no square root and no branch: exact to about 12 digits, also where 10^6 degrees of
    freedom meet a p-value of 10^-12.
    """
    width = 16 / math.sqrt(2 * freedom)
    x = np.linspace(-width - 90 / freedom, width, _STEPS)
    density = freedom * x - freedom / 2 * np.expm1(2 * x)
    log_mass = density - special.logsumexp(density)
    above = special.logsumexp(log_mass + special.log_ndtr(centre - t * np.exp(x)))
    return float(np.exp(min(above, 0.0)))  # a sum that is 1 but for its last digits


def _quotient(shift: float, spread: float) -> float:
    """Shift over spread; 1e9 for scores without spread, which tell canaries apart without error."""
    if spread > 0:
        return shift / spread
    return 0.0 if shift == 0 else math.copysign(1e9, shift)
