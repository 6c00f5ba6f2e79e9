"""B2, shape: whether the noise is Gaussian, as its accounting and rung L2 believe.

Assumes independent numbers, which C and J test. Four looks at residuals divided by their own deviation: skewness and
kurtosis about the mean, brought to a normal scale (D'Agostino 1970; Anscombe and Glynn 1983), as their own tails are
far heavier; how many lie beyond 4 deviations, where noise with a cut tail has none; and a histogram of 64 bins that a
Gaussian fills equally. Numbers on a grid are spread evenly over their step before they are binned.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.canaries import Floats
from palate_audit.harness.trials import Trials

BINS = 64
FAR = 4.0
LEAST = 1000
"""Fewer numbers, and the approximations don't hold at p-values of one in a billion."""
MOMENTS = 10_000
"""The same for skewness and kurtosis: of 1,000 numbers they are beyond 5 deviations 20 times as often as they say."""


def noise_shape(trials: Trials) -> list[Finding]:
    """Skewness, kurtosis, tails and histogram, each at its least likely release."""
    rng = np.random.default_rng([trials.seed, 0x4232])
    looks: dict[str, list[tuple[float, int, float]]] = {"skewness": [], "kurtosis": [], "tails": [], "histogram": []}
    for round_, release in enumerate(trials.claim.releases):
        numbers = np.concatenate([_standard(run.residuals[round_]) for run in trials.quiet])
        if len(numbers) < LEAST:
            return [Finding.missing("B2 noise shape", f"at least {LEAST} numbers a release are needed")]
        dither = 0.0 if release.spacing is None else release.spacing / release.sigma
        if len(numbers) >= MOMENTS:
            looks["skewness"].append((float(stats.skewtest(numbers).pvalue), round_, float(stats.skew(numbers))))
            looks["kurtosis"].append(
                (float(stats.kurtosistest(numbers).pvalue), round_, float(stats.kurtosis(numbers)))
            )
        looks["tails"].append((*_tails(numbers, round_),))
        looks["histogram"].append((*_histogram(numbers + dither * (rng.random(len(numbers)) - 0.5), round_),))
    words = {
        "skewness": "skewness {:.4f} where 0 is expected",
        "kurtosis": "excess kurtosis {:.4f} where 0 is expected",
        "tails": "{:.3f} of the expected numbers lie beyond 4 deviations",
        "histogram": "chi^2 is {:.3f} of its expectation over 64 equally likely bins",
    }
    found = []
    for name, values in looks.items():
        if not values:
            found.append(Finding.missing(f"B2 {name}", f"at least {MOMENTS:,} numbers a release are needed"))
            continue
        p_value, round_, value = min(values)
        said = f"release {round_}: {words[name].format(value)}"
        found.append(Finding.counted(f"B2 {name}", min(1.0, p_value * len(values)), said, value=value))
    return found


def _standard(residual: Floats) -> Floats:
    """Divided by its own deviation; its mean is known to be 0."""
    deviation = math.sqrt(float(np.mean(residual**2)))
    return residual / deviation if deviation > 0 else residual


def _tails(numbers: Floats, round_: int) -> tuple[float, int, float]:
    """Two-sided p-value of how many numbers lie far out."""
    rate, count = 2 * float(stats.norm.sf(FAR)), int((np.abs(numbers) > FAR).sum())
    few, many = stats.binom.cdf(count, len(numbers), rate), stats.binom.sf(count - 1, len(numbers), rate)
    return min(1.0, 2 * float(min(few, many))), round_, count / (rate * len(numbers))


def _histogram(numbers: Floats, round_: int) -> tuple[float, int, float]:
    """Pearson's chi^2 over equally likely bins."""
    bins = np.minimum((special.ndtr(numbers) * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    expected = len(numbers) / BINS
    statistic = float(((counts - expected) ** 2).sum() / expected)
    # The deviation was estimated, which only takes freedom away.
    return float(stats.chi2.sf(statistic, BINS - 1)), round_, statistic / (BINS - 1)
