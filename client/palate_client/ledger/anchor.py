"""Anchor: the store's count of the charges in this installation's ledger, so that a lost ledger is noticed.

    OwnLedger.charge -> the charge is on the disk -> the count is on the disk -> the device computes

The count never falls. A ledger with fewer charges was lost, emptied or replaced by an older copy, and the costs that it
lacks could be spent a second time.

**Guarantees:** a ledger with fewer charges than the store knows of is refused.

**Assumes:** nobody writes the same older state into both files; of other files, `palate_client.consent` notices it.
"""

from __future__ import annotations

from pathlib import Path

from palate_client.store.store import EventStore
from palate_core.errors import IntegrityError

_NAME = "charges"


def known_charges(store: EventStore) -> int:
    """The number of charges in the ledger, as the store knows it."""
    with store.transaction() as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
    return 0 if row is None else int(row[0])


def know_charges(store: EventStore, count: int) -> None:
    """Store how many charges the ledger has; the number is on the disk when this returns.

    Raises:
        PalateError: it can't be written.
    """
    with store.transaction(write=True, durable=True) as connection:
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = max(value, excluded.value)",
            (_NAME, count),
        )


def check_file(path: Path, known: int) -> None:
    """Refuse to make a new ledger if there was one before.

    Raises:
        IntegrityError: the file is missing or empty, although there were charges.
    """
    if known and (not path.exists() or not path.stat().st_size):
        check_charges(0, known)


def check_charges(count: int, known: int) -> None:
    """Refuse a ledger that lacks charges.

    Raises:
        IntegrityError: it has fewer charges than the store knows of.
    """
    if count < known:
        raise IntegrityError(
            f"the ledger must have the {known} charges that were made, got {count}: this device takes part in nothing"
            " more; bring the file back, or erase the store and begin anew"
        )
