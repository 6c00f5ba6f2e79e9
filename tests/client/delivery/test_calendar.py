"""Calendar: days, weeks and hours where the user is, through time changes and over the date line."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from palate_client.delivery.calendar import Calendar
from palate_core.errors import InputError


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]  # year, month, day, ...


def test_a_day_is_the_users() -> None:
    time = utc(2026, 1, 1, 2)
    assert Calendar("America/New_York").moment(time).day == "2025-12-31"
    assert Calendar("Pacific/Kiritimati").moment(time).day == "2026-01-01"


def test_a_week_begins_on_monday() -> None:
    sunday, monday = utc(2026, 3, 1, 12), utc(2026, 3, 2, 12)
    weeks = [Calendar("UTC").moment(time).week for time in (sunday, monday)]
    assert weeks == ["2026-W09", "2026-W10"]


def test_the_year_of_a_week_is_the_weeks() -> None:
    assert Calendar("UTC").moment(utc(2027, 1, 1)).week == "2026-W53"


def test_the_zone_is_asked_each_time() -> None:
    where = ["Europe/Berlin"]
    calendar = Calendar(lambda: ZoneInfo(where[0]))
    assert calendar.moment(utc(2026, 1, 1, 12)).hour == 13
    where[0] = "Asia/Kathmandu"
    assert calendar.moment(utc(2026, 1, 1, 12)).hour == 17.75


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        (utc(2026, 3, 29, 0, 30), utc(2026, 3, 29, 1)),  # 01:30 in Berlin; the hour from 02:00 does not exist
        (utc(2026, 10, 24, 23, 30), utc(2026, 10, 25, 0, 45)),  # 01:30; the hour from 02:00 comes twice
    ],
)
def test_an_hour_that_is_missing_or_comes_twice(start: float, wanted: float) -> None:
    calendar = Calendar("Europe/Berlin")
    found = calendar.first(lambda hour: hour >= 2.75 or hour < 1, start)
    assert found == wanted


def test_the_first_wanted_time_is_the_first() -> None:
    rng = np.random.default_rng(0)
    for zone in ("Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"):
        calendar = Calendar(zone)
        for _ in range(50):
            start, hour = utc(2026, 1, 1) + int(rng.integers(365 * 96)) * 900.0, int(rng.integers(24))
            found = calendar.first(lambda now, hour=hour: int(now) == hour, start)
            assert int(calendar.moment(found).hour) == hour
            earlier = range(int(start), int(found), 900)
            assert all(int(calendar.moment(time).hour) != hour for time in earlier)


def test_without_a_zone_it_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert Calendar().moment(utc(2026, 1, 1, 12)).hour == 21
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_is_no_zone_is_refused() -> None:
    for name in ("Atlantis/Center", "../etc/passwd", ""):
        with pytest.raises(InputError, match="`zone` must be a time zone's name"):
            Calendar(name)
    with pytest.raises(InputError, match="`zone` must be a time zone, its name or a function that says it, got 2"):
        Calendar(2)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InputError, match="`zone` must say a time zone, such as a ZoneInfo, got 'Europe/Berlin'"):
        Calendar(lambda: "Europe/Berlin").moment(0.0)  # type: ignore[arg-type,return-value]  # on purpose


def test_a_clock_that_shows_nonsense_has_a_day_all_the_same() -> None:
    for time in (-1e12, 0.0, 1e13):
        assert Calendar("UTC").moment(time).day
