r"""Moving: all that an installation knows, in one encrypted file, and into the store of a new phone.

    old store: takes part in nothing more -> the file -> each purpose is denied, number and identity are gone
    the file -> new store: ledger, journal, messages, then events and decisions -> each purpose is denied -> no file

    b"palate portable 1\n", salt, nonce, AES-GCM of a zlib stream of JSON: file -> table -> rows

**Guarantees:** what was charged, seen, limited, decided or tossed before is known after; no file revives a consent,
as the user of the new store is asked again; the old store, from before its state is read, takes part in no round.

**Assumes:** nobody keeps a copy of the file, which read twice makes two installations, as a copied folder does.
"""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from palate_client.consent import Consent, deny_all, deny_at_once, note_place
from palate_client.delivery import record
from palate_client.ledger import tables
from palate_client.store import journal
from palate_client.store.journal import BEGUN, DONE, MOVED, Journal
from palate_client.store.key_file import NONCE_BYTES, SALT_BYTES, overwrite
from palate_client.store.store import EventStore
from palate_client.store.vault import Caller, derive
from palate_common.records.database import Database
from palate_common.records.files import write_durably
from palate_core.errors import InputError, PalateError, WrongKeyError

VERSION: Final = "moved"
"""Version of the revocations that a move writes, in both stores."""
MOST_BYTES, MOST_TEXT = 2**28, 2**30
"""Of what is encrypted in a file, and of what that is unpacked, at most."""
_HEAD: Final = b"palate portable 1\n"
_INFO: Final = b"palate portable, version 1"
_MOST_FILE: Final = len(_HEAD) + SALT_BYTES + NONCE_BYTES + MOST_BYTES + 16  # AES-GCM's tag
_EVENTS: Final = "db"
_BESIDE: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = {
    "ledger": (tables.KIND, tables.SCHEMA),
    "journal": (journal.KIND, journal.SCHEMA),
    "deliveries": (record.KIND, record.SCHEMA),
}
"""The files beside the events, in the order in which they are read, and written: costs first."""

Tables = dict[str, list[list[Any]]]


def move_out(store: EventStore, path: Path, key: bytes) -> None:
    """Write the file, and close this installation; see `Device.export_portable`.

    Raises:
        InputError: the key is none, this installation has moved before, or has too much; or the file can't be written.
        LockedError: the device is online.
        PalateError: the store can't be read or written.
    """
    Caller(key)
    with store.file.alone_online():
        with Journal(store.file) as kept:
            if (before := kept.read_secret(MOVED)) == DONE:
                raise InputError("`export_portable` must be called once, got an installation that has moved, or a copy")
            kept.keep(MOVED, BEGUN)  # from here on nothing is charged and leaves
        try:
            write_durably(path, _seal(store, _read_all(store), key), mode=0o600)
        except BaseException as error:
            if before is None:  # otherwise there may be a file of a call that was cut short
                with Journal(store.file) as kept:
                    kept.drop(MOVED)
            if isinstance(error, OSError):
                raise InputError(f"`path` must be a file that can be written, got {path}: {error.strerror}") from None
            raise
        with Journal(store.file) as kept:
            kept.keep(MOVED, DONE)
            kept.drop("identity", "enrolment")
        deny_all(Consent(store), VERSION)


