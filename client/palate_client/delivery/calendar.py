"""Calendar: the user's local days, weeks and hours, by the time zone that they are in at the time of the call.

>>> from zoneinfo import ZoneInfo
>>> Calendar(ZoneInfo("Pacific/Kiritimati")).moment(1_767_225_600.0)  # 2026-01-01 00:00 UTC
Moment(day='2026-01-01', week='2026-W01', hour=14.0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError

Zone = tzinfo | Callable[[], tzinfo] | str | None
"""The user's time zone: a `tzinfo`, its name, a function that returns it, or None: this machine's setting."""
STEP = 900.0
"""Seconds: the offset of every time zone, and every change of it, is a multiple of a quarter of an hour."""
MOST_STEPS = 2 * 96
DAY, LATEST = 86_400.0, 250_000_000_000.0
EPOCH = datetime(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as the user's local clock shows it.

    Attributes:
        day: the calendar day, ISO 8601.
        week: the calendar week, ISO 8601, from Monday.
        hour: hour of the day, from 0 to 24, with its fraction.
    """

    day: str
    week: str
    hour: float


@dataclass(frozen=True)
class Calendar:
    """The user's calendar.

    Attributes:
        zone: the time zone that they are in.

    Raises:
        InputError: `zone` is neither a time zone nor a function.
    """

    zone: Zone = None

    def __post_init__(self) -> None:
        if isinstance(self.zone, str):
            try:
                object.__setattr__(self, "zone", ZoneInfo(self.zone))
            except (KeyError, ValueError, OSError):
                raise InputError(f"`zone` must be a time zone's name, like Europe/Berlin, got {self.zone!r}") from None
        elif not (self.zone is None or isinstance(self.zone, tzinfo) or callable(self.zone)):
            raise InputError(f"`zone` must be a time zone, its name or a function that says it, got {self.zone!r:.80}")

    def moment(self, time: float) -> Moment:
        """Convert a time, in seconds since 1970, to the user's local time by their current zone."""
        local = self._local(time)
        return Moment(*_names(local.year, local.month, local.day), _hour(local))

    def days(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The local calendar days of many times, float [n], as int64 [n] in the count of `date.toordinal`.

        It looks up the offset at both ends of each UTC day, and for each single time only on days whose offset changes.
        """
        bounded = np.clip(times, 0.0, LATEST)
        nights, place = np.unique(np.floor(bounded / DAY), return_inverse=True)
        offsets = np.array([[self._offset(night * DAY), self._offset((night + 1) * DAY)] for night in nights.tolist()])
        offset = offsets.reshape(-1, 2)[place]
        days: npt.NDArray[np.int64] = EPOCH + np.floor((bounded + offset[:, 0]) / DAY).astype(np.int64)
        for changed in np.flatnonzero(offset[:, 0] != offset[:, 1]).tolist():
            days[changed] = self._local(float(bounded[changed])).toordinal()
        return days

    def _offset(self, time: float) -> float:
        """The offset of the user's local time from UTC, in seconds."""
        return (self._local(time).utcoffset() or timedelta()).total_seconds()

    def first(self, wanted: Callable[[float], bool], time: float) -> float:
        """The first time from `time` on whose local hour is wanted: `time` or the start of a quarter of an hour.

        It tries each quarter of an hour, because at a clock change an hour may be missing or come twice. If no hour of
        the next two days is wanted, it returns their end.
        """
        if wanted(_hour(self._local(time))):
            return time
        candidate = time - time % STEP
        for _ in range(MOST_STEPS):
            candidate += STEP
            if wanted(_hour(self._local(candidate))):
                break
        return candidate

    def _local(self, time: float) -> datetime:
        """The local time. A time outside the years 1970 to 9892 is moved to the nearest bound."""
        bounded = min(max(time, 0.0), LATEST)
        if self.zone is None:
            return datetime.fromtimestamp(bounded).astimezone()
        zone = self.zone() if callable(self.zone) and not isinstance(self.zone, tzinfo) else self.zone
        if not isinstance(zone, tzinfo):
            raise InputError(f"`zone` must say a time zone, such as a ZoneInfo, got {zone!r:.80}")
        # Not `fromtimestamp(.., zone)`: the sum is exact also where the platform's range ends.
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=bounded)).astimezone(zone)


def _hour(local: datetime) -> float:
    return local.hour + local.minute / 60 + local.second / 3600


@lru_cache(maxsize=1024)
def _names(year: int, month: int, day: int) -> tuple[str, str]:
    date = datetime(year, month, day)
    iso = date.isocalendar()
    return f"{date:%Y-%m-%d}", f"{iso.year}-W{iso.week:02d}"
