"""BudgetSchedule: the price of a run's next attempt, from what is left of the run's budget.

A charge without a seal is void and never refunded, so a repeated round gets its share of what is left, and at most what
was planned for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from palate_common.accounting.sampled import attempt_mu2, noise_for
from palate_core.accounting import charged_mu2, sigma_for
from palate_core.cohort_terms import MAX_ATTEMPTS
from palate_core.errors import BudgetError, InputError
from palate_core.noise.discrete_gaussian import MAX_SIGMA
from palate_core.plan import Sampling
from palate_server.ledger.history import ChargeEntry
from palate_server.rounds.terms import RunTerms

WORTHWHILE = 0.05
"""A round is not repeated with less than this share of the mu^2 that was planned for it."""


class BudgetSchedule:
    """A run's budget, divided among its rounds.

    Args:
        terms: the run's terms.
        shares: each round's share of mu^2; they sum to 1.
        spent: returns mu^2 charged to the run so far, with void attempts.
        steps: returns the number of noised sums of each device in a round; used if the unit is one event.

    Raises:
        InputError: the shares are invalid, the rounds too many for the reserved delta, or the grid is too fine.
    """

    def __init__(
        self, terms: RunTerms, shares: Sequence[float], spent: Callable[[], float], steps: Callable[[int], int]
    ) -> None:
        if not math.isclose(sum(shares), 1.0, abs_tol=1e-9) or min(shares) <= 0:
            raise InputError(f"an algorithm's shares must be positive and sum to 1, got {shares}")
        if terms.mode.reserved_delta(terms.events) and len(shares) > MAX_ATTEMPTS:
            raise InputError(f"a run with dp {terms.dp} must have at most {MAX_ATTEMPTS} rounds, got {len(shares)}")
        self._terms, self._shares, self._spent, self._steps = terms, shares, spent, steps
        if terms.mode.private:
            sigma_for(mu_r=math.sqrt(self.budget * min(shares)), sensitivity=terms.grid)  # raises if no noise fits

    @property
    def budget(self) -> float:
        """The run's mu^2, rounded down."""
        return math.nextafter(float(self._terms.facts.mu or 0.0) ** 2, 0.0)

    def affords(self, round_: int) -> bool:
        """Whether the next attempt's mu^2 is large enough to be useful, and its noise fits the grid."""
        if not self._terms.mode.private:
            return True
        mu2 = self._mu2(round_)
        return mu2 >= WORTHWHILE * self._planned(round_) and mu2 * (MAX_SIGMA - 1) ** 2 > self._terms.grid**2

    def price(self, round_: int, charges: Sequence[ChargeEntry]) -> tuple[int, float, int]:
        """Sigma, mu^2 and number of the next attempt.

        Args:
            round_: the round to try.
            charges: the run's charges so far; others are left out.

        Raises:
            BudgetError: too little is left for a useful attempt.
        """
        mine = [entry for entry in charges if entry.run == self._terms.run]
        if not self.affords(round_):
            raise BudgetError(
                f"round {round_} can't be tried again: {len(mine)} charges used up the run's budget of "
                f"epsilon {self._terms.epsilon}; start a new run with an epsilon of its own"
            )
        # Rounded down, so that no rounding error makes the charge exceed what is left.
        mu, grid = math.nextafter(math.sqrt(self._mu2(round_)), 0.0), self._terms.grid
        attempt, sampling = sum(entry.round == round_ for entry in mine), self.sampling(round_)
        if sampling is None:
            sigma = sigma_for(mu_r=mu, sensitivity=grid)
            return sigma, charged_mu2(sensitivity=grid, sigma=sigma), attempt
        sigma = noise_for(mu_r=mu, sensitivity=grid, inclusion=sampling.inclusion, steps=sampling.steps)
        return sigma, attempt_mu2(grid, sigma, sampling), attempt

    def sampling(self, round_: int) -> Sampling | None:
        """The noised steps of each device in a round if the unit is one event; None otherwise."""
        inclusion = self._terms.events
        return None if inclusion is None else Sampling(inclusion=inclusion, steps=self._steps(round_))

    def _mu2(self, round_: int) -> float:
        left = max(0.0, self.budget - self._spent())
        return min(left * self._shares[round_] / sum(self._shares[round_:]), self._planned(round_))

    def _planned(self, round_: int) -> float:
        return self.budget * self._shares[round_]
