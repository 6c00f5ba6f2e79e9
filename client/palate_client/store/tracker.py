"""Tracker: stores events without raising errors of the machine, so that the host app goes on.

    Device.track, Recommendations.feedback -> Tracker -> EventStore

After a failure of the machine (a full disk, a locked file) the result says that it failed, and `problem` why. An app
that doesn't look at results is told by `debug` what else isn't kept, or is kept and never counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from palate_client.events import Event, Tracked, check_kind
from palate_client.store.pace import ahead
from palate_client.store.store import EventStore
from palate_core.errors import PalateError

logger = logging.getLogger("palate")


SILENT = {
    Tracked.DUPLICATE: "the store has it already: another id, or a time of its own, makes it another event",
    Tracked.NO_CONSENT: 'the user has not agreed: device.consent.grant("store")',
    Tracked.LIMITED: "its day has as many events as `limits` let in",
    Tracked.TOO_OLD: "its time is older than `limits` keep events",
}
"""Why an event isn't kept, of which a release says nothing but the result."""


class Tracker:
    """Stores a user's events.

    Args:
        store: the store.
        known: the kinds that it takes.
        items: to debug an app: returns the items of its model, () if there is none, for warnings of what is silent
            otherwise; None: it isn't debugged.

    Attributes:
        problem: why the latest failed event could not be stored; empty if none failed.
    """

    def __init__(
        self, store: EventStore, known: Collection[str], items: Callable[[], Collection[str]] | None = None
    ) -> None:
        self.problem = ""
        self._store, self._known, self._items = store, known, items

    def add(self, events: list[Event]) -> list[Tracked]:
        """Store events in one transaction: all valid ones, or, if the machine fails, none. A result for each.

        Raises:
            InputError: a kind that this device doesn't know; nothing was stored.
        """
        for event in events:
            check_kind(event, self._known)
        try:
            with ahead():
                results = self._store.add(events)
            if self._items is not None:
                self._warn(events, results, self._items())
            return results
        except (PalateError, OSError) as error:
            if self.problem != str(error):
                self.problem = str(error)
                logger.warning("events are not kept: %s", error)
            return [Tracked.FAILED] * len(events)

    def _warn(self, events: list[Event], results: list[Tracked], known: Collection[str]) -> None:
        """Say of each event why it isn't kept, or why it counts for nothing."""
        for event, result in zip(events, results, strict=True):
            if result in SILENT:
                logger.warning("%s of %.80r is not kept: %s", event.kind, event.item, SILENT[result])
            elif known and event.item not in known:
                logger.warning("%s of %.80r counts for nothing: the model has no such item", event.kind, event.item)
