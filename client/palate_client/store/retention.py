"""Retention: how many events a device keeps, and which are deleted first.

Events older than `keep_days` are deleted. Above a limit a tenth of the events is deleted: first impressions, then other
events, each oldest first. Of deleted events only one number is kept: the time of the user's first event.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass, fields

from palate_common.errors import InputError

DAY = 86_400.0
LEAP = 30 * DAY
"""Seconds by which the time of retention moves ahead at most per opening, in case the clock is wrong."""


@dataclass(frozen=True)
class Limits:
    """Limits of a store.

    Attributes:
        keep_days: days after which events are deleted.
        max_events: number of events above which a tenth is deleted.
        max_bytes: size of the store's file above which a tenth of the events is deleted.
        max_per_day: the most events that can be tracked on one day (UTC). Imports don't count.
        window_seconds: a second event of the same kind on the same item within this time is a duplicate, unless it has
            an id or another rating.

    Raises:
        InputError: a limit is not positive.
    """

    keep_days: float = 730.0
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


def retention_time(now: float, before: float | None) -> float:
    """The time by which the age of events is computed: at most `LEAP` after the one of the last opening."""
    return now if before is None else min(now, before + LEAP)


def drop_old(connection: sqlite3.Connection, *, before: float) -> int:
    """Delete events before a time; returns their number."""
    _remember(connection)
    return connection.execute("DELETE FROM events WHERE coalesce(time, received) < ?", (before,)).rowcount


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
    """Delete n events: impressions, oldest first, then all others, oldest first."""
    _remember(connection)
    first = "SELECT seq FROM events ORDER BY kind <> 'impression', coalesce(time, received), seq LIMIT ?"
    return connection.execute(f"DELETE FROM events WHERE seq IN ({first})", (n,)).rowcount  # noqa: S608 # no input in it


def _remember(connection: sqlite3.Connection) -> None:
    """Keep the time of the user's first event before it may be deleted, so that an old user doesn't look new."""
    connection.execute(
        "INSERT INTO meta SELECT 'first', oldest FROM"
        " (SELECT min(time) AS oldest FROM events WHERE kind <> 'impression') WHERE oldest NOTNULL"
        " ON CONFLICT(name) DO UPDATE SET value = min(value, excluded.value)"
    )
