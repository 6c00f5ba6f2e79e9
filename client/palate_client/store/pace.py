"""Pace: divides long work into short pieces, so that a thread that tracks meanwhile waits for one piece at most.

    pace = Pace()
    for line in lines:
        pace()
        work_on(line)

Only one thread runs Python at a time, and keeps the interpreter for 5 ms when others wait; `track` releases it with
every call of SQLite, and would wait as long for each of them. So code that reads, writes or counts thousands of events
sleeps after each piece, and while others track. It must hold no lock between the pieces.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, sleep

from palate_common.system import at_fork

PIECE, REST = 0.002, 0.0002
"""Seconds of work between two sleeps, and of a sleep: long enough for another thread to wake up."""
PATIENCE = 0.05
"""The most seconds that a piece sleeps while others track, so that it ends even if others track all the time."""

_ahead: set[int] = set()


class Pace:
    """Divides one long piece of work."""

    def __init__(self) -> None:
        self._since, self._worked, self._patience = perf_counter(), 0.0, PATIENCE

    def __call__(self) -> None:
        """Sleep if a piece is done, or if another thread tracks and this piece has not slept for long yet."""
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
    """Sleep while other threads track, at most for this time."""
    end = perf_counter() + seconds
    while _ahead and perf_counter() < end:
        sleep(REST)


@contextmanager
def ahead() -> Iterator[None]:
    """Give this thread priority: long work of others sleeps until it is done."""
    thread = threading.get_ident()
    _ahead.add(thread)
    try:
        yield
    finally:
        _ahead.discard(thread)


at_fork(in_child=_ahead.clear)  # the child has none of the parent's other threads
