"""Journal: messages from and to the server, in an encrypted file beside the events.

It holds the model in use with its manifest, the list of earlier models, each message that was sent, and each refusal
with its reason. A new model and its version replace the old one in one transaction: after a kill the journal has one or
the other, and a version that was seen is never forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from palate_client.store.store import EventStore
from palate_client.store.store_file import StoreFile
from palate_common.records.closing import Closing
from palate_common.records.database import Database
from palate_core.errors import PalateError, RefusedError

KIND = 0x50414C4A  # "PALJ"
SCHEMA = (
    "CREATE TABLE files(name TEXT PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE models(seq INTEGER PRIMARY KEY, population TEXT NOT NULL, version INTEGER NOT NULL,"
    " root TEXT NOT NULL, manifest TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE sent(seq INTEGER PRIMARY KEY, what TEXT NOT NULL, dp TEXT NOT NULL, run TEXT NOT NULL,"
    " round INTEGER NOT NULL, attempt INTEGER NOT NULL, bytes INTEGER NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE refusals(seq INTEGER PRIMARY KEY, what TEXT NOT NULL, reason TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE secrets(name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE contacts(seq INTEGER PRIMARY KEY, time REAL NOT NULL, ended TEXT NOT NULL, reason TEXT NOT NULL,"
    " rounds INTEGER NOT NULL, refused INTEGER NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL)",
)
_OPENED = "opened logs"
"""The name under which it is kept which logs were handed to the app."""
LEAVING = "leaving"
"""The name under which it is kept that the server was asked to delete this device."""
MOVED, BEGUN, DONE = "moved", b"begun", b"done"
"""The name under which it is kept that this installation moves to another device, and how far that is."""
KEPT = 1000
"""The most refusals, contacts and opened logs that are kept: a server whose plans are always refused must not fill
the disk."""


@dataclass(frozen=True)
class Edition:
    """A model that was taken into use.

    Attributes:
        population: the model's population.
        version: size of the population's ledger when it was published.
        root: root of the ledger at that size.
        manifest: SHA-256 of the signed manifest.
        time: seconds since 1970.
    """

    population: str
    version: int
    root: str
    manifest: str
    time: float


EVENTS = "local, events"
"""Value of `Sent.dp` if the unit is one event."""


@dataclass(frozen=True)
class Sent:
    """A message that was sent, or may have been, and depends on the user's behaviour.

    Attributes:
        what: "contribution", or the step of a masked attempt.
        dp: who adds the noise: distributed (it has the device's share), local (it has all the noise), central (the
            server, which sees it without noise), off (nobody). `EVENTS`: as local, but it protects single events only.
        run: the plan's run.
        round: the plan's round.
        attempt: the plan's attempt.
        bytes: its size.
        time: seconds since 1970.
    """

    what: str
    dp: str
    run: str
    round: int
    attempt: int
    bytes: int
    time: float


@dataclass(frozen=True)
class Refusal:
    """A plan or model that this device refused.

    Attributes:
        what: "plan", "model" or "request".
        reason: the reason, for the user; the server doesn't learn it.
        time: seconds since 1970.
    """

    what: str
    reason: str
    time: float


@dataclass(frozen=True)
class Contact:
    """One sync with the server, or an attempt at one.

    Attributes:
        time: when it ended, seconds since 1970.
        ended: why it ended, see `palate_client.online.retry.Ended`.
        reason: details.
        rounds: number of attempts that the device took part in.
        refused: number of messages that it refused.
        sent: bytes that were sent.
        received: bytes that were received.
    """

    time: float
    ended: str
    reason: str
    rounds: int
    refused: int
    sent: int
    received: int


@dataclass(frozen=True)
class Opened:
    """A log that was handed to the app because the user shares it openly. Palate sends it nowhere.

    Attributes:
        time: when, seconds since 1970.
        items: how many items it named.
        version: version of the text that the user had agreed to.
    """

    time: float
    items: int
    version: str


class Journal(Closing):
    """The open journal of a store.

    Args:
        store: the store's file.

    Raises:
        ErasedError, ClosedError: the store was erased, or is closed.
        IntegrityError: the file is damaged.
        LockedError: another process kept it locked.
    """

    def __init__(self, store: StoreFile) -> None:
        with store.beside("journal") as (path, driver):
            self._database = Database(path, kind=KIND, schema=SCHEMA, driver=driver)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._database.close()

    def adopt(self, edition: Edition, files: Mapping[str, bytes]) -> bool:
        """Replace the model in use by a verified one; False if it is in use already.

        Raises:
            RefusedError: it is older than one that was in use, or another one of the same version.
        """
        with self._database.transaction(write=True) as connection:
            query = "SELECT version, root, manifest FROM models WHERE population = ? ORDER BY version DESC LIMIT 1"
            row = connection.execute(query, (edition.population,)).fetchone()
            if row is not None:
                version, root, manifest = row
                if edition.version < version:
                    raise RefusedError(f"a model must be of version {version} or later, got {edition.version}")
                if edition.version == version and (edition.root, edition.manifest) != (root, manifest):
                    raise RefusedError(f"there must be one model of version {version}, got another: forked")
                if edition.version == version:
                    return False
            connection.execute("DELETE FROM files")
            connection.executemany("INSERT INTO files VALUES (?, ?)", files.items())
            values = (edition.population, edition.version, edition.root, edition.manifest, edition.time)
            connection.execute(
                "INSERT INTO models(population, version, root, manifest, time) VALUES (?, ?, ?, ?, ?)", values
            )
        return True

    def editions(self) -> tuple[Edition, ...]:
        """The models that were taken into use, oldest first; the last is in use."""
        query = "SELECT population, version, root, manifest, time FROM models ORDER BY seq"
        with self._database.transaction() as connection:
            return tuple(Edition(*row) for row in connection.execute(query))

    def files(self) -> tuple[Edition, dict[str, bytes]] | None:
        """The model in use with its files; None if there is none."""
        with self._database.transaction() as connection:
            query = "SELECT population, version, root, manifest, time FROM models ORDER BY seq DESC LIMIT 1"
            row = connection.execute(query).fetchone()
            files = dict(connection.execute("SELECT name, data FROM files").fetchall())
        return None if row is None else (Edition(*row), files)

    def record(self, sent: Sent) -> None:
        """Record a message before it is sent."""
        values = (sent.what, sent.dp, sent.run, sent.round, sent.attempt, sent.bytes, sent.time)
        with self._database.transaction(write=True) as connection:
            connection.execute(
                "INSERT INTO sent(what, dp, run, round, attempt, bytes, time) VALUES (?, ?, ?, ?, ?, ?, ?)", values
            )

    def sent(self) -> tuple[Sent, ...]:
        """All messages that were sent, oldest first."""
        query = "SELECT what, dp, run, round, attempt, bytes, time FROM sent ORDER BY seq"
        with self._database.transaction() as connection:
            return tuple(Sent(*row) for row in connection.execute(query))

    def refuse(self, refusal: Refusal) -> None:
        """Record a refusal."""
        with self._database.transaction(write=True) as connection:
            values = (refusal.what, refusal.reason[:1000], refusal.time)
            connection.execute("INSERT INTO refusals(what, reason, time) VALUES (?, ?, ?)", values)
            connection.execute("DELETE FROM refusals WHERE seq <= (SELECT max(seq) FROM refusals) - ?", (KEPT,))

    def refusals(self) -> tuple[Refusal, ...]:
        """The latest refusals, oldest first."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT what, reason, time FROM refusals ORDER BY seq").fetchall()
        return tuple(Refusal(*row) for row in rows)

    def meet(self, contact: Contact) -> None:
        """Record a contact with the server."""
        values = (contact.time, contact.ended, contact.reason[:1000], contact.rounds, contact.refused)
        with self._database.transaction(write=True) as connection:
            connection.execute(
                "INSERT INTO contacts(time, ended, reason, rounds, refused, sent, received)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*values, contact.sent, contact.received),
            )
            connection.execute("DELETE FROM contacts WHERE seq <= (SELECT max(seq) FROM contacts) - ?", (KEPT,))

    def contacts(self) -> tuple[Contact, ...]:
        """The latest contacts with the server, oldest first."""
        query = "SELECT time, ended, reason, rounds, refused, sent, received FROM contacts ORDER BY seq"
        with self._database.transaction() as connection:
            return tuple(Contact(*row) for row in connection.execute(query))

    def open_log(self, opened: Opened) -> None:
        """Record that the user's log is about to be handed to the app."""
        with self._database.transaction(write=True) as connection:
            row = connection.execute("SELECT value FROM secrets WHERE name = ?", (_OPENED,)).fetchone()
            former = [] if row is None else json.loads(row[0])
            kept = [*former, [opened.time, opened.items, opened.version]][-KEPT:]
            connection.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?)", (_OPENED, json.dumps(kept).encode()))

    def opened_logs(self) -> tuple[Opened, ...]:
        """The latest logs that were handed to the app, oldest first."""
        kept = self.read_secret(_OPENED)
        return () if kept is None else tuple(Opened(*each) for each in json.loads(kept))

    def keep(self, name: str, value: bytes) -> None:
        """Store a value under a name; it replaces an earlier one."""
        with self._database.transaction(write=True) as connection:
            connection.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?)", (name, value))

    def drop(self, *names: str) -> None:
        """Delete the values under these names."""
        with self._database.transaction(write=True) as connection:
            connection.executemany("DELETE FROM secrets WHERE name = ?", [(name,) for name in names])

    def read_secret(self, name: str) -> bytes | None:
        """The value under a name; None if there is none."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def secret(self, name: str, made: bytes) -> bytes:
        """The secret under a name; `made` is stored if there is none yet."""
        with self._database.transaction(write=True) as connection:
            connection.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, made))
            (value,) = connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return bytes(value)


def reason_of(error: Exception) -> str:
    """The reason of a refusal in one line."""
    return " ".join(str(error).split()) if isinstance(error, PalateError) else f"it failed: {error!r:.200}"


def note_refusal(store: EventStore, what: str, reason: str) -> None:
    """Record a refusal. If that fails, the refusal stays a refusal."""
    with suppress(PalateError, OSError), Journal(store.file) as journal:
        journal.refuse(Refusal(what, reason, store.clock()))
