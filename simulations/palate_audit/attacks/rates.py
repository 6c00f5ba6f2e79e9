"""Rates: how often an attack was right, with intervals that are valid at any sample size.

>>> str(rate(3, 1000)), str(area(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.5, -1.0])))
('0.003 (0.001 – 0.009)', '0.833 (0.000 – 0.996)')
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, gamma, rankdata  # type: ignore[import-untyped]  # scipy ships no types

from palate_core.errors import InputError

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure; `low` and `high` are its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """The text of a table cell."""
        return f"{self.value:.3f} ({self.low:.3f} – {self.high:.3f})"


def rate(hits: int, trials: int) -> Estimate:
    """A share of independent trials, with its Clopper-Pearson interval.

    If trials are independent with unequal probabilities, the interval of their mean is conservative (Hoeffding 1956).
    """
    interval = binomtest(hits, trials).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(hits / trials, float(interval.low), float(interval.high))


def area(inside: Floats, outside: Floats) -> Estimate:
    """Area under the ROC curve: how often a score of "in" exceeds one of "out".

    Trial i of both sides shares its noise, so that the two are not compared with each other: the one that holds would
    always be above. The variance is that of DeLong, DeLong and Clarke-Pearson (1988). The interval is that of a sum of
    rare, weighted events (Fay and Feuer 1997) for what is wrong of the area: a normal one is too narrow where an attack
    is seldom wrong, or hardly ever right.

    Args:
        inside: scores of independent trials where the hypothesis holds, [n].
        outside: where it doesn't, [n].

    Raises:
        InputError: no scores, or not as many of both.
    """
    n = len(inside)
    if not n or n != len(outside):
        raise InputError(f"an AUC needs as many scores of both sides, got {n} and {len(outside)}")
    own = (np.sign(inside - outside) + 1) / 2
    if n < 2:
        return Estimate(float(own.mean()), 0.0, 1.0)
    ranks = rankdata(np.concatenate([inside, outside]))
    above = (ranks[:n] - rankdata(inside) - own) / (n - 1)  # how many of "out" are below each "in"
    below = (n - (ranks[n:] - rankdata(outside)) - own) / (n - 1)
    value, variance = float(above.mean()), float((above + below).var(ddof=1)) / n
    low, high = _rare(min(value, 1 - value), variance, weight=1 / n)
    return Estimate(value, low, high) if value < 0.5 else Estimate(value, 1 - high, 1 - low)


def _rare(value: float, variance: float, *, weight: float) -> tuple[float, float]:
    """The interval of a sum of weighted Poisson counts (Fay and Feuer 1997); `weight`: of one count, at most."""
    tail = (1 - CONFIDENCE) / 2
    low = float(gamma.ppf(tail, value**2 / variance, scale=variance / value)) if value > 0 and variance > 0 else 0.0
    more, wider = value + weight, variance + weight**2
    high = float(gamma.isf(tail, more**2 / wider, scale=wider / more))
    return min(low, value), min(1.0, max(high, value))


def curve(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """The ROC curve: false- and true-positive rates at every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]
    sides = [np.sort(side) for side in (outside, inside)]
    false, true = (1 - np.searchsorted(side, thresholds, side="left") / len(side) for side in sides)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])
