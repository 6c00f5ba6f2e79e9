"""Rules: whether a message must wait now, and until when. Pure functions of the record and the clock.

A past delivery counts for a calendar day if the user's local clock showed that day when it was sent, or if its time is
on that day in the user's time zone now. So a cap holds across time zones, the date line, and wrong clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from palate_client.delivery.calendar import Calendar, Moment
from palate_client.delivery.channel import Channel

DAY = 86_400.0
LONGEST_PACE = 28 * DAY
"""The longest pause between messages, in seconds, however many were dismissed."""


class Reason(Enum):
    """Why a message was sent, is waiting, or was not sent."""

    SENT = "sent"
    """Sent: its channel has taken it."""
    BETTER_LATER = "better later"
    """Waiting: this user reacts more at another hour."""
    BUNDLED = "bundled"
    """Waiting to be sent with others."""
    QUIET = "quiet hours"
    """Waiting for the end of the quiet hours."""
    CAP_DAY = "day's cap"
    """Waiting: the channel's cap for one day is reached."""
    CAP_WEEK = "week's cap"
    """Waiting: the channel's cap for one week is reached."""
    PACE = "pace"
    """Waiting: the user has dismissed the latest ones."""
    NO_CONSENT = "no consent"
    """Not sent: the user doesn't want messages."""
    NO_CHANNEL = "no channel"
    """Not sent: the user has allowed no channel that the app can send on."""
    CONTROL = "control group"
    """Not sent: this device is in the control group, by which the effect of messages is measured."""
    NOT_FOR_THEM = "not for them"
    """Not sent: the device found that the campaign doesn't fit this user."""
    EXPIRED = "expired"
    """Not sent: it expired before it could be."""
    FAILED = "failed"
    """Handed to its channel, which failed; it counts as sent."""
    LOST = "lost"
    """Maybe sent: the app ended while it was being handed over. It counts as sent, and isn't tried again."""


WAITING = frozenset({Reason.BETTER_LATER, Reason.BUNDLED, Reason.QUIET, Reason.CAP_DAY, Reason.CAP_WEEK, Reason.PACE})
"""Reasons of messages that may still be sent."""


@dataclass(frozen=True, slots=True)
class CountedDelivery:
    """A past delivery that counts for the caps.

    Attributes:
        time: what the clock showed when it was sent, seconds since 1970.
        settled: the same; or, if the clock was ahead or not set, when that was noticed.
        moment: the user's local time when it was sent.
        liked: the user reacted well (True), dismissed it (False), or neither (None).
    """

    time: float
    settled: float
    moment: Moment
    liked: bool | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a message can't be sent on a channel now.

    Attributes:
        reason: why.
        until: when it may be tried again, seconds since 1970.
    """

    reason: Reason
    until: float


def hold(channel: Channel, past: Sequence[CountedDelivery], *, now: float, calendar: Calendar) -> Hold | None:
    """Whether a message must wait on a channel now; None if it needn't.

    Args:
        channel: the channel, with its caps and quiet hours.
        past: the deliveries on it, without transactional ones, oldest first.
        now: seconds since 1970.
        calendar: the user's calendar.

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
    """Seconds between two messages on a channel: 0, or a day, doubled for each further one dismissed in a row."""
    dismissed = 0
    for each in reversed(past):
        if each.liked:
            break
        dismissed += each.liked is False
    return min(DAY * 2 ** (dismissed - 1), LONGEST_PACE) if dismissed else 0.0


@dataclass(frozen=True, slots=True)
class _Moments:
    """The calendar days and weeks that a delivery counts for."""

    days: frozenset[str]
    weeks: frozenset[str]


def _moments(past: CountedDelivery, now: float, calendar: Calendar) -> _Moments:
    """The days and weeks of a delivery: by the local time then, and by the present time zone for both of its times."""
    seen = {past.moment}
    seen |= {calendar.moment(time) for time in (past.time, past.settled) if abs(now - time) < 9 * DAY}
    return _Moments(frozenset(each.day for each in seen), frozenset(each.week for each in seen))
