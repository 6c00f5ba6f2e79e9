"""Stores: what a device keeps and deletes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import NAMED, Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.harness.watched_run import memory
from palate_client import portability
from palate_client.consent import PURPOSES, Consent
from palate_client.delivery.calendar import Calendar
from palate_client.events import KINDS, Event, check_items, event_from, event_line, kept_event, seconds
from palate_client.loyalty import churn_risk, loyalty, visits_of
from palate_client.store import erasing, folder, forking, key_file, pace, reading, retention, schema, store, store_file
from palate_client.store.activity import Activity, Past, past_of
from palate_client.store.folder import StoreFolder
from palate_client.store.journal import (
    Contact,
    Edition,
    Journal,
    Opened,
    Refusal,
    Sent,
    note_refusal,
    reason_of,
)
from palate_client.store.reading import Mark
from palate_client.store.recent_events import RecentEvents
from palate_client.store.retention import DAY, Limits
from palate_client.store.store import SET_CLOCK, EventStore
from palate_client.store.tracker import Tracker
from palate_client.store.vault import Caller, Keyring, Vault, new_key
from palate_common.errors import InputError, PalateError
from palate_common.records.database import Database

NOW = 1_790_000_000.25
"""A time of made-up stores: an hour that isn't the start of a day."""
ITEMS = ("a", "b", "film 7", "ü" * 3)
PROPS: tuple[Any, ...] = (None, {}, {"price": 3}, {"price": 2.5, "shop": "x"}, {"price": True}, {"price": "4"},
                          {"price": 10**400}, {"why": [1, {"b": [None]}]})  # fmt: skip


# --- what several seams use ---


def exact(value: Any) -> str:
    """A value as text, each real number with all its digits: nothing was computed with it."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.tolist()}"
    if isinstance(value, Past):
        return exact(value.active) + exact(value.bought)
    return repr(sorted(value) if isinstance(value, set | frozenset) else value)


def asked(answer: Answer, call: Callable[..., Any], *args: Any, path: Path | None = None, **named: Any) -> Any:
    """Call, and tell what it raises, whose text may have a path; returns what it gives."""
    try:
        return call(*args, **named)
    except (PalateError, OSError, sqlite3.Error) as error:
        said = str(error) if path is None else str(error).replace(str(path), "")
        answer.tell(type(error).__name__, NAMED.findall(said) if isinstance(error, PalateError) else [])
        return None


def told(answer: Answer, call: Callable[..., Any], *args: Any, path: Path | None = None, **named: Any) -> Any:
    """Call, and tell what comes back, exactly."""
    found = asked(answer, call, *args, path=path, **named)
    answer.tell(exact(found))
    return found


@contextmanager
def place() -> Iterator[Path]:
    """A folder in memory."""
    with tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as made:
        yield Path(made)


class MadeClock:
    """Unix time that stands still until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def disk(free: int = 2**40, reserve: int = 2**10) -> Iterator[SimpleNamespace]:
    """A disk with so much room, and a small reserve for it."""
    room = SimpleNamespace(free=free, total=2**41, used=0)
    with mock.patch.object(shutil, "disk_usage", lambda _: room), mock.patch.object(folder, "RESERVE", reserve):
        yield room


def opened(path: Path, clock: Callable[[], float], limits: Limits | None = None, key: bytes = bytes(32)) -> EventStore:
    """Open a store."""
    return EventStore(StoreFolder(path, Vault(path, "shelf", Caller(key))), limits=limits or Limits(), clock=clock)


def dump(connection: sqlite3.Connection, *tables: str) -> str:
    """All rows of some tables."""
    return repr([connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables])  # noqa: S608


def kept(answer: Answer, events: EventStore) -> None:
    """Tell all that is in a store."""
    with events.transaction() as connection:
        answer.tell(dump(connection, "meta", "consent", "events"), exact(events.granted))


def names(path: Path) -> list[tuple[str, bool]]:
    """Files of a folder, and which of them have bytes."""
    return sorted((each.name, each.stat().st_size > 0) for each in path.iterdir() if not each.name.endswith("-shm"))


