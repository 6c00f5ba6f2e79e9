"""Events: the service's log, one JSON object per line, for people, metrics and the supervisor.

    {"at": "2026-03-01T12:00:00+00:00", "level": "info", "event": "round", "run": "...", "round": 0, "users": 97, ...}

No line names a device, node, key or address: the log must not record who took part when.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
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
        ("items refused", "enrolment failed", "enrolment refused", "unmirrored", "left over ended", "not opened"),
        "warning",
    ),
    **dict.fromkeys(("silent", "malformed", "unsigned", "named"), "warning"),
}
"""The level of an event that isn't "info"."""
DAILY = {"enrolled"}
"""Events that have the day and no time: who installs an app, and has it opened, is known by more people than this."""
EVERY = 60.0
"""The least seconds between two lines of a tally."""
PIECE = 2**20
"""Bytes that are read at once; no line is as long."""
_TEXTS = {"part", "reason", "words", "error", "how", "kind"}
_NUMBERS = {
    "round", "attempt", "users", "invited", "seconds", "devices", "count", "epsilon", "delta", "version", "releases",
    "rounds", "refused", "came", "needed",
}  # fmt: skip
_NEEDED: Mapping[str, tuple[str, ...]] = {"restarted": ("part",), "ended": ("part",)}
"""What is a text and what a number wherever it stands, and without what an event of a name isn't one."""
RESTARTS = 3
"""So many of the latest restarts of a part are kept."""
REASONS, OTHER = 16, "other"
"""The most reasons in a line, and the name of all further ones."""


