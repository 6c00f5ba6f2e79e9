"""Claim: what a mechanism says about itself, before anything of it is measured.

    >>> claim = Claim.gaussian(sensitivity=1.0, sigmas=(2.0, 2.0), delta=1e-6)
    >>> round(claim.mu, 4), round(claim.epsilon, 2)
    (0.7071, 3.31)

Everything the audit compares with comes from here, so it holds public facts only: sensitivity and noise of each
release, what they cost together, and for whom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from palate_common.errors import InputError
from palate_common.mechanism.accounting import check_delta, epsilon_of


@dataclass(frozen=True, kw_only=True)
class ReleaseClaim:
    """One release, in the units of the vector that is released.

    Attributes:
        sensitivity: largest L2 norm by which one unit moves the sum.
        sigma: standard deviation of the noise that is charged, in each coordinate: what is there must not be less.
        spacing: distance of the grid that every released number lies on; None where numbers are continuous.
        stated: standard deviation that is exactly in it, where the mechanism knows; at least `sigma`, with a rounding.
    """

    sensitivity: float
    sigma: float
    spacing: float | None = None
    stated: float | None = None

    def __post_init__(self) -> None:
        for name in ("sensitivity", "sigma"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"`{name}` of a claim must be positive and finite, got {value!r}")

    @property
    def mu(self) -> float:
        """Its Gaussian differential privacy parameter, the inverse of its noise multiplier."""
        return self.sensitivity / self.sigma


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What all releases of one run claim together.

    Attributes:
        epsilon: at `delta`.
        delta: of the pair.
        releases: one fact sheet a release, in order; empty where nothing is claimed but epsilon and delta.
        mu: Gaussian differential privacy parameter of the run, as it was charged; None where the claim isn't Gaussian:
            with hidden sampling, and where it is epsilon and delta alone.
        unit: whose data is protected.
        adjacency: between which data sets.
        sampling: probability with which a unit takes part in a release, hidden from whoever sees it; 1 without.
    """

    epsilon: float
    delta: float
    releases: tuple[ReleaseClaim, ...]
    mu: float | None
    unit: str = "user"
    adjacency: str = "zero-out"
    sampling: float = 1.0

    def __post_init__(self) -> None:
        check_delta(self.delta)
        if not 0 < self.epsilon < math.inf or not 0 < self.sampling <= 1:
            raise InputError(
                f"a claim must have an epsilon above 0 and a sampling rate in (0, 1], got {self.epsilon:g} and "
                f"{self.sampling:g}"
            )
        if (self.mu is None) != (self.sampling < 1 or not self.releases):
            raise InputError("`mu` of a claim must be given with releases and without hidden sampling, and only then")
        if not self.releases and self.sampling < 1:
            raise InputError("a claim with hidden sampling must have a release")

    @classmethod
    def pair(cls, *, epsilon: float, delta: float) -> Self:
        """Epsilon and delta, and nothing about how they are kept."""
        return cls(epsilon=epsilon, delta=delta, releases=(), mu=None)

    @classmethod
    def gaussian(
        cls,
        *,
        sensitivity: float,
        sigmas: tuple[float, ...],
        delta: float,
        spacing: float | None = None,
        unit: str = "user",
        adjacency: str = "zero-out",
    ) -> Self:
        """Gaussian releases of one sensitivity, everybody in each of them."""
        releases = tuple(ReleaseClaim(sensitivity=sensitivity, sigma=sigma, spacing=spacing) for sigma in sigmas)
        mu = math.sqrt(math.fsum(release.mu**2 for release in releases))
        epsilon = epsilon_of(mu=mu, delta=delta)
        return cls(epsilon=epsilon, delta=delta, releases=releases, mu=mu, unit=unit, adjacency=adjacency)

    @property
    def strength(self) -> float:
        """How far a canary moves its score, in sigmas of the charged noise, with everybody in each release."""
        return math.sqrt(math.fsum(release.mu**2 for release in self.releases))
