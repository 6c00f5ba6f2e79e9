"""Enrolments: the devices that may take part, by invitation of the operator, in one SQLite file.

    token (hashed, one use, expires) -> device number, identity -> revoked, quarantined, named, or gone

A device's number is never another's: a revoked device keeps it, with its identity.

>>> with Enrolments(":memory:") as register:
...     token = register.invite(now=0.0, hours=1.0)
...     device = register.enrol(token, identity="ab" * 32, now=60.0)
...     device.number, register.directory([0, 7]).identities == {0: "ab" * 32}
(0, True)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from palate_common.enrolment import new_token, token_hash
from palate_common.records.closing import Closing
from palate_common.records.database import PLAIN, Database, Driver
from palate_core.errors import InputError, RefusedError
from palate_core.masks.directory import Directory

_KIND = 0x50414531  # "PAE1"
_SCHEMA = (
    "CREATE TABLE tokens(hash TEXT PRIMARY KEY, expires REAL NOT NULL, device INTEGER UNIQUE)",
    "CREATE TABLE devices(number INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, enrolled REAL NOT NULL,"
    " revoked REAL, strikes INTEGER NOT NULL DEFAULT 0, free_at REAL, gone INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE invited(device INTEGER NOT NULL, period INTEGER NOT NULL, count INTEGER NOT NULL,"
    " PRIMARY KEY(device, period)) WITHOUT ROWID",
    "CREATE TABLE named(device INTEGER PRIMARY KEY)",
    "CREATE TABLE evidence(device INTEGER PRIMARY KEY, record BLOB NOT NULL)",
    "CREATE TABLE labels(hash TEXT PRIMARY KEY, label TEXT NOT NULL)",
    "CREATE TABLE seen(device INTEGER PRIMARY KEY, quarter INTEGER NOT NULL)",
    "CREATE INDEX revoked ON devices(gone) WHERE revoked IS NOT NULL",
    "CREATE INDEX quarantined ON devices(free_at, revoked) WHERE free_at IS NOT NULL",
    "CREATE INDEX open_tokens ON tokens(expires) WHERE device IS NULL",
    "CREATE TRIGGER unlabelled AFTER DELETE ON tokens BEGIN DELETE FROM labels WHERE hash = old.hash; END",
)
"""`named` and `evidence` have no times, which would show who took part when. `labels` is what an operator called an
invitation, which goes with its token; the indexes are of the few for which a number is asked, so that it costs the same
however many are enrolled; `seen` the quarter of a year in which a device was online last."""
_DAY = 86400.0
"""Of when a device enrolled the day is kept: its quarter is all that is ever asked."""
_NOBODY = -1
"""The number in `seen` whose quarter is the one in which noting began."""
MOST_LABEL = 40
"""Characters of the longest label."""
_COLUMNS = "number, identity, revoked, strikes, free_at, EXISTS(SELECT 1 FROM named WHERE device = number)"


_ELIGIBLE = (
    "SELECT number FROM devices LEFT JOIN invited ON device = number AND period = ?"
    " WHERE revoked IS NULL AND coalesce(free_at, 0) <= ? AND coalesce(count, 0) < ?"
    " AND number NOT IN (SELECT device FROM named)"
)


@dataclass(frozen=True)
class EnrolledDevice:
    """One enrolled installation.

    Attributes:
        number: under which it was enrolled, from 0.
        identity: public Ed25519 key, hexadecimal.
        revoked: when it was revoked, seconds since 1970; None if it wasn't.
        strikes: malformed answers since its last quarantine.
        free_at: when its quarantine ends; None if it has none.
        named: whether it is excluded until the operator pardons it.
    """

    number: int
    identity: str
    revoked: float | None
    strikes: int
    free_at: float | None
    named: bool


@dataclass(frozen=True)
class Standing:
    """What the door needs to know of an enrolled device.

    Attributes:
        identity: its public key, hexadecimal.
        revoked: whether it was excluded, or has left.
    """

    identity: str
    revoked: bool


@dataclass(frozen=True)
class Listed:
    """What an operator may see of one device: enough to end what nobody uses any more, too little to say who took part.

    Attributes:
        number: under which it was enrolled, from 0.
        state: enrolled, revoked, quarantined, named or left.
        label: what its invitation was called; "" if it wasn't.
        enrolled: the quarter of a year in which it enrolled, as `quarter_of` says; None if it has left.
        seen: the quarter in which it was online last; None: not since that is noted.
    """

    number: int
    state: str
    label: str
    enrolled: int | None
    seen: int | None


def quarter_of(at: float) -> int:
    """The quarter of a year, counted from year 0; no finer time of a device is kept.

    >>> quarter_of(0.0) == 4 * 1970, quarter_name(quarter_of(0.0))
    (True, '1970 Q1')
    """
    day = datetime.fromtimestamp(at, UTC)
    return 4 * day.year + (day.month - 1) // 3


def quarter_name(quarter: int) -> str:
    """A quarter as people write it."""
    return f"{quarter // 4} Q{quarter % 4 + 1}"


_THERE = "NOT gone"
"""Of a device that hasn't left: of one that has, nothing is written any more."""


