"""Pace: long work in short pieces, so that a thread that tracks meanwhile waits for one of them at most.

    pace = Pace()
    for line in lines:
        pace()
        work_on(line)

One thread at a time runs Python, and holds on for 5 ms when others want to; a `track` lets go of the interpreter with
every call of SQLite, and would wait as long for each of them. So whoever reads, writes or counts thousands of events
rests after each piece, and for as long as somebody tracks. No lock may be held between the pieces.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, sleep

PIECE, REST = 0.002, 0.0002
"""Seconds of work between two rests, and of a rest: long enough for another thread to wake up."""
PATIENCE = 0.05
"""Seconds that a piece rests at most while others track, so that it gets done beside whoever tracks all the time."""

_ahead: set[int] = set()


class Pace:
    """The pace of one piece of long work."""

    def __init__(self) -> None:
        self._since, self._worked, self._patience = perf_counter(), 0.0, PATIENCE

    def __call__(self) -> None:
        """Rest, if a piece is done, or if somebody tracks and this piece has not yet rested for long."""
        began = perf_counter()
        worked = self._worked + began - self._since
        if worked >= PIECE:
            worked, self._patience = 0.0, PATIENCE
        elif not _ahead or self._patience <= 0:
            return
        sleep(REST)
        give_way(self._patience)
        self._since, self._worked = perf_counter(), worked
        self._patience -= self._since - began


def give_way(seconds: float = PATIENCE) -> None:
    """Rest for as long as others track, and not for ever."""
    end = perf_counter() + seconds
    while _ahead and perf_counter() < end:
        sleep(REST)


@contextmanager
def ahead() -> Iterator[None]:
    """This thread goes first: work at a pace rests until it is done."""
    thread = threading.get_ident()
    _ahead.add(thread)
    try:
        yield
    finally:
        _ahead.discard(thread)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ahead.clear)  # the other threads are the parent's
