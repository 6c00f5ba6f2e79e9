"""Gathering: chooses the cohort of the next attempt from the devices that are online.

Devices are online only while they sync. A cohort is complete when it is full, or, when its time is up, if it is large
enough. If more devices are online than are needed, it is a random choice.

>>> clock = iter([0.0, 5.0, 31.0])
>>> appointment = CohortGathering(size=3, least=2, seconds=30.0, clock=lambda: next(clock))
>>> appointment.look({11: 0}), appointment.look({11: 0, 12: 1}), appointment.look({11: 0, 12: 1})
(None, None, {0: 11, 1: 12})
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping

from palate_common.errors import InputError


class TooFewError(InputError):
    """Too few devices came in time; nothing was charged.

    Args:
        came: how many were there.
        needed: how many were needed.
    """

    def __init__(self, *, came: int, needed: int) -> None:
        super().__init__(f"a cohort needs at least {needed} devices, and {came} came")
        self.came, self.needed = came, needed


class CohortGathering:
    """The gathering of one cohort. Its time begins when the first device is online.

    Args:
        size: the most devices.
        least: the fewest devices.
        seconds: the longest time.
        clock: returns monotonic seconds.
    """

    def __init__(self, *, size: int, least: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._least, self._seconds, self._clock = size, least, seconds, clock
        self._begun: float | None = None

    @property
    def begun(self) -> bool:
        """Whether any device has come."""
        return self._begun is not None

    def look(self, present: Mapping[int, int], *, enough: int | None = None) -> Mapping[int, int] | None:
        """The cohort, device -> node, or None while it is incomplete.

        Args:
            present: node -> device of all devices that are online and may take part.
            enough: number of devices at which the cohort is complete; None: `size`.

        Raises:
            TooFewError: the time is up, and too few devices have come.
        """
        now = self._clock()
        if self._begun is None:
            if not present:
                return None
            self._begun = now
        late = now - self._begun >= self._seconds
        if len(present) >= (self._size if enough is None else enough) or (late and len(present) >= self._least):
            return draw_cohort(present, most=self._size)
        if late:
            raise TooFewError(came=len(present), needed=self._least)
        return None


def draw_cohort(present: Mapping[int, int], *, most: int) -> dict[int, int]:
    """A random choice of at most `most` devices, device -> node, by the operating system's random source."""
    nodes = list(present)
    if len(nodes) > most:
        nodes = secrets.SystemRandom().sample(nodes, most)
    return {present[node]: node for node in nodes}
