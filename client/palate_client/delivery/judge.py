"""Judge: decides what to do with a message now, by consent, rules and choice. It records that and sends nothing.

    consent -> expiry -> control group -> the user's channels -> rules -> choice of channel and hour -> record

The `Messenger` calls it within one transaction: what it has read stays true until its decision is on the disk.
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
        calendar: the user's calendar.
        control: the share of devices, the control group, that get only transactional messages.
        expected: channel -> the share of deliveries that users react to, where the app knows it.
        rng: random numbers for the choice.
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
        return [name for name in allowed_channels(record) if name in self.senders]

    def decide(self, record: Record, delivery: Delivery, now: float) -> Delivery:
        """Decide on one message and record it. If `sent` is set, the caller has to hand the message over now."""
        made = self._decision(record, delivery, now)
        record.put(made, self.calendar.moment(now) if made.sent is not None else None)
        return made

    def bundle(self, record: Record, ready: Sequence[Delivery], now: float) -> list[Delivery]:
        """Decide on the due messages of one channel's bundle: all go now as one delivery, or all wait."""
        channel, moment, made = ready[0].channel, self.calendar.moment(now), list[Delivery]()
        ways = [name for name in self.open_to(record) if name == channel]
        held = hold(self.channels[channel], record.past(channel), now=now, calendar=self.calendar) if ways else None
        for each in ready:
            if barred := self._why_never(record, each, ways, now):
                made.append(_decide_never(each, barred))
            elif held is not None:
                made.append(_decide_later(each, channel, Hold(Reason.BUNDLED, held.until)))
            else:
                made.append(_decide_now(each, channel, now))
        for each in made:
            sent = each.sent is not None
            record.put(each, moment if sent else None, batch=f"{channel}/{now}" if sent else None)
        return made

    def _why_never(self, record: Record, delivery: Delivery, ways: Sequence[str], now: float) -> Reason | None:
        """Why a message will never be sent; None if it may be."""
        message = delivery.message
        if not self.agreed():
            return Reason.NO_CONSENT
        if message.expires is not None and now >= message.expires:
            return Reason.EXPIRED
        if not message.transactional and record.control(self.control):
            return Reason.CONTROL
        return None if ways else Reason.NO_CHANNEL

    def _decision(self, record: Record, delivery: Delivery, now: float) -> Delivery:
        """The decision on a message, not recorded yet."""
        hurried = delivery.message.transactional
        ways = [name for name in self.open_to(record) if not (hurried and self.channels[name].bundles)]
        if barred := self._why_never(record, delivery, ways, now):
            return _decide_never(delivery, barred)
        if hurried:
            return _decide_now(delivery, self._best(record, ways, now), now)
        holds = {name: hold(self.channels[name], record.past(name), now=now, calendar=self.calendar) for name in ways}
        free = [name for name, held in holds.items() if held is None]
        if free:
            return self._send_or_wait(record, delivery, self._best(record, free, now), now)
        held, channel = min(
            ((held, name) for name, held in holds.items() if held is not None), key=lambda each: each[0].until
        )
        return _decide_later(delivery, channel, held)

    def _send_or_wait(self, record: Record, delivery: Delivery, channel: str, now: float) -> Delivery:
        """Send now, or wait for a part of the day in which this user reacts more; once, in the message's first day.

        The limit is for an app that calls only when that part of the day is over: the message would wait forever.
        """
        expires = delivery.message.expires
        waited = delivery.reason is Reason.BETTER_LATER or now - delivery.given >= DAY
        later = now if waited else self._better(record, channel, now)
        if expires is not None and later >= expires:
            later = now
        if self.channels[channel].bundles:
            due = record.bundled_until(channel) or later
            # The bundle is due after the message expires: this one message doesn't wait for it.
            return _decide_later(
                delivery, channel, Hold(Reason.BUNDLED, later if expires is not None and due >= expires else due)
            )
        if later <= now:
            return _decide_now(delivery, channel, now)
        return _decide_later(delivery, channel, Hold(Reason.BETTER_LATER, later))

    def _better(self, record: Record, channel: str, now: float) -> float:
        """When the part of the day begins in which this user should react most; `now` if it is the present one."""
        quiet = self.channels[channel].quiet
        here = part_of(self.calendar.moment(now).hour)
        parts = sorted({part_of(hour) for hour in range(24) if quiet is None or not quiet.holds(hour)} - {here})
        part = choose_part([here, *parts], record.trials(now=now), self.rng)
        if part == here:
            return now
        return self.calendar.first(
            lambda hour: part_of(hour) == part and not (quiet is not None and quiet.holds(hour)), now
        )

    def _best(self, record: Record, channels: Sequence[str], now: float) -> str:
        """The channel that is chosen for this user."""
        return choose_channel(channels, record.trials(now=now), self.rng, expected=self.expected)


def allowed_channels(record: Record) -> tuple[str, ...]:
    """The channels that the user's latest decisions allow, sorted."""
    latest = {each.channel: each.granted for each in record.allowances()}
    return tuple(sorted(name for name, granted in latest.items() if granted))


def _decide_never(delivery: Delivery, reason: Reason) -> Delivery:
    """The decision that a message is never sent."""
    return replace(delivery, reason=reason, due=None, sent=None)


def _decide_later(delivery: Delivery, channel: str, held: Hold) -> Delivery:
    """The decision that a message waits; it is due again after the hold, or when it expires."""
    due = held.until if delivery.message.expires is None else min(held.until, delivery.message.expires)
    return replace(delivery, reason=held.reason, channel=channel, due=due, sent=None)


def _decide_now(delivery: Delivery, channel: str, now: float) -> Delivery:
    """The decision to hand a message over now; until the channel has taken it, its reason is `LOST`."""
    return replace(delivery, reason=Reason.LOST, channel=channel, due=None, sent=now)
