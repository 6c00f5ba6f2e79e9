"""Cohorts: what each device adds, and that the sum has room."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from palate_core import cohort_terms as cohort
from palate_core.cohort_terms import TAIL, CohortTerms, modulus_bits, share_sigma, shares_slack
from palate_core.errors import InputError
from palate_core.masks import graph_terms as terms
from palate_sim.accounting import GaussianEvent, account

COHORT: dict[str, Any] = {"n_max": 1000, "n_min": 900, "c_max": 100, "masks": False}


def test_a_cohort_counts_on_the_honest_among_the_fewest() -> None:
    assert CohortTerms(**COHORT).noise_shares == 800


@pytest.mark.parametrize(
    "changes",
    [
        {"c_max": 0},
        {"c_max": 900},
        {"n_min": 1001},
        {"n_min": 1, "c_max": 1},
        {"masks": True, "directory": "AB" * 32},
        {"max_tosses": 0},
        {"max_tosses": 1025},
        {"unknown": 1},
    ],
)
def test_a_cohort_that_makes_no_sense_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CohortTerms(**{**COHORT, **changes})


@given(st.integers(64, 2**30), st.integers(1, 2**26))
def test_share_rounded_up(sigma: int, shares: int) -> None:
    share = share_sigma(sigma=sigma, shares=shares)
    assert share * share * shares >= sigma * sigma
    assert share == 2 or (share - 1) ** 2 * shares < sigma * sigma


@pytest.mark.parametrize(("sigma", "shares"), [(0, 1), (1, 0), (-5, 3)])
def test_a_share_of_nothing_is_refused(sigma: int, shares: int) -> None:
    with pytest.raises(InputError):
        share_sigma(sigma=sigma, shares=shares)


@pytest.mark.parametrize(("sigma", "shares"), [(64, 1024), (64, 200), (128, 1000), (64, 2), (640, 25_600)])
def test_shares_slack(sigma: int, shares: int) -> None:
    share = share_sigma(sigma=sigma, shares=shares)
    tau = 10 * sum(math.exp(-2 * math.pi**2 * share**2 * k / (k + 1)) for k in range(1, shares))
    assert shares_slack(sigma=sigma, shares=shares) >= tau
    assert shares_slack(sigma=sigma, shares=1) == 0


def test_slack_is_in_the_account() -> None:
    event = GaussianEvent(sensitivity=64, sigma=64, dimension=10**12, shares=1024)
    single = GaussianEvent(sensitivity=64, sigma=64, dimension=10**12)
    shared, alone = account([event], delta=1e-5), account([single], delta=1e-5)
    tau = shares_slack(sigma=64, shares=1024)
    assert shared.epsilon - alone.epsilon > 2 * tau * 10**12 > 1e-3
    assert shared.delta == alone.delta
    assert account([event, event], delta=1e-5).epsilon > account([event, single], delta=1e-5).epsilon


@given(st.integers(2, 2**26), st.integers(2**8, 2**26), st.integers(2, 2**24))
def test_no_cohort_wraps_the_sum(n_max: int, grid: int, share: int) -> None:
    try:
        bits = modulus_bits(n_max=n_max, grid=grid, share=share)
    except InputError:
        assert n_max * grid + TAIL * math.sqrt(n_max) * share > 2**60
        return
    assert n_max * grid + TAIL * math.sqrt(n_max) * share < 2 ** (bits - 1)
    assert n_max * grid + TAIL * (math.isqrt(n_max) + 1) * share >= 2 ** (bits - 2)


def test_a_share_is_never_below_two_steps() -> None:
    """Below, a sum of discrete Gaussian shares is far from one discrete Gaussian."""
    assert share_sigma(sigma=64, shares=2**20) == 2


def test_what_is_reserved_pays_for_the_graphs_of_every_attempt() -> None:
    assert math.log2(cohort.GRAPH_FAILURE) == terms.FAILURE
    assert cohort.MAX_TOSSES == terms.MAX_TOSSES
    assert math.log2(cohort.RESERVED_DELTA) == terms.FAILURE + math.log2(cohort.MAX_ATTEMPTS)


@pytest.mark.parametrize(("n_max", "share"), [(2, 2**20), (1000, 2**18), (10**6, 2**12)])
def test_the_modulus_has_room_for_noise_that_dwarfs_the_sum(n_max: int, share: int) -> None:
    bits = modulus_bits(n_max=n_max, grid=1, share=share)
    assert 2 ** (bits - 1) > 64 * math.sqrt(n_max) * share
