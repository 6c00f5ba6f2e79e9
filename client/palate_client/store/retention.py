"""Retention: how much a device keeps, and what goes first.

Too old goes first, by `keep_days`. Above a bound a tenth of it goes: impressions before all else, then the oldest
events of any kind. What the user did most recently goes last. Of what has gone one number stays: when the first was.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass, fields

from palate_common.errors import InputError

DAY = 86_400.0
LEAP = 30 * DAY
"""A clock that is further ahead than this since the store was last opened isn't believed at once."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a store.

    Attributes:
        keep_days: events older than this are dropped.
        max_events: above this many, a tenth is dropped.
        max_bytes: above this size of the store's file, a tenth is dropped.
        max_per_day: events that may be tracked on one day (UTC); more are not kept. Imports don't count.
        window_seconds: the same kind of event on the same item within this time is the same event, unless it has an id
            or another verdict.

    Raises:
        InputError: a bound that is not positive.
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


def believed(now: float, before: float | None) -> float:
    """The time that age is measured by: a clock that leapt ahead moves it by `LEAP` at most, each time it is asked."""
    return now if before is None else min(now, before + LEAP)


def drop_old(connection: sqlite3.Connection, *, before: float) -> int:
    """Drop what happened before a time; how many events that were."""
    _remember(connection)
    return connection.execute("DELETE FROM events WHERE coalesce(time, received) < ?", (before,)).rowcount


def drop_excess(connection: sqlite3.Connection, limits: Limits, *, count: int) -> int:
    """Drop what is above the bounds, of `count` events in the store; how many events that were."""
    dropped = 0
    if count > limits.max_events:
        dropped += _drop(connection, count - limits.max_events + limits.max_events // 10)
    while count > dropped and size(connection) > limits.max_bytes:
        dropped += _drop(connection, -(-(count - dropped) // 10))
    return dropped


def size(connection: sqlite3.Connection) -> int:
    """Bytes of the pages that are in use."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, page = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * page


def _drop(connection: sqlite3.Connection, n: int) -> int:
    """Drop n events: impressions, oldest first, then all others, oldest first."""
    _remember(connection)
    first = "SELECT seq FROM events ORDER BY kind <> 'impression', coalesce(time, received), seq LIMIT ?"
    return connection.execute(f"DELETE FROM events WHERE seq IN ({first})", (n,)).rowcount  # noqa: S608 # no input in it


def _remember(connection: sqlite3.Connection) -> None:
    """Keep when the user first did something, before that event may go: who has come for years is nobody new."""
    connection.execute(
        "INSERT INTO meta SELECT 'first', oldest FROM"
        " (SELECT min(time) AS oldest FROM events WHERE kind <> 'impression') WHERE oldest NOTNULL"
        " ON CONFLICT(name) DO UPDATE SET value = min(value, excluded.value)"
    )
