"""When a cohort is there, and who is in it."""

from __future__ import annotations

from collections import Counter

import pytest

from palate_common.rounds.exchange import SURVEYS, TRAINING, Availability
from palate_server.operation.gathering import CohortGathering, TooFewError, draw_cohort, fit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_begins_with_the_first_device() -> None:
    clock = Clock()
    appointment = CohortGathering(size=3, least=2, seconds=10.0, clock=clock)
    clock.now = 1000.0
    assert appointment.look(set()) is None
    assert not appointment.begun
    assert appointment.look({7}) is None
    assert appointment.begun
    clock.now = 1009.0
    assert appointment.look({7, 8}) is None
    clock.now = 1010.0
    assert appointment.look({7, 8}) == {7, 8}


def test_a_full_cohort_does_not_wait() -> None:
    appointment = CohortGathering(size=2, least=2, seconds=10.0, clock=Clock())
    assert appointment.look({7, 8}) == {7, 8}


def test_too_few_in_time_are_sent_home() -> None:
    clock = Clock()
    appointment = CohortGathering(size=3, least=2, seconds=10.0, clock=clock)
    assert appointment.look({7}) is None
    clock.now = 10.0
    with pytest.raises(TooFewError, match="at least 2 devices, and 1 came"):
        appointment.look({7})


def test_nobody_is_waited_for_who_is_known_not_to_come() -> None:
    appointment = CohortGathering(size=3, least=2, seconds=10.0, clock=Clock())
    assert appointment.look({7}, enough=2) is None
    assert appointment.look({7, 8}, enough=2) == {7, 8}


def test_devices_that_cannot_take_part_are_told_apart_and_not_waited_for_for_ever() -> None:
    clock = Clock()
    appointment = CohortGathering(size=3, least=2, seconds=10.0, clock=clock)
    online = {7: Availability(70.0, SURVEYS), 8: Availability(69.9, SURVEYS | TRAINING)}
    online |= {9: Availability(500.0, TRAINING), 10: Availability(), 11: Availability(500.0, SURVEYS)}
    here, unfit = fit({7, 8, 9, 10}, online, takes=SURVEYS, stays=70.0)
    assert (here, unfit) == ({7}, {"stay for less than 70 s": 1, "take no part in surveys": 2})
    assert appointment.look(set(), unfit=unfit) is None
    assert appointment.begun, "else nobody would be told, and no other run would begin"
    clock.now = 10.0
    said = "and 1 came; others that stay for less than 70 s: 1; others that take no part in surveys: 2"
    with pytest.raises(TooFewError, match=rf"\Aa cohort needs at least 2 devices, {said}\Z"):
        appointment.look(here, unfit=unfit)


def test_whom_it_leaves_out_is_drawn_by_lot() -> None:
    present = set(range(10))
    drawn = Counter(device for _ in range(2000) for device in draw_cohort(present, most=5))
    # Binomial(2000, 1/2): 1000 with standard deviation 22; 8 of those are missed once in 10^15.
    assert all(820 < drawn[device] < 1180 for device in range(10))
    cohort = draw_cohort(present, most=5)
    assert cohort < present
