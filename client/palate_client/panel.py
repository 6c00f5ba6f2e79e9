"""Panel: the log of a user who shares it openly, for a panel that everybody may read. Palate itself never sends it.

    EventStore -> Interests -> OpenLog -> the app, which delivers it by its own means

It needs the purpose `panel`, which is off until the user agrees, and on which nothing else depends. Unlike what a
device sends in a round, nothing in it is clipped or noised: it is public once it is published.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np

from palate_client.consent import Consent
from palate_client.models import Models
from palate_client.recommend.interests import Interests
from palate_client.store.journal import Journal, Opened
from palate_client.store.retention import SET_CLOCK
from palate_client.store.store import EventStore
from palate_common.weighting import Weighting
from palate_core.errors import RefusedError

WORDS = """\
Share openly what you like

If you agree, {app} makes public which items of its catalogue you looked at, liked or bought, and on which day.

What: one line for each such item that says something about your taste, with the day of the last time (UTC). Not
shared: what you rejected, what isn't in the public catalogue, times of the day, how often and how much, searches,
messages. Your name, your account and the number of this device are not part of it. Still, whoever knows some of what
you did may recognise you by it, and then learns the rest.

With whom: anybody. {app} makes recommendations better with it, for everybody, and may publish it. Anybody may then
read it, copy it and use it for purposes of their own. The noise that protects what this device otherwise sends does
not protect it.

It is your choice: it is off unless you turn it on, nothing else depends on it, and {app} works the same without it.
What else you agreed to, such as training with noise, doesn't change.

You can stop at any time, as easily as you began, without a reason and without a disadvantage. From then on this device
hands over nothing more, and {app} leaves you out of its next panel and of what is made of it. What was published
before can't be called back: copies of it stay, and so do recommendations and models that were made of it.
"""


@dataclass(frozen=True)
class OpenLog:
    """What one user shares openly: items of the public catalogue, each once, and the day of the last time.

    Attributes:
        items: ids, in the order of the catalogue.
        days: of each, such as "2026-11-27", UTC; "" where it isn't known.
        version: version of the text that the user agreed to.
    """

    WORDS: ClassVar[str] = WORDS
    """What a user should be told before they agree, in English; `{app}` stands for whoever is responsible. An app adds
    who that is and how to reach them, how long a panel is kept, the user's rights, and what else its law asks for."""

    items: tuple[str, ...]
    days: tuple[str, ...]
    version: str

    def csv(self) -> str:
        """The log as the simulator and `palate serve panel` read it, with the columns item_id and timestamp.

        It has no column for the user: whoever joins logs of several people gives each a number of their own.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("item_id", "timestamp"))
        writer.writerows(zip(self.items, self.days, strict=True))
        return text.getvalue()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        events = [{"item_id": item, "timestamp": day} for item, day in zip(self.items, self.days, strict=True)]
        return {"palate": "open log", "format": 1, "version": self.version, "events": events}


def open_log(store: EventStore, consent: Consent, models: Models, weighting: Weighting) -> OpenLog:
    """What the user shares openly now; see `Device.open_log`.

    **Guarantees:** without consent to `panel` nothing is read, and nothing is handed over; each time is recorded for
    the privacy report before anything is handed over.

    Raises:
        RefusedError: the user has not agreed, or no longer agrees; or there is no model yet, which names the catalogue.
        PalateError: the store can't be read or written.
    """
    version = _agreed_version(consent)
    current = models.current()
    if current is None:
        raise RefusedError("this device has no model yet, so that it doesn't know which items are public")
    found = Interests(store, current.items, weighting).look().weighed
    latest = np.fmax.reduceat(found.times, found.starts) if len(found.starts) else np.zeros(0)
    items = tuple(current.items[row] for row in found.rows.tolist())
    log = OpenLog(items, _days(latest.tolist(), store.clock()), version)
    with Journal(store.file) as journal, store.file.there():
        journal.open_log(Opened(store.clock(), len(items), version))
    if _agreed_version(consent) != version:
        raise RefusedError("the user has decided anew meanwhile: ask again")
    return log


def _agreed_version(consent: Consent) -> str:
    """The version of the text that the user agreed to."""
    if not consent.get("panel"):
        raise RefusedError("the user has not agreed, or no longer agrees, to share their log openly")
    return consent.history("panel")[-1].version


def _days(times: Sequence[float], now: float) -> tuple[str, ...]:
    """The days of times; a time after now, or of a clock that wasn't set, isn't known."""
    known = [SET_CLOCK <= time <= now for time in times]
    return tuple(
        f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}" if here else "" for time, here in zip(times, known, strict=True)
    )
