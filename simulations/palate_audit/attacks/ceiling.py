"""Ceiling: the most that an attack on one user can reach under a claim, and a test whether counts exceed it.

A claim of mu-GDP bounds every test of "this user's events are in" against "they are emptied" by one curve (Dong, Roth
and Su 2022): TPR <= Phi(Phi^-1(FPR) + mu). Two histories of one user, neither of them empty, are twice as far apart.

    >>> round(most_tpr(0.001, mu=1.2), 4), round(most_auc(mu=1.2), 3)
    (0.0294, 0.802)
    >>> excess_p_value(Counts(false=10, nulls=1000, true=30, alternatives=1000), mu=1.2)
    1.0
    >>> excess_p_value(Counts(false=10, nulls=1000, true=400, alternatives=1000), mu=1.2) < 1e-9
    True

Unit: user; adjacency: zero-out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from scipy.stats import binom  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.attacks.rates import lower, upper
from palate_audit.evidence.evidence import Bound, Rung
from palate_core.accounting import epsilon_of

_NORMAL = NormalDist()
WIDEST = 30.0
"""Normal quantiles beyond this are treated as the rates 0 and 1."""
SHOWN = (0.001, 0.01)
"""False-positive rates at which true-positive rates are shown, and the card states a ceiling."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The alarms of an attack at a threshold fixed in advance, among nulls and among alternatives."""

    false: int
    nulls: int
    true: int
    alternatives: int


def most_tpr(fpr: float, *, mu: float) -> float:
    """The largest true-positive rate at a false-positive rate that mu-GDP allows."""
    if not 0 < fpr < 1:
        return 0.0 if fpr <= 0 else 1.0
    return _NORMAL.cdf(_NORMAL.inv_cdf(fpr) + mu)


def most_auc(*, mu: float) -> float:
    """The largest area under the ROC curve that mu-GDP allows."""
    return _NORMAL.cdf(mu / math.sqrt(2))


def excess_p_value(counts: Counts, *, mu: float) -> float:
    """The p-value of the counts under the claim.

    It is the smallest level at which the Clopper-Pearson bounds of both rates, each at half of that level, lie above
    the ceiling. No distribution of scores is assumed. It is twice the tail at the true rate f where two tails agree:
    that of so few false alarms at f, which falls with f, and that of so many hits at its ceiling, which rises.

    **Guarantees:** valid: under mu-GDP, with independent trials, it is at most p with probability at most p.

    Args:
        counts: at a threshold fixed in advance.
        mu: of the claim.
    """

    def tails(rate: float) -> tuple[float, float]:
        few = binom.cdf(counts.false, counts.nulls, rate)
        return float(few), float(binom.sf(counts.true - 1, counts.alternatives, most_tpr(rate, mu=mu)))

    low, high = -WIDEST, WIDEST  # in the normal quantile of the rate
    while high - low > 1e-9:
        middle = (low + high) / 2
        few, many = tails(_NORMAL.cdf(middle))
        low, high = (middle, high) if few > many else (low, middle)
    return min(1.0, 2 * min(tails(_NORMAL.cdf(low))[0], tails(_NORMAL.cdf(high))[1]))


def smallest(p_values: Sequence[float]) -> float:
    """One p-value for several of the same claim, by Bonferroni."""
    return min(1.0, min(p_values) * len(p_values))


def lower_bounds(counts: Sequence[Counts], *, name: str, delta: float, claimed: float) -> tuple[Bound, Bound]:
    """Lower confidence bounds on epsilon from counts at several thresholds, 95 % together.

    L0 uses the definition of (eps, delta) alone; L1 assumes a Gaussian trade-off curve (Nasr et al. 2023).
    """
    alpha = 0.05 / (2 * len(counts))
    mu, epsilon = 0.0, 0.0
    for at in counts:
        rates = (
            (lower(at.true, at.alternatives, alpha=alpha), upper(at.false, at.nulls, alpha=alpha)),
            (
                lower(at.nulls - at.false, at.nulls, alpha=alpha),
                upper(at.alternatives - at.true, at.alternatives, alpha=alpha),
            ),
        )
        for tpr, fpr in rates:
            if tpr > delta and 0 < fpr < 1:
                epsilon = max(epsilon, math.log((tpr - delta) / fpr))
                mu = max(mu, _NORMAL.inv_cdf(min(tpr, 1 - 1e-15)) - _NORMAL.inv_cdf(fpr))
    gaussian = epsilon_of(mu=mu, delta=delta)
    return (
        Bound(Rung.L0, name, None, epsilon, claimed),
        Bound(Rung.L1, name, mu, gaussian, claimed),
    )
