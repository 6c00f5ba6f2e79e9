"""Gathering: chooses the cohort of the next attempt from the devices that are online.

Devices are online only while they sync. A cohort is complete when it is full, or, when its time is up, if it is large
enough. Only those are drawn that declare the consent and the time for it: who would refuse, or leave in the middle,
costs everybody a charge. If more devices are online than are needed, it is a random choice.

>>> clock = iter([0.0, 5.0, 31.0])
>>> appointment = CohortGathering(size=3, least=2, seconds=30.0, clock=lambda: next(clock))
>>> appointment.look({7}), appointment.look({7, 8}), appointment.look({7, 8})
(None, None, {8, 7})
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Set

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

    @property
    def left(self) -> float:
        """Seconds of its time that are left."""
        return self._seconds if self._begun is None else max(0.0, self._begun + self._seconds - self._clock())

    def look(
        self, present: Set[int], *, enough: int | None = None, unfit: Mapping[str, int] | None = None
    ) -> Set[int] | None:
        """The cohort, or None while it is incomplete.

        Args:
            present: the devices that are online and may take part.
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
    devices: Set[int], online: Mapping[int, Availability], *, takes: int, stays: float
) -> tuple[set[int], dict[str, int]]:
    """Those of the devices that are online and declare that they take part in this, and stay for long enough.

    >>> online = {0: Availability(90.0, takes=3), 1: Availability(90.0, takes=1), 2: Availability(5.0, takes=3)}
    >>> fit({0, 1, 2, 3}, online, takes=SURVEYS, stays=70.0)
    ({0}, {'take no part in surveys': 1, 'stay for less than 70 s': 1})

    Args:
        devices: all that may be invited.
        online: device -> what it declares, of all that are online.
        takes: `TRAINING` or `SURVEYS`.
        stays: seconds that they must stay.

    Returns:
        The devices; and why others that are online are none of them -> how many these are.
    """
    found, unfit = set[int](), dict[str, int]()
    for device, declared in online.items():
        if device not in devices:
            continue
        if declared.takes & takes and declared.stays >= stays:
            found.add(device)
            continue
        why = f"stay for less than {stays:.0f} s"
        if not declared.takes & takes:
            why = f"take no part in {'surveys' if takes == SURVEYS else 'training'}"
        unfit[why] = unfit.get(why, 0) + 1
    return found, unfit


def draw_cohort(present: Set[int], *, most: int) -> Set[int]:
    """A random choice of at most `most` devices, by the operating system's random source."""
    return present if len(present) <= most else set(secrets.SystemRandom().sample(sorted(present), most))
