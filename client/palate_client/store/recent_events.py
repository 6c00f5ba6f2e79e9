"""RecentEvents: the latest events in memory, to recognise duplicates and too many events without reading the disk.

An event counts at its own time, whenever it was stored: at the time that it was given, or else when it was tracked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from palate_client.store.retention import DAY, Limits

KNOWN = 4096
"""Number of events, those that were stored last, among which a duplicate is looked for."""


@dataclass
class RecentEvents:
    """The newest events of a store.

    Attributes:
        limits: the store's limits.
        last: sequence number of the newest event; 0 if there is none.
        count: number of events in the store.
        days: day of its own (UTC, in days since 1970) -> events that were tracked for it; imports don't count.
    """

    limits: Limits
    last: int = 0
    count: int = 0
    days: dict[int, int] = field(default_factory=dict)
    _recent: dict[tuple[str, str, int], tuple[float, float | None]] = field(default_factory=dict)

    def add(self, kind: str, item: str, value: float | None, time: float, *, tracked: bool = True) -> None:
        """Add an event that is in the store; only `tracked` ones count for their day."""
        self.count += 1
        if tracked:
            day = math.floor(time / DAY)
            self.days[day] = self.days.get(day, 0) + 1
        self.remember(kind, item, value, time)

    def remember(self, kind: str, item: str, value: float | None, time: float) -> None:
        """Recognise later duplicates of an event that is in the store."""
        if self.limits.window_seconds:
            key = (kind, item, self._window(time))
            self._recent.pop(key, None)  # so that it becomes the newest
            self._recent[key] = time, value
            if len(self._recent) > KNOWN:
                del self._recent[next(iter(self._recent))]

    def repeats(self, kind: str, item: str, value: float | None, time: float) -> bool:
        """Whether the same event on the item is within `window_seconds`, before or after `time`.

        Another rating of the item than the nearest one is not a repetition.
        """
        found = list(self._near(kind, item, time)) if self.limits.window_seconds else []
        nearest, before = min(found, key=lambda each: abs(time - each[0]), default=(math.inf, None))
        return abs(time - nearest) < self.limits.window_seconds and (kind != "rate" or value == before)

    def is_full(self, time: float) -> bool:
        """Whether the limit of this day is reached."""
        return self.days.get(math.floor(time / DAY), 0) >= self.limits.max_per_day

    def _near(self, kind: str, item: str, time: float) -> Iterable[tuple[float, float | None]]:
        """The latest of these events in each of the windows around a time."""
        window = self._window(time)
        for each in (window - 1, window, window + 1):
            if (known := self._recent.get((kind, item, each))) is not None:
                yield known

    def _window(self, time: float) -> int:
        """The number of the window that a time is in."""
        return math.floor(time / self.limits.window_seconds)
