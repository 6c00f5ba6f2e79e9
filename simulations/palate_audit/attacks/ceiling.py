"""Ceiling: the most that an attack on one user can reach under a claim.

A claim of mu-GDP bounds every test of "this user's events are in" against "they are emptied" by one curve (Dong, Roth
and Su 2022): TPR <= Phi(Phi^-1(FPR) + mu). Two histories of one user, neither of them empty, are twice as far apart.
Whether counts exceed it is asked of them as of canaries': `palate_audit.statistics.counting`.

    >>> round(most_tpr(0.001, mu=1.2), 4), round(most_auc(mu=1.2), 3)
    (0.0294, 0.802)

Unit: user; adjacency: zero-out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from palate_audit.evidence.evidence import Bound, Rung
from palate_audit.statistics.counting import (
    ErrorCounts,
    epsilon_raw,
    gaussian_trade_off,
    mu_counted,
    refuted,
)
from palate_core.accounting import epsilon_of

_NORMAL = NormalDist()
SHOWN = (0.001, 0.01)
"""False-positive rates at which true-positive rates are shown, and the card states a ceiling."""
ALPHA = 0.05
"""The level of each bound."""


def most_tpr(fpr: float, *, mu: float) -> float:
    """The largest true-positive rate at a false-positive rate that mu-GDP allows."""
    if not 0 < fpr < 1:
        return 0.0 if fpr <= 0 else 1.0
    return _NORMAL.cdf(_NORMAL.inv_cdf(fpr) + mu)


def most_auc(*, mu: float) -> float:
    """The largest area under the ROC curve that mu-GDP allows."""
    return _NORMAL.cdf(mu / math.sqrt(2))


def excess_p_value(counts: Sequence[ErrorCounts], *, mu: float) -> float:
    """The p-value under the claim of an attack's errors at several thresholds, fixed in advance, by Bonferroni."""
    curve = gaussian_trade_off(mu)
    return min(1.0, min(refuted(each, curve) for each in counts) * len(counts))


def lower_bounds(counts: Sequence[ErrorCounts], *, name: str, delta: float, claimed: float) -> tuple[Bound, Bound]:
    """Lower confidence bounds on epsilon: L0 of all thresholds, L1 of the last, the one in the middle."""
    raw = max(epsilon_raw(each, delta=delta, alpha=ALPHA / len(counts)) for each in counts)
    mu = mu_counted(counts[-1], alpha=ALPHA)
    return Bound(Rung.L0, name, None, raw, claimed), Bound(Rung.L1, name, mu, epsilon_of(mu=mu, delta=delta), claimed)
