"""Events: what happened to the service, one JSON object a line, for people, metrics and the supervisor.

    {"at": "2026-03-01T12:00:00+00:00", "event": "round", "run": "...", "round": 0, "attempt": 0, "users": 97, ...}

No line names a device, a node, a key or an address: a log of who took part when would outlive what it is for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MOST = 2**26
"""Bytes after which the file is put aside; one former file is kept."""


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
