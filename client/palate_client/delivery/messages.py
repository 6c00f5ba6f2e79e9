"""Messages: the part of a device that decides on messages to its user: `Device.messages`.

Consent, calendar, service, recommendations -> Messenger -> record
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from palate_client.consent import Consent
from palate_client.delivery.calendar import Calendar
from palate_client.delivery.channel import CHANNELS, Channel, Sender
from palate_client.delivery.messenger import CONTROL, Messenger
from palate_client.delivery.record import arm_of, delivery_lines, record_of
from palate_client.service import Service
from palate_client.store.store import EventStore
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_common.campaign import Campaign


@dataclass(frozen=True)
class Messages:
    """Messages to the user of one device.

    Attributes:
        store: the encrypted events; the record of messages lies beside it.
        consent: what the user agreed to.
        service: the server whose campaigns are accepted; None: there is none.
        calendar: the user's calendar.
        fits: whether a campaign's item is in the top share of the catalogue for this user.
    """

    store: EventStore
    consent: Consent
    service: Service | None
    calendar: Calendar
    fits: Callable[[Campaign], bool]

    def messenger(
        self,
        senders: Mapping[str, Sender],
        *,
        channels: Iterable[Channel] = (),
        control: float | None = None,
        expected: Mapping[str, float] | None = None,
    ) -> Messenger:
        """Make a messenger, see `Device.messenger`."""
        return Messenger(
            record=partial(record_of, self.store.file),
            agreed=partial(self.consent.get, "messaging"),
            clock=self.store.clock,
            senders=dict(senders),
            channels=CHANNELS | {each.name: each for each in channels},
            calendar=self.calendar,
            control=CONTROL if control is None else control,
            expected=dict(expected or {}),
            fits=self.fits,
            verify=self._open_campaign,
        )

    def arm(self, experiment: str) -> Literal["a", "b"]:
        """This device's arm of an experiment, see `Device.arm`."""
        if not re.fullmatch(r"[a-z0-9_-]{1,40}", experiment):
            raise InputError(f"`experiment` must be a name of a-z, 0-9, - and _, got {experiment!r:.80}")
        with record_of(self.store.file) as record:
            return arm_of(record.coin(f"arm:{experiment}", secrets.randbelow(2**32) / 2**32))

    def export_lines(self) -> Iterator[str]:
        """The recorded messages as lines of JSON, for the user's export."""
        with record_of(self.store.file) as record:
            lines = list(delivery_lines(record))
        for line in lines:
            yield json.dumps(line, ensure_ascii=False)

    def _open_campaign(self, signed: bytes) -> Campaign:
        """Verify and read a campaign that the service has signed."""
        from palate_common.campaign import open_campaign  # here: most apps have no campaigns, and it loads pydantic

        service = self.service
        if service is None:
            raise InputError("`service` must be given to `palate.open`: campaigns come from one")
        return open_campaign(
            signed, public_key=service.public_key, now=self.store.clock(), population=service.population
        )
