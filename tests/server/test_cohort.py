"""The cohort and the grid of a run."""

from __future__ import annotations

from itertools import chain

import pytest

from palate_core.accounting import sigma_for
from palate_core.cohort_terms import CohortTerms, modulus_bits, share_sigma
from palate_core.errors import InputError
from palate_core.masks.directory import Directory
from palate_server.rounds.cohort import COARSE, FINE, choose_cohort, choose_grid, drawn, spendable_grid


def chosen(n_users: int, corrupt: float, dropout: float, *, masks: bool = False) -> CohortTerms:
    return choose_cohort(n_users=n_users, corrupt=corrupt, dropout=dropout, masks=masks)


def invited(n_users: int) -> Directory:
    return Directory({number: f"{number:064x}" for number in range(n_users)})


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


def test_a_sub_cohort_is_a_cohort_of_its_own_size() -> None:
    """Sizes that differ by one: the larger is n_max, corrupt ones are counted of it, and n_min is of the smaller."""
    cohort = choose_cohort(n_users=1003, corrupt=0.1, dropout=0.1, masks=True, subcohorts=10)
    assert (cohort.n_max, cohort.n_min, cohort.c_max, cohort.subcohorts) == (101, 90, 11, 10)
    alone = choose_cohort(n_users=101, corrupt=0.1, dropout=0.1, masks=True)
    assert cohort.noise_shares <= alone.noise_shares  # never less noise of a device than in a cohort of that size
    for devices in range(900, 1004):
        assert {len(part) for part in drawn(invited(devices), 10)} <= {*range(cohort.n_min, cohort.n_max + 1)}
    with pytest.raises(InputError, match="with masks, got 2 devices"):
        choose_cohort(n_users=20, corrupt=0.0, dropout=0.0, masks=True, subcohorts=10)


def test_the_draw_is_of_all_devices_and_another_each_time() -> None:
    first, second = drawn(invited(300), 3), drawn(invited(300), 3)
    for parts in (first, second):
        assert sorted(chain(*(part.identities.items() for part in parts))) == [*invited(300).identities.items()]
        assert len({part.salt for part in parts}) == 3
    assert [part.identities for part in first] != [part.identities for part in second]


def test_the_sum_of_all_sub_cohorts_fits_a_number() -> None:
    """Each sum may have so many bits that all together have 62, and their sum in int64 can't wrap."""
    cohort = CohortTerms(n_max=2**26, n_min=2**26, c_max=1, masks=True)
    mu = 2.0**-3
    sigma = sigma_for(mu_r=mu, sensitivity=2**26)
    bits = modulus_bits(n_max=2**26, grid=2**26, share=share_sigma(sigma=sigma, shares=cohort.noise_shares))
    for subcohorts in (1, 2 ** (62 - bits), 2 ** (62 - bits) + 1):
        wanted = cohort.model_copy(update={"subcohorts": subcohorts})
        if bits + (subcohorts - 1).bit_length() <= 62:
            assert spendable_grid(wanted, [mu], grid=2**26, epsilon=1.0, local=False) == 2**26
        else:
            with pytest.raises(InputError, match="sub-cohorts must fit 62 bits"):
                spendable_grid(wanted, [mu], grid=2**26, epsilon=1.0, local=False)
