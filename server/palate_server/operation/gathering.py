"""Gathering: which of the devices that came take part in the next attempt, and when the others come back.

Devices are online only while they sync. A cohort gathers from those that are: as soon as it is full, or, when its time
is up, if it is large enough. Whom it leaves out is drawn by lot.

>>> clock = iter([0.0, 5.0, 31.0])
>>> appointment = Appointment(size=3, least=2, seconds=30.0, clock=lambda: next(clock))
>>> appointment.look({11: 0}), appointment.look({11: 0, 12: 1}), appointment.look({11: 0, 12: 1})
(None, None, {0: 11, 1: 12})
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping

from palate_common.errors import InputError


class TooFewError(InputError):
    """A cohort didn't gather in its time: nothing was charged."""


class Appointment:
    """One gathering of a cohort. Its time begins when the first device is there.

    Args:
        size: most devices.
        least: fewest.
        seconds: how long it may take.
        clock: monotonic seconds.
    """

    def __init__(self, *, size: int, least: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._least, self._seconds, self._clock = size, least, seconds, clock
        self._begun: float | None = None

    @property
    def begun(self) -> bool:
        """Whether anybody has come."""
        return self._begun is not None

    def look(self, present: Mapping[int, int], *, enough: int | None = None) -> Mapping[int, int] | None:
        """The cohort, device -> node, or None while it gathers.

        Args:
            present: node -> device of everybody who is online and may take part.
            enough: with so many nobody more is waited for; the most devices when left out.

        Raises:
            TooFewError: its time is up.
        """
        now = self._clock()
        if self._begun is None:
            if not present:
                return None
            self._begun = now
        late = now - self._begun >= self._seconds
        if len(present) >= (self._size if enough is None else enough) or (late and len(present) >= self._least):
            return chosen(present, most=self._size)
        if late:
            raise TooFewError(f"a cohort needs at least {self._least} devices, and {len(present)} came")
        return None


def chosen(present: Mapping[int, int], *, most: int) -> dict[int, int]:
    """At most `most` of the devices, device -> node, drawn by the operating system's random source."""
    nodes = list(present)
    if len(nodes) > most:
        nodes = secrets.SystemRandom().sample(nodes, most)
    return {present[node]: node for node in nodes}
