"""Participation: this device's part in training, from a signed plan to bytes that may leave.

    consent -> limits -> Contributor (verify, floors, charge, train, clip) -> Journal -> bytes, or the constant refusal

Order is what protects: without consent nothing is looked at, before the charge is on the disk nothing is computed from
behaviour, and before it is noted in the journal nothing leaves. Why something was refused is for the user alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.consent import Consent, Purpose
from palate_client.delivery.calendar import Calendar
from palate_client.ledger.anchor import check_charges, check_file, know_charges, known_charges
from palate_client.ledger.device_ids import Ids
from palate_client.ledger.device_ledger import DeviceLedger
from palate_client.ledger.trust import Trust
from palate_client.models import Models
from palate_client.recommend.interests import Interests
from palate_client.rounds.contribution import Contributor, Histories, Identity
from palate_client.rounds.survey_answers import OwnAnswers, survey_of
from palate_client.secagg.attempt import MaskedDevice
from palate_client.service import Service
from palate_client.store.journal import EVENTS, Journal, Refusal, Sent
from palate_client.store.store import EventStore
from palate_common.algorithms.analytics import NAME as ANALYTICS
from palate_common.errors import PalateError, RefusedError
from palate_common.interactions import Interactions
from palate_common.models.model import catalogue_hash
from palate_common.records.signing import SigningKey
from palate_common.rounds.plan import RoundPlan, SignedPlan, read_plan
from palate_common.rounds.wire import REFUSED
from palate_common.secagg.directory import Directory
from palate_common.secagg.messages import step_of
from palate_common.weighting import Weighting

_SAID = {"train": "training", "analytics": "surveys"}
_ONE = 0
"""This installation's number in its own ledger."""


class OwnLedger(DeviceLedger):
    """The encrypted ledger of one installation: whatever number a server gives it, it is charged as the same one.

    Args:
        store: whose ledger it is.
        service: the user's limits.

    Raises:
        IntegrityError: it is damaged, or lacks charges that the store knows of.
    """

    def __init__(self, store: EventStore, service: Service) -> None:
        self._store, known = store, known_charges(store)
        with store.file.beside("ledger") as (path, driver):
            check_file(path, known)
            super().__init__(
                path,
                limit_mu2=service.limit_mu2,
                max_participations=service.participations,
                driver=replace(driver, noun="the ledger"),
            )
        try:
            check_charges(self.size(), known)
        except BaseException:
            self.close()
            raise

    def charge(
        self,
        plan_hash: str,
        *,
        run: str,
        round_: int,
        attempt: int,
        mu2: float,
        n_bytes: int,
        devices: Sequence[int] | range | Ids,
        trust: Trust | None = None,
    ) -> npt.NDArray[np.bool_]:
        """As `DeviceLedger.charge`, for this installation; the store knows of the charge when this returns."""
        charged = super().charge(
            plan_hash, run=run, round_=round_, attempt=attempt, mu2=mu2, n_bytes=n_bytes, devices=[_ONE], trust=trust
        )
        know_charges(self._store, self.size())
        return charged

    def latch(self, step: str, digest: str, *, device: int, run: str, round_: int, attempt: int) -> None:
        """As `DeviceLedger.latch`, for this installation."""
        super().latch(step, digest, device=_ONE, run=run, round_=round_, attempt=attempt)


@dataclass(frozen=True)
class OwnHistory:
    """The user's interactions as a batch of one, read from the store when they are asked for.

    Attributes:
        interests: the user's, against the model's catalogue.
    """

    interests: Interests

    @property
    def n_users(self) -> int:
        """One."""
        return 1

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.interests.n_items

    def users(self, rows: slice | npt.NDArray[np.integer[Any]]) -> Interactions:
        """The user's interactions."""
        return self.interests.interactions().users(rows)


class Masked:
    """This device in one masked attempt. It lives in memory alone: a device that restarts has dropped out.

    Attributes:
        refusal: why the last request was refused, for the user.
    """

    def __init__(
        self, machine: MaskedDevice, ledger: OwnLedger, note: Callable[[str, bytes], None], check: Callable[[], None]
    ) -> None:
        self.refusal = ""
        self._machine, self._ledger, self._note, self._check = machine, ledger, note, check

    def answer(self, request: bytes) -> bytes:
        """The answer to one request of the attempt, or the constant refusal."""
        self.refusal = ""
        try:
            self._check()
            step = step_of(request)
            answer = self._machine.answer(step, request)
            self._note(step.name.lower(), answer)
        except Exception as error:
            self.refusal = reason_of(error)
            return REFUSED
        return answer

    def close(self) -> None:
        """Leave the attempt; closing twice is fine."""
        self._ledger.close()


