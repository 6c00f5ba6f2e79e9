"""Tuning: boredom makes lists explore more, doubt whether somebody comes back less, within bounds and said in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import palate
from palate_client.loyalty import DAY
from palate_client.recommend.adaptation.tuning import LEAST, MOST, tuning
from palate_common.models.model import GlobalModel

NOW = 1_790_000_000.0
USUAL = (400.0, 80.0)


def every(days: float, n: int, *, until: float) -> list[float]:
    """So many visits, so many days apart."""
    return [NOW - until * DAY - days * DAY * place for place in reversed(range(n))]


def test_nothing_unusual_changes_nothing() -> None:
    found = tuning(every(3, 10, until=3), USUAL, (60.0, 12.0), now=NOW)
    assert (found.factor, found.boredom) == (1.0, 0.0)
    assert found.explanation == "exploring x 1.00: nothing unusual"


def test_who_takes_less_than_they_used_to_explores_more() -> None:
    factors = [tuning([], USUAL, (60.0, liked), now=NOW).factor for liked in (12.0, 6.0, 0.0)]
    assert 1.0 == factors[0] < factors[1] < factors[2] <= MOST
    assert "less than usual" in tuning([], USUAL, (60.0, 0.0), now=NOW).explanation


def test_who_comes_back_after_long_sees_more_of_what_is_sure() -> None:
    away = [tuning(every(2, 12, until=days), USUAL, (0.0, 0.0), now=NOW) for days in (2, 40, 200)]
    assert 1.0 == away[0].factor > away[1].factor > away[2].factor >= LEAST
    assert "back after 200 days" in away[2].explanation


def test_the_present_visit_does_not_count_as_coming_back() -> None:
    visits = every(2, 12, until=60)
    assert tuning([*visits, NOW - 60], USUAL, (0.0, 0.0), now=NOW).risk == pytest.approx(
        tuning(visits, USUAL, (0.0, 0.0), now=NOW - 60).risk
    )


def test_few_visits_say_nothing() -> None:
    assert tuning(every(2, 2, until=300), USUAL, (0.0, 0.0), now=NOW).risk is None


counts = st.tuples(st.floats(0, 1e6), st.floats(0, 1e6))


@given(st.lists(st.floats(0, 2e9), max_size=30), counts, counts, st.floats(0, 2e9))
def test_the_factor_keeps_to_its_bounds(
    visits: list[float], usual: tuple[float, float], lately: tuple[float, float], now: float
) -> None:
    found = tuning(sorted(visits), usual, lately, now=now)
    assert LEAST <= found.factor <= MOST
    assert f"{found.factor:.2f}" in found.explanation


@pytest.fixture
def bored(open_device: Callable[..., palate.Device], trained: Callable[..., GlobalModel], clock: Any) -> palate.Device:
    """Somebody who took of what was recommended, and no longer does."""
    device = open_device()
    device.use_model(trained(), [f"i{n:02d}" for n in range(60)], rng=np.random.default_rng(3))
    for step in range(40):
        clock.now += 60.0
        shown = device.recommend(10, explore=0.0)
        device.feedback(shown, {shown[0].item: "click"} if step < 20 else {})
    return device


def test_lists_of_the_bored_explore_more_and_an_app_can_switch_that_off(bored: palate.Device) -> None:
    assert bored.tuning().factor > 1.2

    def explored(**options: Any) -> int:
        lists = (bored.recommend(10, discovery=0.5, **options) for _ in range(150))
        return sum(each.source == "exploration" for shown in lists for each in shown)

    tuned, untuned = explored(), explored(tuned=False)
    assert tuned > 1.1 * untuned > 0
    assert explored(explore=0.0) == 0


def test_resetting_the_taste_forgets_boredom(bored: palate.Device) -> None:
    bored.reset_taste()
    assert bored.tuning().factor == 1.0
