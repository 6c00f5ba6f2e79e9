"""Intervals: they hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate_server.surveys.intervals import Arm, Noised, compare, ratio_interval

RNG_SEED = 20261124
TRIALS = 20_000
CHANCE = 5 * math.sqrt(0.05 * 0.95 / TRIALS)
"""Five standard errors of a share of 95 % in so many trials."""


def test_a_numbers_interval_covers_it() -> None:
    rng = np.random.default_rng(RNG_SEED)
    inside = sum(
        low <= 100.0 <= high for low, high in (Noised(100 + 7 * z, 7).interval() for z in rng.normal(size=TRIALS))
    )
    assert abs(inside / TRIALS - 0.95) < CHANCE


@pytest.mark.parametrize(("part", "whole", "noise"), [(30.0, 100.0, 5.0), (3.0, 40.0, 12.0), (500.0, 600.0, 30.0)])
def test_a_ratios_interval_covers_it(part: float, whole: float, noise: float) -> None:
    rng = np.random.default_rng(RNG_SEED)
    inside = 0
    for n, d in rng.normal(size=(TRIALS, 2)):
        low, high = ratio_interval(Noised(part + noise * n, noise), Noised(whole + noise * d, noise))
        inside += low <= part / whole <= high
    assert abs(inside / TRIALS - 0.95) < CHANCE


def test_a_ratio_of_nothing_has_no_bound() -> None:
    assert ratio_interval(Noised(1.0, 1.0), Noised(0.5, 1.0)) == (-math.inf, math.inf)


def test_without_noise_a_ratio_is_itself() -> None:
    assert ratio_interval(Noised(3.0, 0.0), Noised(4.0, 0.0)) == (0.75, 0.75)


def arm(rng: np.random.Generator, *, users: int, mean: float, noise: float) -> Arm:
    outcomes = np.clip(rng.normal(mean, 0.25, users), 0, 1)
    sums = (users, outcomes.sum(), (outcomes**2).sum())
    return Arm(*(Noised(float(value + noise * rng.normal()), noise) for value in sums))


def test_arms_that_are_alike_are_seldom_called_different() -> None:
    rng = np.random.default_rng(RNG_SEED)
    called = sum(compare(*(arm(rng, users=400, mean=0.4, noise=12.0) for _ in "ab")).different for _ in range(2000))
    assert called / 2000 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 2000)


def test_the_noise_of_the_variance_is_that_of_both_sums() -> None:
    """The variance is square / users - (outcome / users)^2: each sum's noise moves it by its own derivative."""
    users, outcome, square, noise = 400.0, 160.0, 70.0, 6.0
    found = Arm(Noised(users, 0.0), Noised(outcome, noise), Noised(square, noise)).mean()

    def spread(outcome: float, square: float) -> float:
        return square / users - (outcome / users) ** 2

    by_outcome = (spread(outcome + 1e-3, square) - spread(outcome - 1e-3, square)) / 2e-3 * noise
    by_square = (spread(outcome, square + 1e-3) - spread(outcome, square - 1e-3)) / 2e-3 * noise
    variance = spread(outcome, square) + math.hypot(by_outcome, by_square)
    assert found.value == outcome / users
    assert found.noise == pytest.approx(math.sqrt(variance / users + (noise / users) ** 2), rel=1e-6)


def test_arms_that_differ_are_called_so() -> None:
    rng = np.random.default_rng(RNG_SEED)
    a, b = (arm(rng, users=3000, mean=mean, noise=12.0) for mean in (0.4, 0.5))
    found = compare(a, b)
    assert found.different
    assert found.p_value < 1e-6
    assert found.low < 0.1 < found.high
    assert compare(b, a).difference == pytest.approx(-found.difference)
