"""Watch: asks a part again and again whether it still does something, and ends one that hangs.

    a thread asks -> PartWatch <- the supervisor looks, says so, and ends a part that hangs

A process that was stopped, or that waits for itself, runs for ever and does nothing. On a machine that has no time for
it, a healthy one looks the same for a while, and ending it would make all slower: so a part that took long to start is
waited for longer, and each end in vain doubles that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from palate_server.service.processes.child import Child

logger = logging.getLogger("palate")

EVERY: Final = 2.0
"""Seconds between an answer and the next question."""
SILENT: Final = 7.0
"""Seconds without an answer after which a part doesn't run well."""
PATIENCE: Final = 20.0
"""Seconds without an answer after which a part that has answered is ended, at least."""
STARTS: Final = 3.0
"""So many times the seconds that its start took are waited, if that is longer."""
STARTING: Final = 300.0
"""Seconds that a part has until its first answer; it is said at once that it has none."""
MOST: Final = 8
"""How many times longer a part is waited for at most, if it was ended in vain."""
ASKED: Final = 3
"""Questions without an answer before a part is ended: time passes while the supervisor itself isn't run, too."""


class PartWatch:
    """What a part answers.

    Args:
        child: its process.
        ask: whether it answers; called in a thread of its own. It may take some seconds, and raise nothing.
        clock: returns monotonic seconds.
    """

    def __init__(self, child: Child, ask: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.child, self._ask, self._clock = child, ask, clock
        self._start = child.starts
        self._since, self._answered, self._missed = clock(), False, 0
        self._took, self._vain = 0.0, 1
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watches-{child.name}", daemon=True)

    def begin(self) -> None:
        """Ask from now on."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._ending.set()

    def look(self) -> None:
        """Ask once, if the process runs."""
        start, pid = self.child.starts, self.child.pid
        if pid is None:
            return
        if start != self._start:
            self._start, self._since, self._answered, self._missed = start, self._clock(), False, 0
            self._ask()  # what it has left behind may be the former's
            return
        if not self._ask():
            self._missed += 1
        elif self.child.starts == start:
            now = self._clock()
            if not self._answered:
                self._took, self._answered = now - self._since, True
            self._since, self._missed, self._vain = now, 0, 1

    @property
    def answers(self) -> bool:
        """Whether it is up, and has answered lately."""
        if not self.child.up or self.child.starts != self._start or not self._answered:
            return False
        return self._clock() - self._since < SILENT

    def keep(self) -> None:
        """End the process if it hangs, for its supervisor to start another one. The former is dead before that."""
        if self.child.pid is None or self.child.starts != self._start or self._missed < ASKED:
            return
        waited = self._clock() - self._since
        if waited > self._vain * (max(PATIENCE, STARTS * self._took) if self._answered else STARTING):
            self._vain, self._missed = min(2 * self._vain, MOST), 0
            self.child.kill(f"was ended: it hadn't answered for {waited:.0f} s")

    def _run(self) -> None:
        while not self._ending.wait(EVERY):
            try:
                self.look()
            except Exception:  # it is asked again, and not ended for a mistake of ours
                logger.exception("%s couldn't be asked", self.child.name)
