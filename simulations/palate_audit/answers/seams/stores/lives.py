"""Lives: what happens to the events of a store over months."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import file_sizes, made_folder
from palate_audit.answers.made.stores import NOW, made_disk, made_event, made_store, tell_store
from palate_audit.answers.made.telling import as_text, tables_as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_client.consent import PURPOSES, Consent
from palate_client.events import Event
from palate_client.store import reading, retention, store, store_file, tracker
from palate_client.store.activity import Activity
from palate_client.store.reading import Mark
from palate_client.store.retention import DAY, SET_CLOCK, Limits
from palate_client.store.store import EventStore
from palate_client.store.tracker import Tracker
from palate_common.records.database import Database


class _Lived:
    """A store that many things happen to, and a second process that has it open, too."""

    def __init__(self, dice: Dice, answer: CaseAnswer, path: Path, room: SimpleNamespace) -> None:
        self.dice, self.answer, self.path, self.room = dice, answer, path, room
        starts = (NOW, NOW, SET_CLOCK, SET_CLOCK - 0.25, SET_CLOCK - 3 * DAY, 1000.0, -7.0)
        self.clock = MadeClock(dice.one_of(starts))
        self.limits = Limits(
            keep_days=dice.one_of((730.0, 30.0, 2.5, 1)),
            max_events=dice.one_of((100_000, 4, 12, 20)),
            max_per_day=dice.one_of((20_000, 3, 7)),
            window_seconds=dice.one_of((1.0, 0.0, 60.0)),
        )
        self.one = made_store(path, self.clock, self.limits)
        self.two: EventStore | None = None
        self.marks: dict[str, Any] = {"mark": Mark()}
        self.activity, self.tracker = Activity(self.one), Tracker(self.one)
        Consent(self.one).grant("store")

    def step(self) -> None:
        """One thing that happens."""
        steps = (self.add, self.add, self.add, self.load, self.again, self.wait, self.wait, self.consent, self.reset,
                 self.reset, self.season, self.other, self.read, self.read, self.forked, self.flush)  # fmt: skip
        step = self.dice.one_of(steps)
        self.answer.tell(step.__name__)
        step()
        if self.dice.chance(0.4):
            tell_store(self.answer, self.one)

    def add(self) -> None:
        """Track some."""
        made = [made_event(self.dice, self.clock.now) for _ in range(self.dice.whole(0, 4))]
        self.last = made
        tell_text(self.answer, self.tracker.add, made)
        self.answer.tell(self.tracker.problem != "")

    def load(self) -> None:
        """Import some."""
        made = [made_event(self.dice, self.clock.now, imported=True) for _ in range(self.dice.whole(1, 6))]
        tell_text(self.answer, self.one.add, made, imported=True)

    def again(self) -> None:
        """The same once more, perhaps in another order."""
        tell_text(self.answer, self.tracker.add, self.dice.shuffled(getattr(self, "last", [])))

    def wait(self) -> None:
        """The clock goes on, or back."""
        night = DAY - self.clock.now % DAY
        jumps = (0.5, 1.0, 59.75, 60.0, 3600.0, night, night - 0.25, DAY, -3600.0, -DAY, 31 * DAY, 40 * DAY, 800 * DAY)
        self.clock.now += self.dice.one_of(jumps)

    def consent(self) -> None:
        """A decision."""
        decide = self.dice.one_of((Consent(self.one).grant, Consent(self.one).revoke))
        purpose: Any = self.dice.one_of(("store", *PURPOSES))
        tell_text(self.answer, decide, purpose, version=self.dice.one_of(("1", "2")))
        if self.dice.chance(0.6):
            Consent(self.one).grant("store")

    def reset(self) -> None:
        """The taste begins anew."""
        with self.one.transaction(write=True) as connection:
            rows = [(f"{name} popularity", 2.0) for name in ("shown", "liked", "lately", "other")]
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        self.one.reset()
        self.answer.tell(self.one.reset_mark(), as_text(self.one.first()))

    def season(self) -> None:
        """Restart the process, when the oldest events may be due."""
        keep = self.limits.keep_days * DAY
        self.clock.now += self.dice.one_of(
            (0.0, 0.0, keep, keep, keep - 0.25, keep + DAY, max(SET_CLOCK - self.clock.now, 0.0))
        )
        self.one.close()
        tell_refusal(self.answer, self.one.add, [])
        self.answer.tell(self.one.file.state)
        self.one = made_store(self.path, self.clock, self.limits)
        self.marks = {"mark": Mark()}
        self.activity, self.tracker = Activity(self.one), Tracker(self.one)

    def other(self) -> None:
        """Another process works on the store."""
        if self.two is None:
            self.two = made_store(self.path, self.clock, self.limits)
        two = self.two
        works = (lambda: two.add([made_event(self.dice, self.clock.now) for _ in range(3)]), two.reset,
                 lambda: Consent(two).revoke("store"), lambda: Consent(two).grant("store"),
                 lambda: [each.id for each in two.events()], lambda: self.both(two))  # fmt: skip
        tell_text(self.answer, self.dice.one_of(works))

    def both(self, two: EventStore) -> None:
        """Store while the other one writes, or reads."""
        with two.transaction(write=self.dice.chance(0.7)):
            tell_text(self.answer, self.tracker.add, self.dice.one_of(([], [Event("like", "a")])))
            self.answer.tell(self.tracker.problem != "")
            tell_text(self.answer, lambda: [each.id for each in self.one.events()])

    def read(self) -> None:
        """Read what is new, and all."""
        mark, anew, pages = reading.since(self.one, self.marks["mark"], "seq, kind, time", list)
        self.marks["mark"] = mark
        unread = list[dict[str, Any]]()
        self.answer.tell(
            as_text(mark), anew, as_text(pages), as_text(list(self.one.events(unread=unread))), as_text(unread)
        )
        self.activity.past(self.dice.one_of((None, "price")))
        self.answer.tell(as_text(self.activity.past(self.dice.one_of((None, "price", "price", "amount")))))

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
        tell_text(self.answer, self.one.flush)
        with self.one.transaction(write=True) as connection:
            row = (f"new{self.clock.now}", self.dice.one_of(("wave", "like")), "a", 5.0, self.clock.now, None, "online",
                   self.dice.one_of(("{", None, "[]")), 0)  # fmt: skip
            columns = "id, kind, item, time, received, value, source, props, imported"
            connection.execute(f"INSERT OR IGNORE INTO events({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608


def _life(dice: Dice, answer: CaseAnswer) -> None:
    """A store over months."""
    pages = dice.one_of((2, 3, 200))
    with made_folder(answer) as path, made_disk() as room, ExitStack() as stack:
        for owner, name, value in ((store, "PAGE", pages), (reading, "PAGE", pages), (store_file, "BUSY_SECONDS", 0.0),
                                   (store, "CHECKED_EVERY", dice.one_of((3, 256)))):  # fmt: skip
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mock.patch.object(tracker, "logger", SimpleNamespace(warning=_silent)))
        synced = [stack.enter_context(_counted(name)) for name in ("wait_for_disk", "checkpoint", "checkpoint_every")]
        lived = _Lived(dice, answer, path / "s", room)
        for _ in range(dice.whole(8, 16)):
            lived.step()
            answer.tell([len(each) for each in synced])
        lived.read()
        tell_store(answer, lived.one)
        eraser = dice.one_of((lived.one, lived.two or lived.one))
        tell_refusal(answer, eraser.erase)
        for each in (lived.one, lived.two):
            if each is not None:
                tell_text(answer, each.add, [Event("like", "a")] * 2)
                tell_refusal(answer, each.reset)
                answer.tell(each.file.state)
                each.close()
        answer.tell(file_sizes(path / "s"))


def _silent(*_: object) -> None:
    """Say nothing."""


@contextmanager
def _counted(name: str) -> Iterator[list[Any]]:
    """What is asked of the disk, and passed on."""
    calls, real = list[Any](), getattr(Database, name)

    def passed(database: Database, *given: Any) -> None:
        calls.append(given)
        real(database, *given)

    with mock.patch.object(Database, name, passed):
        yield calls


def _large(dice: Dice, answer: CaseAnswer) -> None:
    """A store whose file grows above its limit."""
    with made_folder(answer) as path, made_disk(), mock.patch.object(store, "CHECKED_EVERY", dice.one_of((5, 9))):
        clock = MadeClock(NOW)
        events = made_store(path / "s", clock, Limits(max_bytes=2**17, max_events=dice.one_of((100, 24))))
        Consent(events).grant("store")
        for _ in range(4):
            clock.now += dice.whole(1, 9)
            made = [
                Event(dice.one_of(("impression", "like")), f"{clock.now} {k}", time=clock.now - dice.whole(0, 9),
                      props={"x": "y" * dice.whole(3000, 4000)})
                for k in range(dice.whole(8, 12))
            ]  # fmt: skip
            tell_text(answer, events.add, made)
            if dice.chance(0.5):
                events.flush()
                answer.tell(next((path / "s").glob("*.db")).stat().st_size)
            with events.transaction() as connection:
                answer.tell(as_text(connection.execute("SELECT seq, kind, time FROM events ORDER BY seq").fetchall()))
                answer.tell(tables_as_text(connection, "meta"), retention.size(connection) <= 2**17)
                answer.tell(
                    [connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count")]
                )
        events.close()


SEAMS: tuple[Seam, ...] = (
    Seam("store: events of every kind, limits, clocks that jump, readers, restarts", _life, 18),
    Seam("store: a file above its limit", _large, 6),
)
