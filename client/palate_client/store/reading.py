"""Reading: reads the events stored since the last call, page by page, so that other threads can track meanwhile.

    mark, anew, pages = since(store, Mark(), "seq, time", list)
    mark, anew, pages = since(store, mark, "seq, time", list)  # only the new events

A caller that computes something from all events keeps the mark with its result, and continues from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from palate_client.store.pace import Pace
from palate_client.store.store import PAGE, EventStore

T = TypeVar("T")


@dataclass(frozen=True)
class Mark:
    """The position up to which a store was read.

    Attributes:
        generation: the store's generation; it changes when events were dropped or the taste was reset.
        last: sequence number of the last event that was read.
        reset: sequence number of the last event before the taste's last reset; 0 if it was never reset.
    """

    generation: int = -1
    last: int = 0
    reset: int = 0


def since(
    store: EventStore, mark: Mark, columns: str, take: Callable[[list[tuple[Any, ...]]], T]
) -> tuple[Mark, bool, list[T]]:
    """Read the events that were stored since a mark, by any process, oldest first.

    Args:
        store: the user's events.
        mark: the mark that the last call returned; `Mark()` reads all events.
        columns: columns of the table of events; the first is `seq`.
        take: converts each page of rows.

    Returns:
        The new mark; whether earlier results are invalid, so that these are all events; and what `take` returned for
        each page.

    Raises:
        PalateError: the store can't be read.
    """
    query = f"SELECT {columns} FROM events WHERE seq > ? ORDER BY seq LIMIT {PAGE}"  # noqa: S608 # our own names
    found, anew, pace = list[T](), False, Pace()
    while True:
        with store.lock:  # the process can't fork while a page is converted
            with store.transaction() as connection:
                known = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('generation', 'reset')"))
                generation = int(known.get("generation", 0))
                if mark.generation != generation:  # this may happen between two pages, too
                    mark, anew = Mark(generation, 0, int(known.get("reset", 0))), True
                    found.clear()
                page = connection.execute(query, (mark.last,)).fetchall()
            if page:
                mark = replace(mark, last=page[-1][0])
                found.append(take(page))
        if len(page) < PAGE:
            return mark, anew, found
        pace()
