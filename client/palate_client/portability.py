"""Portability: exports all of the user's data as lines of JSON, and imports events from such lines.

    {"palate": "export", "format": 1, "app": "bookshop", "time": 1767225600}
    {"type": "consent", "purpose": "store", "granted": true, "version": "1", "time": 1767225500}
    {"type": "event", "kind": "rate", "item": "book-7", "time": 1767225550, "value": 4, "source": "online", "id": "1"}

An export is not encrypted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from palate_client.consent import Consent
from palate_client.events import HISTORY, Event, Tracked, check_kind, event_from, event_line
from palate_client.recommend.adaptation.blending import Blend
from palate_client.store.pace import Pace
from palate_client.store.store import EventStore
from palate_core.errors import InputError, PalateError

FORMAT = 1
BATCH = 25
"""Events of an import that are stored in one transaction, during which no other thread can store any."""
CHECKPOINT = 100
"""Batches after which SQLite's log is moved to the main file, so that no commit of another thread has to."""
OWN = (
    "consent", "outcome", "profile", "reset", "first", "sent", "refusal", "model", "contact", "participation",
    "channel", "delivery", "problem", "unread", "opened",
)  # fmt: skip
"""Types of lines of an export that are no events and belong to its device: an import skips them."""
MAX_LINE = 2**16
"""Longest line of an import, in bytes."""
MOST_PROBLEMS = 1000
"""The most unreadable lines; an import with more ends, as the file is probably no export."""


@dataclass(frozen=True)
class Problem:
    """A line that is not an event.

    Attributes:
        line: the line's number, from 1.
        reason: what was expected, and what was found.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """The result of an import. The numbers add up to the lines that aren't empty.

    Attributes:
        stored: events that were stored.
        duplicates: events that were stored before.
        too_old: events that were not stored, as they are older than `keep_days`.
        not_stored: events that were not stored, as the user has not agreed to `store`.
        skipped: lines of an export that are no events, such as consent, which isn't transferred to another device.
        problems: all other lines.
    """

    stored: int
    duplicates: int
    too_old: int
    not_stored: int
    skipped: int
    problems: tuple[Problem, ...]


def export_lines(store: EventStore, *, app: str) -> Iterator[str]:
    """All of the user's data, one JSON object per line, oldest first within each type."""
    yield _line({"palate": "export", "format": FORMAT, "app": app, "time": store.clock()})
    for decision in Consent(store).history():
        fields = {"purpose": decision.purpose, "granted": decision.granted, "version": decision.version}
        yield _line({"type": "consent", **fields, "time": decision.time})
    for source, (shown, liked) in Blend(store).counts().items():
        yield _line({"type": "outcome", "source": source, "shown": shown, "liked": liked})
    from palate_client.recommend.facts.profile import UserProfile  # here: nothing else on the way to `track` needs it

    if answers := UserProfile(store).answers():
        yield _line({"type": "profile", "answers": answers})
    if mark := store.reset_mark():
        yield _line({"type": "reset", "events": mark})
    if (first := store.first()) is not None:
        yield _line({"type": "first", "time": first})
    unread = list[dict[str, Any]]()
    for event in store.events(unread=unread):
        yield f'{{"type": "event", {event_line(event)[1:]}'
    for row in unread:  # for example written by a newer version
        yield _line({"type": "unread", **row})


def import_file(store: EventStore, path: Path, known: Collection[str]) -> ImportReport:
    """Store the events of a file of JSON lines. The same file may be imported again, also after a failure.

    Args:
        store: the store.
        path: the file.
        known: the kinds of events that the device takes; a line of another is a problem.

    Raises:
        InputError: the file can't be read, or more than `MOST_PROBLEMS` of its lines are no events.
        PalateError: the store can't be written; what was stored before stays.
    """
    counts, pace = dict.fromkeys(Tracked, 0), Pace()
    skipped, problems, batch, batches = 0, list[Problem](), list[Event](), 0
    into: int | None = None

    def deliver() -> None:
        nonlocal batches, into
        pace()
        history = [event for event in batch if event.id.startswith(HISTORY)]  # it keeps its own rule of retention
        others = [event for event in batch if not event.id.startswith(HISTORY)]
        outcomes = store.add(others, imported=True) if others else []
        if history:
            made, more = store.add_history(history, "export", into=into)
            into, outcomes = into if made is None else made, outcomes + more
        for outcome in outcomes:
            counts[outcome] += 1
        batch.clear()
        batches += 1
        if batches % CHECKPOINT == 0:
            with suppress(PalateError):  # the next one will do
                store.file.checkpoint()

    try:
        with path.open("rb") as file, store.file.at_leisure():
            for number, text in _lines(file):
                pace()
                try:
                    event = _read(text)
                    if event is not None:
                        check_kind(event, known)
                except InputError as error:
                    problems.append(Problem(number, str(error)))
                    if len(problems) > MOST_PROBLEMS:
                        deliver()
                        raise InputError(
                            f"`path` must be a file of events, got more than {MOST_PROBLEMS} lines that are none, the "
                            f"first is line {problems[0].line}: {problems[0].reason}"
                        ) from None
                    continue
                if event is None:
                    skipped += 1
                    continue
                batch.append(event)
                if len(batch) == BATCH:
                    deliver()
            deliver()
    except OSError as error:
        raise InputError(f"`path` must be a readable file, got {path}: {error.strerror}") from None
    return ImportReport(
        stored=counts[Tracked.STORED],
        duplicates=counts[Tracked.DUPLICATE],
        too_old=counts[Tracked.TOO_OLD],
        not_stored=counts[Tracked.NO_CONSENT],
        skipped=skipped,
        problems=tuple(problems),
    )


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each line that isn't empty, with its number. A line that is too long is cut after `MAX_LINE` + 1 bytes."""
    number, last, inside = 0, 0, False
    while line := file.readline(MAX_LINE + 1):
        if not inside:
            number += 1
            if line.strip(b" \t\r\n\xef\xbb\xbf"):
                yield number, line
                last = number
            elif number - last > MOST_PROBLEMS:
                raise InputError(f"`path` must be a file of events, got {MOST_PROBLEMS} empty lines after line {last}")
        inside = not line.endswith(b"\n")


def _read(line: bytes) -> Event | None:
    """The event on a line; None for an export's other lines."""
    if len(line) > MAX_LINE:
        raise InputError(f"a line must be at most {MAX_LINE} bytes, got more")
    try:
        fields: Any = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"a line must be a JSON object, got {type(error).__name__}: {str(error)[:80]}") from None
    if not isinstance(fields, dict):
        raise InputError(f"a line must be a JSON object, got {type(fields).__name__}")
    kind = fields.pop("type", "header" if "palate" in fields else "event")
    if kind == "header" and fields.get("format") != FORMAT:
        raise InputError(f"an export must be of format {FORMAT}, got {fields.get('format')!r:.40}")
    if kind in ("header", *OWN):
        return None
    if kind != "event":
        raise InputError(f"`type` must be event, got {kind!r:.80}")
    return event_from(fields)


def _refuse(constant: str) -> None:
    """Refuse NaN and infinities, which are no JSON."""
    raise ValueError(f"{constant} is no JSON")


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False)
