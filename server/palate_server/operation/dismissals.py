"""Dismissals: tells devices that aren't needed now when to sync again, at most once a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from palate_server.operation.terms import DAY

SOONEST, LATEST = 60.0, DAY
"""The shortest and the longest time until a dismissed device shall sync again, in seconds."""
NEWS = 20.0
"""The time until it shall where a model with other items, facts or rules was published: it has them within a minute."""


class Dismissals:
    """Sends dismissals.

    Args:
        send: tells each device in how many seconds to sync again.
    """

    def __init__(self, send: Callable[[Mapping[int, float]], object]) -> None:
        self._send = send
        self._sent: dict[int, float] = {}

    def send(self, devices: Iterable[int], *, seconds: float, least: float = SOONEST) -> None:
        """Tell devices to sync again after this time, within the bounds."""
        now = time.monotonic()
        self._sent = {device: at for device, at in self._sent.items() if now - at < SOONEST}
        asked = [device for device in devices if device not in self._sent]
        if asked:
            later = min(max(seconds, least), LATEST)
            self._sent |= dict.fromkeys(asked, now)
            self._send(dict.fromkeys(asked, later))
