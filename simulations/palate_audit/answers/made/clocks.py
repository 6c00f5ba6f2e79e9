"""Clocks: a time that stands still until a case says how it goes on, in the place of the machine's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from palate_audit.answers.dice import Dice


class MadeClock:
    """A time that stands still until somebody waits, or sets it; it is called for the time.

    Attributes:
        now: the time, in seconds.
        waits: how long was waited, each time.
    """

    def __init__(self, now: float) -> None:
        self.now, self.waits = now, list[float]()

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.waits.append(seconds)
        self.now += seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the clock of everybody in this process, who waits by it, too."""
        with mock.patch.multiple(time, monotonic=self, sleep=self.wait):
            yield


class Bell(threading.Event):
    """An app's event, which may be set while somebody waits for it."""

    def __init__(self, clock: MadeClock, rings: float) -> None:
        super().__init__()
        self._clock, self._rings = clock, rings

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for so long, or until it rings."""
        left = max(0.0, self._rings - self._clock.now)
        self._clock.wait(min(left, timeout or 0.0))
        if self._clock.now >= self._rings:
            self.set()
        return self.is_set()


def ticking(dice: Dice, start: float, *steps: float) -> Callable[[], float]:
    """A clock that goes on by one of these steps, or back a little, each time it is looked at."""
    clock = MadeClock(start)

    def read() -> float:
        clock.now += dice.one_of(steps)
        return clock.now

    return read