class Enrolments(Closing):
    """The register of devices.

    **Guarantees:** a token enrols one device; the same request again gives the same device; a token is stored as its
    SHA-256 only; a number and an identity belong to one device for ever.

    **Assumes:** nobody else gets a token; whoever has it is the device.

    Args:
        path: the file, made if missing, or ":memory:".

    Raises:
        InputError: it is another kind of file.
    """

    def __init__(self, path: Path | str) -> None:
        driver = Driver(PLAIN.connect, PLAIN.error, noun="the register")
        self._database = Database(path, kind=_KIND, schema=_SCHEMA, driver=driver)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._database.close()

    def invite(self, *, now: float, hours: float, label: str = "") -> str:
        """Make a new token, which only the caller sees: 256 bits, URL-safe.

        Args:
            now: seconds since 1970.
            hours: for how long it is valid.
            label: what a list of devices calls whoever enrols with it.

        Raises:
            InputError: the label is too long, or can't be printed.
        """
        if len(label) > MOST_LABEL or not label.isprintable():
            raise InputError(f"`label` must be at most {MOST_LABEL} printable characters, got {label!r:.80}")
        token = new_token()
        with self._database.transaction(write=True) as connection:
            connection.execute("DELETE FROM tokens WHERE expires < ? AND device IS NULL", (now,))
            connection.execute("INSERT INTO tokens VALUES (?, ?, NULL)", (token_hash(token), now + hours * 3600))
            if label:
                connection.execute("INSERT INTO labels VALUES (?, ?)", (token_hash(token), label))
        return token

    def knows(self, token: str) -> bool:
        """Whether this register has issued a token, used or not."""
        with self._database.transaction() as connection:
            query = "SELECT 1 FROM tokens WHERE hash = ?"
            return connection.execute(query, (token_hash(token),)).fetchone() is not None

    def enrol(self, token: str, *, identity: str, now: float) -> EnrolledDevice:
        """Enrol a device with a token.

        Raises:
            RefusedError: the token is unknown, expired or used, the device revoked, or the identity another device's.
        """
        with self._database.transaction(write=True) as connection:
            query = "SELECT expires, device FROM tokens WHERE hash = ?"
            row = connection.execute(query, (token_hash(token),)).fetchone()
            if row is None:
                raise RefusedError("a token must be valid and not spent, got an unknown one")
            expires, number = row
            if number is not None:
                device = self._device(connection, number)
                if device.identity != identity:
                    raise RefusedError("a token must be valid and not spent, got one that another device has spent")
                if device.revoked is not None:
                    raise RefusedError("a device must not be revoked, got one that is")
                return device
            if expires < now:
                raise RefusedError("a token must be valid and not spent, got one that has expired")
            (number,) = connection.execute("SELECT coalesce(max(number) + 1, 0) FROM devices").fetchone()
            values = (number, identity, now - now % _DAY)
            try:
                connection.execute("INSERT INTO devices(number, identity, enrolled) VALUES (?, ?, ?)", values)
            except sqlite3.IntegrityError:
                raise RefusedError("a device's identity must be its own, got one that another has") from None
            connection.execute("UPDATE tokens SET device = ? WHERE hash = ?", (number, token_hash(token)))
            return self._device(connection, number)

    def revoke(self, number: int, *, now: float) -> EnrolledDevice:
        """Exclude a device for ever; a second time changes nothing.

        Raises:
            InputError: there is no such device.
        """
        with self._database.transaction(write=True) as connection:
            connection.execute("UPDATE devices SET revoked = ? WHERE number = ? AND revoked IS NULL", (now, number))
            return self._device(connection, number)

    def leave(self, number: int, *, identity: str) -> None:
        """Exclude a device that leaves, before `forget`; a second time changes nothing.

        Raises:
            RefusedError: there is no such device with that identity.
        """
        with self._database.transaction(write=True) as connection:
            changed = connection.execute(
                "UPDATE devices SET revoked = coalesce(revoked, 0) WHERE number = ? AND identity = ?",
                (number, identity),
            )
            if not changed.rowcount:
                raise RefusedError("a device that leaves must be the one of that number, got another identity")

    def number_of(self, identity: str) -> int | None:
        """The number of the device with this identity; None: there is none."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT number FROM devices WHERE identity = ?", (identity,)).fetchone()
        return None if row is None else int(row[0])

    def standing(self, device: int) -> Standing | None:
        """What is known of a device at the door; None: no device has this number."""
        with self._database.transaction() as connection:
            query = "SELECT identity, revoked IS NOT NULL FROM devices WHERE number = ?"
            row = connection.execute(query, (device,)).fetchone()
        return None if row is None else Standing(str(row[0]), bool(row[1]))

    def forget(self, number: int) -> None:
        """Delete what is known of a device that has left; a second time changes nothing.

        **Guarantees:** who left is forgotten: nothing of it stays but its number and its identity, which no other
        device gets, and a record for which it was named. No time stays, not even that of its leaving.

        Raises:
            LockedError: somebody goes on reading what was there; the device asks again.
        """
        with self._database.transaction(write=True) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(
                "UPDATE devices SET gone = 1, enrolled = 0, revoked = 0, strikes = 0, free_at = NULL WHERE number = ?",
                (number,),
            )
            connection.execute("DELETE FROM invited WHERE device = ?", (number,))
            connection.execute("DELETE FROM tokens WHERE device = ?", (number,))
            connection.execute("DELETE FROM seen WHERE device = ?", (number,))
        self._database.empty_wal()

    def strike(self, numbers: Collection[int], *, limit: int, until: float) -> int:
        """Count a malformed answer of each device; returns how many are quarantined because of it."""
        with self._database.transaction(write=True) as connection:
            for number in numbers:
                connection.execute(
                    f"UPDATE devices SET strikes = strikes + 1 WHERE number = ? AND {_THERE}",  # noqa: S608 - ours
                    (number,),
                )
            changed = connection.execute(
                "UPDATE devices SET strikes = 0, free_at = ? WHERE strikes >= ?", (until, limit)
            )
            return changed.rowcount

    def name(self, evidence: Mapping[int, bytes]) -> None:
        """Exclude devices until they are pardoned, each with the first record that names it.

        The caller has checked the records. There is one a device, of bounded size.
        """
        with self._database.transaction(write=True) as connection:
            connection.executemany("INSERT OR IGNORE INTO named VALUES (?)", [(number,) for number in evidence])
            connection.executemany("INSERT OR IGNORE INTO evidence VALUES (?, ?)", list(evidence.items()))

    def evidence(self, number: int) -> bytes | None:
        """The record for which a device is named; None if it isn't.

        Raises:
            InputError: there is no such device.
        """
        with self._database.transaction() as connection:
            self._device(connection, number)
            row = connection.execute("SELECT record FROM evidence WHERE device = ?", (number,)).fetchone()
        return None if row is None else bytes(row[0])

    def pardon(self, number: int) -> EnrolledDevice:
        """Delete a device's exclusion with its evidence, its strikes and its quarantine.

        Raises:
            InputError: there is no such device.
        """
        with self._database.transaction(write=True) as connection:
            connection.execute("DELETE FROM named WHERE device = ?", (number,))
            connection.execute("DELETE FROM evidence WHERE device = ?", (number,))
            connection.execute("UPDATE devices SET strikes = 0, free_at = NULL WHERE number = ?", (number,))
            return self._device(connection, number)

    def invited(self, numbers: Collection[int], *, period: int) -> None:
        """Count an attempt for the devices invited to it."""
        statement = (
            f"INSERT INTO invited SELECT number, ?, 1 FROM devices WHERE number = ? AND {_THERE}"  # noqa: S608 - ours
            " ON CONFLICT(device, period) DO UPDATE SET count = count + 1"
        )
        with self._database.transaction(write=True) as connection:
            connection.executemany(statement, [(period, number) for number in numbers])
            connection.execute("DELETE FROM invited WHERE period < ?", (period - 1,))

    def eligible(self, numbers: Collection[int], *, period: int, most: int, now: float) -> set[int]:
        """Those of some devices that may be invited: not revoked, excluded or quarantined, below the period's cap.

        It costs what these cost, however many are enrolled.
        """
        query, values = f"{_ELIGIBLE} AND number = ?", (period, now, most)
        with self._database.transaction() as connection:
            return {each for each in numbers if connection.execute(query, (*values, each)).fetchone()}

    def first_eligible(self, limit: int, *, period: int, most: int, now: float) -> set[int]:
        """The first so many devices that may be invited, as `eligible`."""
        query = f"{_ELIGIBLE} ORDER BY number LIMIT ?"
        values = (period, now, most, limit)
        with self._database.transaction() as connection:
            return {number for (number,) in connection.execute(query, values)}

    def devices(self) -> list[EnrolledDevice]:
        """All devices, by number."""
        with self._database.transaction() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM devices ORDER BY number").fetchall()  # noqa: S608 - ours
        return [_made(row) for row in rows]

    def seen(self, numbers: Collection[int], *, quarter: int) -> None:
        """Note in which quarter of a year devices were online last; nothing finer, and nothing of what they did."""
        statement = (
            f"INSERT INTO seen SELECT number, ? FROM devices WHERE number = ? AND {_THERE}"  # noqa: S608 - ours
            " ON CONFLICT(device) DO UPDATE SET quarter = excluded.quarter WHERE quarter < excluded.quarter"
        )
        with self._database.transaction(write=True) as connection:
            connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (_NOBODY, quarter))
            connection.executemany(statement, [(quarter, number) for number in numbers])

    def noted_since(self) -> int | None:
        """The quarter since which it is noted who is online; None: it isn't yet."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT quarter FROM seen WHERE device = ?", (_NOBODY,)).fetchone()
        return None if row is None else int(row[0])

    def listed(self, *, now: float) -> list[Listed]:
        """What an operator may see of each device, by number.

        **Guarantees:** no time is finer than a quarter of a year, and nothing tells whether a device took part.
        """
        query = (
            "SELECT number, gone, enrolled, revoked, coalesce(free_at, 0) > ?,"
            " EXISTS(SELECT 1 FROM named WHERE device = number),"
            " coalesce((SELECT label FROM labels JOIN tokens USING(hash) WHERE tokens.device = number), ''),"
            " (SELECT quarter FROM seen WHERE seen.device = number) FROM devices ORDER BY number"
        )
        with self._database.transaction() as connection:
            rows = connection.execute(query, (now,)).fetchall()
        return [_listed(row) for row in rows]

    def extent(self) -> tuple[int, int]:
        """How many numbers were given to devices, and how many of these are revoked."""
        query = (
            "SELECT (SELECT coalesce(max(number) + 1, 0) FROM devices),"
            " (SELECT count(*) FROM devices WHERE revoked IS NOT NULL)"
        )
        with self._database.transaction() as connection:
            numbers, revoked = connection.execute(query).fetchone()
        return int(numbers), int(revoked)

    def identities(self, since: int, most: int) -> bytes:
        """The identities of at most so many devices from a number on, 32 bytes each."""
        query = "SELECT identity FROM devices WHERE number >= ? ORDER BY number LIMIT ?"
        with self._database.transaction() as connection:
            return bytes.fromhex("".join(row[0] for row in connection.execute(query, (since, most))))

    def revoked(self) -> list[int]:
        """The devices that were excluded, or have left."""
        with self._database.transaction() as connection:
            return [row[0] for row in connection.execute("SELECT number FROM devices WHERE revoked IS NOT NULL")]

    def directory(self, numbers: Collection[int]) -> Directory:
        """A directory of some devices; numbers that nobody has are left out. It costs what these cost."""
        query = "SELECT identity FROM devices WHERE number = ?"
        with self._database.transaction() as connection:
            found = {number: connection.execute(query, (number,)).fetchone() for number in sorted(numbers)}
        return Directory({number: row[0] for number, row in found.items() if row is not None})

    def counts(self, *, now: float) -> dict[str, int]:
        """Numbers of devices by state, and of open invitations.

        "enrolled" are those that may take part, with the "quarantined" and the excluded ("named") among them; "revoked"
        and "left" are no longer among them, and keep their numbers.
        """
        query = (
            "SELECT (SELECT coalesce(max(number) + 1, 0) FROM devices),"
            " (SELECT count(*) FROM devices WHERE revoked IS NOT NULL AND gone = 1),"
            " (SELECT count(*) FROM devices WHERE revoked IS NOT NULL AND gone = 0),"
            " (SELECT count(*) FROM devices WHERE free_at > ? AND revoked IS NULL),"
            " (SELECT count(*) FROM named WHERE (SELECT revoked FROM devices WHERE number = device) IS NULL),"
            " (SELECT count(*) FROM tokens WHERE device IS NULL AND expires >= ?)"
        )
        with self._database.transaction() as connection:
            numbers, left, revoked, *others = connection.execute(query, (now, now)).fetchone()
        found = (numbers - left - revoked, revoked, left, *others)
        return dict(zip(("enrolled", "revoked", "left", "quarantined", "named", "invitations"), found, strict=True))

    def _device(self, connection: sqlite3.Connection, number: int) -> EnrolledDevice:
        row = connection.execute(f"SELECT {_COLUMNS} FROM devices WHERE number = ?", (number,)).fetchone()  # noqa: S608 - ours
        if row is None:
            raise InputError(f"`device` must be the number of an enrolled device, got {number}")
        return _made(row)


def copy_register(path: Path, copy: Path) -> int:
    """Copy a register's file while it is in use, as whatever version made it; returns how many devices it has.

    Nothing that was deleted is in the copy.

    Raises:
        InputError: it is no register.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
            (devices,) = source.execute("SELECT count(*) FROM devices").fetchone()
    except sqlite3.Error as error:
        raise InputError(f"the register must be readable, got {error}: {path}") from None
    return int(devices)


def _listed(row: tuple[int, int, float, float | None, int, int, str, int | None]) -> Listed:
    number, gone, enrolled, revoked, quarantined, named, label, seen = row
    if gone:
        return Listed(number, "left", "", None, None)
    state = "revoked" if revoked is not None else "named" if named else "quarantined" if quarantined else "enrolled"
    return Listed(number, state, label, quarter_of(enrolled), seen)


def _made(row: tuple[int, str, float | None, int, float | None, int]) -> EnrolledDevice:
    number, identity, revoked, strikes, free_at, named = row
    return EnrolledDevice(number, identity, revoked, strikes, free_at, bool(named))
