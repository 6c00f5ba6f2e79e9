"""Retention: how many events a device keeps, and which are deleted first.

Events older than `keep_days`, by their own times, are deleted; those of a history that the user brought from a service
are kept for `keep_history_days`, as it is of years ago by nature. Above a limit a tenth of the events is deleted: first
impressions, then those of a history, then other events, each oldest first. Of deleted events only one number is kept:
the time of the user's first event.

The age of events is computed by a time that a wrong clock doesn't move: a clock that is far ahead of what was believed
last is believed once it has run on.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass, fields

from palate_core.errors import InputError

DAY = 86_400.0
SET_CLOCK = 1_704_067_200.0
"""2024-01-01: a clock before this has not been set, and its time is ignored."""
LEAP = 45 * DAY
"""Seconds between two readings of the clock above which it may have been set wrong: more than a month, so that a device
that is opened once a month deletes on time."""
RUN_ON = 30 * DAY
"""Seconds that a clock has to run on after a leap until it is believed. Less than `LEAP`, so that a device that is
opened every two weeks believes it at once then; one that is opened more rarely is one opening behind."""

TRACKED, LINES = 0, 1
"""What the column `imported` has of an event that was tracked, and of one on a line of JSON; a higher number is that of
an import of a history."""


@dataclass(frozen=True)
class Limits:
    """Limits of a store.

    Attributes:
        keep_days: days after which events are deleted.
        keep_history_days: the same for events of an imported history; one without a time is as old as its import.
        max_events: number of events above which a tenth is deleted.
        max_bytes: size of the store's file above which a tenth of the events is deleted.
        max_per_day: the most events that can be tracked for one day (UTC), that of their own times; imports don't.
        window_seconds: a second event of the same kind on the same item within this time, by their own times, is a
            duplicate, unless it has an id or another rating.

    Raises:
        InputError: a limit is not positive.
    """

    keep_days: float = 730.0
    keep_history_days: float = 3650.0
    max_events: int = 100_000
    max_bytes: int = 64 * 2**20
    max_per_day: int = 20_000
    window_seconds: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "window_seconds" else 1 if field.name != "max_bytes" else 2**17
            if isinstance(value, bool) or not (least <= value < math.inf):
                raise InputError(f"`{field.name}` must be a number from {least}, got {value!r}")


def retention_time(now: float, before: float | None, leapt: float | None = None) -> tuple[float, float | None]:
    """The time by which the age of events is computed, and the time to which the clock has leapt meanwhile, if any.

    A wrong clock is told from a long absence by what it says later: one that is set right again is below the time to
    which it had leapt, and nothing has become old by it.

        >>> day = DAY
        >>> retention_time(3650 * day, before=0.0)  # ten years after the last opening
        (0.0, 315360000.0)
        >>> retention_time(10 * day, before=0.0, leapt=3650 * day)  # it was set right again
        (864000.0, None)
        >>> retention_time(3680 * day, before=0.0, leapt=3650 * day) == (3680 * day, None)  # it was an absence
        True

    Args:
        now: what the clock says.
        before: what this returned the last time; None: nothing yet.
        leapt: likewise.
    """
    if leapt is not None and now >= leapt + RUN_ON:
        before, leapt = leapt, None
    if before is None or now <= before + LEAP:
        return now, None
    return before, now if leapt is None else min(leapt, now)


def drop_old(connection: sqlite3.Connection, *, before: float, history_before: float) -> int:
    """Delete events before a time, and those of an imported history before another; returns their number.

    One that was tracked while the clock wasn't set is as old as the next one that was stored when it was.
    """
    _remember(connection)
    later = "SELECT max(seq) FROM events WHERE received >= :set AND received < :before"
    old = (
        "DELETE FROM events WHERE CASE WHEN time NOTNULL OR received >= :set"  # noqa: S608 - no input in it
        " THEN coalesce(time, received) < CASE WHEN imported > 1 THEN :history ELSE :before END"
        f" ELSE seq < ({later}) END"
    )
    return connection.execute(old, {"before": before, "history": history_before, "set": SET_CLOCK}).rowcount


def drop_excess(connection: sqlite3.Connection, limits: Limits, *, count: int) -> int:
    """Delete events above the limits, of `count` in the store; returns their number."""
    dropped = 0
    if count > limits.max_events:
        dropped += _drop(connection, count - limits.max_events + limits.max_events // 10)
    while count > dropped and size(connection) > limits.max_bytes:
        dropped += _drop(connection, -(-(count - dropped) // 10))
    return dropped


def size(connection: sqlite3.Connection) -> int:
    """Bytes of the database's pages in use."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, page = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * page


def _drop(connection: sqlite3.Connection, n: int) -> int:
    """Delete n events: impressions, then those of a history, then all others, each oldest first."""
    _remember(connection)
    first = "SELECT seq FROM events ORDER BY kind <> 'impression', imported <= 1, coalesce(time, received), seq LIMIT ?"
    return connection.execute(f"DELETE FROM events WHERE seq IN ({first})", (n,)).rowcount  # noqa: S608 # no input in it


def _remember(connection: sqlite3.Connection) -> None:
    """Keep the time of the user's first event before it may be deleted, so that an old user doesn't look new."""
    connection.execute(
        "INSERT INTO meta SELECT 'first', oldest FROM"
        " (SELECT min(time) AS oldest FROM events WHERE kind <> 'impression' AND imported <= 1)"
        " WHERE oldest NOTNULL"
        " ON CONFLICT(name) DO UPDATE SET value = min(value, excluded.value)"
    )
