"""Consent: what the user agreed to, for each purpose, with date and version. A purpose that wasn't granted is denied.

A decision is written before anything acts on it, and reaches the disk before `grant` or `revoke` returns. The history
is kept: it is the user's proof, and the app's. The ledger knows how many decisions there are, so that an older history
is not taken for the newest.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

from palate_client.ledger.tables import know_decisions, known_decisions
from palate_client.store.journal import DONE, MOVED, Journal
from palate_client.store.store import EventStore
from palate_core.errors import InputError, LockedError, PalateError

logger = logging.getLogger("palate")

Purpose = Literal["store", "train", "analytics", "messaging", "panel"]
"""Purposes that a user can agree to."""
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

REMAINS: Mapping[Purpose, str] = {
    "store": "what was stored before is kept until the user erases it",
    "train": "rounds that this device took part in stay released: its share of a noised sum can't be taken back",
    "analytics": "counts that were sent before stay in the noised figures they became part of",
    "messaging": "messages that were sent before stay sent",
    "panel": "what was shared openly before can't be called back: copies and models made of it stay; the next panel is "
    "made without it",
}
"""What a revocation doesn't undo."""
PLACE = "place"
"""The name under which it is kept which files the store consists of, so that a copy of the folder is noticed."""
PUT_BACK = "put back"
"""Version of the revocations that `settle` writes."""
_DECIDE = "INSERT INTO consent(seq, purpose, granted, version, time) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Decision:
    """One decision of the user.

    Attributes:
        purpose: the purpose that it is about.
        granted: whether the user agreed.
        version: version of the text that the user agreed to, or refused; `PUT_BACK`, "moved": not the user's, see
            `settle` and `Device.import_portable`.
        time: when, seconds since 1970.
        remains: what a revocation doesn't undo; empty for a grant.
    """

    purpose: Purpose
    granted: bool
    version: str
    time: float

    @property
    def remains(self) -> str:
        """What a revocation doesn't undo; empty for a grant."""
        return "" if self.granted else REMAINS[self.purpose]


@dataclass(frozen=True)
class Consent:
    """The decisions of a store's user.

    Attributes:
        store: the store that keeps them.
    """

    store: EventStore

    def grant(self, purpose: Purpose, *, version: str = "1") -> Decision:
        """Record that the user agrees to a purpose.

        Args:
            purpose: the purpose.
            version: version of the text that the user was shown.

        Raises:
            InputError: no such purpose.
            PalateError: it could not be written; nothing has changed.
        """
        return self._decide(purpose, True, version)

    def revoke(self, purpose: Purpose, *, version: str = "1") -> Decision:
        """Record that the user no longer agrees; holds at once, for other processes too. `remains`: what it can't undo.

        After `train` is revoked this device joins no round, whatever a server asks, until the user grants it again.

        **Guarantees:** the purpose is denied when this is over, also where it can't be written, as on a full disk.

        Raises:
            InputError: no such purpose.
            PalateError: it could not be written, and the history lacks it. The purpose is denied nevertheless, until a
                later decision on it is written.
        """
        return self._decide(purpose, False, version)

    def get(self, purpose: Purpose) -> bool:
        """Whether the user agrees to a purpose; False if they never decided.

        Raises:
            InputError: no such purpose.
            PalateError: the store can't be read; treat it as denied.
        """
        _check(purpose)
        with self.store.transaction():
            return purpose in self.store.granted

    def history(self, purpose: Purpose | None = None) -> tuple[Decision, ...]:
        """All decisions, or those on one purpose, oldest first.

        Raises:
            InputError: no such purpose.
        """
        if purpose is not None:
            _check(purpose)
        with self.store.transaction() as connection:
            rows = connection.execute("SELECT purpose, granted, version, time FROM consent ORDER BY seq").fetchall()
        decisions = (Decision(name, bool(granted), version, time) for name, granted, version, time in rows)
        return tuple(decision for decision in decisions if purpose in (None, decision.purpose))

    def _decide(self, purpose: Purpose, granted: bool, version: str) -> Decision:
        _check(purpose)
        if not isinstance(version, str) or not 1 <= len(version) <= 200:
            raise InputError(f"`version` must be text of 1 to 200 characters, got {version!r:.80}")
        decision = Decision(purpose, granted, version, self.store.clock())
        if not granted:
            self.store.file.deny(purpose)
        with self.store.transaction(write=True, durable=True) as connection:
            connection.execute(_DECIDE, (None, purpose, granted, version, decision.time))
        self.store.file.clear_denial(purpose)
        with suppress(PalateError):  # as on a full disk: the next decision does it
            know_decisions(self.store.file, _count(self.store))
            _note_place(self.store)  # now there is a ledger
        return decision


