"""Loyalty: each figure is what its definition says, by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pytest

import palate
from palate_client.delivery.calendar import Calendar
from palate_client.loyalty import DAY, DEFINITIONS, WEEK, Loyalty, churn_risk, loyalty
from palate_client.store.activity import past_of

START = 1_772_323_200.0  # Sunday 2026-03-01 00:00 UTC
UTC = Calendar("UTC")


def found(*rows: tuple[float, str, float | None, float | None], now: float) -> Loyalty:
    return loyalty(past_of(rows), now=now, calendar=UTC)


def view(time: float) -> tuple[float, str, float | None, float | None]:
    return (time, "view", None, None)


def test_somebody_without_events() -> None:
    nothing = found(now=START)
    assert (nothing.visits, nothing.churn_risk, nothing.stickiness) == (0, None, None)
    assert nothing.retention_exact == {1: None, 7: None, 30: None}


def test_visits_are_cut_by_half_an_hour() -> None:
    made = found(view(START), view(START + 1800), view(START + 3601), view(START + 5000), now=START + DAY)
    assert (made.visits, made.visit_minutes) == (2, (1800 + 1399) / 2 / 60)


def test_recency_frequency_monetary() -> None:
    rows = [view(START), view(START + 20 * DAY), (START + 20 * DAY + 60, "purchase", 2, 30.0)]
    made = found(*rows, (START - 300 * DAY, "purchase", 1, 5.5), now=START + 40 * DAY)
    assert made.recency_days == pytest.approx(20 - 60 / DAY)
    assert (made.frequency, made.monetary, made.visits) == (1, 35.5, 3)


def test_without_amounts_purchases_are_counted() -> None:
    made = found((START, "purchase", 2, None), (START, "purchase", None, None), now=START + DAY)
    assert made.monetary == 3


def test_impressions_make_no_visit() -> None:
    made = found(view(START), (START + 9 * DAY, "impression", None, None), now=START + 10 * DAY)
    assert (made.visits, made.recency_days) == (1, 10)


def test_stickiness_is_over_thirty_days_or_since_the_first() -> None:
    rows = [view(START + n * DAY) for n in range(0, 60, 2)]
    assert found(*rows, now=START + 60 * DAY - 1).stickiness == 0.5
    assert found(view(START), now=START + 3.5 * DAY).stickiness == 0.25


def test_a_visit_over_midnight_is_one_on_both_days() -> None:
    made = found(view(START + DAY - 600), view(START + DAY + 600), now=START + 2 * DAY - 1)
    assert (made.visits, made.active_days, made.stickiness) == (1, 2, 1.0)
    assert made.retention_exact[1] is True


def test_an_amount_that_no_number_can_hold_is_none(open_device: Callable[..., palate.Device]) -> None:
    device = open_device()
    device.consent.grant("store")
    device.track("purchase", "book-1", value=2, props={"amount": 10**400})
    assert device.loyalty().monetary == 2


def test_retention_on_the_day_and_after_it() -> None:
    rows = [view(START + 3600), view(START + 8 * DAY)]
    made = found(*rows, now=START + 12 * DAY)
    assert made.retention_exact == {1: False, 7: False, 30: None}
    assert made.retention_after == {1: True, 7: True, 30: None}


def test_the_seventh_day_is_unknown_until_it_is_over() -> None:
    assert found(view(START), now=START + 7.5 * DAY).retention_exact[7] is None
    assert found(view(START), now=START + 8 * DAY).retention_exact[7] is False
    assert found(view(START), view(START + 7.1 * DAY), now=START + 7.5 * DAY).retention_exact[7] is True


def test_days_are_the_users() -> None:
    late = START + DAY - 1800  # 23:30 UTC on the first of March, the second in Berlin
    rows = [view(START + 3600), view(late)]
    assert loyalty(past_of(rows), now=START + 2 * DAY, calendar=UTC).active_days == 1
    assert loyalty(past_of(rows), now=START + 2 * DAY, calendar=Calendar("Europe/Berlin")).active_days == 2


def test_churn_risk_is_that_of_the_model() -> None:
    # The customer of the authors' worked example: two repeats, the last after 30.43 weeks, 38.86 weeks observed.
    visits = [0.0, 10 * WEEK, 30.43 * WEEK]
    assert 1 - churn_risk(visits, now=38.86 * WEEK) == pytest.approx(0.7266, abs=2e-4)


def test_churn_risk_rises_while_a_regular_user_is_away() -> None:
    visits = [n * 3 * DAY for n in range(20)]
    risks = [churn_risk(visits, now=visits[-1] + away * DAY) for away in (0, 3, 30, 90, 10_000)]
    assert risks == sorted(risks)
    assert risks[0] < 0.05 < 0.95 < risks[-2] < risks[-1] <= 1


def test_the_explanation_has_the_users_own_pace() -> None:
    made = found(*(view(START + 3 * n * DAY) for n in range(5)), now=START + 24 * DAY)
    assert "3.0 days apart on average; the last was 12.0 days ago" in made.explanation


def test_a_clock_that_fell_back_makes_no_future() -> None:
    made = found(view(START), view(START + 9 * DAY), now=START + DAY)
    assert made.recency_days == 0


def test_every_figure_is_defined() -> None:
    assert set(DEFINITIONS) == set(Loyalty.__dataclass_fields__) - {"explanation"}


def test_the_first_visit_is_known_after_its_events_have_gone() -> None:
    rows = [view(START + n * DAY) for n in (30, 31)]
    made = loyalty(past_of(rows), now=START + 40 * DAY, calendar=UTC, first=START)
    assert made.retention_exact == {1: None, 7: None, 30: True}
    assert made.retention_after == {1: True, 7: True, 30: True}
    assert made.stickiness == pytest.approx(2 / 30)


def test_a_store_remembers_the_first_of_what_it_dropped(open_device: Callable[..., palate.Device]) -> None:
    device = open_device(limits=palate.Limits(max_events=10))
    device.consent.grant("store")
    assert device.store.first() is None
    now = device.store.clock()
    device.track_many([palate.Event("impression", "x", time=now - 500 * DAY)])
    device.track_many([palate.Event("view", f"book-{n}", time=now - (40 - n) * DAY) for n in range(30)])
    assert device.store.first() == now - 40 * DAY
    assert device.loyalty().retention_exact[1] is None
    assert [line for line in device.export_lines() if '"type": "first"' in line]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"])
def test_days_of_many_times_are_those_of_each(zone: str) -> None:
    calendar, rng = Calendar(zone), np.random.default_rng(0)
    change = 1_774_746_000.0  # 2026-03-29 01:00 UTC: Berlin's clocks
    times = np.sort(np.concatenate([START + rng.random(300) * 400 * DAY, change + rng.normal(size=300) * DAY, [-5.0]]))
    names = [calendar.moment(time).day for time in times.tolist()]
    assert [date.fromordinal(day).isoformat() for day in calendar.days(times).tolist()] == names


def test_the_figures_follow_each_event_and_read_nothing_twice(
    open_device: Callable[..., palate.Device], monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    device, other = open_device(), open_device()
    rows = [("view", None), ("purchase", {"amount": 2.5}), ("impression", None), ("purchase", None)]
    for number in range(12):
        kind, props = rows[number % 4]
        (device, other)[number % 2].track(kind, f"i{number}", time=clock.now - number * 0.4 * DAY, props=props)
        assert device.loyalty() == open_device().loyalty()
    read = list[int]()
    monkeypatch.setattr(device._activity, "_read", lambda amount, page: (read.append(len(page)), past_of([]))[1])
    device.loyalty()
    other.track("view", "one more")
    device.loyalty()
    assert read == [1]
    monkeypatch.undo()
    assert device.loyalty().monetary == 7.5
    assert device.loyalty(amount="pieces").monetary == 6
    other.erase()
    with pytest.raises(palate.PalateError):
        device.loyalty()
