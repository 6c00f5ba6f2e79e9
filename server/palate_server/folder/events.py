"""Events: what happened to the service, one JSON object a line, for people, metrics and the supervisor.

    {"at": "2026-03-01T12:00:00+00:00", "event": "round", "run": "...", "round": 0, "attempt": 0, "users": 97, ...}

No line names a device, a node, a key or an address: a log of who took part when would outlive what it is for.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate_common.records.closing import Closing

MOST = 2**26
"""Bytes after which the file is put aside; one former file is kept."""
EVERY = 60.0
"""Seconds between two lines of a tally."""
REASONS, OTHER = 16, "other"
"""So many reasons a line names, and what it calls all further ones."""


class EventLog:
    """The log of a site.

    Args:
        file: where it is; its folder exists.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def tell(self, event: str, **facts: Any) -> None:
        """Append a line, in a single write."""
        if self.file.exists() and self.file.stat().st_size > MOST:
            self.file.replace(self.file.with_suffix(".1.jsonl"))
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        with self.file.open("ab", buffering=0) as file:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def all(self) -> list[dict[str, Any]]:
        """Every line of the present file."""
        return list(EventFollower(self.file).news())


class EventTally(Closing):
    """Events of one kind that anybody can cause, as often as they like: a line a minute at most says how many.

        {"event": "enrolment refused", "count": 41, "reasons": {"an unknown token": 40, "no request": 1}, ...}

    The first is told at once; what follows within a minute is told together, at its end or when this is closed. The
    lines add up to all of them.

    **Guarantees:** whoever causes them can't fill the log, so that what else it says stays readable; a line has at most
    `REASONS` reasons and `OTHER`, and there is one in `EVERY` seconds, beside the one at the end.

    Args:
        events: where it is told.
        event: what they are called.
        clock: seconds, that only grow.
    """

    def __init__(self, events: EventLog, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._events, self._event, self._clock = events, event, clock
        self._lock = threading.Lock()
        self._reasons: dict[str, int] = {}
        self._told = -math.inf

    def add(self, reason: str) -> None:
        """Count one."""
        with self._lock:
            if reason not in self._reasons and len(self._reasons) >= REASONS:
                reason = OTHER
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        self.tell()

    def tell(self) -> None:
        """Write what there is to tell, if the last line is a minute old."""
        with self._lock:
            if self._reasons and self._clock() - self._told >= EVERY:
                self._write()

    def close(self) -> None:
        """Write what there is to tell, whenever the last line was; closing twice is fine."""
        with self._lock:
            if self._reasons:
                self._write()

    def _write(self) -> None:
        """One line. On a full disk what was counted is kept, and tried again in a minute."""
        self._told = self._clock()
        with suppress(OSError):
            self._events.tell(self._event, count=sum(self._reasons.values()), reasons=self._reasons)
            self._reasons = {}


class EventFollower:
    """Reads on where it stopped, also after the file was put aside.

    Args:
        file: of the events.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._place, self._inode = file, 0, 0

    def news(self) -> Iterator[dict[str, Any]]:
        """The whole lines that were added since."""
        try:
            facts = self._file.stat()
            if facts.st_ino != self._inode or facts.st_size < self._place:
                self._inode, self._place = facts.st_ino, 0
            with self._file.open("rb") as file:
                file.seek(self._place)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self._place += len(whole) + len(newline)
        for line in whole.splitlines():
            yield json.loads(line)


def reason_of(error: Exception) -> str:
    """Why an attempt failed, as one of a few words: metrics count them."""
    words = str(error)
    for part, reason in (
        ("backup.witness", "witness"),
        ("nothing is charged", "cohort"),
        ("devices must be left", "dropout"),
        ("must have at least", "dropout"),
        ("neighbours", "graph"),
        ("in a row of the ring", "graph"),
        ("nonce", "toss"),
    ):
        if part in words:
            return reason
    return "disk" if isinstance(error, OSError) or "disk" in words else "other"
