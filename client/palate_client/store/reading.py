"""Reading: what was stored since the last look, page by page, so that nobody who tracks meanwhile waits for long.

    mark, anew, pages = since(store, Mark(), "seq, time", list)
    mark, anew, pages = since(store, mark, "seq, time", list)  # what came in since

What makes something of all events keeps the mark beside it, and reads on from there.
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
    """How far a store has been read.

    Attributes:
        generation: of the store; another one means that some events were dropped, or the taste was reset.
        last: the number of the last event that was read.
        reset: the number of the last event before the taste was last reset; 0 if it never was.
    """

    generation: int = -1
    last: int = 0
    reset: int = 0


def since(
    store: EventStore, mark: Mark, columns: str, take: Callable[[list[tuple[Any, ...]]], T]
) -> tuple[Mark, bool, list[T]]:
    """What was stored since a mark, by whatever process, oldest first.

    Args:
        store: the user's events.
        mark: the one that the last call gave; a new one reads all.
        columns: of the table of events; the first is `seq`.
        take: makes of each page what is kept of it.

    Returns:
        The new mark; whether what was read before is void, so that these are all events; and what `take` made of each
        page.

    Raises:
        PalateError: the store can't be read.
    """
    query = f"SELECT {columns} FROM events WHERE seq > ? ORDER BY seq LIMIT {PAGE}"  # noqa: S608 # our own names
    found, anew, pace = list[T](), False, Pace()
    while True:
        with store.lock:  # nobody forks while a page is made something of
            with store.transaction() as connection:
                known = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('generation', 'reset')"))
                generation = int(known.get("generation", 0))
                if mark.generation != generation:  # maybe between two pages
                    mark, anew = Mark(generation, 0, int(known.get("reset", 0))), True
                    found.clear()
                page = connection.execute(query, (mark.last,)).fetchall()
            if page:
                mark = replace(mark, last=page[-1][0])
                found.append(take(page))
        if len(page) < PAGE:
            return mark, anew, found
        pace()
