"""Dismissals: tells devices that aren't needed now when to sync again, at most once a minute.

A dismissal is a message that waits at the SuperLink until its device fetches it. Unfetched ones are removed later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from palate_server.operation.terms import DAY

FETCHED = 20.0
"""Seconds after which an unfetched dismissal is removed."""
SOONEST, LATEST = 60.0, DAY
"""The shortest and the longest time until a dismissed device shall sync again, in seconds."""


class Dismissals:
    """Sends dismissals.

    Args:
        send: tells each node in how many seconds to sync again.
        purge: removes all waiting messages.
    """

    def __init__(self, send: Callable[[Mapping[int, int]], object], purge: Callable[[], object]) -> None:
        self._send, self._purge = send, purge
        self._sent: dict[int, float] = {}
        self._latest: float | None = None

    def send(self, nodes: Iterable[int], *, seconds: float) -> None:
        """Tell nodes to sync again after this time, within the bounds."""
        now = time.monotonic()
        self._sent = {node: at for node, at in self._sent.items() if now - at < SOONEST}
        asked = [node for node in nodes if node not in self._sent]
        if asked:
            later = int(min(max(seconds, SOONEST), LATEST))
            self._sent |= dict.fromkeys(asked, now)
            self._send(dict.fromkeys(asked, later))
            self._latest = now

    def tidy(self) -> None:
        """Remove unfetched dismissals, after their devices have had time to fetch them."""
        if self._latest is not None and time.monotonic() - self._latest > FETCHED:
            self._latest = None
            self._purge()
