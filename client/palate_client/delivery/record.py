"""Record: every message of this device, sent or not, with the reason. An encrypted file beside the events.

A message is marked as sent, on the disk, before it is handed to its channel: a kill in between loses it rather than
sending it twice.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from palate_client.delivery.calendar import Moment
from palate_client.delivery.choice import DeliveryTrial
from palate_client.delivery.message import Message
from palate_client.delivery.rules import DAY, LONGEST_PACE, WAITING, CountedDelivery, Reason
from palate_client.store.store import SET_CLOCK
from palate_client.store.store_file import StoreFile
from palate_common.records.database import Database

_KIND = 0x50414C4D  # "PALM"
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
"""Messages that are remembered; more are those that wait, and those that were sent and still count."""
COUNTED = 7 * LONGEST_PACE
"""How long what was sent is remembered at least: a pace of the longest pause has six dismissed ones behind it."""
PATIENCE = 2 * DAY
"""What was not answered by then counts as not answered."""
GOOD, BAD = ("opened", "clicked", "bought"), ("dismissed", "unsubscribed")
REACTIONS = (*GOOD, *BAD)
_FURTHER = ("dismissed", "opened", "clicked", "bought", "unsubscribed")
"""A reaction takes the place of those before it here: who clicked, then closed the message, has clicked."""
_COUNTING = (Reason.SENT.value, Reason.FAILED.value, Reason.LOST.value)


@dataclass(frozen=True)
class Delivery:
    """What became of a message.

    Attributes:
        message: what was to be told.
        reason: why it was sent, waits, or was not sent.
        channel: it was sent on, or waits for; empty without one.
        given: when the app, or a campaign, gave it, seconds since 1970.
        due: when a waiting one is looked at again.
        sent: when it was handed to its channel; None if it wasn't.
        reaction: the furthest that the user went about it; empty for nothing.
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
        channel: which.
        granted: whether they want messages on it.
        version: of the text they were shown.
        time: when, seconds since 1970.
    """

    channel: str
    granted: bool
    version: str
    time: float


@dataclass(frozen=True)
class Record:
    """The record, inside one transaction: what is read and written is one step for every process."""

    _connection: sqlite3.Connection

    def find(self, id: str) -> Delivery | None:
        """What became of a message; None if it was never given."""
        rows = self._read("SELECT {} FROM deliveries WHERE id = ?", id)
        return rows[0] if rows else None

    def all(self) -> tuple[Delivery, ...]:
        """Every message that is remembered, oldest first."""
        return tuple(self._read("SELECT {} FROM deliveries ORDER BY seq"))

    def due(self, now: float) -> list[Delivery]:
        """The waiting messages that are to be looked at again, oldest first."""
        found = self._read("SELECT {} FROM deliveries WHERE due <= ? ORDER BY seq", now)
        return [each for each in found if each.waiting]

    def bundled_until(self, channel: str) -> float | None:
        """When the bundle that a channel collects is due; None if it collects none."""
        query = "SELECT min(due) FROM deliveries WHERE channel = ? AND reason = ?"
        found: float | None = self._rows(query, channel, Reason.BUNDLED.value)[0][0]
        return found

    def put(self, delivery: Delivery, moment: Moment | None = None, *, batch: str | None = None) -> None:
        """Write what became of a message, in the place of what it was before.

        Args:
            delivery: what became of it.
            moment: what the user's wall showed when it was sent; None if it wasn't.
            batch: what it was sent as a part of; None: by itself.
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

    def became(self, ids: Sequence[str], reason: Reason) -> None:
        """Another reason for what was handed over."""
        for id in ids:
            self._do("UPDATE deliveries SET reason = ? WHERE id = ?", (reason.value, id))

    def react(self, id: str, reaction: str, now: float) -> bool:
        """Note what the user did about a message that was sent, unless they went further before; False if none was."""
        found = self._rows("SELECT coalesce(reaction, '') FROM deliveries WHERE id = ? AND sent IS NOT NULL", id)
        if found and (not found[0][0] or _FURTHER.index(reaction) > _FURTHER.index(found[0][0])):
            self._do("UPDATE deliveries SET reaction = ?, reacted = ? WHERE id = ?", (reaction, now, id))
        return bool(found)

    def settle(self, now: float) -> None:
        """What a wrong or unset clock has sent was sent by now; what is old and no longer counts is forgotten."""
        unset = SET_CLOCK if now >= SET_CLOCK else 0.0
        self._do("UPDATE deliveries SET settled = ? WHERE settled > ? OR settled < ?", (now, now, unset))
        self._do(
            "DELETE FROM deliveries WHERE seq <= (SELECT max(seq) FROM deliveries) - ? AND due IS NULL"
            " AND (sent IS NULL OR settled < ?)",
            (KEPT, now - COUNTED),
        )

    def past(self, channel: str) -> list[CountedDelivery]:
        """The deliveries on a channel that count for its caps, in the order sent; those sent as one are one."""
        rows = self._rows(
            "SELECT sent, settled, day, week, hour, group_concat(coalesce(reaction, '')) FROM deliveries"
            " WHERE channel = ? AND NOT transactional AND sent IS NOT NULL GROUP BY batch"
            " ORDER BY max(settled), max(seq)",
            channel,
        )
        return [CountedDelivery(sent, settled, Moment(*shown), _liked(said)) for sent, settled, *shown, said in rows]

    def tried(self, *, now: float) -> list[DeliveryTrial]:
        """Deliveries whose outcome is known, in the order sent."""
        marks = ", ".join("?" * len(_COUNTING))
        rows = self._rows(
            f"SELECT channel, hour, reaction, settled FROM deliveries WHERE reason IN ({marks}) AND NOT transactional"  # noqa: S608 # question marks only
            " AND sent IS NOT NULL ORDER BY settled DESC, seq DESC LIMIT 500",
            *_COUNTING,
        )
        known = [row for row in reversed(rows) if row[2] is not None or row[3] < now - PATIENCE]
        return [DeliveryTrial(channel, hour, reaction in GOOD) for channel, hour, reaction, _ in known]

    def allow(self, allowance: Allowance) -> None:
        """Keep a decision on a channel."""
        a = allowance
        self._do(
            "INSERT INTO allowed(channel, granted, version, time) VALUES (?, ?, ?, ?)",
            (a.channel, a.granted, a.version, a.time),
        )

    def allowances(self) -> tuple[Allowance, ...]:
        """Every decision on channels, oldest first."""
        rows = self._rows("SELECT channel, granted, version, time FROM allowed ORDER BY seq")
        return tuple(Allowance(channel, bool(granted), version, time) for channel, granted, version, time in rows)

    def coin(self, name: str, tossed: float) -> float:
        """A coin by name: the one that was tossed first."""
        self._do("INSERT OR IGNORE INTO coins VALUES (?, ?)", (name, tossed))
        return float(self._rows("SELECT value FROM coins WHERE name = ?", name)[0][0])

    def control(self, share: float) -> bool:
        """Whether this device is in the group that gets no messages: its coin is below the share."""
        coin = self.coin("control", secrets.randbelow(2**32) / 2**32)
        self._do("INSERT OR REPLACE INTO coins VALUES ('control share', ?)", (share,))
        return coin < share

    def in_control(self) -> bool | None:
        """The same, as last asked; None if it never was."""
        coins = self.coins()
        return coins["control"] < coins["control share"] if "control share" in coins else None

    def coins(self) -> dict[str, float]:
        """Every coin that was tossed, by name."""
        return dict(self._rows("SELECT name, value FROM coins"))

    def _read(self, query: str, *values: Any) -> list[Delivery]:
        """Deliveries of a query with its columns left open."""
        columns = "message, reason, channel, given, due, sent, coalesce(reaction, '')"
        return [
            Delivery(Message.from_json(line), Reason(reason), channel, given, due, sent, reaction)
            for line, reason, channel, given, due, sent, reaction in self._rows(query.format(columns), *values)
        ]

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query finds."""
        return self._connection.execute(query, values).fetchall()

    def _do(self, statement: str, values: Sequence[Any]) -> None:
        """Change something."""
        self._connection.execute(statement, values)


@contextmanager
def record_of(store: StoreFile) -> Iterator[Record]:
    """The record of a store, for one step; it is on the disk at the end.

    Args:
        store: the store's file.

    Raises:
        ErasedError, ClosedError: the store is gone, or closed.
        IntegrityError: the file is damaged.
        LockedError: another process kept it locked.
    """
    with store.beside("deliveries") as (path, driver):
        database = Database(path, kind=_KIND, schema=SCHEMA, driver=driver)
    with database, database.transaction(write=True) as connection:
        yield Record(connection)


def _liked(reactions: str) -> bool | None:
    """Of what was sent as one: whether anything in it was answered, or else dismissed."""
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
