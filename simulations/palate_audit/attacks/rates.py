"""Rates: how often an attack was right, with intervals that are valid at any sample size.

>>> one = Rate.of(3, 1000)
>>> round(one.low, 5), one.value, round(one.high, 5)
(0.00062, 0.003, 0.00874)
>>> area = Area.of(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.5, -1.0]))
>>> round(area.value, 3)
0.889
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, gamma, rankdata  # type: ignore[import-untyped]  # scipy ships no types

from palate_core.errors import InputError

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

        Where trial i of both sides shares its noise, the two are not compared with each other: the one that holds would
        always be above. The interval is that of a sum of rare, weighted events (Fay and Feuer 1997) for what is wrong
        of the area: a normal one is too narrow where an attack is seldom wrong, or hardly ever right.

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
        above = ranks[:n] - rankdata(inside)  # how many of "out" are below each "in"
        below = n - (ranks[n:] - rankdata(outside))
        if n < 2 or m < 2:
            return cls(float(above.mean()) / m, 0.0, 1.0)
        if paired:
            own = (np.sign(inside - outside) + 1) / 2
            above, below = (above - own) / (m - 1), (below - own) / (n - 1)
            variance = (above + below).var(ddof=1) / n
        else:
            above, below = above / m, below / n
            variance = above.var(ddof=1) / n + below.var(ddof=1) / m
        value = float(above.mean())
        low, high = _rare(min(value, 1 - value), float(variance), weight=1 / min(n, m))
        return cls(value, low, high) if value < 0.5 else cls(value, 1 - high, 1 - low)

    def facts(self) -> dict[str, float]:
        """The area as JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


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
