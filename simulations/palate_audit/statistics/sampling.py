"""Hidden sampling: claims that hold only if it is secret who took part in a step.

The trade-off curve of a Poisson sampled Gaussian isn't Gaussian, so no mu describes it. The privacy loss distribution
gives the curve, and the bound is that of the smallest noise whose curve the counts don't refute.

    >>> curve = Sampled(noise_multiplier=1.0, sampling=0.01, releases=100, delta=1e-6)
    >>> 0.8 < curve.trade_off(0.1) < 0.9
    True
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_audit.harness.claim import Claim
from palate_audit.statistics.counting import ErrorCounts, refuted
from palate_core.errors import InputError

FINE, COARSE = 1e-3, 4e-3
"""Widths of the grid of privacy losses: for a claim, and for each step of a search. They are rounded so that a curve
is below the true one, and a bound's epsilon is not above it."""
LEAST_NOISE = 0.05
"""Smallest noise multiplier: the privacy losses of smaller ones fill the memory."""
SEARCHED = 8.0
"""A bound searches noise from 1/8 of the claimed to 8 times the claimed."""
EPSILONS = np.concatenate((np.arange(0.0, 4.0, 0.01), np.arange(4.0, 40.0, 0.25)))
"""Where lines of a trade-off curve are drawn."""


@dataclass(frozen=True)
class Sampled:
    """Gaussian steps in which each unit takes part with some probability, in secret.

    Attributes:
        noise_multiplier: noise over sensitivity, the same in each step.
        sampling: that probability.
        releases: number of steps.
        delta: the delta at which epsilon is stated.
        interval: width of the grid of privacy losses.
        rounded_up: whether losses are rounded up, as for a claim and its curve; down for the epsilon of a bound.
    """

    noise_multiplier: float
    sampling: float
    releases: int
    delta: float
    interval: float = FINE
    rounded_up: bool = True

    def __post_init__(self) -> None:
        if not self.noise_multiplier >= LEAST_NOISE:
            raise InputError(f"`noise_multiplier` must be at least {LEAST_NOISE} here, got {self.noise_multiplier:g}")

    @classmethod
    def of(cls, claim: Claim) -> Sampled:
        """The sampled mechanism that a claim describes.

        Raises:
            InputError: its releases differ.
        """
        first = claim.releases[0]
        if any(release.mu != first.mu for release in claim.releases):
            raise InputError("a claim with hidden sampling must have equal releases")
        return cls(1 / first.mu, claim.sampling, len(claim.releases), claim.delta)

    @property
    def _losses(self) -> tuple[Any, Any]:
        return _losses(self.noise_multiplier, self.sampling, self.releases, self.interval, self.rounded_up)

    @cached_property
    def _lines(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """delta(eps) of both directions."""
        remove, add = self._losses
        return deltas(remove), deltas(add)

    @property
    def epsilon(self) -> float:
        """Epsilon at `delta`: the larger of both directions."""
        return float(max(each.get_epsilon_for_delta(self.delta) for each in self._losses))

    def trade_off(self, false: float) -> float:
        """The least miss rate at a false alarm rate: the upper hull of both directions' lines."""
        remove, add = self._lines
        above = 1 - remove - np.exp(EPSILONS) * false
        across = np.exp(-EPSILONS) * (1 - add - false)
        return float(max(0.0, above.max(), across.max()))

    def lower(self, errors: ErrorCounts, *, alpha: float) -> float:
        """L1: the epsilon of the largest noise, other facts as claimed, that the counts refute at level alpha.

        Less noise gives a lower curve, so counts that refute one noise refute every larger one.
        """
        coarse = replace(self, interval=COARSE)
        low, high = max(LEAST_NOISE, self.noise_multiplier / SEARCHED), self.noise_multiplier * SEARCHED
        if not coarse._refuted(high, errors, alpha):
            return 0.0
        if coarse._refuted(low, errors, alpha):
            high = low
        while high > 1.002 * low:
            middle = float(np.sqrt(low * high))
            low, high = (low, middle) if coarse._refuted(middle, errors, alpha) else (middle, high)
        return replace(self, noise_multiplier=high, rounded_up=False).epsilon

    def _refuted(self, noise_multiplier: float, errors: ErrorCounts, alpha: float) -> bool:
        return refuted(errors, replace(self, noise_multiplier=noise_multiplier).trade_off) <= alpha


@lru_cache(maxsize=64)
def _losses(
    noise_multiplier: float, sampling: float, releases: int, interval: float, rounded_up: bool
) -> tuple[Any, Any]:
    """The composed privacy losses for removing a unit, and for adding one. Searches of one claim begin alike."""
    from dp_accounting.pld import privacy_loss_distribution as pld  # type: ignore[import-untyped] # ships no types

    both = pld.from_gaussian_mechanism(
        noise_multiplier,
        value_discretization_interval=interval,
        sampling_prob=sampling,
        pessimistic_estimate=rounded_up,
        use_connect_dots=rounded_up,
    ).self_compose(releases)
    # dp-accounting keeps the two directions private, and only their maximum is public.
    return both._pmf_remove, both._pmf_add


def deltas(losses: Any) -> npt.NDArray[np.float64]:
    """delta(eps) of privacy losses, at each of `EPSILONS`: dp-accounting's sums, of all losses at once."""
    dense = losses.to_dense_pmf()
    at = (dense._lower_loss + np.arange(dense.size)) * dense._discretization
    above = np.append(np.cumsum(dense._probs[::-1])[::-1], 0.0) + dense._infinity_mass
    below = np.append(np.cumsum((dense._probs * np.exp(-at))[::-1])[::-1], 0.0)
    first = np.searchsorted(at, EPSILONS, side="right")
    return np.asarray(above[first] - np.exp(EPSILONS) * below[first], np.float64)
