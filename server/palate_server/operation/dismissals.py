"""Dismissals: who isn't needed now is told when to come back, once a minute at most.

A dismissal is a message that lies at the carrier until its device fetches it. What is left is removed a little later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from palate_server.operation.terms import DAY

FETCHED = 20.0
"""Seconds after which a dismissal was fetched, or never will be."""
SOONEST, LATEST = 60.0, DAY
"""Seconds within which a device that is sent home is asked to come back."""


class Dismissals:
    """Sends devices home.

    Args:
        send: tells each node in how many seconds to come back.
        purge: removes what the carrier still holds.
    """

    def __init__(self, send: Callable[[Mapping[int, int]], object], purge: Callable[[], object]) -> None:
        self._send, self._purge = send, purge
        self._sent: dict[int, float] = {}
        self._latest: float | None = None

    def send(self, nodes: Sequence[int], *, seconds: float) -> None:
        """Ask nodes to come back in so many seconds, within bounds."""
        now = time.monotonic()
        self._sent = {node: at for node, at in self._sent.items() if now - at < SOONEST}
        asked = [node for node in nodes if node not in self._sent]
        if asked:
            later = int(min(max(seconds, SOONEST), LATEST))
            self._sent |= dict.fromkeys(asked, now)
            self._send(dict.fromkeys(asked, later))
            self._latest = now

    def tidy(self) -> None:
        """Remove what is left of them, once their devices have had time to fetch them."""
        if self._latest is not None and time.monotonic() - self._latest > FETCHED:
            self._latest = None
            self._purge()
