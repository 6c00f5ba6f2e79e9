"""Rules: caps, weeks, quiet hours and pace; what a message may not do, in thousands of random lives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.deliveries import live, violations
from palate_client.delivery import judge, rules
from palate_client.delivery.calendar import Calendar
from palate_client.delivery.channel import Channel, Quiet
from palate_client.delivery.rules import DAY, LONGEST_PACE, CountedDelivery, Reason, hold, pace
from palate_core.errors import InputError

pytestmark = pytest.mark.slow

NOON = 1_772_452_800.0  # Monday 2026-03-02 12:00 UTC
HERE = Calendar("UTC")
DAILY = Channel(name="email", per_day=2, per_week=3, quiet=Quiet(22, 8))


def sent(*times: float, liked: bool | None = None) -> list[CountedDelivery]:
    return [CountedDelivery(time, time, HERE.moment(time), liked) for time in times]


def reason(past: list[CountedDelivery], now: float = NOON, calendar: Calendar = HERE) -> Reason | None:
    held = hold(DAILY, past, now=now, calendar=calendar)
    return None if held is None else held.reason


def test_nothing_holds_a_first_message_back() -> None:
    assert reason([]) is None


def test_a_days_cap() -> None:
    assert reason(sent(NOON - 3600)) is None
    assert reason(sent(NOON - 7200, NOON - 3600)) is Reason.CAP_DAY
    assert reason(sent(NOON - DAY, NOON - DAY)) is None


def test_a_weeks_cap_begins_anew_on_monday() -> None:
    three = sent(NOON, NOON + DAY, NOON + DAY)
    assert reason(three, NOON + 6 * DAY) is Reason.CAP_WEEK
    assert reason(three, NOON + 7 * DAY) is None


def test_quiet_hours_end_where_they_say() -> None:
    held = hold(DAILY, [], now=NOON + 11 * 3600, calendar=HERE)
    assert held is not None
    assert (held.reason, held.until) == (Reason.QUIET, NOON + 20 * 3600)


def test_a_day_counts_where_it_was_and_where_the_user_is() -> None:
    samoa, kiribati = Calendar("Pacific/Pago_Pago"), Calendar("Pacific/Kiritimati")
    two = [CountedDelivery(NOON, NOON, kiribati.moment(NOON), None)] * 2
    later = NOON + 34 * 3600  # the same calendar day in Samoa as it was on Kiritimati
    assert kiribati.moment(NOON).day == samoa.moment(later).day
    assert reason(two, later, samoa) is Reason.CAP_DAY


def test_what_a_wrong_clock_sent_in_the_future_counts_for_now() -> None:
    ahead = [replace(each, settled=NOON) for each in sent(NOON + 30 * DAY, NOON + 30 * DAY)]
    assert reason(ahead) is Reason.CAP_DAY
    assert reason(ahead, NOON + DAY) is None
    assert reason(ahead, NOON + 30 * DAY) is Reason.CAP_DAY


def test_dismissed_messages_slow_the_next_ones_down() -> None:
    assert pace(sent(NOON)) == 0
    assert [pace(sent(*[NOON] * n, liked=False)) for n in (1, 2, 3)] == [DAY, 2 * DAY, 4 * DAY]
    assert pace(sent(*[NOON] * 20, liked=False)) == LONGEST_PACE
    assert pace([*sent(NOON, NOON, liked=False), *sent(NOON, liked=True)]) == 0
    assert reason(sent(NOON - 8 * DAY, NOON - 1.5 * DAY, liked=False)) is Reason.PACE


def test_no_life_violates_a_rule() -> None:
    lives = [live(seed=seed) for seed in range(200)]
    assert [violations(life) for life in lives if violations(life)] == []
    assert sum(len(life.handed) for life in lives) > 1000


@pytest.mark.parametrize("broken", ["no rules", "only then", "only now"])
def test_the_judge_finds_broken_rules(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "no rules":
        monkeypatch.setattr(judge, "hold", lambda *_, **__: None)
    elif broken == "only then":
        monkeypatch.setattr(rules, "_moments", lambda past, *_: rules._Moments({past.moment.day}, {past.moment.week}))
    else:
        seen = rules._moments

        def only_now(past: CountedDelivery, now: float, calendar: Calendar) -> rules._Moments:
            return seen(replace(past, moment=calendar.moment(past.settled)), now, calendar)

        monkeypatch.setattr(rules, "_moments", only_now)
    assert any(violations(live(seed=seed)) for seed in range(400))


@pytest.mark.parametrize("quiet", [(22, 22), (-1, 3), (3, 24)])
def test_what_are_no_quiet_hours_is_refused(quiet: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="quiet hours must be"):
        Quiet(*quiet)


@pytest.mark.parametrize("wrong", [{"name": "two words"}, {"per_day": -1}, {"per_week": True}, {"per_day": 1.5}])
def test_what_is_no_channel_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="must be a"):
        Channel(**{"name": "email", "per_day": 1, "per_week": 1, **wrong})  # type: ignore[arg-type]  # on purpose


def test_quiet_hours_are_numbers_of_a_quiet() -> None:
    with pytest.raises(InputError, match="quiet hours must be two different hours of a day, got 22 to 8"):
        Quiet("22", 8)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InputError, match="`quiet` must be hours of the day as a `Quiet`, or None, got"):
        Channel(name="email", per_day=1, per_week=1, quiet=(22, 8))  # type: ignore[arg-type]  # on purpose
