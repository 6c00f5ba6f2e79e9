"""Whom an attempt names: nobody who only met a dishonest device, and whoever has cost more than its silence would."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_server.secagg.disputes import Conduct, judge_disputes, without_disputes

Pairs = set[tuple[int, int]]


@pytest.mark.parametrize(
    ("conduct", "lost", "named"),
    [
        (Conduct(complaints={(1, 0)}), False, set()),
        (Conduct(complaints={(1, 0)}), True, set()),
        (Conduct(complaints={(1, 0), (2, 0)}), False, set()),
        (Conduct(complaints={(1, 0), (2, 0)}), True, {0}),
        (Conduct(complaints={(1, 0), (2, 0), (3, 0)}), False, {0}),
        (Conduct(complaints={(0, 1), (0, 2), (0, 3)}), False, {0}),
        (Conduct(complaints={(1, 0)}, silent={0}), False, set()),
        (Conduct(complaints={(1, 0)}, silent={0}), True, {0}),
        (Conduct(complaints={(1, 0)}, silent={1}), True, set()),
        (Conduct(offenders={0}), False, set()),
        (Conduct(offenders={0}), True, {0}),
        (Conduct(offenders={0}, complaints={(1, 0), (2, 0), (1, 3)}), True, {0}),
        (Conduct(unrevealed={0}, silent={0}), True, set()),
    ],
)
def test_one_dishonest_device_is_named_by_what_it_costs(conduct: Conduct, lost: bool, named: set[int]) -> None:
    assert judge_disputes(conduct, set(), most=2, lost=lost)[0] == named


@given(
    st.integers(1, 4),
    st.lists(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 30), st.booleans()), max_size=12), max_size=12),
)
def test_c_max_dishonest_devices_never_name_an_honest_one_in_released_attempts(
    most: int, attempts: list[set[tuple[int, int, bool]]]
) -> None:
    """Devices below `most` lie as they like, as dealers and as receivers, in one attempt after another."""
    disputes: Pairs = set()
    gone: set[int] = set()
    for attempt in attempts:
        pairs = {(liar, other, swap) for liar, other, swap in attempt if liar < most and liar not in gone}
        complaints = {(other, liar) if swap else (liar, other) for liar, other, swap in pairs if liar != other}
        named, disputes = judge_disputes(Conduct(complaints=complaints), disputes, most=most, lost=False)
        assert named <= set(range(most))
        gone |= named


def test_two_who_complain_of_each_victim_in_attempts_that_are_lost_are_named_after_c_max_of_them() -> None:
    most, disputes, victims = 3, set[tuple[int, int]](), 0
    for victim in itertools.count(2):
        named, disputes = judge_disputes(Conduct(complaints={(0, victim), (1, victim)}), disputes, most=most, lost=True)
        if named & {0, 1}:
            break
        assert named == {victim}
        victims += 1
    assert (victims, named >= {0, 1}) == (most, True), "the disputes with those they had named are not forgotten"


def test_two_with_an_open_dispute_do_not_meet() -> None:
    present = {10: 0, 11: 1, 12: 2, 13: 3}
    assert without_disputes(present, {(0, 1), (0, 2), (1, 9)}) == {11: 1, 12: 2, 13: 3}, (
        "who has more of them stays away"
    )
    drawn = {tuple(without_disputes(present, {(0, 1)}).values()) for _ in range(60)}
    assert drawn == {(0, 2, 3), (1, 2, 3)}, "else by lot"
