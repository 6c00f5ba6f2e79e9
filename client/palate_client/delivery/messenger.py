"""Messenger: decides on each message, and hands over those that are to be sent. Made by `Device.messenger`.

    consent -> control group -> expiry -> the user's channels -> rules -> choice of channel and hour -> record -> sender

It has no thread: what waits is looked at when the app calls `deliver_waiting`, such as on a timer of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np

from palate_client.delivery.calendar import Calendar, Moment
from palate_client.delivery.channel import CHANNELS, Channel, Sender
from palate_client.delivery.choice import choose_channel, choose_part, part_of
from palate_client.delivery.message import Message
from palate_client.delivery.record import REACTIONS, Allowance, Delivery, Record
from palate_client.delivery.rules import DAY, Hold, Reason, hold
from palate_common.campaign import Campaign
from palate_common.errors import InputError

logger = logging.getLogger("palate")

CONTROL = 0.05
"""Share of devices that get no messages, so that what messages bring can be measured."""
LASTS = 7 * DAY
"""How long a message without an expiry is worth sending."""


def _refuse(signed: bytes) -> Campaign:
    """Without a service there are no campaigns."""
    raise InputError("`service` must be given to `palate.open`: campaigns come from one")


@dataclass(frozen=True, kw_only=True)
class Messenger:
    """One device's messages.

    Attributes:
        record: opens the record, for one step.
        agreed: whether the user has agreed to `messaging`; without that nothing is sent.
        clock: Unix time in seconds.
        senders: what brings messages to the user, by channel.
        channels: their caps and quiet hours.
        calendar: the user's.
        control: the share of devices, by a coin that each tosses once, that get no messages but transactional ones.
        fits: whether a campaign's item is in the top share of the catalogue for this user.
        verify: a campaign from the bytes that a server sent.
        rng: for choosing.
    """

    record: Callable[[], AbstractContextManager[Record]]
    agreed: Callable[[], bool]
    clock: Callable[[], float]
    senders: Mapping[str, Sender]
    channels: Mapping[str, Channel] = field(default_factory=lambda: dict(CHANNELS))
    calendar: Calendar = field(default_factory=Calendar)
    control: float = CONTROL
    fits: Callable[[Campaign], bool] = lambda campaign: False
    verify: Callable[[bytes], Campaign] = _refuse
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def __post_init__(self) -> None:
        for name in self.senders:
            self._known(name)
        if isinstance(self.control, bool) or not isinstance(self.control, int | float) or not 0 <= self.control < 1:
            raise InputError(f"`control` must be a share from 0 and below 1, got {self.control!r}")

    def allow(self, channel: str, *, version: str = "1") -> Allowance:
        """The user wants messages on a channel. Whatever wasn't allowed gets none.

        Args:
            channel: one of `channels`.
            version: of the text that the user was shown.

        Raises:
            InputError: no such channel.
        """
        return self._decide(channel, True, version)

    def disallow(self, channel: str, *, version: str = "1") -> Allowance:
        """The user no longer wants messages on a channel; holds for what is waiting, too."""
        return self._decide(channel, False, version)

    def allowed(self) -> tuple[str, ...]:
        """The channels that the user allows, sorted."""
        with self.record() as record:
            return _allowed(record)

    def deliver(self, message: Message) -> Delivery:
        """Decide on a message, and send it if it is to be sent now.

        A message that was given before, by its id, is not decided on again: what became of it is returned.

        Returns:
            What became of it; true if it was handed to its channel.

        Raises:
            PalateError: the record can't be written; nothing was sent.
        """
        now = self.clock()
        with self.record() as record:
            record.settle(now)
            if (known := record.find(message.id)) is not None:
                return known
            if message.expires is None:
                message = replace(message, expires=now + LASTS)
            decided = self._decided(record, Delivery(message, Reason.LOST, "", now), now)
        return self._sent([decided])[0] if decided.sent is not None else decided

    def offer(self, signed: bytes) -> Delivery:
        """Decide on a server's campaign: like `deliver`, where it is genuine and fits this user.

        Args:
            signed: what `palate_common.campaign.sign_campaign` made.

        Raises:
            IntegrityError, RefusedError: it is not the service's, or over; nothing is recorded.
        """
        campaign = self.verify(signed)
        message = Message(
            f"campaign:{campaign.id}",
            title=campaign.title,
            body=campaign.body,
            item=campaign.item,
            link=campaign.link,
            expires=campaign.expires,
            campaign=campaign.id,
        )
        if self.fits(campaign):
            return self.deliver(message)
        now = self.clock()
        with self.record() as record:
            record.settle(now)
            if (known := record.find(message.id)) is not None:
                return known
            refused = Delivery(message, Reason.NOT_FOR_THEM, "", now)
            record.put(refused)
        return refused

    def deliver_waiting(self) -> list[Delivery]:
        """Look again at what is waiting and due; what became of each."""
        now = self.clock()
        with self.record() as record:
            record.settle(now)
            waiting = record.due(now)
            bundled = [each for each in waiting if each.reason is Reason.BUNDLED]
            decided = [self._decided(record, each, now) for each in waiting if each.reason is not Reason.BUNDLED]
            decided += self._unbundled(record, bundled, now)
        return self._sent(decided)

    def reacted(self, id: str, reaction: str) -> bool:
        """The user did something about a message; channel, hour and pace follow.

        Args:
            id: the message's.
            reaction: opened, clicked, bought, dismissed or unsubscribed. The last takes the channel's consent away.

        Returns:
            Whether such a message was sent.

        Raises:
            InputError: no such reaction.
        """
        if reaction not in REACTIONS:
            raise InputError(f"`reaction` must be one of {', '.join(REACTIONS)}, got {reaction!r:.80}")
        now = self.clock()
        with self.record() as record:
            known = record.react(id, reaction, now)
            delivery = record.find(id)
            if known and delivery is not None and reaction == "unsubscribed":
                record.allow(Allowance(delivery.channel, False, "unsubscribed", now))
        return known

    def deliveries(self) -> tuple[Delivery, ...]:
        """Every message that is remembered, sent or not, with the reason, oldest first."""
        with self.record() as record:
            return record.all()

    def in_control(self) -> bool:
        """Whether this device is in the group that gets no messages but transactional ones."""
        with self.record() as record:
            return self._control(record)

    def _decided(self, record: Record, delivery: Delivery, now: float) -> Delivery:
        """Decide on one message and write it down; `sent` is set if it is to be handed over."""
        moment = self.calendar.moment(now)
        made = self._judged(record, delivery, now, moment)
        record.put(made, moment if made.sent is not None else None)
        return made

    def _judged(self, record: Record, delivery: Delivery, now: float, moment: Moment) -> Delivery:
        """What becomes of a message now."""
        message = delivery.message
        open_to = [name for name in sorted(self.senders) if name in _allowed(record)]
        if not self.agreed():
            return _ended(delivery, Reason.NO_CONSENT)
        if message.expires is not None and now >= message.expires:
            return _ended(delivery, Reason.EXPIRED)
        if message.transactional:
            ways = [name for name in open_to if not self.channels[name].bundles]
            return (
                _handed(delivery, self._best(record, ways, now), now) if ways else _ended(delivery, Reason.NO_CHANNEL)
            )
        if self._control(record):
            return _ended(delivery, Reason.CONTROL)
        if not open_to:
            return _ended(delivery, Reason.NO_CHANNEL)
        holds = {
            name: hold(self.channels[name], record.past(name), now=now, calendar=self.calendar) for name in open_to
        }
        free = [name for name, held in holds.items() if held is None]
        if not free:
            soonest = min(
                ((held, name) for name, held in holds.items() if held is not None), key=lambda each: each[0].until
            )
            return _waits(delivery, soonest[1], soonest[0])
        channel = self._best(record, free, now)
        return self._timed(record, delivery, channel, now, moment)

    def _timed(self, record: Record, delivery: Delivery, channel: str, now: float, moment: Moment) -> Delivery:
        """Now, or at an hour that this user answers more; a message waits for that once."""
        way = self.channels[channel]
        if delivery.reason is Reason.BETTER_LATER:
            return _handed(delivery, channel, now)
        quiet = way.quiet
        parts = sorted({part_of(hour) for hour in range(24) if quiet is None or not quiet.holds(hour)})
        here = part_of(moment.hour)
        part = choose_part([here, *(each for each in parts if each != here)], record.tried(now=now), self.rng)
        later = now
        if part != here:
            later = self.calendar.first(
                lambda hour: part_of(hour) == part and not (quiet is not None and quiet.holds(hour)), now
            )
        if delivery.message.expires is not None and later >= delivery.message.expires:
            later = now
        if way.bundles:
            due = record.bundled_until(channel) or later
            return _waits(delivery, channel, Hold(Reason.BUNDLED, due))
        return (
            _handed(delivery, channel, now)
            if later <= now
            else _waits(delivery, channel, Hold(Reason.BETTER_LATER, later))
        )

    def _unbundled(self, record: Record, bundled: Sequence[Delivery], now: float) -> list[Delivery]:
        """What is due of each bundle: all of it, as one delivery, or all of it later."""
        made = []
        moment = self.calendar.moment(now)
        for channel in sorted({each.channel for each in bundled}):
            ready = [each for each in bundled if each.channel == channel]
            good = [each for each in ready if each.message.expires is None or now < each.message.expires]
            made += [_ended(each, Reason.EXPIRED) for each in ready if each not in good]
            if not self.agreed():
                made += [_ended(each, Reason.NO_CONSENT) for each in good]
            elif channel not in self.senders or channel not in _allowed(record):
                made += [_ended(each, Reason.NO_CHANNEL) for each in good]
            elif self._control(record):
                made += [_ended(each, Reason.CONTROL) for each in good]
            elif held := hold(self.channels[channel], record.past(channel), now=now, calendar=self.calendar):
                made += [_waits(each, channel, Hold(Reason.BUNDLED, held.until)) for each in good]
            else:
                made += [_handed(each, channel, now) for each in good]
        for each in made:
            sent = each.sent is not None
            record.put(each, moment if sent else None, batch=f"{each.channel}/{now}" if sent else None)
        return made

    def _sent(self, decided: Sequence[Delivery]) -> list[Delivery]:
        """Hand over what is to be sent: what a bundle holds as one, anything else by itself."""
        groups: dict[tuple[str, str], list[Delivery]] = {}
        for each in decided:
            if each.sent is not None:
                alone = "" if self.channels[each.channel].bundles else each.message.id
                groups.setdefault((each.channel, alone), []).append(each)
        became: dict[str, Reason] = {}
        for (channel, _), group in groups.items():
            try:
                self.senders[channel]([each.message for each in group])
                reason = Reason.SENT
            except Exception as error:  # whatever a channel raises, it is the channel's
                logger.warning("the channel %s did not take a message: %s", channel, error)
                reason = Reason.FAILED
            with self.record() as record:
                record.became([each.message.id for each in group], reason)
            became |= {each.message.id: reason for each in group}
        return [replace(each, reason=became.get(each.message.id, each.reason)) for each in decided]

    def _best(self, record: Record, channels: Sequence[str], now: float) -> str:
        """The channel this user answers, as far as is known."""
        return choose_channel(channels, record.tried(now=now), self.rng)

    def _control(self, record: Record) -> bool:
        """The device's coin, tossed once."""
        return record.control(self.control)

    def _decide(self, channel: str, granted: bool, version: str) -> Allowance:
        """Write a decision on a channel."""
        self._known(channel)
        if not isinstance(version, str) or not 1 <= len(version) <= 200:
            raise InputError(f"`version` must be text of 1 to 200 characters, got {version!r:.80}")
        made = Allowance(channel, granted, version, self.clock())
        with self.record() as record:
            record.allow(made)
        return made

    def _known(self, channel: str) -> None:
        """Refuse what is no channel."""
        if channel not in self.channels:
            raise InputError(f"`channel` must be one of {', '.join(sorted(self.channels))}, got {channel!r:.80}")


def _allowed(record: Record) -> tuple[str, ...]:
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
