"""Record: all messages of this device, sent or not, with their reasons, in an encrypted file beside the events.

A message is marked as sent, on the disk, before it is handed to its channel: if the process is killed in between, the
message is lost, but never sent twice.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from palate_client.delivery.calendar import Moment
from palate_client.delivery.choice import DeliveryTrial
from palate_client.delivery.message import Message
from palate_client.delivery.rules import DAY, LONGEST_PACE, WAITING, CountedDelivery, Reason
from palate_client.store.retention import SET_CLOCK
from palate_client.store.store_file import StoreFile
from palate_common.records.database import Database

KIND = 0x50414C4D  # "PALM"
SCHEMA = (
    "CREATE TABLE deliveries(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, message TEXT NOT NULL,"
    " transactional INTEGER NOT NULL, reason TEXT NOT NULL, channel TEXT NOT NULL, given REAL NOT NULL, due REAL,"
    " sent REAL, settled REAL, batch TEXT, day TEXT, week TEXT, hour REAL, reaction TEXT, reacted REAL)",
    "CREATE INDEX by_channel ON deliveries(channel, sent)",
    "CREATE INDEX by_reason ON deliveries(reason)",
    "CREATE TABLE allowed(seq INTEGER PRIMARY KEY, channel TEXT NOT NULL, granted INTEGER NOT NULL,"
    " version TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE coins(name TEXT PRIMARY KEY, value REAL NOT NULL)",
)
KEPT = 5000
"""Number of messages that are kept, beside those that wait and those that were sent and still count for a cap."""
COUNTED = 7 * LONGEST_PACE
"""Seconds that a sent message is kept at least: the longest pace depends on six dismissed messages before it."""
PATIENCE = 2 * DAY
"""Seconds after which a message without a reaction counts as one that the user didn't react to."""
GOOD, BAD = ("opened", "clicked", "bought"), ("dismissed", "unsubscribed")
REACTIONS = (*GOOD, *BAD)
_FURTHER = ("dismissed", "opened", "clicked", "bought", "unsubscribed")
"""A reaction replaces those before it in this list: a user who clicked and then closed the message has clicked."""
_COUNTING = (Reason.SENT.value, Reason.FAILED.value, Reason.LOST.value)


@dataclass(frozen=True)
class Delivery:
    """The latest decision on a message.

    Attributes:
        message: the message.
        reason: why it was sent, waits, or was not sent.
        channel: the channel it was sent on, or waits for; empty if there is none.
        given: when the messenger got it, seconds since 1970.
        due: when a waiting message is decided on again; None if it doesn't wait.
        sent: when it was handed to its channel; None if it wasn't.
        reaction: the user's strongest reaction, see `REACTIONS`; empty if there is none.
    """

    message: Message
    reason: Reason
    channel: str
    given: float
    due: float | None = None
    sent: float | None = None
    reaction: str = ""

    @property
    def waiting(self) -> bool:
        """Whether it may still be sent."""
        return self.reason in WAITING

    def __bool__(self) -> bool:
        return self.reason is Reason.SENT


@dataclass(frozen=True)
class Allowance:
    """A decision of the user on one channel.

    Attributes:
        channel: the channel.
        granted: whether they want messages on it.
        version: version of the text they were shown.
        time: when, seconds since 1970.
    """

    channel: str
    granted: bool
    version: str
    time: float


