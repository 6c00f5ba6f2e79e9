"""Messenger: decides on each message, and hands over those that are to be sent now. `Device.messenger` makes it.

    Message, signed Campaign -> Judge (consent, rules, choice, record) -> sender

It has no thread: the app calls `deliver_waiting`, for example on a timer, to send messages that have waited.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from palate_client.delivery.calendar import Calendar
from palate_client.delivery.channel import CHANNELS, Channel, Sender
from palate_client.delivery.judge import Judge, allowed_channels
from palate_client.delivery.message import Message
from palate_client.delivery.record import REACTIONS, Allowance, Delivery, Record
from palate_client.delivery.rules import DAY, Reason
from palate_core.errors import InputError, PalateError

if TYPE_CHECKING:
    from palate_common.campaign import Campaign

logger = logging.getLogger("palate")

CONTROL = 0.05
"""Share of devices that get no messages, so that the effect of messages can be measured."""
LASTS = 7 * DAY
"""Seconds after which a message without an expiry expires."""


def _refuse(_signed: bytes) -> Campaign:
    """Refuse every campaign: there is no service that could have signed it."""
    raise InputError("`service` must be given to `palate.open`: campaigns come from one")


@dataclass(frozen=True, kw_only=True)
class Messenger:
    """Decides on one device's messages and sends them.

    Attributes:
        record: opens the record for one transaction.
        agreed: whether the user has agreed to `messaging`; otherwise nothing is sent.
        clock: returns the time in seconds since 1970.
        senders: channel -> the function that sends messages on it.
        channels: their caps and quiet hours.
        calendar: the user's calendar.
        control: the share of devices that get only transactional messages; each device draws once whether it is one.
        expected: channel -> the share of deliveries that users react to, where the app knows it.
        fits: whether a campaign's item is in the top share of the catalogue for this user.
        verify: verifies and reads a campaign that a server sent.
        rng: random numbers for the choice.
    """

    record: Callable[[], AbstractContextManager[Record]]
    agreed: Callable[[], bool]
    clock: Callable[[], float]
    senders: Mapping[str, Sender]
    channels: Mapping[str, Channel] = field(default_factory=lambda: dict(CHANNELS))
    calendar: Calendar = field(default_factory=Calendar)
    control: float = CONTROL
    expected: Mapping[str, float] = field(default_factory=dict)
    fits: Callable[[Campaign], bool] = lambda _: False
    verify: Callable[[bytes], Campaign] = _refuse
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def __post_init__(self) -> None:
        for name, sender in self.senders.items():
            self._check_channel(name)
            if not callable(sender):
                raise InputError(f"`senders` must be functions that take messages, got {sender!r:.80} for {name}")
        if isinstance(self.control, bool) or not isinstance(self.control, int | float) or not 0 <= self.control < 1:
            raise InputError(f"`control` must be a share from 0 and below 1, got {self.control!r}")
        for name, rate in self.expected.items():
            self._check_channel(name)
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1:
                raise InputError(f"`expected` must be shares above 0 and below 1, got {rate!r:.40} for {name}")

    def allow(self, channel: str, *, version: str = "1") -> Allowance:
        """Record that the user wants messages on a channel. A channel that wasn't allowed gets none.

        Args:
            channel: one of `channels`.
            version: version of the text that the user was shown.

        Raises:
            InputError: no such channel.
        """
        return self._decide(channel, True, version)

    def disallow(self, channel: str, *, version: str = "1") -> Allowance:
        """Record that the user no longer wants messages on a channel. This holds for waiting messages, too."""
        return self._decide(channel, False, version)

    def allowed(self) -> tuple[str, ...]:
        """The channels that the user allows, sorted."""
        with self.record() as record:
            return allowed_channels(record)

    def deliver(self, message: Message) -> Delivery:
        """Decide on a message, and send it if it is to be sent now.

        A message whose id was given before is not decided on again: the earlier decision is returned.

        Returns:
            The decision; it is true if the message was handed to its channel.

        Raises:
            InputError: `message` is not a `Message`.
            PalateError: the record can't be written; nothing was sent.
        """
        if not isinstance(message, Message):
            raise InputError(f"`message` must be a `palate.Message`, got {message!r:.80}")
        now = self.clock()
        with self.record() as record:
            record.settle(now)
            if (known := record.find(message.id)) is not None:
                return known
            if message.expires is None:
                message = replace(message, expires=now + LASTS)
            decided = self._judge.decide(record, Delivery(message, Reason.LOST, "", now), now)
        return self._handed_over([decided])[0] if decided.sent is not None else decided

    def offer(self, signed: bytes) -> Delivery:
        """Decide on a server's campaign: like `deliver`, if its signature is valid and it fits this user.

        Args:
            signed: what `palate_common.campaign.sign_campaign` made.

        Raises:
            IntegrityError, RefusedError: the service didn't sign it, or it is over; nothing is recorded.
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
        """Decide again on all waiting messages that are due, and return the decisions.

        Each is decided on after those before it were handed over: if a channel is slow, a decision of the user's or a
        quiet hour that begins meanwhile holds for the rest.

        Raises:
            PalateError: the record can't be written. Only what it has as sent was sent.
        """
        now = self.clock()
        with self.record() as record:
            record.settle(now)
            groups = deque(self._groups(record, now))
        became = list[Delivery]()
        while groups:
            handed, others = self._next(groups, self.clock())
            became += others
            if handed:
                became += self._handed_over(handed)
        return became

    def reacted(self, id: str, reaction: str) -> bool:
        """Record what the user did with a message. Later choices of channel, hour and pace use it.

        Args:
            id: the message's id.
            reaction: opened, clicked, bought, dismissed or unsubscribed. The last also disallows the channel.

        Returns:
            Whether a message of this id was sent.

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
        """All recorded messages, sent or not, each with its reason, oldest first."""
        with self.record() as record:
            return record.all()

    def in_control(self) -> bool:
        """Whether this device is in the control group, which gets only transactional messages."""
        with self.record() as record:
            return record.control(self.control)

    @property
    def _judge(self) -> Judge:
        return Judge(
            agreed=self.agreed,
            senders=self.senders,
            channels=self.channels,
            calendar=self.calendar,
            control=self.control,
            expected=self.expected,
            rng=self.rng,
        )

    def _together(self, record: Record, delivery: Delivery) -> bool:
        """Whether a message is part of its channel's bundle, and the channel is still allowed."""
        return delivery.reason is Reason.BUNDLED and delivery.channel in self._judge.open_to(record)

    def _groups(self, record: Record, now: float) -> list[list[str]]:
        """Ids of the due messages, grouped by what is decided on together: single ones, then each channel's bundle."""
        alone, bundles = list[list[str]](), dict[str, list[str]]()
        for each in record.due(now):
            if self._together(record, each):
                bundles.setdefault(each.channel, []).append(each.message.id)
            else:
                alone.append([each.message.id])
        return alone + [bundles[channel] for channel in sorted(bundles)]

    def _next(self, groups: deque[list[str]], now: float) -> tuple[list[Delivery], list[Delivery]]:
        """Decide on groups until one is to be sent: the messages to send, and the other decisions so far."""
        judge, decided = self._judge, list[Delivery]()
        with self.record() as record:
            record.settle(now)
            while groups:
                found = (record.find(id) for id in groups.popleft())
                # Another process may have been faster.
                group = [each for each in found if each is not None and each.due is not None and each.due <= now]
                if len(group) > 1 or any(self._together(record, each) for each in group):
                    made = judge.bundle(record, group, now)
                else:
                    made = [judge.decide(record, each, now) for each in group]
                sent = [each for each in made if each.sent is not None]
                decided += [each for each in made if each.sent is None]
                if sent:
                    return sent, decided
        return [], decided

    def _handed_over(self, group: Sequence[Delivery]) -> list[Delivery]:
        """Hand messages that are recorded as sent to their channel, as one delivery."""
        try:
            self.senders[group[0].channel]([each.message for each in group])
            reason = Reason.SENT
        except Exception as error:  # a sender is the app's code and may raise anything
            logger.warning("the channel %s did not take a message: %s", group[0].channel, error)
            reason = Reason.FAILED
        try:
            with self.record() as record:
                record.set_reason([each.message.id for each in group], reason)
        except PalateError as error:  # the record still has `LOST`, which counts as sent
            logger.warning("what became of a message is not kept: %s", error)
        return [replace(each, reason=reason) for each in group]

    def _decide(self, channel: str, granted: bool, version: str) -> Allowance:
        self._check_channel(channel)
        if not isinstance(version, str) or not 1 <= len(version) <= 200:
            raise InputError(f"`version` must be text of 1 to 200 characters, got {version!r:.80}")
        made = Allowance(channel, granted, version, self.clock())
        with self.record() as record:
            record.allow(made)
        return made

    def _check_channel(self, channel: str) -> None:
        if channel not in self.channels:
            raise InputError(f"`channel` must be one of {', '.join(sorted(self.channels))}, got {channel!r:.80}")
