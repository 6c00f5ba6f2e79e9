"""A device's ledger in a file of its own, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from palate_client.ledger.tables import KIND, SCHEMA
from palate_common.records.closing import Closing
from palate_common.records.database import PLAIN, Database, Driver
from palate_core.device.ledger import DeviceLedger


class OpenedLedger(DeviceLedger, Closing):
    """It is closed at the end of a `with` block, as an app's is."""


def open_ledger(
    path: Path | str,
    *,
    limit_mu2: float | None = None,
    max_participations: int | None = None,
    driver: Driver = PLAIN,
    clock: Callable[[], float] = time.time,
) -> OpenedLedger:
    """A device's ledger in a file.

    Args:
        path: the file, made if missing, or ":memory:".
        limit_mu2: see `DeviceLedger`.
        max_participations: see `DeviceLedger`.
        driver: the SQLite library that opens the file; on a device it encrypts.
        clock: see `DeviceLedger`.

    Raises:
        InputError: not a device's ledger, or not writable.
        IntegrityError: the file is damaged.
        LockedError: another process held it for a minute.
    """
    database = Database(path, kind=KIND, schema=SCHEMA, driver=driver)
    return OpenedLedger(database, limit_mu2=limit_mu2, max_participations=max_participations, clock=clock)
