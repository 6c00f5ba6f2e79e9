"""Events: the service's log, one JSON object per line, for people, metrics and the supervisor.

    {"at": "2026-03-01T12:00:00+00:00", "level": "info", "event": "round", "run": "...", "round": 0, "users": 97, ...}

No line names a device, node, key or address: the log must not record who took part when.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate_common.records.closing import Closing

MOST = 2**26
"""Size in bytes above which the file is renamed and a new one started; one former file is kept."""
LEVELS: Mapping[str, str] = {
    **dict.fromkeys(("failed", "lost", "unwitnessed", "uncosigned", "clock"), "error"),
    **dict.fromkeys(("ended", "restarted", "aborted", "refused", "no cohort", "held", "survey refused"), "warning"),
    **dict.fromkeys(
        ("enrolment failed", "enrolment refused", "unmirrored", "left over ended", "not opened"), "warning"
    ),
    **dict.fromkeys(("silent", "malformed", "unsigned", "named", "quarantined"), "warning"),
}
"""The level of an event that isn't "info"."""
EVERY = 60.0
"""The least seconds between two lines of a tally."""
REASONS, OTHER = 16, "other"
"""The most reasons in a line, and the name of all further ones."""


class EventLog:
    """The log of a server folder.

    Args:
        file: its file, in an existing folder.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def tell(self, event: str, **facts: Any) -> None:
        """Append a line, in one write."""
        if self.file.exists() and self.file.stat().st_size > MOST:
            self.file.replace(self.file.with_suffix(".1.jsonl"))
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": LEVELS.get(event, "info"),
            "event": event,
        }
        line |= facts
        with self.file.open("ab", buffering=0) as file:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def all(self) -> list[dict[str, Any]]:
        """All lines of the present file."""
        return list(EventFollower(self.file).news())


class EventTally(Closing):
    """Counts events of one kind that anyone can cause at will, and writes at most one line per minute.

        {"event": "enrolment refused", "count": 41, "reasons": {"an unknown token": 40, "no request": 1}, ...}

    The first event is written at once; those within the next minute are written together, after it or when the tally is
    closed. The counts add up to all events.

    **Guarantees:** whoever causes them can't fill the log, so that what else it says stays readable; a line has at most
    `REASONS` reasons and `OTHER`, and there is one in `EVERY` seconds, beside the one at the end.

    Args:
        events: the log.
        event: the name of the events.
        clock: returns monotonic seconds.
    """

    def __init__(self, events: EventLog, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._events, self._event, self._clock = events, event, clock
        self._lock = threading.Lock()
        self._reasons: dict[str, int] = {}
        self._told = -math.inf

    def add(self, reason: str) -> None:
        """Count an event."""
        with self._lock:
            if reason not in self._reasons and len(self._reasons) >= REASONS:
                reason = OTHER
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        self.tell()

    def tell(self) -> None:
        """Write a line with the events since the last one, if that is a minute old."""
        with self._lock:
            if self._reasons and self._clock() - self._told >= EVERY:
                self._write()

    def close(self) -> None:
        """Write a line with the events since the last one; closing twice is fine."""
        with self._lock:
            if self._reasons:
                self._write()

    def _write(self) -> None:
        """Write one line. If the disk is full, the counts are kept and written a minute later."""
        self._told = self._clock()
        with suppress(OSError):
            self._events.tell(self._event, count=sum(self._reasons.values()), reasons=self._reasons)
            self._reasons = {}


class EventFollower:
    """Reads new lines of a log, also after its file was renamed.

    Args:
        file: the file of the events.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._place, self._inode = file, 0, 0

    def news(self) -> Iterator[dict[str, Any]]:
        """The complete lines that were added since the last call."""
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
    """The reason of a failed attempt, as one of a few words, for metrics."""
    words = str(error)
    for part, reason in (
        ("backup.witness", "witness"),
        ("witnesses must cosign", "witnesses"),
        ("an impossible sum", "impossible"),
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
