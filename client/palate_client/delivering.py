"""Delivering: messages to the user, decided here, and how the user and the app get on. That part of `palate.Device`.

    messenger = device.messenger({"notification": show})
    messenger.allow("notification")
    messenger.deliver(palate.Message("new-7", title="A new book", item="book-7"))
    device.loyalty().stickiness

What decides is imported when it is first used.
"""

from __future__ import annotations

import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from palate_client.consent import Consent
from palate_client.store.store import EventStore
from palate_common.errors import InputError

if TYPE_CHECKING:
    from palate_client.delivery.calendar import Calendar
    from palate_client.delivery.channel import Channel, Sender
    from palate_client.delivery.messenger import Messenger
    from palate_client.loyalty import Loyalty
    from palate_client.service import Service
    from palate_client.store.activity import Past
    from palate_common.campaign import Campaign


class Delivering(ABC):
    """Messages, and loyalty.

    Attributes:
        store: the encrypted events.
        consent: what the user agreed to.
        service: the server whose campaigns are taken; None: nobody's.
        calendar: the user's.
    """

    store: EventStore
    consent: Consent
    service: Service | None
    calendar: Calendar

    def messenger(
        self,
        senders: Mapping[str, Sender],
        *,
        channels: Iterable[Channel] = (),
        control: float | None = None,
        expected: Mapping[str, float] | None = None,
    ) -> Messenger:
        """What decides on messages to the user, and hands over those that are to be sent.

        Args:
            senders: what brings messages to the user, by channel: a function that takes them. `palate.apprise_sender`
                makes one for e-mail, SMS, chats and the desktop.
            channels: with other caps or quiet hours than the usual ones, or channels of the app's own.
            control: the share of devices that get no messages; None: 0.05.
            expected: channel -> the rate that users answer it with, such as the `ctr` of a survey: where a new user's
                choice starts from. None: nobody knows.

        Raises:
            InputError: a sender or a rate for a channel that doesn't exist, or no share.
        """
        from palate_client.delivery.channel import CHANNELS
        from palate_client.delivery.messenger import CONTROL, Messenger
        from palate_client.delivery.record import record_of

        return Messenger(
            record=partial(record_of, self.store.file),
            agreed=lambda: self.consent.get("messaging"),
            clock=self.store.clock,
            senders=dict(senders),
            channels=CHANNELS | {each.name: each for each in channels},
            calendar=self.calendar,
            control=CONTROL if control is None else control,
            expected=dict(expected or {}),
            fits=self._fits,
            verify=self._verified,
        )

    def arm(self, experiment: str) -> Literal["a", "b"]:
        """This device's arm of an A/B test: a coin that it tosses once, and tells nobody. From now on it takes part.

        Args:
            experiment: the test's name, as surveys ask for it.

        Raises:
            InputError: no name.
            PalateError: the record can't be written.
        """
        from palate_client.delivery.record import record_of
        from palate_client.rounds.survey_answers import arm_of

        if not re.fullmatch(r"[a-z0-9_-]{1,40}", experiment):
            raise InputError(f"`experiment` must be a name of a-z, 0-9, - and _, got {experiment!r:.80}")
        with record_of(self.store.file) as record:
            return "a" if arm_of(record.coin(f"arm:{experiment}", secrets.randbelow(2**32) / 2**32)) == "a" else "b"

    def loyalty(self, *, amount: str = "amount") -> Loyalty:
        """How the user and the app get on; each figure is defined in `palate_client.loyalty.DEFINITIONS`.

        Args:
            amount: the property of a purchase that holds its money.

        Raises:
            PalateError: the store can't be read.
        """
        from palate_client.loyalty import loyalty

        past = self._past(amount)
        return loyalty(past, now=self.store.clock(), calendar=self.calendar, first=self.store.first())

    def _delivery_lines(self) -> Iterator[str]:
        """What was told to the user, for the export."""
        from palate_client.delivery.record import delivery_lines, record_of

        with record_of(self.store.file) as record:
            lines = list(delivery_lines(record))
        for line in lines:
            yield json.dumps(line, ensure_ascii=False)

    def _verified(self, signed: bytes) -> Campaign:
        """A campaign of the service's."""
        from palate_common.campaign import open_campaign

        if self.service is None:
            raise InputError("`service` must be given to `palate.open`: campaigns come from one")
        service = self.service
        return open_campaign(
            signed, public_key=service.public_key, now=self.store.clock(), population=service.population
        )

    @abstractmethod
    def _past(self, amount: str | None = None) -> Past:
        """What the user did; money as the property says that was asked for last."""

    @abstractmethod
    def _fits(self, campaign: Campaign) -> bool:
        """Whether a campaign's item is in the top share of the catalogue for this user."""