@dataclass(frozen=True)
class Record:
    """The record within one transaction: no other process can write between its reads and writes."""

    _connection: sqlite3.Connection

    def find(self, id: str) -> Delivery | None:
        """The latest decision on a message; None if its id is unknown."""
        rows = self._read("SELECT {} FROM deliveries WHERE id = ?", id)
        return rows[0] if rows else None

    def all(self) -> tuple[Delivery, ...]:
        """All messages that are kept, oldest first."""
        return tuple(self._read("SELECT {} FROM deliveries ORDER BY seq"))

    def latest(self, most: int) -> tuple[Delivery, ...]:
        """The latest messages, newest first."""
        return tuple(self._read("SELECT {} FROM deliveries ORDER BY seq DESC LIMIT ?", most))

    def reasons(self) -> dict[Reason, int]:
        """Reason -> the number of messages that are kept."""
        found = self._rows("SELECT reason, count(*) FROM deliveries GROUP BY reason")
        return {Reason(reason): count for reason, count in found}

    def due(self, now: float) -> list[Delivery]:
        """The waiting messages that are due, oldest first."""
        found = self._read("SELECT {} FROM deliveries WHERE due <= ? ORDER BY seq", now)
        return [each for each in found if each.waiting]

    def bundled_until(self, channel: str) -> float | None:
        """When the bundle that a channel collects is due; None if it collects none."""
        query = "SELECT min(due) FROM deliveries WHERE channel = ? AND reason = ?"
        found: float | None = self._rows(query, channel, Reason.BUNDLED.value)[0][0]
        return found

    def put(self, delivery: Delivery, moment: Moment | None = None, *, batch: str | None = None) -> None:
        """Write a decision on a message; it replaces an earlier one.

        Args:
            delivery: the decision.
            moment: the user's local time when it was sent; None if it wasn't.
            batch: name of the bundle that it was sent in; None: it was sent alone.
        """
        m, d = moment, delivery
        when = (None,) * 4 if m is None else (batch or d.message.id, m.day, m.week, m.hour)
        values = (d.message.id, d.message.to_json(), d.message.transactional, d.reason.value, d.channel, d.given, d.due)
        self._do(
            "INSERT INTO deliveries(id, message, transactional, reason, channel, given, due, sent, settled, batch, day,"
            " week, hour) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET"
            " reason = excluded.reason, channel = excluded.channel, due = excluded.due, sent = excluded.sent,"
            " settled = excluded.settled,"
            " batch = excluded.batch, day = excluded.day, week = excluded.week, hour = excluded.hour",
            (*values, d.sent, d.sent, *when),
        )

    def set_reason(self, ids: Sequence[str], reason: Reason) -> None:
        """Change the reason of messages that were handed over."""
        for id in ids:
            self._do("UPDATE deliveries SET reason = ? WHERE id = ?", (reason.value, id))

    def react(self, id: str, reaction: str, now: float) -> bool:
        """Record a reaction to a sent message, unless a stronger one is recorded; False if no such message was sent."""
        found = self._rows("SELECT coalesce(reaction, '') FROM deliveries WHERE id = ? AND sent IS NOT NULL", id)
        if found and (not found[0][0] or _FURTHER.index(reaction) > _FURTHER.index(found[0][0])):
            self._do("UPDATE deliveries SET reaction = ?, reacted = ? WHERE id = ?", (reaction, now, id))
        return bool(found)

    def settle(self, now: float) -> None:
        """Correct times that a wrong clock has written to `now`, and delete old messages that no longer count."""
        unset = SET_CLOCK if now >= SET_CLOCK else 0.0
        self._do("UPDATE deliveries SET settled = ? WHERE settled > ? OR settled < ?", (now, now, unset))
        self._do(
            "DELETE FROM deliveries WHERE seq <= (SELECT max(seq) FROM deliveries) - ? AND due IS NULL"
            " AND (sent IS NULL OR settled < ?)",
            (KEPT, now - COUNTED),
        )

    def past(self, channel: str) -> list[CountedDelivery]:
        """The deliveries on a channel that count for its caps, in the order of sending; a bundle is one delivery."""
        rows = self._rows(
            "SELECT sent, settled, day, week, hour, group_concat(coalesce(reaction, '')) FROM deliveries"
            " WHERE channel = ? AND NOT transactional AND sent IS NOT NULL GROUP BY batch"
            " ORDER BY max(settled), max(seq)",
            channel,
        )
        return [CountedDelivery(sent, settled, Moment(*shown), _is_liked(said)) for sent, settled, *shown, said in rows]

    def trials(self, *, now: float) -> list[DeliveryTrial]:
        """Deliveries whose outcome is known, in the order of sending."""
        marks = ", ".join("?" * len(_COUNTING))
        rows = self._rows(
            f"SELECT channel, hour, reaction, settled FROM deliveries WHERE reason IN ({marks}) AND NOT transactional"  # noqa: S608 # question marks only
            " AND sent IS NOT NULL ORDER BY settled DESC, seq DESC LIMIT 500",
            *_COUNTING,
        )
        known = [row for row in reversed(rows) if row[2] is not None or row[3] < now - PATIENCE]
        return [DeliveryTrial(channel, hour, reaction in GOOD) for channel, hour, reaction, _ in known]

    def allow(self, allowance: Allowance) -> None:
        """Record a decision on a channel."""
        a = allowance
        self._do(
            "INSERT INTO allowed(channel, granted, version, time) VALUES (?, ?, ?, ?)",
            (a.channel, a.granted, a.version, a.time),
        )

    def allowances(self) -> tuple[Allowance, ...]:
        """All decisions on channels, oldest first."""
        rows = self._rows("SELECT channel, granted, version, time FROM allowed ORDER BY seq")
        return tuple(Allowance(channel, bool(granted), version, time) for channel, granted, version, time in rows)

    def coin(self, name: str, tossed: float) -> float:
        """The random number kept under a name; `tossed` is kept if there is none yet."""
        self._do("INSERT OR IGNORE INTO coins VALUES (?, ?)", (name, tossed))
        return float(self._rows("SELECT value FROM coins WHERE name = ?", name)[0][0])

    def control(self, share: float) -> bool:
        """Whether this device is in the control group: its random number is below the share."""
        coin = self.coin("control", secrets.randbelow(2**32) / 2**32)
        self._do("INSERT OR REPLACE INTO coins VALUES ('control share', ?)", (share,))
        return coin < share

    def in_control(self) -> bool | None:
        """The last result of `control`; None if it was never called."""
        coins = self.coins()
        return coins["control"] < coins["control share"] if "control share" in coins else None

    def coins(self) -> dict[str, float]:
        """All random numbers that are kept, by name."""
        return dict(self._rows("SELECT name, value FROM coins"))

    def _read(self, query: str, *values: Any) -> list[Delivery]:
        """The deliveries that a query finds; `{}` in it stands for the columns."""
        columns = "message, reason, channel, given, due, sent, coalesce(reaction, '')"
        return [
            Delivery(Message.from_json(line), Reason(reason), channel, given, due, sent, reaction)
            for line, reason, channel, given, due, sent, reaction in self._rows(query.format(columns), *values)
        ]

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _do(self, statement: str, values: Sequence[Any]) -> None:
        self._connection.execute(statement, values)


