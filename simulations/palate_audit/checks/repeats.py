"""H, repeats: whether noise takes as many values as noise on the grid does.

A discrete Gaussian of sigma steps gives two draws the same value with probability 1 / (2 sigma sqrt(pi)). Noise that is
made from few random bits, or on a coarser grid that no remainder shows, repeats itself more often. Looks at releases
without canaries, where every number is noise.

**Assumes:** independent numbers, which C and J test; then equal pairs are a normal number of known variance.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.trials import Presence, Trials

TEST = "H repeated numbers"
LEAST = 100.0
"""With fewer equal pairs to be expected, their number is no normal one, and no finding is made."""


def repeated_numbers(trials: Trials) -> list[Finding]:
    """Too many equal numbers in a release of noise alone; nothing where too few are to be expected."""
    looks: list[tuple[float, str]] = []
    for run in trials.of(Presence.NONE):
        for round_, (vector, claim) in enumerate(zip(run.released.vectors, trials.claim.releases, strict=True)):
            if claim.spacing is None:
                continue
            expected, variance = _pairs(len(vector), claim.sigma / claim.spacing)
            if expected >= LEAST:
                _, counts = np.unique(vector, return_counts=True)
                found = float((counts * (counts - 1.0)).sum()) / 2
                p_value = float(stats.norm.sf((found - expected) / math.sqrt(variance)))
                looks.append((p_value, f"release {round_}: {found:,.0f} equal pairs, {expected:,.0f} expected"))
    if not looks:
        return []
    p_value, said = min(looks)
    return [Finding.counted(TEST, min(1.0, p_value * len(looks)), said)]


def _pairs(n: int, sigma: float) -> tuple[float, float]:
    """Expected number of equal pairs among `n` draws, and its variance.

    With p the chance of a value, sums over values are integrals of powers of a Gaussian density: of p^2 it is
    1 / (2 sigma sqrt(pi)), of p^3 it is 1 / (2 pi sqrt(3) sigma^2). The variance of the number of pairs is
    C(n, 2) P2 (1 - P2) + 6 C(n, 3) (P3 - P2^2).
    """
    two, three = 1 / (2 * sigma * math.sqrt(math.pi)), 1 / (2 * math.pi * math.sqrt(3) * sigma**2)
    pairs, triples = n * (n - 1) / 2, n * (n - 1) * (n - 2) / 6
    return pairs * two, pairs * two * (1 - two) + 6 * triples * (three - two**2)
