"""OwnLedger: the encrypted ledger of one installation, beside its store, with its user's limits.

    Rounds, Models -> OwnLedger -> DeviceLedger

The store keeps the number of charges: a ledger with fewer counts as damaged, not as new.
"""

from __future__ import annotations

from dataclasses import replace

from palate_client.ledger.anchor import check_charges, check_file, know_charges, known_charges
from palate_client.ledger.tables import KIND, SCHEMA
from palate_client.service import Service
from palate_client.store.store import EventStore
from palate_common.records.closing import Closing
from palate_common.records.database import Database
from palate_core.device.ledger import DeviceLedger
from palate_core.device.participation import KeptPlan
from palate_core.plan import ChargedPlan

ONE = 0
"""This installation's number, where a server gives it no other."""


class OwnLedger(DeviceLedger, Closing):
    """The encrypted ledger of one installation. Whatever number a server gives it, the same device is charged.

    Args:
        store: the store that it belongs to.
        service: the user's limits.

    Raises:
        IntegrityError: it is damaged, or has fewer charges than the store knows of.
    """

    def __init__(self, store: EventStore, service: Service) -> None:
        self._store, known = store, known_charges(store)
        with store.file.beside("ledger") as (path, driver):
            check_file(path, known)
            database = Database(path, kind=KIND, schema=SCHEMA, driver=replace(driver, noun="the ledger"))
            limit, most = service.limit_mu2, service.participations
            super().__init__(database, limit_mu2=limit, max_participations=most, clock=store.clock)
        try:
            check_charges(self.size(), known)
        except BaseException:
            self.close()
            raise

    def charge(self, kept: KeptPlan, *, n_bytes: int, purpose: str) -> ChargedPlan | None:
        """As `DeviceLedger.charge`; it also updates the store's count of charges."""
        charged = super().charge(kept, n_bytes=n_bytes, purpose=purpose)
        know_charges(self._store, self.size())
        return charged
