"""EventStore: the encrypted file of one user's events. Second step of the path on a device.

    Event -> EventStore -> Interests

The whole file is encrypted (SQLCipher, 256-bit key, authenticated pages). There is no queue and no thread: an event is
in the file when `add` returns.

**Guarantees:** events that `add` reports as stored survive a kill of the process at any moment (WAL); events stored
before `flush` survive a power cut (FULL); an event is stored once; several threads, processes and forked children may
share a store; after `erase`, also by another process, nothing is stored.

**Assumes:** a local disk, no network drive, that keeps what it was told to sync, and SQLite's locks.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from palate_client.events import FIELDS, Event, Tracked, kept_event, seconds
from palate_client.store.folder import StoreFolder
from palate_client.store.pace import Pace
from palate_client.store.recent_events import KNOWN, RecentEvents
from palate_client.store.retention import DAY, LINES, SET_CLOCK, TRACKED, Limits, drop_excess, drop_old, retention_time
from palate_client.store.store_file import StoreFile
from palate_common.records.closing import Closing
from palate_core.errors import ErasedError, PalateError
from palate_core.log.canonical import canonical_json

CHECKED_EVERY = 256
"""Number of stored events after which the size of the file is checked."""
PAGE = 200
"""Number of events that are read in one transaction, during which no other thread can store any."""

_AT = "coalesce(time, received)"
"""An event's own time: when it happened, as far as it is known."""
_DAY = f"CAST({_AT} / {DAY} AS INT) - ({_AT} / {DAY} < CAST({_AT} / {DAY} AS INT))"
"""The day of that, rounded down: SQL rounds towards zero."""

