"""Rates: how often an attack was right, with intervals that are valid at any sample size.

>>> one = Rate.of(3, 1000)
>>> round(one.low, 5), one.value, round(one.high, 5)
(0.00062, 0.003, 0.00874)
>>> area = Area.of(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.5, -1.0]))
>>> round(area.value, 3)
0.889
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, rankdata  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.errors import InputError

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95


def lower(hits: int, trials: int, *, alpha: float) -> float:
    """The one-sided lower bound of a binomial proportion at level `alpha` (Clopper and Pearson 1934)."""
    return 0.0 if hits == 0 else float(beta.ppf(alpha, hits, trials - hits + 1))


def upper(hits: int, trials: int, *, alpha: float) -> float:
    """The one-sided upper bound of a binomial proportion at level `alpha`."""
    return 1.0 if hits == trials else float(beta.isf(alpha, hits + 1, trials - hits))


@dataclass(frozen=True)
class Rate:
    """A share of independent trials, with its Clopper-Pearson interval of 95 %.

    If trials are independent with unequal probabilities, the interval of their mean is conservative (Hoeffding 1956).
    """

    hits: int
    trials: int

    @classmethod
    def of(cls, hits: int, trials: int) -> Rate:
        """Make a rate from checked counts.

        Raises:
            InputError: no trials, or more hits than trials.
        """
        if not 0 <= hits <= trials or trials < 1:
            raise InputError(f"`hits` must lie in [0, trials] with a trial at least, got {hits} of {trials}")
        return cls(hits, trials)

    @property
    def value(self) -> float:
        """Hits over trials."""
        return self.hits / self.trials

    @property
    def low(self) -> float:
        """Lower end."""
        return lower(self.hits, self.trials, alpha=(1 - CONFIDENCE) / 2)

    @property
    def high(self) -> float:
        """Upper end."""
        return upper(self.hits, self.trials, alpha=(1 - CONFIDENCE) / 2)

    def facts(self) -> dict[str, float]:
        """The rate as JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "hits": self.hits, "trials": self.trials}


@dataclass(frozen=True)
class Area:
    """Area under the ROC curve: how often a score of "in" exceeds one of "out", with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, inside: Floats, outside: Floats, *, paired: bool = False) -> Area:
        """Compute it from scores of independent trials (DeLong, DeLong and Clarke-Pearson 1988).

        Args:
            inside: scores where the hypothesis holds, [n].
            outside: where it doesn't, [m].
            paired: trial i of both shares its noise.

        Raises:
            InputError: a side without scores.
        """
        n, m = len(inside), len(outside)
        if not n or not m or (paired and n != m):
            raise InputError(f"an AUC needs scores of both sides, as many where paired, got {n} and {m}")
        ranks = rankdata(np.concatenate([inside, outside]))
        above = (ranks[:n] - rankdata(inside)) / m  # the share of "out" below each "in"
        below = 1 - (ranks[n:] - rankdata(outside)) / n
        value = float(above.mean())
        if n < 2 or m < 2:
            return cls(value, 0.0, 1.0)
        variance = (above + below).var(ddof=1) / n if paired else above.var(ddof=1) / n + below.var(ddof=1) / m
        half = 1.96 * math.sqrt(variance)
        low, high = value - half, value + half
        if variance == 0:  # separated or all equal: use the largest possible number of independent pairs
            pairs = Rate.of(round(value * min(n, m)), min(n, m))
            low, high = pairs.low, pairs.high
        return cls(value, max(0.0, low), min(1.0, high))

    def facts(self) -> dict[str, float]:
        """The area as JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def curve(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """The ROC curve: false- and true-positive rates at every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]
    sides = [np.sort(side) for side in (outside, inside)]
    false, true = (1 - np.searchsorted(side, thresholds, side="left") / len(side) for side in sides)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])
