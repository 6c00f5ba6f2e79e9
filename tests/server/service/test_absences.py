"""Who is online in name only is waited for once."""

from __future__ import annotations

from palate_server.operation.absences import FIRST, LONGEST, Absences


def test_a_device_that_stays_silent_is_passed_over_for_twice_as_long_each_time_and_a_day_at_most() -> None:
    times = iter([0.0] * 100)
    absences = Absences(clock=lambda: next(times))
    for tried in range(9):
        assert absences.note([1, 2], heard=[2]) == 1
        seconds = min(LONGEST, FIRST * 2**tried)
        times = iter([seconds - 1, seconds, 0.0])
        assert absences.present([1, 2]) == {2}
        assert absences.present([1, 2]) == {1, 2}
    times = iter([0.0, 0.0, FIRST])
    absences.note([1, 2], heard=[1, 2])
    absences.note([1, 2], heard=[2])
    assert absences.present([1]) == {1}, "once heard, it is new again"


def test_where_nobody_is_heard_it_is_no_devices_fault() -> None:
    absences = Absences()
    assert absences.note([1, 2], heard=[]) == 0
    assert absences.present([1, 2]) == {1, 2}
