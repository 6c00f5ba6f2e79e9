"""Tables: what a device's ledger has in its file, and how many decisions of the user it knows of.

    Consent -> the decision is in the events' file -> the ledger knows how many there are

The count never falls. An events' file with fewer decisions is an older one that was put back: a purpose that was
revoked since would be granted again. The ledger in turn is compared with the events' file by its charges, see
`palate_client.ledger.anchor`. Where both are put back to the same older state, they are other files than the store has
noted, see `palate_client.consent.settle`. Nothing is noticed where the old state is written into the files that are
there, or is that of a whole disk.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from palate_client.store.store_file import BUSY_SECONDS, StoreFile
from palate_common.records.database import Database, Driver
from palate_core.device.schema import SCHEMA as CHARGES

KIND = 0x50414432  # "PAD2"
SCHEMA = (
    *CHARGES,
    "CREATE TABLE decisions(one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL)",
)


def known_decisions(file: StoreFile) -> int:
    """How many decisions of the user the ledger of a store knows of; 0 where there is no ledger.

    Raises:
        PalateError: the ledger can't be read.
    """
    with file.beside("ledger") as (path, driver):
        if not path.exists():
            return 0
        with _open(path, driver) as database, database.transaction() as connection:
            return int(connection.execute("SELECT coalesce(max(count), 0) FROM decisions").fetchone()[0])


def know_decisions(file: StoreFile, count: int) -> None:
    """Let the ledger know how many decisions there are; it is on the disk when this returns.

    Raises:
        PalateError: it can't be written.
    """
    with (
        file.beside("ledger") as (path, driver),
        _open(path, driver) as database,
        database.transaction(write=True) as connection,
    ):
        connection.execute(
            "INSERT INTO decisions VALUES (1, ?) ON CONFLICT(one) DO UPDATE SET count = max(count, excluded.count)",
            (count,),
        )


def _open(path: Path, driver: Driver) -> Database:
    """The ledger's file."""
    driver = replace(driver, noun="the ledger")
    return Database(path, kind=KIND, schema=SCHEMA, timeout=BUSY_SECONDS, driver=driver)
