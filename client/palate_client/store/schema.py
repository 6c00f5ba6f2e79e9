"""Schema: the tables of a device's store, and the migration of older stores.

Each version is a step: statements that make it from the version before. A new store runs all steps, so that every test
runs each of them. A step that has been released is never changed; append another.
"""

from __future__ import annotations

from collections.abc import Sequence

from palate_common.records.database import Database
from palate_core.errors import InputError

KIND = 0x50414C45  # "PALE"
FIRST = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE consent(seq INTEGER PRIMARY KEY, purpose TEXT NOT NULL, granted INTEGER NOT NULL,"
    " version TEXT NOT NULL, time REAL NOT NULL)",
    "CREATE TABLE events(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, item TEXT NOT NULL,"
    " time REAL, received REAL NOT NULL, value REAL, source TEXT NOT NULL, props TEXT,"
    " imported INTEGER NOT NULL)",
)
STEPS: tuple[Sequence[str], ...] = (FIRST,)
"""STEPS[n - 1] makes version n of version n - 1."""


def migrate(database: Database, steps: Sequence[Sequence[str]] = STEPS) -> int:
    """Migrate a store to the newest version, each step in one transaction. Returns the version that it had.

    Raises:
        InputError: the store was made by a newer Palate.
    """
    found: int | None = None
    while True:
        with database.transaction(write=True) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            found = version if found is None else found
            if version > len(steps):
                raise InputError(f"the store must be of version {len(steps)} or older, got {version}: update palate")
            if version == len(steps):
                return int(found)
            for statement in steps[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1:d}")
