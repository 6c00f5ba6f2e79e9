"""Schema: the tables of a device's store."""

from __future__ import annotations

from palate_common.records.database import Database
from palate_core.errors import InputError

KIND = 0x50414C45  # "PALE"
VERSION = 1
TABLES = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE consent(seq INTEGER PRIMARY KEY, purpose TEXT NOT NULL, granted INTEGER NOT NULL,"
    " version TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE events(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, item TEXT NOT NULL,"
    " time REAL, received REAL NOT NULL, value REAL, source TEXT NOT NULL, props TEXT,"
    " imported INTEGER NOT NULL)",
)


def make_tables(database: Database) -> None:
    """Make the tables of a new store, in one transaction.

    Raises:
        InputError: the store is of another version.
    """
    with database.transaction(write=True) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise InputError(f"the store must be of version {VERSION}, got {version}")
        for statement in () if version else (*TABLES, f"PRAGMA user_version = {VERSION:d}"):
            connection.execute(statement)