def event(dice: Dice, now: float, *, imported: bool = False) -> Event:
    """An event that an app might store."""
    kind: Any = dice.one_of(KINDS if dice.chance(0.4) else ("impression", "view", "rate", "purchase"))
    valued = kind == "rate" or (kind in ("view", "play", "purchase") and dice.chance(0.6))
    times = (None, now, now - 0.5, now - 3 * DAY, now + 9.0, now - 800 * DAY, 5.0)
    known = dice.one_of(("i1", "i2", "i3", f"i{dice.whole(4, 99)}"))
    return Event(
        kind,
        dice.one_of(ITEMS),
        time=dice.one_of(times),
        value=dice.whole(1, 5) / (1 if kind == "rate" else 2) if valued else None,
        source=dice.one_of(("online", "offline")),
        id=known if imported or dice.chance(0.4) else "",
        props=dice.one_of(PROPS) if dice.chance(0.6) else None,
    )


# --- the events' file ---


class _Lived:
    """A store that many things happen to, and a second process that has it open, too."""

    def __init__(self, dice: Dice, answer: Answer, path: Path, room: SimpleNamespace) -> None:
        self.dice, self.answer, self.path, self.room = dice, answer, path, room
        starts = (NOW, NOW, SET_CLOCK, SET_CLOCK - 0.25, 1000.0, -7.0)
        self.clock = MadeClock(dice.one_of(starts))
        self.limits = Limits(
            keep_days=dice.one_of((730.0, 30.0, 2.5, 1)),
            max_events=dice.one_of((100_000, 4, 12, 20)),
            max_per_day=dice.one_of((20_000, 3, 7)),
            window_seconds=dice.one_of((1.0, 0.0, 60.0)),
        )
        self.one = opened(path, self.clock, self.limits)
        self.two: EventStore | None = None
        self.marks: dict[str, Any] = {"mark": Mark()}
        self.activity, self.tracker = Activity(self.one), Tracker(self.one)
        Consent(self.one).grant("store")

    def step(self) -> None:
        """One thing that happens."""
        steps = (self.add, self.add, self.add, self.load, self.again, self.wait, self.wait, self.consent, self.reset,
                 self.reopen, self.other, self.read, self.read, self.forked, self.flush)  # fmt: skip
        step = self.dice.one_of(steps)
        self.answer.tell(step.__name__)
        step()
        if self.dice.chance(0.4):
            kept(self.answer, self.one)

    def add(self) -> None:
        """Track some."""
        made = [event(self.dice, self.clock.now) for _ in range(self.dice.whole(0, 4))]
        self.last = made
        told(self.answer, self.tracker.add, made)
        self.answer.tell(self.tracker.problem)

    def load(self) -> None:
        """Import some."""
        made = [event(self.dice, self.clock.now, imported=True) for _ in range(self.dice.whole(1, 6))]
        told(self.answer, self.one.add, made, imported=True)

    def again(self) -> None:
        """The same once more, perhaps in another order."""
        told(self.answer, self.tracker.add, self.dice.shuffled(getattr(self, "last", [])))

    def wait(self) -> None:
        """The clock goes on, or back."""
        night = DAY - self.clock.now % DAY
        jumps = (0.5, 1.0, 59.75, 60.0, 3600.0, night, night - 0.25, DAY, -3600.0, -DAY, 31 * DAY, 40 * DAY, 800 * DAY)
        self.clock.now += self.dice.one_of(jumps)

    def consent(self) -> None:
        """A decision."""
        decide = self.dice.one_of((Consent(self.one).grant, Consent(self.one).revoke))
        purpose: Any = self.dice.one_of(("store", *PURPOSES))
        told(self.answer, decide, purpose, version=self.dice.one_of(("1", "2")))
        if self.dice.chance(0.6):
            Consent(self.one).grant("store")

    def reset(self) -> None:
        """The taste begins anew."""
        with self.one.transaction(write=True) as connection:
            rows = [(f"{name} popularity", 2.0) for name in ("shown", "liked", "lately", "other")]
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        self.one.reset()
        self.answer.tell(self.one.reset_mark(), exact(self.one.first()))

    def reopen(self) -> None:
        """Restart the process, perhaps with other limits."""
        self.one.close()
        asked(self.answer, self.one.add, [])
        self.answer.tell(self.one.file.state)
        self.one = opened(self.path, self.clock, self.limits)
        self.marks = {"mark": Mark()}
        self.activity, self.tracker = Activity(self.one), Tracker(self.one)

    def other(self) -> None:
        """Another process works on the store."""
        if self.two is None:
            self.two = opened(self.path, self.clock, self.limits)
        two = self.two
        works = (lambda: two.add([event(self.dice, self.clock.now) for _ in range(3)]), two.reset,
                 lambda: Consent(two).revoke("store"), lambda: Consent(two).grant("store"),
                 lambda: [each.id for each in two.events()])  # fmt: skip
        told(self.answer, self.dice.one_of(works))

    def read(self) -> None:
        """Read what is new, and all."""
        mark, anew, pages = reading.since(self.one, self.marks["mark"], "seq, kind, time", list)
        self.marks["mark"] = mark
        unread = list[dict[str, Any]]()
        self.answer.tell(exact(mark), anew, exact(pages), exact(list(self.one.events(unread=unread))), exact(unread))
        self.answer.tell(exact(self.activity.past(self.dice.one_of((None, None, "price", "amount")))))

    def forked(self) -> None:
        """The process forks."""
        before = self.one.file.openings
        store_file._enter(self.one.file)
        self.answer.tell(self.one.file._database is None)
        store_file._leave(self.one.file)
        self.one.add([])
        self.answer.tell(self.one.file.openings - before)

    def flush(self) -> None:
        """All of it to the disk; a row that a newer version wrote."""
        told(self.answer, self.one.flush)
        with self.one.transaction(write=True) as connection:
            row = (f"new{self.clock.now}", self.dice.one_of(("wave", "like")), "a", 5.0, self.clock.now, None, "online",
                   self.dice.one_of(("{", None, "[]")), 0)  # fmt: skip
            columns = "id, kind, item, time, received, value, source, props, imported"
            connection.execute(f"INSERT OR IGNORE INTO events({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608


def _life(dice: Dice, answer: Answer) -> None:
    """A store over months."""
    pages = dice.one_of((2, 3, 200))
    with place() as path, disk() as room, ExitStack() as stack:
        for owner, name, value in ((store, "PAGE", pages), (reading, "PAGE", pages),
                                   (store, "CHECKED_EVERY", dice.one_of((3, 256)))):  # fmt: skip
            stack.enter_context(mock.patch.object(owner, name, value))
        lived = _Lived(dice, answer, path / "s", room)
        for _ in range(dice.whole(8, 16)):
            lived.step()
        lived.read()
        kept(answer, lived.one)
        for each in (lived.one, lived.two):
            if each is not None:
                each.close()


def _large(dice: Dice, answer: Answer) -> None:
    """A store whose file grows above its limit."""
    with place() as path, disk(), mock.patch.object(store, "CHECKED_EVERY", dice.one_of((5, 9))):
        clock = MadeClock()
        events = opened(path, clock, Limits(max_bytes=2**17, max_events=dice.one_of((100, 24))))
        Consent(events).grant("store")
        for _ in range(4):
            clock.now += dice.whole(1, 9)
            props = {"x": "y" * dice.whole(3000, 4000)}
            made = [Event(dice.one_of(("impression", "like")), f"{clock.now} {k}", time=clock.now - dice.whole(0, 9), props=props)
                    for k in range(dice.whole(8, 12))]  # fmt: skip
            told(answer, events.add, made)
            with events.transaction() as connection:
                answer.tell(exact(connection.execute("SELECT seq, kind, time FROM events ORDER BY seq").fetchall()))
                answer.tell(exact(connection.execute("SELECT * FROM meta ORDER BY 1").fetchall()))
                answer.tell(retention.size(connection) <= 2**17)
        events.close()


SEAMS: tuple[Seam, ...] = (
    Seam("store: events of every kind, limits, clocks that jump, readers, restarts", _life, 36),
    Seam("store: a file above its limit", _large, 6),
)