def agrees_to_online(consent: Consent) -> bool:
    """Whether the user agrees to anything for which a device has to be online."""
    return consent.get("train") or consent.get("analytics")


def settle(consent: Consent) -> None:
    """Deny every purpose if the ledger knows of more decisions than there are: an older file was put back.

    A copy of the whole folder, put in its place or elsewhere, is denied every purpose as well, and takes part in no
    round for ever: what has been spent and decided since the copy, or is by the original, can't be known.

    The user has to be asked again, as they may have revoked any of them since. A ledger that lacks decisions, as
    after a full disk, learns of them. One that can't be read says nothing, and without one nothing is taken part
    in.

    Raises:
        LockedError: another process kept the ledger or the store locked.
    """
    try:
        _settle(consent.store)
    except LockedError:
        raise
    except PalateError as error:
        logger.warning("decisions were not compared with the ledger: %s", error)


def _settle(store: EventStore) -> None:
    if _is_copy(store):
        logger.warning("this is a copy of a store: each purpose is denied until the user is asked again")
        deny_at_once(store)
        with Journal(store.file) as journal:
            journal.keep(MOVED, DONE)
        deny_all(Consent(store), PUT_BACK)
    _note_place(store)
    known = known_decisions(store.file)
    count = _count(store)  # read last: another process may decide meanwhile
    if known < count:
        know_decisions(store.file, count)
    if known > count:
        logger.warning("an older file of events was put back: each purpose is denied until the user is asked again")
        deny_all(Consent(store), PUT_BACK, after=known)


def _is_copy(store: EventStore) -> bool:
    """Whether the key file, or both events and ledger, are not those that the store has noted, but copies of them."""
    if not (noted := _noted(store)):
        return False
    pairs = zip(noted.split(" "), store.file.identities().split(" "), strict=True)
    key, events, ledger = (bool(known and found) and known != found for known, found in pairs)
    return key or (events and ledger)


def _noted(store: EventStore) -> str:
    """What is noted; empty if nothing is."""
    with store.transaction() as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (PLACE,)).fetchone()
    return "" if row is None else str(row[0])


def _note_place(store: EventStore) -> None:
    """Note them where they aren't yet: most openings write nothing."""
    if _noted(store) != store.file.identities():
        with store.transaction(write=True, durable=True) as connection:
            note_place(store, connection)


def note_place(store: EventStore, connection: sqlite3.Connection) -> None:
    """Note which files the store consists of."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (PLACE, store.file.identities()))


def deny_at_once(store: EventStore) -> None:
    """Deny each purpose before any decision on it is written, also on a full disk."""
    for purpose in PURPOSES:
        store.file.deny(purpose)


def deny_all(consent: Consent, version: str, *, after: int = 0) -> None:
    """Deny each purpose; the user has to be asked again.

    Args:
        consent: the decisions.
        version: of these decisions, which aren't the user's.
        after: how many decisions there were at least, those that are lost included.
    """
    store = consent.store
    deny_at_once(store)
    known = max(after, _count(store))
    with store.transaction(write=True, durable=True) as connection:
        now = store.clock()
        rows = ((known + n, purpose, False, version, now) for n, purpose in enumerate(PURPOSES, 1))
        connection.executemany(_DECIDE, rows)
    for purpose in PURPOSES:
        store.file.clear_denial(purpose)


def _count(store: EventStore) -> int:
    """How many decisions there are, with those that an older file lacks."""
    with store.transaction() as connection:
        return int(connection.execute("SELECT coalesce(max(seq), 0) FROM consent").fetchone()[0])


def _check(purpose: object) -> None:
    if purpose not in PURPOSES:
        raise InputError(f"`purpose` must be one of {', '.join(PURPOSES)}, got {purpose!r:.80}")
