"""Absences: devices that were invited and didn't answer aren't invited for a time, which doubles each time.

A device may be drawn and vanish. One attempt waits for it; after that it isn't invited until its time is over. This is
kept in memory only.

>>> clock = iter([0.0, 60.0, 1861.0])
>>> absences = Absences(clock=lambda: next(clock))
>>> absences.note([4, 5, 6], heard=[4, 6])
1
>>> absences.present([4, 5, 6]), absences.present([4, 5, 6])
({4, 6}, {4, 5, 6})
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

FIRST, LONGEST = 1800.0, 86400.0
"""Seconds that a device isn't invited: at first, and at most."""


class Absences:
    """The devices that aren't invited now.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._away: dict[int, tuple[float, float]] = {}  # device -> for how long, and until when

    def note(self, invited: Collection[int], *, heard: Collection[int]) -> int:
        """Record which devices were invited to an attempt, and which answered; returns how many didn't.

        If no device answered, the fault isn't the devices', and nothing is recorded.
        """
        silent = [device for device in invited if device not in heard] if heard else []
        now = self._clock()
        for device in heard:
            self._away.pop(device, None)
        for device in silent:
            seconds = min(LONGEST, 2 * self._away[device][0]) if device in self._away else FIRST
            self._away[device] = seconds, now + seconds
        return len(silent)

    @property
    def count(self) -> int:
        """How many devices may be away."""
        return len(self._away)

    def present(self, devices: Iterable[int]) -> set[int]:
        """Those of the devices that may be invited now."""
        now = self._clock()
        return {device for device in devices if self._away.get(device, (0.0, now))[1] <= now}
