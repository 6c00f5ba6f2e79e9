"""Judge: what becomes of a message now, by consent, rules and choice. It writes the decision down, and sends nothing.

    consent -> expiry -> control group -> the user's channels -> rules -> choice of channel and hour -> record

Between it and the `Messenger` lies one transaction: what it has read holds until what it decided is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate_client.delivery.calendar import Calendar
from palate_client.delivery.channel import Channel
from palate_client.delivery.choice import choose_channel, choose_part, part_of
from palate_client.delivery.record import Delivery, Record
from palate_client.delivery.rules import DAY, Hold, Reason, hold


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Decides on the messages of one device.

    Attributes:
        agreed: whether the user has agreed to `messaging`.
        senders: the channels that the app can send on.
        channels: their caps and quiet hours.
        calendar: the user's.
        control: the share of devices that get no messages but transactional ones.
        expected: channel -> the rate that users answer it with, where the app knows one.
        rng: for choosing.
    """

    agreed: Callable[[], bool]
    senders: Collection[str]
    channels: Mapping[str, Channel]
    calendar: Calendar
    control: float
    expected: Mapping[str, float]
    rng: np.random.Generator

    def open_to(self, record: Record) -> list[str]:
        """The channels that the user allows and the app can send on, sorted."""
        return [name for name in allowed(record) if name in self.senders]

    def decided(self, record: Record, delivery: Delivery, now: float) -> Delivery:
        """Decide on one message and write it down; `sent` is set if it is to be handed over."""
        made = self._judged(record, delivery, now)
        record.put(made, self.calendar.moment(now) if made.sent is not None else None)
        return made

    def bundle(self, record: Record, ready: Sequence[Delivery], now: float) -> list[Delivery]:
        """Decide on what is due of one channel's bundle: all of it, as one delivery, or all of it later."""
        channel, moment, made = ready[0].channel, self.calendar.moment(now), list[Delivery]()
        ways = [name for name in self.open_to(record) if name == channel]
        held = hold(self.channels[channel], record.past(channel), now=now, calendar=self.calendar) if ways else None
        for each in ready:
            if barred := self._barred(record, each, ways, now):
                made.append(_ended(each, barred))
            elif held is not None:
                made.append(_waits(each, channel, Hold(Reason.BUNDLED, held.until)))
            else:
                made.append(_handed(each, channel, now))
        for each in made:
            sent = each.sent is not None
            record.put(each, moment if sent else None, batch=f"{channel}/{now}" if sent else None)
        return made

    def _barred(self, record: Record, delivery: Delivery, ways: Sequence[str], now: float) -> Reason | None:
        """Why a message will never be sent; None: nothing says so."""
        message = delivery.message
        if not self.agreed():
            return Reason.NO_CONSENT
        if message.expires is not None and now >= message.expires:
            return Reason.EXPIRED
        if not message.transactional and record.control(self.control):
            return Reason.CONTROL
        return None if ways else Reason.NO_CHANNEL

    def _judged(self, record: Record, delivery: Delivery, now: float) -> Delivery:
        """What becomes of a message now."""
        hurried = delivery.message.transactional
        ways = [name for name in self.open_to(record) if not (hurried and self.channels[name].bundles)]
        if barred := self._barred(record, delivery, ways, now):
            return _ended(delivery, barred)
        if hurried:
            return _handed(delivery, self._best(record, ways, now), now)
        holds = {name: hold(self.channels[name], record.past(name), now=now, calendar=self.calendar) for name in ways}
        free = [name for name, held in holds.items() if held is None]
        if free:
            return self._timed(record, delivery, self._best(record, free, now), now)
        held, channel = min(
            ((held, name) for name, held in holds.items() if held is not None), key=lambda each: each[0].until
        )
        return _waits(delivery, channel, held)

    def _timed(self, record: Record, delivery: Delivery, channel: str, now: float) -> Delivery:
        """Now, or at an hour that this user answers more; a message waits for that once, in its first day.

        An app may look only when that hour has become a quiet one: without the day it would wait again and again.
        """
        expires = delivery.message.expires
        waited = delivery.reason is Reason.BETTER_LATER or now - delivery.given >= DAY
        later = now if waited else self._better(record, channel, now)
        if expires is not None and later >= expires:
            later = now
        if self.channels[channel].bundles:
            due = record.bundled_until(channel) or later
            # A bundle that goes too late for it is no place to wait: it goes ahead of the others.
            return _waits(
                delivery, channel, Hold(Reason.BUNDLED, later if expires is not None and due >= expires else due)
            )
        if later <= now:
            return _handed(delivery, channel, now)
        return _waits(delivery, channel, Hold(Reason.BETTER_LATER, later))

    def _better(self, record: Record, channel: str, now: float) -> float:
        """When the part of the day begins that this user answers most, as far as is known; now, if it is this one."""
        quiet = self.channels[channel].quiet
        here = part_of(self.calendar.moment(now).hour)
        parts = sorted({part_of(hour) for hour in range(24) if quiet is None or not quiet.holds(hour)} - {here})
        part = choose_part([here, *parts], record.tried(now=now), self.rng)
        if part == here:
            return now
        return self.calendar.first(
            lambda hour: part_of(hour) == part and not (quiet is not None and quiet.holds(hour)), now
        )

    def _best(self, record: Record, channels: Sequence[str], now: float) -> str:
        """The channel this user answers, as far as is known."""
        return choose_channel(channels, record.tried(now=now), self.rng, expected=self.expected)


def allowed(record: Record) -> tuple[str, ...]:
    """The channels that the user's latest decisions allow, sorted."""
    latest = {each.channel: each.granted for each in record.allowances()}
    return tuple(sorted(name for name, granted in latest.items() if granted))


def _ended(delivery: Delivery, reason: Reason) -> Delivery:
    """It is not sent, and never will be."""
    return replace(delivery, reason=reason, due=None, sent=None)


def _waits(delivery: Delivery, channel: str, held: Hold) -> Delivery:
    """It is looked at again later, at the end of its time at the latest."""
    due = held.until if delivery.message.expires is None else min(held.until, delivery.message.expires)
    return replace(delivery, reason=held.reason, channel=channel, due=due, sent=None)


def _handed(delivery: Delivery, channel: str, now: float) -> Delivery:
    """It is about to be handed over; until that is done it counts as lost."""
    return replace(delivery, reason=Reason.LOST, channel=channel, due=None, sent=now)
