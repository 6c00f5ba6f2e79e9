"""Messenger: decides on each message, and hands over those that are to be sent. Made by `Device.messenger`.

    Message, signed Campaign -> Judge (consent, rules, choice, record) -> sender

It has no thread: what waits is looked at when the app calls `deliver_waiting`, such as on a timer of its own.
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
from palate_client.delivery.judge import Judge, allowed
from palate_client.delivery.message import Message
from palate_client.delivery.record import REACTIONS, Allowance, Delivery, Record
from palate_client.delivery.rules import DAY, Reason
from palate_common.errors import InputError, PalateError

if TYPE_CHECKING:
    from palate_common.campaign import Campaign

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
        expected: channel -> the rate that users answer it with, where the app knows one.
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
    expected: Mapping[str, float] = field(default_factory=dict)
    fits: Callable[[Campaign], bool] = lambda campaign: False
    verify: Callable[[bytes], Campaign] = _refuse
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def __post_init__(self) -> None:
        for name, sender in self.senders.items():
            self._known(name)
            if not callable(sender):
                raise InputError(f"`senders` must be functions that take messages, got {sender!r:.80} for {name}")
        if isinstance(self.control, bool) or not isinstance(self.control, int | float) or not 0 <= self.control < 1:
            raise InputError(f"`control` must be a share from 0 and below 1, got {self.control!r}")
        for name, rate in self.expected.items():
            self._known(name)
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1:
                raise InputError(f"`expected` must be shares above 0 and below 1, got {rate!r:.40} for {name}")

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
            return allowed(record)

    def deliver(self, message: Message) -> Delivery:
        """Decide on a message, and send it if it is to be sent now.

        A message that was given before, by its id, is not decided on again: what became of it is returned.

        Returns:
            What became of it; true if it was handed to its channel.

        Raises:
            InputError: it is no message.
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
            decided = self._judge.decided(record, Delivery(message, Reason.LOST, "", now), now)
        return self._handed_over([decided])[0] if decided.sent is not None else decided

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
        """Look again at what is waiting and due; what became of each.

        Each is decided on when those before it were handed over: what the user decides meanwhile, or a night that
        begins behind a slow channel, holds for the rest.

        Raises:
            PalateError: the record can't be written; what is on it was sent, and nothing else.
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
            return record.control(self.control)

    @property
    def _judge(self) -> Judge:
        """What decides."""
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
        """Whether it goes with what its channel collects; where that is closed it is decided on like any other."""
        return delivery.reason is Reason.BUNDLED and delivery.channel in self._judge.open_to(record)

    def _groups(self, record: Record, now: float) -> list[list[str]]:
        """Ids of what is due, by what is decided on together: each by itself, then each channel's bundle."""
        alone, bundles = list[list[str]](), dict[str, list[str]]()
        for each in record.due(now):
            if self._together(record, each):
                bundles.setdefault(each.channel, []).append(each.message.id)
            else:
                alone.append([each.message.id])
        return alone + [bundles[channel] for channel in sorted(bundles)]

    def _next(self, groups: deque[list[str]], now: float) -> tuple[list[Delivery], list[Delivery]]:
        """Decide until something is to be sent: that, and what became of all before it."""
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
                    made = [judge.decided(record, each, now) for each in group]
                sent = [each for each in made if each.sent is not None]
                decided += [each for each in made if each.sent is None]
                if sent:
                    return sent, decided
        return [], decided

    def _handed_over(self, group: Sequence[Delivery]) -> list[Delivery]:
        """Hand over what is written down as sent, as one delivery."""
        try:
            self.senders[group[0].channel]([each.message for each in group])
            reason = Reason.SENT
        except Exception as error:  # whatever a channel raises, it is the channel's
            logger.warning("the channel %s did not take a message: %s", group[0].channel, error)
            reason = Reason.FAILED
        try:
            with self.record() as record:
                record.became([each.message.id for each in group], reason)
        except PalateError as error:  # on the disk it is lost, which counts as sent
            logger.warning("what became of a message is not kept: %s", error)
        return [replace(each, reason=reason) for each in group]

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
