"""Absences: devices that were invited and said nothing, passed over for a time that doubles.

A device that checks in and vanishes counts as online for up to half an hour. An attempt waits for it as long as for all
others, once; then it isn't invited until its time is over. Nothing of it is written down.

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
"""Seconds that a device is passed over: at first, as long as it may seem to be online, and at most."""


class Absences:
    """Who is passed over.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._away: dict[int, tuple[float, float]] = {}  # device -> how long, and until when

    def note(self, invited: Collection[int], *, heard: Collection[int]) -> int:
        """Take in who was invited to an attempt, and who said anything in it; how many are passed over for it.

        Where nobody was heard it was no device's fault.
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
        """Of nodes and their devices, those that are not passed over now."""
        now = self._clock()
        return {node: device for node, device in devices.items() if self._away.get(device, (0.0, now))[1] <= now}
