"""The cohort and the grid of a run."""

from __future__ import annotations

import pytest

from palate_core.accounting import sigma_for
from palate_core.cohort_terms import CohortTerms, modulus_bits, share_sigma
from palate_core.errors import InputError
from palate_server.rounds.cohort import COARSE, FINE, choose_cohort, choose_grid


def chosen(n_users: int, corrupt: float, dropout: float, *, masks: bool = False) -> CohortTerms:
    return choose_cohort(n_users=n_users, corrupt=corrupt, dropout=dropout, masks=masks)


@pytest.mark.parametrize(
    ("n_users", "corrupt", "dropout", "c_max", "n_min"),
    [(1000, 0.0, 0.0, 1, 1000), (105, 0.1, 0.1, 11, 95), (3, 0.0, 0.4, 1, 2), (7, 0.2, 0.2, 2, 6), (8, 0.1, 0.1, 1, 7)],
)
def test_rounding_goes_against_the_claim(n_users: int, corrupt: float, dropout: float, c_max: int, n_min: int) -> None:
    """The corrupt are rounded up; nobody is counted as lost that has not to be, but one at least."""
    cohort = chosen(n_users, corrupt, dropout)
    assert (cohort.n_max, cohort.n_min, cohort.c_max, cohort.masks) == (n_users, n_min, c_max, False)
    assert chosen(1000, 0.1, 0.1, masks=True).masks


@pytest.mark.parametrize(
    ("n_users", "corrupt", "dropout"), [(2, 0.0, 0.0), (3, 0.4, 0.0), (40, 0.4, 0.4), (1000, 0.45, 0.4)]
)
def test_what_masks_cannot_bear_is_refused_before_anything_is_charged(
    n_users: int, corrupt: float, dropout: float
) -> None:
    with pytest.raises(InputError, match=f"with masks, got {n_users} devices") as refused:
        chosen(n_users, corrupt, dropout, masks=True)
    assert "\n" not in str(refused.value)
    chosen(n_users, corrupt, dropout)


@pytest.mark.parametrize("n_users", [0, 1])
def test_nobody_hides_alone(n_users: int) -> None:
    with pytest.raises(InputError, match="honest device"):
        chosen(n_users, 0.0, 0.0)


@pytest.mark.parametrize(("n_users", "mu", "grid"), [(3, 1.0, FINE), (6040, 0.5, 2**18), (100_000, 0.5, COARSE)])
def test_the_grid_is_the_finest_whose_sum_fits_a_word(n_users: int, mu: float, grid: int) -> None:
    cohort = chosen(n_users, 0.1, 0.1)

    def bits(steps: int) -> int:
        sigma = sigma_for(mu_r=mu, sensitivity=steps)
        return modulus_bits(n_max=n_users, grid=steps, share=share_sigma(sigma=sigma, shares=cohort.noise_shares))

    assert choose_grid(cohort, mus=[10 * mu, mu]) == grid
    assert bits(grid) <= 32
    assert grid == FINE or bits(4 * grid) > 32
    assert grid >= COARSE
