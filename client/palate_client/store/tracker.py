"""Tracker: stores events without raising errors of the machine, so that the host app goes on.

    Device.track, Recommendations.feedback -> Tracker -> EventStore

After a failure of the machine (a full disk, a locked file) the result says that it failed, and `problem` why.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from palate_client.events import Event, Tracked, check_kind
from palate_client.store.pace import ahead
from palate_client.store.store import EventStore
from palate_core.errors import PalateError

logger = logging.getLogger("palate")


class Tracker:
    """Stores a user's events.

    Args:
        store: the store.
        known: the kinds that it takes.

    Attributes:
        problem: why the latest failed event could not be stored; empty if none failed.
    """

    def __init__(self, store: EventStore, known: Collection[str]) -> None:
        self.problem = ""
        self._store, self._known = store, known

    def add(self, events: list[Event]) -> list[Tracked]:
        """Store events in one transaction: all valid ones, or, if the machine fails, none. A result for each.

        Raises:
            InputError: a kind that this device doesn't know; nothing was stored.
        """
        for event in events:
            check_kind(event, self._known)
        try:
            with ahead():
                return self._store.add(events)
        except (PalateError, OSError) as error:
            if self.problem != str(error):
                self.problem = str(error)
                logger.warning("events are not kept: %s", error)
            return [Tracked.FAILED] * len(events)
