"""Claim: what a mechanism states about its privacy, before anything is measured.

    >>> claim = Claim.gaussian(sensitivity=1.0, sigmas=(2.0, 2.0), delta=1e-6)
    >>> round(claim.mu, 4), round(claim.epsilon, 2)
    (0.7071, 3.31)

The audit compares everything with it, so it holds public facts only: sensitivity and noise of each release, their
total cost, and whom they protect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from palate_core.accounting import check_delta, epsilon_of
from palate_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ReleaseClaim:
    """One release, in the units of the vector that is released.

    Attributes:
        sensitivity: largest L2 norm by which one unit moves the sum.
        sigma: standard deviation of the charged noise, in each coordinate; the real noise must not be less.
        spacing: grid step of the released numbers; None where numbers are continuous.
        stated: exact standard deviation of the noise, where the mechanism knows it; at least `sigma`, with a rounding.
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
    """The joint claim of all releases of a run.

    Attributes:
        epsilon: at `delta`.
        delta: of the pair.
        releases: one claim a release, in order; empty where only epsilon and delta are claimed.
        mu: Gaussian differential privacy parameter of the run, as charged; None where the claim isn't Gaussian: with
            hidden sampling, or with epsilon and delta alone.
        unit: whose data is protected.
        adjacency: between which data sets.
        sampling: probability that a unit takes part in a release, hidden from observers; 1 without sampling.
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
        """A claim of epsilon and delta alone."""
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
        """A claim of Gaussian releases of one sensitivity, with every user in each."""
        releases = tuple(ReleaseClaim(sensitivity=sensitivity, sigma=sigma, spacing=spacing) for sigma in sigmas)
        mu = math.sqrt(math.fsum(release.mu**2 for release in releases))
        epsilon = epsilon_of(mu=mu, delta=delta)
        return cls(epsilon=epsilon, delta=delta, releases=releases, mu=mu, unit=unit, adjacency=adjacency)

    @property
    def strength(self) -> float:
        """How far a canary moves its score, in standard deviations of the charged noise, with full participation."""
        return math.sqrt(math.fsum(release.mu**2 for release in self.releases))
