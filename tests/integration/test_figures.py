"""Figures: noise pushes none out of its range, and a difference of groups has their chance in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.worlds.surveys import Asked
from palate_common.algorithms.analytics import NOISE, TOTALS
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_common.survey import Survey
from palate_core.errors import InputError
from palate_server.surveys.analytics import Figure, figures
from palate_server.surveys.intervals import Arm, Noised, compare, ratio_interval

SURVEY = Survey(first_day="2026-11-23", channels=("email",))


@pytest.fixture(scope="module")
def released() -> GlobalModel:
    """A release of nobody's answers."""
    return Asked(survey=SURVEY).release(Interactions.from_pairs([], [], [], n_users=2, n_items=len(SURVEY.questions())))


def found(released: GlobalModel, totals: dict[str, float], *, noise: float) -> dict[tuple[str, str], Figure]:
    """The figures, had these been the noised totals."""
    state = {TOTALS: np.zeros(len(SURVEY.places)), NOISE: np.full(len(SURVEY.places), noise)}
    for question, value in totals.items():
        state[TOTALS][SURVEY.places[question]] = value
    return {(each.name, each.of): each for each in figures(replace(released, state=state))}


@pytest.mark.parametrize(("part", "expected"), [(-40.0, 0.0), (260.0, 1.0)])
def test_a_share_that_noise_pushed_out_has_an_interval_in_order(
    released: GlobalModel, part: float, expected: float
) -> None:
    figure = found(released, {"eligible:1": 200.0, "exact:1": part}, noise=5.0)["retention", "1"]
    assert (figure.low, figure.value, figure.high) == (expected, expected, expected)


def test_a_lift_of_groups_that_are_alike_is_seldom_told(released: GlobalModel) -> None:
    rng, told, trials = np.random.default_rng(20261124), 0, 400
    for _ in range(trials):
        totals = {"control": 60.0, "treated": 1000.0}
        for group, users in (("control", 60), ("treated", 1000)):
            totals[f"{group}_days"] = float((rng.binomial(7, rng.beta(0.3, 0.6, users)) / 7).sum())
        figure = found(released, totals, noise=1.0)["lift", ""]
        assert figure.low is not None
        assert figure.high is not None
        told += not figure.low <= 0 <= figure.high
    assert told / trials < 0.05 + 4 * (0.05 * 0.95 / trials) ** 0.5


def test_the_stickiness_of_a_week_has_the_noise_of_its_seven_days(released: GlobalModel) -> None:
    totals = {f"active:{day}": 400.0 + 10 * place for place, day in enumerate(SURVEY.days)} | {"month": 2000.0}
    figure = found(released, totals, noise=6.0)["stickiness", ""]
    mean = Noised(430.0, 6.0 / 7**0.5)
    assert figure.value == pytest.approx(430 / 2000)
    assert (figure.low, figure.high) == pytest.approx(ratio_interval(mean, Noised(2000.0, 6.0)))


def test_churn_is_what_the_week_leaves_of_the_month(released: GlobalModel) -> None:
    figure = found(released, {"week": 1500.0, "month": 2000.0}, noise=6.0)["churn", ""]
    low, high = ratio_interval(Noised(1500.0, 6.0), Noised(2000.0, 6.0))
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.25, 1 - high, 1 - low))
    assert found(released, {"week": 10.0, "month": 12.0}, noise=6.0)["churn", ""].suppressed


def test_a_confidence_is_a_share(released: GlobalModel) -> None:
    with pytest.raises(InputError, match="`confidence` must be a share above 0 and below 1, got 95"):
        figures(replace(released, state={TOTALS: np.full(24, 1e4), NOISE: np.ones(24)}), confidence=95)


def test_arms_that_are_equal_without_noise_are_not_different() -> None:
    arm = Arm(Noised(10.0, 0.0), Noised(0.0, 0.0), Noised(0.0, 0.0))
    assert compare(arm, arm).p_value == 1.0
