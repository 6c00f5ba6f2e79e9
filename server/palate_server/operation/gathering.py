"""Gathering: chooses the cohort of the next attempt from the devices that are online.

Devices are online only while they sync. A cohort is complete when it is full, or, when its time is up, if it is large
enough. Only those are drawn that declare the consent and the time for it: who would refuse, or leave in the middle,
costs everybody a charge. If more devices are online than are needed, it is a random choice.

>>> clock = iter([0.0, 5.0, 31.0])
>>> appointment = CohortGathering(size=3, least=2, seconds=30.0, clock=lambda: next(clock))
>>> appointment.look({11: 0}), appointment.look({11: 0, 12: 1}), appointment.look({11: 0, 12: 1})
(None, None, {0: 11, 1: 12})
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping

from palate_common.rounds.exchange import SURVEYS, Availability
from palate_core.errors import InputError


class TooFewError(InputError):
    """Too few devices came in time; nothing was charged.

    Args:
        came: how many were there.
        needed: how many were needed.
        unfit: why others that were online couldn't take part -> how many they were.
    """

    def __init__(self, *, came: int, needed: int, unfit: Mapping[str, int]) -> None:
        others = "".join(f"; others that {why}: {count}" for why, count in unfit.items())
        super().__init__(f"a cohort needs at least {needed} devices, and {came} came{others}")
        self.came, self.needed = came, needed


class CohortGathering:
    """The gathering of one cohort. Its time begins when the first device is online, whether it can take part or not.

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

    def look(
        self, present: Mapping[int, int], *, enough: int | None = None, unfit: Mapping[str, int] | None = None
    ) -> Mapping[int, int] | None:
        """The cohort, device -> node, or None while it is incomplete.

        Args:
            present: node -> device of all devices that are online and may take part.
            enough: number of devices at which the cohort is complete; None: `size`.
            unfit: why others that are online can't take part in this one -> how many they are.

        Raises:
            TooFewError: the time is up, and too few devices have come.
        """
        now = self._clock()
        if self._begun is None:
            if not present and not unfit:
                return None
            self._begun = now
        late = now - self._begun >= self._seconds
        if len(present) >= (self._size if enough is None else enough) or (late and len(present) >= self._least):
            return draw_cohort(present, most=self._size)
        if late:
            raise TooFewError(came=len(present), needed=self._least, unfit=unfit or {})
        return None


def fit(
    devices: Mapping[int, int], online: Mapping[int, Availability], *, takes: int, stays: float
) -> tuple[dict[int, int], dict[str, int]]:
    """Those of the devices that are online and declare that they take part in this, and stay for long enough.

    >>> online = {11: Availability(90.0, takes=3), 12: Availability(90.0, takes=1), 13: Availability(5.0, takes=3)}
    >>> fit({11: 0, 12: 1, 13: 2, 14: 3}, online, takes=SURVEYS, stays=70.0)
    ({11: 0}, {'take no part in surveys': 1, 'stay for less than 70 s': 1})

    Args:
        devices: node -> device of all that may be invited.
        online: node -> what it declares, of all that are online.
        takes: `TRAINING` or `SURVEYS`.
        stays: seconds that they must stay.

    Returns:
        The devices, node -> device; and why others that are online are none of them -> how many these are.
    """
    found, unfit = dict[int, int](), dict[str, int]()
    for node, declared in online.items():
        if node not in devices:
            continue
        if declared.takes & takes and declared.stays >= stays:
            found[node] = devices[node]
            continue
        why = f"stay for less than {stays:.0f} s"
        if not declared.takes & takes:
            why = f"take no part in {'surveys' if takes == SURVEYS else 'training'}"
        unfit[why] = unfit.get(why, 0) + 1
    return found, unfit


def draw_cohort(present: Mapping[int, int], *, most: int) -> dict[int, int]:
    """A random choice of at most `most` devices, device -> node, by the operating system's random source."""
    nodes = list(present)
    if len(nodes) > most:
        nodes = secrets.SystemRandom().sample(nodes, most)
    return {present[node]: node for node in nodes}