class EventLog:
    """The log of a server folder.

    Args:
        file: its file, in an existing folder.
        must: whether a line that can't be written, for example on a full disk, is an error; else it is lost.
    """

    def __init__(self, file: Path, *, must: bool = True) -> None:
        self.file, self._must = file, must

    def tell(self, event: str, **facts: Any) -> None:
        """Append a line, in one write.

        Raises:
            OSError: it can't be written, and must be.
        """
        with nullcontext() if self._must else suppress(OSError):
            self._append(event, facts)

    def _append(self, event: str, facts: Mapping[str, Any]) -> None:
        if self.file.exists() and self.file.stat().st_size > MOST:
            self.file.replace(self.file.with_suffix(".1.jsonl"))
        now = datetime.fromtimestamp(time.time(), UTC)
        if event in DAILY:
            now = now.replace(hour=0, minute=0, second=0, microsecond=0)
        line = {
            "at": now.isoformat(timespec="milliseconds"),
            "level": LEVELS.get(event, "info"),
            "event": event,
        }
        line = {**line, **facts}
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        with self.file.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":  # a full disk, or the machine, cut one short
                data = b"\n" + data
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def all(self) -> list[dict[str, Any]]:
        """All events of the present file."""
        return list(EventFollower(self.file).news())

    def latest(self) -> list[dict[str, Any]]:
        """The latest event of each name in the present file, in their order: few, however long the file is."""
        found: dict[str, dict[str, Any]] = {}
        for event in EventFollower(self.file).news():
            found.pop(event["event"], None)
            found[event["event"]] = event
        return list(found.values())


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
    """Reads new events of a log, also after its file was renamed, a piece at a time.

    **Guarantees:** no line keeps the others from being read: one that was cut short, is longer than any, or has
    something else in it than an event has, is passed over.

    Args:
        file: the file of the events.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._place, self._inode = file, 0, 0

    def news(self) -> Iterator[dict[str, Any]]:
        """The events that were added since the last call; of a file longer than any log those at its end."""
        try:
            file = self._file.open("rb")
        except FileNotFoundError:
            return
        with file:
            facts = os.fstat(file.fileno())
            if facts.st_ino != self._inode or facts.st_size < self._place:
                self._inode, self._place = facts.st_ino, max(0, facts.st_size - 2 * MOST)
            file.seek(self._place)
            while piece := file.read(PIECE):
                whole, newline, rest = piece.rpartition(b"\n")
                if not newline and len(rest) < PIECE:  # it isn't complete
                    return
                self._place += len(whole) + len(newline) if newline else len(piece)
                file.seek(self._place)
                for line in whole.split(b"\n"):
                    if (event := _event(line)) is not None:
                        yield event


class EventSummary:
    """What the events say, read on from where it was left: a running server reads each line once.

    Args:
        file: the file of the events.

    Attributes:
        last: event -> the latest one of this name.
        began: part -> the event since which it is as it is; "" is the whole server, "witness" and "witnesses" what
            else it needs.
        restarts: part -> when it was started again lately, seconds since 1970.
        ended: part -> its latest end, since the server was started.
        few: since a cohort gathered: when the first was missed, the latest such event, and the most devices that came.
    """

    def __init__(self, file: Path) -> None:
        self.last: dict[str, Mapping[str, Any]] = {}
        self.began: dict[str, Mapping[str, Any]] = {}
        self.restarts: dict[str, list[float]] = {}
        self.ended: dict[str, Mapping[str, Any]] = {}
        self.few: tuple[float, Mapping[str, Any], int] | None = None
        self._tail, self._places, self._count = EventFollower(file), dict[str, int](), 0

    def follow(self) -> EventSummary:
        """Read what is new, as far as the file can be read; returns itself."""
        with suppress(OSError):
            for event in self._tail.news():
                self.read(event)
        return self

    def read(self, event: Mapping[str, Any]) -> None:
        """Take one event in."""
        name = event["event"]
        self._count += 1
        self.last[name], self._places[name] = event, self._count
        match name:
            case "started":
                self.restarts, self.ended, self.began = {}, {}, {"": event}
            case "restarted":
                self.restarts[event["part"]] = [*self.restarts.get(event["part"], ())[1 - RESTARTS :], at(event)]
                self.began[event["part"]] = event
            case "serving":
                self.began |= {"serverapp": event, "witness": event}
            case "witnessed" | "unwitnessed":
                self.began["witness"] = event
            case "cosigned" | "uncosigned":
                self.began["witnesses"] = event
            case "gathered":
                self.few = None
            case "no cohort" if {"came", "needed"} <= event.keys():
                first, _, most = self.few or (at(event), event, 0)
                self.few = first, event, max(most, event["came"])
            case "ended":
                self.ended[event["part"]] = event

    def since(self, name: str, *others: str) -> Mapping[str, Any] | None:
        """The latest event of a name, if none of the others came after it."""
        place = self._places.get(name, 0)
        later = max((self._places.get(each, 0) for each in others), default=0)
        return self.last[name] if place and place > later else None


def at(event: Mapping[str, Any]) -> float:
    """When an event was told, seconds since 1970."""
    return datetime.fromisoformat(event["at"]).timestamp()


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None if it isn't one."""
    try:
        found = json.loads(line)
        if not isinstance(found, dict) or not isinstance(found["event"], str):
            return None
        datetime.fromisoformat(found["at"]).timestamp()
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    for key, value in found.items():
        if key in _TEXTS and not isinstance(value, str):
            return None
        if key in _NUMBERS and not (isinstance(value, int | float) and abs(value) < 2**63):
            return None
    reasons = found.get("reasons", {})
    if not isinstance(reasons, dict) or not all(isinstance(count, int) for count in reasons.values()):
        return None
    return found if all(key in found for key in _NEEDED.get(found["event"], ())) else None


def told_reason(event: Mapping[str, Any]) -> str:
    """Why an event is a problem, in words; of a run first what kind it is, and how many devices refused."""
    reason = next((str(event[key]) for key in ("words", "reason", "error", "part") if event.get(key)), "")
    reason = reason or "; ".join(event.get("reasons", ()))
    kind, refused = event.get("kind"), event.get("refused")
    if event["event"] in ("aborted", "no cohort") and kind:
        return f"{kind}: {f'{refused} refused; ' if refused else ''}{reason}"
    return reason


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
