"""Anchor: what the store remembers of this installation's ledger, so that a ledger that is gone is missed.

    OwnLedger.charge -> the charge is on the disk -> anchor -> only then anything is computed

The number only goes up. A ledger with fewer charges was lost, emptied or put back to an older state, and what it has
forgotten would be spent a second time.

**Guarantees:** a ledger with fewer charges than the store knows of is refused.

**Assumes:** nobody puts back both files to the same older state.
"""

from __future__ import annotations

from pathlib import Path

from palate_client.store.store import EventStore
from palate_common.errors import IntegrityError

_NAME = "charges"


def known_charges(store: EventStore) -> int:
    """How many charges the ledger had when the last one was made."""
    with store.transaction() as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
    return 0 if row is None else int(row[0])


def know_charges(store: EventStore, count: int) -> None:
    """Remember how many charges the ledger has; it is on the disk when this returns.

    Raises:
        PalateError: it can't be written.
    """
    with store.transaction(write=True, durable=True) as connection:
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = max(value, excluded.value)",
            (_NAME, count),
        )


def check_file(path: Path, known: int) -> None:
    """Refuse to make a ledger anew where there was one.

    Raises:
        IntegrityError: it is missing or empty.
    """
    if known and (not path.exists() or not path.stat().st_size):
        check_charges(0, known)


def check_charges(count: int, known: int) -> None:
    """Refuse a ledger that has forgotten charges.

    Raises:
        IntegrityError: it has.
    """
    if count < known:
        raise IntegrityError(
            f"the ledger must have the {known} charges that were made, got {count}: this device takes part in nothing"
            " more; bring the file back, or erase the store and begin anew"
        )
