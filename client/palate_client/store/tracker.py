"""Tracker: puts events into the store for a host that must go on whatever the machine does.

    Device.track, Recommendations.feedback -> Tracker -> EventStore

What the machine can't do (a full disk, a locked file) never raises here: the outcome says so, and `problem` why.
"""

from __future__ import annotations

import logging

from palate_client.events import Event, Tracked
from palate_client.store.pace import ahead
from palate_client.store.store import EventStore
from palate_common.errors import PalateError

logger = logging.getLogger("palate")


class Tracker:
    """What stores a user's events.

    Args:
        store: where to.

    Attributes:
        problem: why the latest event could not be kept; empty if none failed.
    """

    def __init__(self, store: EventStore) -> None:
        self.problem = ""
        self._store = store

    def add(self, events: list[Event]) -> list[Tracked]:
        """Store events in one transaction: all that can be, or, if the machine fails, none. What became of each."""
        try:
            with ahead():
                return self._store.add(events)
        except (PalateError, OSError) as error:
            if self.problem != str(error):
                self.problem = str(error)
                logger.warning("events are not kept: %s", error)
            return [Tracked.FAILED] * len(events)
