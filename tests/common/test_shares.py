"""Shares of noise: their law, their size, and that a node of one device is that device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plans
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import chi2

from palate_common.algorithms import PublicFacts
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, DenseBlock, Update
from palate_common.rounds.shares import add_shares, share_source, squares, with_noise
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError, RefusedError
from palate_core.layout import DUMMIES
from palate_core.noise.randomness import SeededSource
from palate_core.noise_share import add_share, in_the_clear
from palate_core.plan import ChargedPlan, Noise, RoundPlan

FALSE_ALARM = 1e-7
GRID, SIGMA = 2**10, 2**12

COHORT = CohortTerms(n_max=100, n_min=90, c_max=10, masks=False)


def make_plan(size: int = 5, **changes: Any) -> RoundPlan:
    fields = {"dp": "distributed", "noise": "seeded", "cohort": COHORT, "grid": GRID, "sigma": SIGMA}
    return plans.make_plan(size, **{**fields, **changes})


def contributions(users: int, size: int = 5) -> ClippedUpdate:
    values = np.random.default_rng(0).normal(size=(users, size))
    return clip(Update((DenseBlock(values),), users), make_plan(size).layout, clip_norm=1.0, grid=GRID)


def nothing(users: int, size: int = 5) -> ClippedUpdate:
    return clip(Update((DenseBlock(np.zeros((users, size))),), users), make_plan(size).layout, clip_norm=1.0, grid=GRID)


def pooled_noise(users: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return add_shares(nothing(users, size), ChargedPlan(make_plan(size)), SeededSource(b"%d" % users)).steps


def separate_noise(users: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    plan = make_plan(size)
    return sum(
        (add_shares(nothing(1, size), ChargedPlan(plan), share_source(plan, [user])).steps for user in range(users)),
        np.zeros(size + DUMMIES, np.int64),
    )


def test_every_number_is_at_most_four_squares() -> None:
    for number in (*range(1, 200), 2048, 4840, 2**20 - 1, 2**26 - 1, 999_999):
        found = squares(number)
        assert sum(root * root for root in found) == number
        assert 1 <= len(found) <= 4
        assert len(found) == 1 or math.isqrt(number) ** 2 != number


def test_no_squares_make_nothing() -> None:
    with pytest.raises(InputError):
        squares(0)


@pytest.mark.parametrize("noise", [pooled_noise, separate_noise])
@pytest.mark.parametrize("users", [100, 90, 7])
def test_the_released_variance_is_what_the_survivors_add(noise: Any, users: int) -> None:
    """m / (n_min - c_max) times the charged variance: at full cohort, at n_min, and whatever m is."""
    size = 40_000
    drawn = noise(users, size).astype(np.float64)
    variance = users * make_plan().share_sigma ** 2
    assert variance == pytest.approx(users / 80 * SIGMA**2, rel=1e-3)
    low, high = chi2.ppf([FALSE_ALARM, 1 - FALSE_ALARM], len(drawn)) * variance
    assert low < (drawn**2).sum() < high
    assert not low < (drawn**2).sum() * 0.93 < high  # it would have seen a share too few in fourteen


def test_local_noise_is_the_charged_one() -> None:
    size, plan = 40_000, make_plan(40_000, dp="local", cohort=None)
    assert plan.share_sigma == SIGMA
    for users in (1, 3):
        drawn = add_shares(nothing(users, size), ChargedPlan(plan), SeededSource(b"%d" % users)).steps.astype(
            np.float64
        )
        low, high = chi2.ppf([FALSE_ALARM, 1 - FALSE_ALARM], len(drawn)) * users * SIGMA**2
        assert low < (drawn**2).sum() < high


def test_pooled_and_separate_shares_have_one_law() -> None:
    """Two-sample chi^2 over the quantiles of what 12 devices add."""
    size = 40_000
    a, b = pooled_noise(12, size), separate_noise(12, size)
    edges = np.quantile(np.concatenate([a, b]), np.linspace(0, 1, 41)[1:-1])
    counts = [np.bincount(np.searchsorted(edges, each), minlength=40) for each in (a, b)]
    statistic = ((counts[0] - counts[1]) ** 2 / (counts[0] + counts[1])).sum()
    assert statistic < chi2.ppf(1 - FALSE_ALARM, 39)


def test_every_coordinate_gets_noise_and_so_does_nothing() -> None:
    share = add_shares(nothing(1, 1000), ChargedPlan(make_plan(1000)), SeededSource(b"x"))
    assert share.users == 1
    assert len(share.steps) == 1000 + DUMMIES
    assert np.count_nonzero(share.steps) > 1000
    assert np.count_nonzero(share.steps[-DUMMIES:]) > DUMMIES // 2


def test_the_contribution_is_under_the_noise() -> None:
    plan, clipped = make_plan(), contributions(3)
    noise = add_shares(nothing(3), ChargedPlan(plan), SeededSource(b"x")).steps
    with_data = add_shares(clipped, ChargedPlan(plan), SeededSource(b"x")).steps
    assert (with_data - noise)[:5].tolist() == clipped.total().tolist()
    assert not (with_data - noise)[5:].any()


def test_seeded_shares_differ_by_device_round_attempt_and_seed() -> None:
    plans = [make_plan(), make_plan(round=1), make_plan(attempt=1)]
    plans.append(make_plan(facts=PublicFacts(n_users=100, n_items=5, mu=1.0, seed=1)))
    drawn = {share_source(plan, [device]).words(2).tobytes() for plan in plans for device in (0, 1)}
    assert len(drawn) == 8
    assert share_source(plans[0], [0]).words(2).tobytes() in drawn


def test_secure_shares_never_repeat() -> None:
    plan = make_plan(noise=Noise.SECURE)
    sources = [share_source(plan, [0]) for _ in range(2)]
    assert all(source.secure for source in sources)
    assert sources[0].words(4).tobytes() != sources[1].words(4).tobytes()


@given(st.lists(st.integers(-(2**62), 2**62), min_size=5, max_size=5), st.sampled_from([1, 2**7, GRID]))
def test_what_is_noised_is_within_the_grid_whatever_was_given(numbers: list[int], grid: int) -> None:
    plan, vector = make_plan(grid=grid), np.array(numbers, np.int64)
    noise = add_share(np.zeros(5, np.int64), ChargedPlan(plan), SeededSource(b"x")).steps
    within = sum(number**2 for number in numbers) <= grid**2
    assert (add_share(vector, ChargedPlan(plan), SeededSource(b"x")).steps - noise)[:5].tolist() == (
        numbers if within else [0] * 5
    )


def test_secure_noise_is_secure() -> None:
    with pytest.raises(InputError, match="must get it from a secure source"):
        add_share(np.zeros(5, np.int64), ChargedPlan(make_plan(noise=Noise.SECURE)), SeededSource(b"x"))


def test_without_masks_a_device_sends_what_its_plan_demands_and_nothing_under_a_plan_with_masks() -> None:
    """Whoever takes the wrong road outside of the core: with dp local no exact numbers, in the clear no masked part."""
    vector, modes = np.array([3, -4, 0, 0, 0]), {"local": None, "distributed": COHORT, "central": None, "off": None}
    for dp, cohort in modes.items():
        charged = ChargedPlan(make_plan(dp=dp, cohort=cohort, sigma=0 if dp == "off" else SIGMA))
        sent = in_the_clear(vector, charged, SeededSource(b"x")).steps
        if charged.plan.mode.noised_by_devices:
            assert sent.tolist() == add_share(vector, charged, SeededSource(b"x")).steps.tolist()
        else:
            assert sent.tolist() == vector.tolist()
            assert not in_the_clear(vector * GRID, charged, SeededSource(b"x")).steps.any()
    masks = COHORT.model_copy(update={"masks": True, "directory": "ab" * 32, "max_tosses": 4})
    with pytest.raises(RefusedError, match="must be answered under masks"):
        in_the_clear(vector, ChargedPlan(make_plan(cohort=masks)), SeededSource(b"x"))


def test_other_plans_have_no_shares() -> None:
    central = make_plan(dp="central", cohort=None)
    with pytest.raises(InputError):
        add_share(np.zeros(5, np.int64), ChargedPlan(central), SeededSource(b"x"))
    for plan, users in ((central, 1), (make_plan(), 0)):
        with pytest.raises(InputError):
            with_noise(np.zeros(5, np.int64), users, plan, SeededSource(b"x"))
    with pytest.raises(InputError):
        _ = central.share_sigma


@pytest.mark.parametrize("changes", [{"dp": "central"}, {"dp": "off"}, {"cohort": None}])
def test_a_plan_has_a_cohort_with_distributed_noise_and_only_then(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="only then"):
        make_plan(**changes)