@contextmanager
def record_of(store: StoreFile) -> Iterator[Record]:
    """Open the record of a store for one transaction, which is on the disk when the context ends.

    Args:
        store: the store's file.

    Raises:
        ErasedError, ClosedError: the store was erased, or is closed.
        IntegrityError: the file is damaged.
        LockedError: another process kept it locked.
    """
    with store.beside("deliveries") as (path, driver):
        database = Database(path, kind=KIND, schema=SCHEMA, driver=driver)
    with database, database.transaction(write=True) as connection:
        yield Record(connection)


@contextmanager
def kept_record(store: StoreFile) -> Iterator[Record | None]:
    """The record of a store, to read only; None if there is none yet, and none is made.

    Raises:
        as `record_of`.
    """
    with store.beside("deliveries") as (path, driver):
        database = Database(path, kind=KIND, schema=SCHEMA, driver=driver) if path.exists() else None
    if database is None:
        yield None
        return
    with database, database.transaction() as connection:
        yield Record(connection)


def arm_of(coin: float) -> Literal["a", "b"]:
    """The arm of an experiment for a random number from 0 to 1."""
    return "a" if coin < 0.5 else "b"


def _is_liked(reactions: str) -> bool | None:
    """Whether the user liked a bundle: True if they reacted well to any message of it, False if they dismissed one."""
    said = set(reactions.split(","))
    if said & set(GOOD):
        return True
    return False if said & set(BAD) else None


def delivery_lines(record: Record) -> Iterator[dict[str, Any]]:
    """The record as JSON values, for the user's export."""
    for each in record.allowances():
        yield {"type": "channel", **asdict(each)}
    for delivery in record.all():
        plain = {name: value for name, value in asdict(delivery).items() if value not in (None, "")}
        yield {"type": "delivery", **plain, "reason": delivery.reason.value, "message": asdict(delivery.message)}
