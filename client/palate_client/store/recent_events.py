"""Recent events: the latest events, kept in mind so that a repeat or a flood is seen without asking the disk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from palate_client.store.retention import DAY, Limits


@dataclass
class RecentEvents:
    """What a store knows of its newest events.

    Attributes:
        limits: the store's bounds.
        last: the newest event's number; 0 without any.
        count: events in the store.
        today: the day (UTC, since 1970) of the newest tracked event, and how many were tracked on it.
    """

    limits: Limits
    last: int = 0
    count: int = 0
    today: tuple[int, int] = (0, 0)
    _recent: dict[tuple[str, str], tuple[float, float | None]] = field(default_factory=dict)

    def add(self, kind: str, item: str, value: float | None, received: float, *, tracked: bool = True) -> None:
        """Take note of an event that is in the store; `tracked` ones count for the day."""
        self.count += 1
        day, n = self.today
        if tracked:
            now = math.floor(received / DAY)
            self.today = (now, n + 1 if now == day else 1)
        if len(self._recent) >= 4096:
            newest = received - self.limits.window_seconds
            self._recent = {pair: last for pair, last in self._recent.items() if last[0] >= newest}
            if len(self._recent) >= 4096:
                self._recent.clear()
        self._recent[kind, item] = received, value

    def repeats(self, kind: str, item: str, value: float | None, now: float) -> bool:
        """Whether the same was done with the item a moment ago; a clock that went back counts as a moment.

        Another verdict is a changed mind, and no repeat.
        """
        at, before = self._recent.get((kind, item), (math.inf, None))
        return abs(now - at) < self.limits.window_seconds and (kind != "rate" or value == before)

    def is_full(self, now: float) -> bool:
        """Whether today's bound is reached."""
        day, n = self.today
        return n >= self.limits.max_per_day and day == math.floor(now / DAY)