def move_in(store: EventStore, path: Path, key: bytes) -> None:
    """Fill a new store, and destroy the file; see `Device.import_portable`.

    Raises:
        InputError: the file can't be read, or the store isn't new.
        WrongKeyError: the file was made with another key, for another app or user, or was changed.
        PalateError: the store can't be written, try again; or the file can't be destroyed.
    """
    found = _open(store, path, key)
    with store.file.alone_online():
        with store.transaction() as connection:
            (used,) = connection.execute(
                "SELECT (SELECT count(*) FROM consent) + (SELECT count(*) FROM events)"
            ).fetchone()
        if used:
            raise InputError("the store must be new to be moved into, got one with events or decisions")
        for name, (kind, schema) in _BESIDE.items():
            with store.file.beside(name) as (file, driver):
                database = Database(file, kind=kind, schema=schema, driver=driver)
            with database, database.transaction(write=True) as connection:
                _fill(connection, found.get(name, {}))
                if name == "journal":
                    connection.execute("DELETE FROM secrets WHERE name = ?", (MOVED,))
                if name == "deliveries":
                    connection.execute(
                        "INSERT INTO allowed(channel, granted, version, time)"
                        " SELECT DISTINCT channel, 0, ?, ? FROM allowed",
                        (VERSION, store.clock()),
                    )
        deny_at_once(store)  # before the decisions are there, so that none of them holds for a moment
        with store.transaction(write=True, durable=True) as connection:
            _fill(connection, found[_EVENTS])
            note_place(store, connection)
        deny_all(Consent(store), VERSION)
    try:
        overwrite(path)
        path.unlink(missing_ok=True)
    except (PalateError, OSError):
        raise PalateError(f"all has moved, but the file must be destroyed: delete it: {path}") from None


def _read_all(store: EventStore) -> dict[str, Tables]:
    """The rows of all tables. The events' file is first: the ledger then has at least the charges that it counts."""
    with store.transaction() as connection:
        found = {_EVENTS: _rows(connection)}
    for name, (kind, schema) in _BESIDE.items():
        with store.file.beside(name) as (file, driver):
            database = Database(file, kind=kind, schema=schema, driver=driver) if file.exists() else None
        if database is not None:
            with database, database.transaction() as connection:
                found[name] = _rows(connection)
    return found


def _names(connection: Any) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    return [name for (name,) in connection.execute(query)]


def _rows(connection: Any) -> Tables:
    return {name: [list(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in _names(connection)}  # noqa: S608


def _fill(connection: Any, given: Tables) -> None:
    """Replace the rows of all tables."""
    for name in _names(connection):
        connection.execute(f"DELETE FROM {name}")  # noqa: S608, of the schema
        for row in given.get(name, []):
            connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608


def _seal(store: EventStore, found: dict[str, Tables], key: bytes) -> bytes:
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    text = json.dumps(found, default=lambda data: {"b": base64.b64encode(data).decode()}).encode()
    packed = zlib.compress(text)
    if len(text) > MOST_TEXT or len(packed) > MOST_BYTES:  # nobody could read it again, and this store is closed by it
        raise InputError(f"a store must have at most {MOST_TEXT} bytes to be moved, got {len(text)}: use `export`")
    return _HEAD + salt + nonce + AESGCM(derive(key, salt, _INFO)).encrypt(nonce, packed, _about(store))


def _open(store: EventStore, path: Path, key: bytes) -> dict[str, Tables]:
    Caller(key)
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE + 1)
    except OSError as error:
        raise InputError(f"`path` must be a file that can be read, got {path}: {error.strerror}") from None
    at = len(_HEAD) + SALT_BYTES
    if not data.startswith(_HEAD) or len(data) > _MOST_FILE:
        raise InputError(f"`path` must be a file of `export_portable`, or was moved in before, got {path}")
    salt, nonce = data[len(_HEAD) : at], data[at : at + NONCE_BYTES]
    try:
        packed = AESGCM(derive(key, salt, _INFO)).decrypt(nonce, data[at + NONCE_BYTES :], _about(store))
    except (InvalidTag, ValueError):
        raise WrongKeyError(
            "`key` must be the one this file was made with, for this app and user, got another (or it was changed)"
        ) from None
    text = zlib.decompressobj().decompress(packed, MOST_TEXT)
    found: dict[str, Tables] = json.loads(
        text, object_hook=lambda each: base64.b64decode(each["b"]) if set(each) == {"b"} else each
    )
    return found


def _about(store: EventStore) -> bytes:
    """Whose file it is, as authenticated data."""
    return _HEAD + store.file.folder.vault.app.encode()
