"""Releases: what happened, and what a run's releases cost together.

    >>> event = GaussianEvent(sensitivity=2**14, sigma=2**15, dimension=100)
    >>> account([event, event], delta=1e-5).epsilon > account([event], delta=1e-5).epsilon
    True

`GaussianEvent` says what happened, `account` what it costs. Unit and adjacency are those of `palate_core.accounting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from palate_common.accounting.sampled import check_sampling, sampled_mu2
from palate_core.accounting import (
    ACCOUNTANT,
    ACCOUNTANT_VERSION,
    MOST,
    charged_mu2,
    check_delta,
    discrete_slack,
    epsilon_spent,
    real_number,
    root_down,
    round_up,
    whole_number,
)
from palate_core.cohort_terms import shares_slack
from palate_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GaussianEvent:
    """One release: an integer vector sum plus a discrete Gaussian on every coordinate.

    Attributes:
        sensitivity: largest L2 norm of one installation's contribution, grid steps.
        sigma: parameter of the noise, grid steps.
        dimension: number of released coordinates, dummies included.
        round: round of the run, 0 for popularity.
        attempt: attempt of the round; each answered attempt is a release.
        shares: how many devices' shares the noise is the sum of; 1 for a single draw.
        inclusion: where the unit is one event, the probability that it takes part in a step, by secret coins.
        steps: noised sums on each device; with inclusion below 1 the caller must reserve `TAIL` of delta.
    """

    sensitivity: float
    sigma: int
    dimension: int
    round: int = 0
    attempt: int = 0
    shares: int = 1
    inclusion: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        charged_mu2(sensitivity=self.sensitivity, sigma=self.sigma)
        check_sampling(self.inclusion, self.steps)
        for name, least in (("dimension", 1), ("round", 0), ("attempt", 0), ("shares", 1)):
            whole_number(name, getattr(self, name), least)

    @property
    def mu2(self) -> float:
        """The release's charge."""
        if (self.inclusion, self.steps) == (1.0, 1):
            return charged_mu2(sensitivity=self.sensitivity, sigma=self.sigma)
        return sampled_mu2(sensitivity=self.sensitivity, sigma=self.sigma, inclusion=self.inclusion, steps=self.steps)

    @property
    def noise_multiplier(self) -> float:
        """Noise multiplier of the continuous Gaussian with the same charge, rounded down."""
        return root_down(1 / Fraction(self.mu2))


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a sequence of releases costs together, for one installation under zero-out adjacency."""

    mu2: float
    epsilon: float
    delta: float
    accountant: str = ACCOUNTANT
    version: str = ACCOUNTANT_VERSION


def account(events: Sequence[object], *, delta: float) -> Account:
    """What the releases cost together.

    **Guarantees:** composition: also holds where later releases depend on earlier ones, if the total was fixed before.
    **Guarantees:** unknown events refused: anything but a `GaussianEvent` raises; nothing is skipped.
    **Assumes:** every attempt listed: a retry is an event of its own.
    """
    known: list[GaussianEvent] = []
    for event in events:
        # Exactly this type: a subclass could charge less.
        if type(event) is not GaussianEvent:
            raise InputError(f"`events` must be GaussianEvent only, got {type(event).__name__}: its cost is unknown")
        known.append(event)
    mu2 = round_up(sum((Fraction(event.mu2) for event in known), Fraction(0)))
    slack = sum((Fraction(discrete_slack(releases=e.steps, dimension=e.dimension)) for e in known), Fraction(0))
    shared = sum((Fraction(shares_slack(sigma=e.sigma, shares=e.shares)) * e.dimension for e in known), Fraction(0))
    check_delta(delta)
    within = delta * (1 - round_up(shared)) if shared else delta  # e^-x >= 1 - x
    return Account(
        mu2=mu2, epsilon=round_up(Fraction(epsilon_spent(mu2, delta=within)) + slack + 2 * shared), delta=delta
    )


def epsilon_closed(*, noise_multipliers: Sequence[float], delta: float) -> float:
    """The eps of continuous Gaussian releases with these multipliers together, in closed form, rounded up."""
    inverses = (1 / Fraction(real_number("noise_multipliers", z, below=MOST)) for z in noise_multipliers)
    return epsilon_spent(round_up(sum((x**2 for x in inverses), Fraction(0))), delta=delta)