class Participation:
    """What a device does when it is asked to take part.

    Args:
        store: the user's events, and the files beside them.
        service: who may ask, and the user's limits.
        models: the model in use, which gives the catalogue.
        weighting: what an event counts.
        calendar: the user's, for surveys.

    Attributes:
        refusal: why the last plan was refused, for the user; empty if it was answered.
    """

    def __init__(
        self, store: EventStore, service: Service, models: Models, weighting: Weighting, calendar: Calendar
    ) -> None:
        self.refusal = ""
        self._store, self._service, self._models = store, service, models
        self._weighting, self._calendar = weighting, calendar

    def ledger(self) -> OwnLedger:
        """This installation's ledger, opened; close it."""
        return OwnLedger(self._store, self._service)

    def identity(self) -> SigningKey:
        """This installation's own key among devices that mask for each other; made once, kept encrypted."""
        with Journal(self._store.file) as journal:
            return SigningKey.from_pem(journal.secret("identity", SigningKey.generate().to_pem()))

    def contribute(self, plan: bytes, model: bytes, number: int = _ONE) -> bytes:
        """A contribution's bytes, or the constant refusal.

        Guarantees:
            Nothing is looked at without consent to `train`, or to `analytics` for a survey, nothing computed from
            behaviour before the charge is on the disk, and nothing returned before it is in the journal.
            Whatever goes wrong, the answer is the same one constant.
        """
        with self._refusing():
            self._check_size(plan, model)
            asked = read_plan(plan)
            with self.ledger() as ledger:
                answer = self._contributor(ledger, number, asked).contribute(plan, model)
                self._note(asked.plan, "contribution", answer)
                return answer
        return REFUSED

    def join(self, plan: bytes, model: bytes, directory: Directory, place: int | None = None) -> Masked | None:
        """This device's machine for a masked attempt, charged; None where it refuses."""
        with self._refusing(), ExitStack() as stack:
            self._check_size(plan, model)
            asked, identity = read_plan(plan), Identity(self.identity(), directory)
            if identity.key.public not in directory.identities:
                raise RefusedError("the directory must name this device, got one without it")
            ledger = stack.enter_context(self.ledger())
            number = directory.identities.index(identity.key.public)
            if place not in (None, number):
                raise RefusedError(f"the directory must have this device at {place}, got it at {number}")
            machine = self._contributor(ledger, number, asked).join(plan, model, identity)
            stack.pop_all()  # the machine's latch needs the ledger until the attempt is over
            return Masked(machine, ledger, partial(self._note, asked.plan), partial(self._check_consent, asked.plan))
        return None

    def _check_size(self, plan: bytes, model: bytes) -> None:
        """What is too large isn't read."""
        for name, data in (("plan", plan), ("model", model)):
            if len(data) > self._service.most_bytes:
                raise RefusedError(f"a {name} must be at most {self._service.most_bytes} bytes, got {len(data)}")

    def _contributor(self, ledger: OwnLedger, number: int, asked: SignedPlan) -> Contributor:
        """The very code that simulations run, on this user's history, or on their answers to a survey."""
        self._check_consent(asked.plan)
        histories, catalogue = self._histories(asked.plan)
        self._models.see(ledger)
        return Contributor(
            histories,
            [number],
            ledger,
            self._service.public_key,
            self._service.floors,
            self._store.clock,
            catalogue=catalogue,
        )

    def _histories(self, plan: RoundPlan) -> tuple[Histories, str]:
        """What is contributed from, read when the plan is charged, and the hash of the catalogue it is about."""
        if plan.algorithm == ANALYTICS:
            survey = survey_of(plan)
            return OwnAnswers(self._store, survey, self._calendar), catalogue_hash(survey.questions())
        current = self._models.current()
        if current is None:
            raise RefusedError("this device has no model yet, so that it doesn't know the catalogue")
        return OwnHistory(Interests(self._store, current.items, self._weighting)), current.catalogue.hash

    def _check_consent(self, plan: RoundPlan) -> None:
        """Refuse what the user doesn't agree to, now."""
        purpose: Purpose = "analytics" if plan.algorithm == ANALYTICS else "train"
        if not Consent(self._store).get(purpose):
            raise RefusedError(f"the user has not agreed, or no longer agrees, to take part in {_SAID[purpose]}")

    def _note(self, plan: RoundPlan, what: str, data: bytes) -> None:
        """Write down what is about to leave."""
        dp = plan.dp.value if plan.events is None else EVENTS
        sent = Sent(what, dp, plan.run, plan.round, plan.attempt, len(data), self._store.clock())
        with Journal(self._store.file) as journal:
            journal.record(sent)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Keep the reason of whatever goes wrong, for the user, and go on with the refusal."""
        self.refusal = ""
        try:
            yield
        except Exception as error:
            self.refusal = reason_of(error)
            note_refusal(self._store, "plan", self.refusal)


def reason_of(error: Exception) -> str:
    """Why something was refused, in one line."""
    return " ".join(str(error).split()) if isinstance(error, PalateError) else f"it failed: {error!r:.200}"


def note_refusal(store: EventStore, what: str, reason: str) -> None:
    """Remember a refusal; that it can't be written is no reason to do what was refused."""
    with suppress(PalateError, OSError), Journal(store.file) as journal:
        journal.refuse(Refusal(what, reason, store.clock()))
