"""Totals: how many events of which kind a store has, and when. The database counts them; the counts stay in memory.

EventStore -> Totals -> EventCounts -> PageFacts

>>> from zoneinfo import ZoneInfo
>>> counted = EventCounts({"view": 2, "impression": 9}, {1_989_392: 2})
>>> counted.days(Calendar(ZoneInfo("Asia/Shanghai")))
{datetime.date(2026, 9, 27): 2}

A span of events is counted in SQL, so that no event of a million is read into memory. As in
`palate_client.store.reading`, other threads can track between two spans, and a later call counts what is new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from palate_client.delivery.calendar import Calendar
from palate_client.store.activity import PASSIVE
from palate_client.store.pace import Pace
from palate_client.store.store import EventStore

QUARTER = 900
"""Seconds: offsets of time zones are multiples of it, so a quarter of an hour is within one local day, in all zones."""
SPAN = 2000
"""Sequence numbers of the events that are counted in one transaction."""
_COUNT = (
    "SELECT kind, CAST(CASE WHEN imported <= 1 THEN time END / 900 AS INTEGER) AS quarter, count(*)"
    " FROM events WHERE seq > ? AND seq <= ?"
    " GROUP BY quarter, kind"  # in this order: events are in the order of time, more or less
)


@dataclass(frozen=True)
class EventCounts:
    """The counts of a store.

    Attributes:
        kinds: kind -> number of events.
        quarters: number of the quarter of an hour since 1970 -> the user's actions in it, an imported history apart.
    """

    kinds: Mapping[str, int] = field(default_factory=dict)
    quarters: Mapping[int, int] = field(default_factory=dict)

    def days(self, calendar: Calendar) -> dict[date, int]:
        """The user's actions by local day, days ascending."""
        found, quarters = Counter[int](), list(self.quarters)
        days = calendar.days(np.array(quarters, float) * QUARTER)
        for day, quarter in zip(days.tolist(), quarters, strict=True):
            found[day] += self.quarters[quarter]
        return {date.fromordinal(day): found[day] for day in sorted(found)}


class Totals:
    """The counts of one store. Each call first counts new events.

    Args:
        store: the user's events.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._known: tuple[int, int, Counter[str], Counter[int]] = (-1, 0, Counter(), Counter())

    def now(self) -> EventCounts:
        """The counts now.

        Raises:
            PalateError: the store can't be read.
        """
        generation, last, kinds, quarters = self._known
        kinds, quarters, pace = kinds.copy(), quarters.copy(), Pace()
        while True:
            with self._store.transaction() as connection:
                found = connection.execute("SELECT value FROM meta WHERE name = 'generation'").fetchone()
                if (now := 0 if found is None else int(found[0])) != generation:  # events were dropped: count anew
                    generation, last, kinds, quarters = now, 0, Counter(), Counter()
                (newest,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
                end = min(last + SPAN, newest)
                rows = connection.execute(_COUNT, (last, end)).fetchall()
            for kind, quarter, count in rows:
                kinds[kind] += count
                if quarter is not None and kind not in PASSIVE:
                    quarters[quarter] += count
            last = end
            if last >= newest:
                break
            pace()
        self._known = generation, last, kinds, quarters
        return EventCounts(kinds, quarters)
