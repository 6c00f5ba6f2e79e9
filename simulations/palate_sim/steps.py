"""Steps: long work says what it does, how far it is and how long it will take.

Reading, preparing, fitting, training and evaluation report here, and `palate_sim.progress` shows it.

    >>> seen = []
    >>> with step(seen.append, "reading", of=3, unit="rows") as advance:
    ...     advance(2)
    ...     advance(1)
    >>> [(event["done"], event["of"]) for event in seen]
    [(0, 3), (3, 3)]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Notify = Callable[[Mapping[str, Any]], None]
"""Receives an event of a run: a mapping with the key `event`."""

EVERY = 0.5
"""Seconds between two events of one step, at least."""


def silent(event: Mapping[str, Any]) -> None:
    """Discard an event."""


@contextmanager
def step(
    notify: Notify, name: str, *, of: int | None = None, unit: str = "", clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Report one piece of work from its beginning to its end.

    Args:
        notify: receives `{"event": "step", "step", "done", "of", "unit", "seconds", "over"}`: at the beginning, twice a
            second at most, and at the end, which is `over`. Work that fails has no event of its end.
        name: what is done, as the user reads it: "reading".
        of: how much there is to do; None: unknown.
        unit: what is counted, in the plural: "users".
        clock: returns seconds.

    Yields:
        A function that adds to what is done.
    """
    begun = latest = clock()
    done = 0

    def say(now: float, *, over: bool = False) -> None:
        facts = {"step": name, "done": done, "of": of, "unit": unit, "seconds": round(now - begun, 3), "over": over}
        notify({"event": "step", **facts})

    def advance(more: int = 1) -> None:
        nonlocal done, latest
        done += more
        now = clock()
        if now - latest >= EVERY:
            latest = now
            say(now)

    say(begun)
    yield advance
    say(clock(), over=True)