_INSERT = (
    "INSERT INTO events(id, kind, item, time, received, value, source, props, imported)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class EventStore(Closing):
    """One user's events on this device.

    Args:
        folder: the folder of the store.
        limits: how many events it keeps.
        clock: returns the time in seconds since 1970.

    Attributes:
        file: its file, and the files beside it.
        granted: the purposes that the user had agreed to at the last transaction.

    Raises:
        WrongKeyError: the key is another one.
        InputError: the folder can't be used, or is of another app.
        IntegrityError: a file is damaged.
        LockedError: another process held it for too long.
    """

    def __init__(self, folder: StoreFolder, *, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits, self.clock = limits, clock
        self.granted: frozenset[str] = frozenset()
        self.file = StoreFile(folder)
        self._seen: tuple[int, int] | None = None
        self._recent: RecentEvents | None = None
        self._generation = 0
        self._since_check = 0
        self._tidied = -math.inf
        self._oldest = {False: -math.inf, True: -math.inf}  # of a history: whether it is one
        try:
            self.tidy()
        except BaseException:
            self.close()
            raise

    @property
    def lock(self) -> threading.RLock:
        """The lock of the thread that works on the store; no thread holds it while the process forks."""
        return self.file.lock

    def close(self) -> None:
        """Close the file; closing twice is fine. Stored events are kept without it, too."""
        self.file.close()

    @contextmanager
    def transaction(self, *, write: bool = False, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction on the store; it sees what other processes have stored.

        Args:
            write: exclude other writers.
            durable: wait until the commit, and all before it, are on the disk.

        Raises:
            ErasedError: the store was erased, by this process or another.
            ClosedError: the store was closed.
        """
        with self.lock:
            try:
                with self.file.transaction(write=write, durable=durable) as connection:
                    self._catch_up(connection)
                    yield connection
                if durable:  # for example a decision on consent: the next transaction has to read it
                    self._seen = None
            except BaseException:
                self._seen = self._recent = None  # they may have events that are not in the file
                raise

    def add(self, events: Sequence[Event], *, imported: bool = False) -> list[Tracked]:
        """Store events, in one transaction.

        Args:
            events: the events, in order.
            imported: whether they come from a file: then each has an id, and they don't count for the day's limit.

        Returns:
            The result for each event.
        """
        return self._add(events, LINES if imported else TRACKED)[1]

    def add_history(
        self, events: Sequence[Event], service: str, *, into: int | None = None
    ) -> tuple[int | None, list[Tracked]]:
        """Store the events of a person's history with a service, in one transaction.

        Each has an id. One without a time has none in the store, either.

        Args:
            events: the events.
            service: where the history is from.
            into: the import that they belong to; None: a new one.

        Returns:
            The number of this import, by which `forget_import` deletes it, None: nothing was stored; and the result for
            each event.
        """
        return self._add(events, into, service)

    def forget_import(self, number: int) -> int:
        """Delete what is left of an import by `add_history`; returns the number of events."""
        with self.transaction(write=True, durable=True) as connection:
            n = connection.execute("DELETE FROM events WHERE imported = ? AND imported > ?", (number, LINES)).rowcount
            connection.execute("DELETE FROM meta WHERE name = ?", (f"import {number:d}",))
            self._note_deleted(connection, n)
        return n

    def imports(self) -> list[tuple[int, str, float, int]]:
        """Number, service and time of each import by `add_history`, and how many of its events are left."""
        query = (
            "SELECT imported, (SELECT value FROM meta WHERE name = 'import ' || imported), min(received), count(*)"
            " FROM events WHERE imported > ? GROUP BY imported ORDER BY imported"
        )
        with self.transaction() as connection:
            return [tuple(row) for row in connection.execute(query, (LINES,))]

    @property
    def oldest(self) -> float:
        """The time before which the events of a history are too old to be kept, in seconds since 1970."""
        return self._oldest[True]

    def _add(self, events: Sequence[Event], origin: int | None, service: str = "") -> tuple[int | None, list[Tracked]]:
        """Store events in one transaction.

        Args:
            events: the events, in order.
            origin: what becomes the column `imported`; None: the next number of an import.
            service: of that import.
        """
        now = self.clock()
        try:
            with suppress(PalateError):  # the next one will do; what is wrong with the store is found below
                self.tidy()
            with self.transaction(write=True) as connection:
                if "store" not in self.granted:
                    return None, [Tracked.NO_CONSENT] * len(events)
                recent = self._recent or self._read_recent(connection)
                number = int(_get(connection, "imports") or LINES) + 1 if origin is None else origin
                outcomes, rows = self._accept(connection, recent, events, now, number)
                if rows:
                    connection.executemany(_INSERT, rows)
                    (recent.last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
                    if origin is None:
                        _set(connection, "imports", number)
                        connection.execute("INSERT INTO meta VALUES (?, ?)", (f"import {number:d}", service))
                self._recent = recent
                self._delete_excess(connection, len(rows))
                return number if rows else None, outcomes
        except ErasedError:
            return None, [Tracked.NO_CONSENT] * len(events)

    def tidy(self) -> None:
        """Delete events that are too old, once a day: at opening, when events are stored, and before a sync.

        Raises:
            PalateError: the store can't be read or written; nothing was deleted.
        """
        now = self.clock()
        if now < SET_CLOCK or 0 <= now - self._tidied < DAY:
            return
        with self.transaction() as connection:
            before = _get(connection, "believed"), _get(connection, "leapt")
        believed, leapt = time = retention_time(now, *before)
        days = {False: self.limits.keep_days, True: self.limits.keep_history_days}
        self._oldest = {history: believed - kept * DAY for history, kept in days.items()}
        if before[0] is not None and 0 <= believed - before[0] < DAY and leapt == before[1]:
            self._tidied = now if leapt else before[0]
            return
        with self.transaction(write=True) as connection:
            for name, value in zip(("believed", "leapt"), time, strict=True):
                _set(connection, name, value)
            self._note_deleted(
                connection, drop_old(connection, before=self._oldest[False], history_before=self._oldest[True])
            )
        self._tidied = now

    def flush(self) -> None:
        """Write all stored events to the disk, so that they survive a power cut."""
        with self.transaction(write=True, durable=True) as connection:
            _set(connection, "flushed", self.clock())
        with self.lock:  # no fork can close the file meanwhile
            self.file.open().checkpoint()

    def events(self, *, unread: list[dict[str, Any]] | None = None) -> Iterator[Event]:
        """All events with their ids, oldest first; events that are stored meanwhile may be included.

        Args:
            unread: gets the rows that this version can't read as events, for example of a newer version's kind.
        """
        query = "SELECT seq, kind, item, time, value, source, id, props FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        last, pace = 0, Pace()
        while True:
            with self.transaction() as connection:
                page = connection.execute(query, (last, PAGE)).fetchall()
            for seq, *row in page:
                pace()
                try:
                    event = kept_event(*row[:-1], None if row[-1] is None else json.loads(row[-1]))
                except (PalateError, ValueError, TypeError, RecursionError):
                    if unread is not None:
                        unread.append(dict(zip(FIELDS, row, strict=True)))
                else:
                    yield event
                last = seq
            if not page:
                return

    def reset(self) -> None:
        """From now on ignore earlier events for the user's taste."""
        with self.transaction(write=True, durable=True) as connection:
            _set(connection, "reset", connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
            connection.execute(
                "DELETE FROM meta WHERE name LIKE 'shown %' OR name LIKE 'liked %' OR name LIKE 'lately %'"
                " OR name = 'profile'"
            )
            self._generation += 1
            _set(connection, "generation", self._generation)

    def reset_mark(self) -> int:
        """Sequence number of the last event before the taste's last reset; 0 if it was never reset."""
        with self.transaction() as connection:
            return int(_get(connection, "reset") or 0)

    def first(self) -> float | None:
        """Time of the user's first event, if it was deleted since; None if nothing was deleted."""
        with self.transaction() as connection:
            return _get(connection, "first")

    def erase(self, *, still: Callable[[], bool] = lambda: True) -> bool:
        """Destroy the key and remove the files, for every process that has the store open; see `StoreFile.erase`.

        Raises:
            LockedError: another process is opening or erasing it; nothing was erased.
            PalateError: the key can't be overwritten, and nothing was erased; or the key is destroyed, but its entry in
                the keyring or a file can't be removed now.
        """
        return self.file.erase(still=still)

    def _accept(
        self, connection: sqlite3.Connection, recent: RecentEvents, events: Sequence[Event], now: float, imported: int
    ) -> tuple[list[Tracked], list[tuple[Any, ...]]]:
        """The result for each event, and the rows of those that are to be stored."""
        outcomes, rows = list[Tracked](), list[tuple[Any, ...]]()
        ids = _present(connection, [event.id for event in events if event.id])
        stamp, is_set, history = f"{max(int(now * 1000), 0):012x}", now >= SET_CLOCK, imported > LINES
        for event in events:
            known, given = event.id, None if event.time is None else seconds(event.time)
            time = min(now if given is None else given, now) if is_set and not (history and given is None) else given
            at = now if time is None else time
            if known:
                repeated = known in ids
            else:
                repeated = recent.repeats(event.kind, event.item, event.value, at)
                known = stamp + os.urandom(10).hex()
            if repeated:
                outcomes.append(Tracked.DUPLICATE)
                continue
            if given is not None and at < self._oldest[history]:
                outcomes.append(Tracked.TOO_OLD)
                continue
            if not imported and recent.is_full(at):
                outcomes.append(Tracked.LIMITED)
                continue
            props = None if event.props is None else canonical_json(dict(event.props)).decode()
            rows.append((known, event.kind, event.item, time, now, event.value, event.source, props, imported))
            ids.add(known)
            outcomes.append(Tracked.STORED)
            recent.add(event.kind, event.item, event.value, at, tracked=not imported)
        return outcomes, rows

    def _delete_excess(self, connection: sqlite3.Connection, added: int) -> None:
        """Delete events above the limits, if it is time to check."""
        self._since_check += added
        count = 0 if self._recent is None else self._recent.count
        if count > self.limits.max_events or self._since_check >= CHECKED_EVERY:
            self._since_check = 0
            self._note_deleted(connection, drop_excess(connection, self.limits, count=count))

    def _note_deleted(self, connection: sqlite3.Connection, n: int) -> None:
        """After a deletion of n events, start a new generation, so that all readers start again."""
        if n:
            self._recent = None
            self._generation += 1
            _set(connection, "generation", self._generation)
            # If the newest events were deleted, SQLite reuses their numbers: the reset must stay before new events.
            newest = "SELECT coalesce(max(seq), 0) FROM events"
            connection.execute(f"UPDATE meta SET value = min(value, ({newest})) WHERE name = 'reset'")  # noqa: S608
            connection.execute("PRAGMA incremental_vacuum").fetchall()

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Read what other processes changed since the last transaction."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._seen == (self.file.openings, version):
            return
        latest = "SELECT purpose, granted, max(seq) FROM consent GROUP BY purpose"
        granted = {purpose for purpose, granted, _ in connection.execute(latest) if granted}
        self.granted = frozenset(granted - self.file.denied_purposes())
        generation = int(_get(connection, "generation") or 0)
        if generation != self._generation:
            self._recent = None
        if self._recent is not None:
            query = f"SELECT seq, kind, item, value, {_AT}, imported FROM events WHERE seq > ? ORDER BY seq"  # noqa: S608
            for seq, kind, item, value, at, imported in connection.execute(query, (self._recent.last,)):
                self._recent.add(kind, item, value, at, tracked=not imported)
                self._recent.last = seq
        self._seen, self._generation = (self.file.openings, version), generation

    def _read_recent(self, connection: sqlite3.Connection) -> RecentEvents:
        """Read the newest events from the file, and count all."""
        recent = RecentEvents(self.limits)
        counts = f"SELECT {_DAY} AS day, count(*), sum(NOT imported) FROM events GROUP BY day"  # noqa: S608
        for day, count, tracked in connection.execute(counts):
            recent.count += count
            recent.days[day] = tracked
        newest = f"SELECT seq, kind, item, value, {_AT} FROM events ORDER BY seq DESC LIMIT {KNOWN}"  # noqa: S608
        for seq, kind, item, value, at in reversed(connection.execute(newest).fetchall()):
            recent.remember(kind, item, value, at)
            recent.last = seq
        return recent


def _present(connection: sqlite3.Connection, ids: Sequence[str]) -> set[str]:
    """Those of these ids that are in the store."""
    found = set[str]()
    for first in range(0, len(ids), 500):
        part = ids[first : first + 500]
        query = f"SELECT id FROM events WHERE id IN ({', '.join('?' * len(part))})"  # noqa: S608 # question marks only
        found.update(known for (known,) in connection.execute(query, part))
    return found


def _get(connection: sqlite3.Connection, name: str) -> float | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else float(row[0])


def _set(connection: sqlite3.Connection, name: str, value: float | None) -> None:
    """Store a number; None: there is none."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE name = ?", (name,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
