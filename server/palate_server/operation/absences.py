"""Absences: devices that were invited and didn't answer aren't invited for a time, which doubles each time.

A device that goes online and vanishes counts as online for up to half an hour. One attempt waits for it; after that it
isn't invited until its time is over. This is kept in memory only.

>>> clock = iter([0.0, 60.0, 1861.0])
>>> absences = Absences(clock=lambda: next(clock))
>>> absences.note([4, 5, 6], heard=[4, 6])
1
>>> absences.present({11: 4, 12: 5, 13: 6}), absences.present({11: 4, 12: 5, 13: 6})
({11: 4, 13: 6}, {11: 4, 12: 5, 13: 6})
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

FIRST, LONGEST = 1800.0, 86400.0
"""Seconds that a device isn't invited: at first as long as it may seem to be online, and at most."""


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

    def present(self, devices: Mapping[int, int]) -> dict[int, int]:
        """Those of the nodes whose devices may be invited now, node -> device."""
        now = self._clock()
        return {node: device for node, device in devices.items() if self._away.get(device, (0.0, now))[1] <= now}
