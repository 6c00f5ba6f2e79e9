"""Rules: what forbids a message now, and when it may be tried again. Pure functions of the record and the clock.

A past delivery counts for a day if it was sent on that day as the user's wall showed it THEN, or if it was sent at a
time that is that day where the user is NOW. So a cap holds across time zones, the date line, and wrong clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from palate_client.delivery.calendar import Calendar, Moment
from palate_client.delivery.channel import Channel

DAY = 86_400.0
LONGEST_PACE = 28 * DAY
"""The longest pause that dismissed messages bring about."""


class Reason(Enum):
    """Why a message was sent, is waiting, or was not sent."""

    SENT = "sent"
    """Handed to its channel."""
    BETTER_LATER = "better later"
    """Waiting: this user answers more at another hour."""
    BUNDLED = "bundled"
    """Waiting to be sent with others."""
    QUIET = "quiet hours"
    """Waiting for the end of the quiet hours."""
    CAP_DAY = "day's cap"
    """Waiting: as many as the channel may bring in one day have been brought."""
    CAP_WEEK = "week's cap"
    """Waiting: as many as the channel may bring in one week have been brought."""
    PACE = "pace"
    """Waiting: the user has dismissed the latest ones."""
    NO_CONSENT = "no consent"
    """Not sent: the user doesn't want messages."""
    NO_CHANNEL = "no channel"
    """Not sent: the user has allowed no channel that the app can send on."""
    CONTROL = "control group"
    """Not sent: this device is in the group that gets none, so that what messages bring can be measured."""
    NOT_FOR_THEM = "not for them"
    """Not sent: the campaign doesn't fit this user, as their own device judges."""
    EXPIRED = "expired"
    """Not sent: its time was over before it could be."""
    FAILED = "failed"
    """Handed to its channel, which did not bring it; it counts as sent."""
    LOST = "lost"
    """Not sent: the app ended while it was being handed over; it counts as sent, and isn't tried twice."""


WAITING = frozenset({Reason.BETTER_LATER, Reason.BUNDLED, Reason.QUIET, Reason.CAP_DAY, Reason.CAP_WEEK, Reason.PACE})
"""Reasons that pass."""


@dataclass(frozen=True, slots=True)
class CountedDelivery:
    """A delivery that counts.

    Attributes:
        time: of the clock when it was sent, seconds since 1970.
        settled: the same, or when it was noticed that the clock had been ahead, or not set: nothing was sent later.
        moment: what the user's wall showed when it was sent.
        liked: the user reacted well (True), dismissed it (False), or neither (None).
    """

    time: float
    settled: float
    moment: Moment
    liked: bool | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A message can't be sent on a channel now.

    Attributes:
        reason: why.
        until: when it may be tried again, seconds since 1970.
    """

    reason: Reason
    until: float


def hold(channel: Channel, past: Sequence[CountedDelivery], *, now: float, calendar: Calendar) -> Hold | None:
    """What holds a message back on a channel now; None: nothing.

    Args:
        channel: with its caps and quiet hours.
        past: the deliveries on it that were no transactional ones, oldest first.
        now: seconds since 1970.
        calendar: the user's.

    **Guarantees:** quiet hours: no message in those of where the user is.
    **Guarantees:** a day's cap: no calendar day of the user's has more messages on the channel.
    **Guarantees:** a week's cap: no calendar week of the user's has more messages on the channel.
    """
    here = calendar.moment(now)
    quiet = channel.quiet
    if quiet is not None and quiet.holds(here.hour):
        return Hold(Reason.QUIET, calendar.first(lambda hour: not quiet.holds(hour), now))
    if channel.per_day is not None or channel.per_week is not None:
        moments = [_moments(each, now, calendar) for each in past]
        if channel.per_day is not None and sum(here.day in each.days for each in moments) >= channel.per_day:
            return Hold(Reason.CAP_DAY, now + (24 - here.hour) * 3600)
        if channel.per_week is not None and sum(here.week in each.weeks for each in moments) >= channel.per_week:
            return Hold(Reason.CAP_WEEK, now + (24 - here.hour) * 3600)
    pause = pace(past)
    if pause and now - past[-1].settled < pause:
        return Hold(Reason.PACE, past[-1].settled + pause)
    return None


def pace(past: Sequence[CountedDelivery]) -> float:
    """Seconds between two messages on a channel: none, or a day, doubled for each that was dismissed in a row."""
    dismissed = 0
    for each in reversed(past):
        if each.liked:
            break
        dismissed += each.liked is False
    return min(DAY * 2 ** (dismissed - 1), LONGEST_PACE) if dismissed else 0.0


@dataclass(frozen=True, slots=True)
class _Moments:
    """The days and weeks that a delivery counts for."""

    days: frozenset[str]
    weeks: frozenset[str]


def _moments(past: CountedDelivery, now: float, calendar: Calendar) -> _Moments:
    """As it was seen then, and as it is seen from where the user is now, by both of its times."""
    seen = {past.moment}
    seen |= {calendar.moment(time) for time in (past.time, past.settled) if abs(now - time) < 9 * DAY}
    return _Moments(frozenset(each.day for each in seen), frozenset(each.week for each in seen))
