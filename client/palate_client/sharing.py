"""Sharing: what a device has from a server, and gives to one. That part of `palate.Device`.

    device.update_model("downloads/model")
    answer = device.contribute(plan, model)
    print(device.privacy_report())

What takes part is imported when it is first used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate_client.consent import PURPOSES, Consent
from palate_client.store.store import EventStore
from palate_common.errors import InputError, IntegrityError, PalateError, UnreachableError
from palate_common.weighting import Weighting

if TYPE_CHECKING:
    from palate_client.delivery.calendar import Calendar
    from palate_client.models import Models
    from palate_client.report import PrivacyReport, Spending
    from palate_client.rounds.participation import Masked, Participation
    from palate_client.service import Service
    from palate_common.models.published import Published
    from palate_common.secagg.directory import Directory


class Sharing:
    """Models from a server, rounds with it, and the report on both.

    Attributes:
        app: the app's name.
        store: the encrypted events.
        consent: what the user agreed to.
        weighting: what an event counts.
        service: the server, and the user's limits; None: there is none.
        calendar: the user's.
    """

    app: str
    store: EventStore
    consent: Consent
    weighting: Weighting
    service: Service | None
    calendar: Calendar

    def files_to_download(self, folder: Path | str) -> tuple[str, ...]:
        """What else `update_model` needs of a published model, the least of it: a delta where there is one.

        Args:
            folder: with its `manifest.json` and `signature`, downloaded.

        Returns:
            Names of files that belong into the folder, beside these two.

        Raises:
            IntegrityError: they are not signed by the service's key.
        """
        return self._shared[0].wanted(Path(folder))

    def update_model(self, folder: Path | str) -> bool:
        """Take a published model into use, if it verifies; False if it is in use already.

        Args:
            folder: the files that the operator published, downloaded; `files_to_download` says which are needed.

        Raises:
            IntegrityError: a file is missing, damaged, too large or not signed by the service's key, or the model's
                ledger is not the one that this device knows.
            RefusedError: the model is another population's, or older than one that was in use.
            PalateError: the store can't be written.
                Whatever is raised, the model that was in use stays in use, and the privacy report says why.
        """
        return self._take(lambda models: models.read(Path(folder)))

    def _take(self, read: Callable[[Models], Published]) -> bool:
        """Take a verified model into use; what is wrong with it is noted. For `update_model` and `sync`."""
        from palate_client.rounds.participation import note_refusal, reason_of

        models, participation = self._shared
        try:
            found = read(models)
            with participation.ledger() as ledger:
                return models.take(found, ledger)
        except UnreachableError:
            raise
        except PalateError as error:
            note_refusal(self.store, "model", reason_of(error))
            raise

    def model(self) -> Published | None:
        """The model in use with its items and domains, verified; None before the first, and without a service.

        Raises:
            IntegrityError: what was stored is damaged.
        """
        return None if self.service is None else self._shared[0].current()

    def contribute(self, plan: bytes, model: bytes, *, number: int = 0) -> bytes:
        """Take part in a round: the bytes for the server. Whatever the reason, a refusal is the same one constant.

        Needs the user's consent to `train`, a verified plan above the service's floors and within the user's limits,
        and a model in use, which gives the catalogue. A survey's plan needs consent to `analytics`, and no model. The
        cost is in the device's ledger before anything is computed.

        Args:
            plan: the signed plan, as the server sent it.
            model: the model file that the plan names.
            number: of this device among its population's, which only an experiment's seeded noise depends on.
        """
        return self._shared[1].contribute(plan, model, number)

    def join(self, plan: bytes, model: bytes, directory: Directory, *, number: int | None = None) -> Masked | None:
        """Take part in a round under masks: what answers the exchanges that follow; None where this device refuses.

        Args:
            plan: the signed plan.
            model: the model file that the plan names.
            directory: the identities that take part, pinned; `identity` must be one of them.
            number: the place where it must stand there; None: any.
        """
        return self._shared[1].join(plan, model, directory, number)

    @property
    def identity(self) -> str:
        """The public key by which this installation stands in a directory."""
        return self._shared[1].identity().public

    @property
    def refusal(self) -> str:
        """Why the latest plan was refused, for the user; empty if it was answered."""
        return self._shared[1].refusal

    def privacy_report(self) -> PrivacyReport:
        """What ever left, what it cost, what was refused, and what the user agreed to.

        Raises:
            PalateError: a file of the store can't be read.
        """
        from palate_client.report import PrivacyReport
        from palate_client.store.journal import Journal

        spending, problem = None, ""
        try:
            spending = self._spending()
        except IntegrityError as error:
            problem = str(error)
        with Journal(self.store.file) as journal:
            return PrivacyReport(
                app=self.app,
                time=self.store.clock(),
                spending=spending,
                problem=problem,
                simulated=self.service.loosened if self.service else (),
                sent=journal.sent(),
                refusals=journal.refusals(),
                consents={purpose: self.consent.get(purpose) for purpose in PURPOSES},
                decisions=self.consent.history(),
                models=journal.editions(),
                contacts=journal.contacts(),
            )

    def _spending(self) -> Spending | None:
        """What the ledger says."""
        from palate_client.ledger.trust import alone, conditions
        from palate_client.report import Spending
        from palate_common.mechanism.accounting import total_mu2

        if self.service is None:
            return None
        with self._shared[1].ledger() as ledger:
            receipts, spent = tuple(ledger.receipts(0)), ledger.spent(0)
            seen = ledger.seen_checkpoint(self.service.population)
        trusts = [receipt.trust for receipt in receipts]
        costs = alone(trusts)
        return Spending(
            population=self.service.population,
            epsilon=None if any(receipt.mu2 == 0 for receipt in receipts) else self.service.epsilon_of(spent),
            conditions=conditions(trusts),
            epsilon_alone=None if costs is None else self.service.epsilon_of(total_mu2(costs)),
            limit=self.service.epsilon,
            delta=self.service.delta,
            mu2=spent,
            participations=len(receipts),
            participation_limit=self.service.participations,
            receipts=receipts,
            seen=seen,
        )

    def _shared_lines(self) -> Iterator[str]:
        """What the journal and the ledger say of the user, for the export."""
        report = self.privacy_report()
        parts: dict[str, Any] = {"sent": report.sent, "refusal": report.refusals, "model": report.models}
        parts["contact"] = report.contacts
        parts["participation"] = () if report.spending is None else report.spending.receipts
        if report.problem:
            yield json.dumps({"type": "problem", "reason": report.problem}, ensure_ascii=False)
        for kind, entries in parts.items():
            for entry in entries:
                yield json.dumps({"type": kind, **asdict(entry)}, ensure_ascii=False)

    @cached_property
    def _shared(self) -> tuple[Models, Participation]:
        """What works with the service."""
        from palate_client.models import Models
        from palate_client.rounds.participation import Participation

        if self.service is None:
            raise InputError("`service` must be given to `palate.open`: models and rounds come from one")
        models = Models(self.store, self.service)
        return models, Participation(self.store, self.service, models, self.weighting, self.calendar)
