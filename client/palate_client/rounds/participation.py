"""Rounds: the part of a device that answers a server's plans: `Device.rounds`.

    consent -> limits -> Contributor (verify, floors, charge, train, clip) -> Journal -> bytes, or the constant refusal

The order protects the user: without consent nothing is read; before the charge is on the disk nothing is computed from
behaviour; and before the journal has it nothing is sent. Reasons of refusals are for the user alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.consent import Consent
from palate_client.delivery.calendar import Calendar
from palate_client.ledger.own_ledger import ONE, OwnLedger
from palate_client.ledger.reliance import conditions, worst_case_costs
from palate_client.models import Models
from palate_client.recommend.interests import Interests
from palate_client.rounds.contribution import Contributor, Histories, Identity, OneDevice
from palate_client.rounds.purposes import purpose_of
from palate_client.rounds.report import Spending
from palate_client.rounds.survey_answers import OwnAnswers, survey_of
from palate_client.service import Service, require
from palate_client.store.journal import EVENTS, LEAVING, MOVED, Journal, Sent, note_refusal, reason_of
from palate_client.store.store import EventStore
from palate_common.algorithms.analytics import NAME as ANALYTICS
from palate_common.interactions import Interactions
from palate_common.models.model import catalogue_hash
from palate_common.rounds.wire import REFUSED
from palate_common.weighting import Weighting
from palate_core.accounting import total_mu2
from palate_core.device.attempt import MaskedDevice
from palate_core.errors import RefusedError
from palate_core.log.signing import SigningKey
from palate_core.masks.messages import step_of
from palate_core.plan import RoundPlan, SignedPlan, read_plan, read_signed

_SAID = {"train": "training", "analytics": "surveys"}


@dataclass(frozen=True)
class OwnHistory:
    """The user's interactions as a batch of one, read from the store when needed.

    Attributes:
        interests: the user's interests, with the model's catalogue.
    """

    interests: Interests

    @property
    def n_users(self) -> int:
        """Number of users: one."""
        return 1

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue."""
        return self.interests.n_items

    def users(self, rows: slice | npt.NDArray[np.integer[Any]]) -> Interactions:
        """The user's interactions."""
        return self.interests.interactions().users(rows)


class Masked:
    """This device in one masked attempt. It is kept in memory only: a device that restarts has dropped out.

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
            self._check()  # a vector takes a while
            self._note(step.name.lower(), answer)
        except Exception as error:
            self.refusal = reason_of(error)
            return REFUSED
        return answer

    def close(self) -> None:
        """Leave the attempt; closing twice is fine."""
        self._ledger.close()


@dataclass
class Rounds:
    """Answers plans, and knows what this device has spent.

    Attributes:
        store: the user's events, and the files beside them.
        consent: what the user agreed to.
        service: the server that may send plans, and the user's limits; None: there is none.
        models: the model in use, which gives the catalogue.
        weighting: how much an event counts.
        calendar: the user's calendar, for surveys.
        refusal: why the last plan was refused, for the user; empty if it was answered.
    """

    store: EventStore
    consent: Consent
    service: Service | None
    models: Models
    weighting: Weighting
    calendar: Calendar
    refusal: str = field(default="", init=False)

    def identity(self) -> SigningKey:
        """This installation's signing key for secure aggregation; made once, kept encrypted."""
        with Journal(self.store.file) as journal:
            return SigningKey.from_pem(journal.secret("identity", SigningKey.generate().to_pem()))

    def wanted_model(self, plan: bytes) -> str | None:
        """The hash of the model that a plan starts from, for whoever fetches it; None: the plan is refused.

        A download may take long: what is checked here is checked again, with all else, once the model is there. A fetch
        can be seen, and tells that this user agrees. So it is made only for what the population's ledger was charged
        for, and this device's own could be: nobody learns that as often as they like.

        **Guarantees:** no model is fetched for a plan that the user doesn't agree to: or that doesn't verify, is below
            the floors, was answered before or would exceed a limit.
        """
        service = require(self.service)
        with self._refuse_on_error():
            _check_size(service, plan)
            asked = read_signed(plan, public_key=service.public_key)
            with OwnLedger(self.store, service) as ledger:
                return self._contributor(service, ledger, ONE, asked).wanted_model(plan)
        return None

    def contribute(self, plan: bytes, model: bytes, number: int = ONE) -> bytes:
        """A contribution's bytes, or the constant refusal; see `Device.contribute`.

        **Guarantees:** without consent to train nothing is looked at: for a survey, without consent to `analytics`.
            Nothing is returned if it was revoked meanwhile.
        **Guarantees:** the charge is on the disk before anything is computed: from behaviour.
        **Guarantees:** what cannot be noted does not leave: nothing is returned before it is in the journal.
        **Guarantees:** a refusal tells the user why and the server nothing: whatever goes wrong, it is one constant.
        """
        service = require(self.service)
        with self._refuse_on_error():
            _check_size(service, plan, model)
            asked = read_plan(plan)
            with OwnLedger(self.store, service) as ledger:
                answer = self._contributor(service, ledger, number, asked).contribute(plan, model)
                self._check_consent(asked.plan)  # it takes a while
                self._note(asked.plan, "contribution", answer)
                return answer
        return REFUSED

    def join(self, plan: bytes, model: bytes, directory: bytes, number: int) -> Masked | None:
        """Charge a masked attempt and return this device's part in it; None if it refuses; see `Device.join`."""
        service = require(self.service)
        with self._refuse_on_error(), ExitStack() as stack:
            _check_size(service, plan, model, directory)
            asked = read_plan(plan)
            identity = Identity.among(directory, asked.plan, self.identity())
            ledger = stack.enter_context(OwnLedger(self.store, service))
            machine = self._contributor(service, ledger, number, asked).join(plan, model, identity)
            stack.pop_all()  # the state machine needs the ledger until the attempt is over
            return Masked(machine, ledger, partial(self._note, asked.plan), partial(self._check_consent, asked.plan))
        return None

    def at_limit(self) -> bool:
        """Whether the user's limits are reached, so that this device may not take part any more."""
        service = require(self.service)
        with OwnLedger(self.store, service) as ledger:
            rounds, spent = len(ledger.receipts()), ledger.spent()
        return rounds >= service.participations or spent >= service.limit_mu2

    def spending(self) -> Spending:
        """What this installation has spent, by its own ledger.

        Raises:
            IntegrityError: the ledger is damaged, or has fewer charges than the store knows of.
        """
        service = require(self.service)
        with OwnLedger(self.store, service) as ledger:
            receipts, spent = tuple(ledger.receipts()), ledger.spent()
            seen = ledger.seen_checkpoint(service.population)
        trusts = [receipt.trust for receipt in receipts]
        costs = worst_case_costs(trusts)
        return Spending(
            population=service.population,
            epsilon=None if any(receipt.mu2 == 0 for receipt in receipts) else service.epsilon_of(spent),
            conditions=conditions(trusts),
            epsilon_alone=None if costs is None else service.epsilon_of(total_mu2(costs)),
            limit=service.epsilon,
            delta=service.delta,
            mu2=spent,
            participations=len(receipts),
            participation_limit=service.participations,
            receipts=receipts,
            seen=seen,
        )

    def evidence(self) -> bytes | None:
        """The signed plan, or manifest, that has shown the last state of the population's ledger; None: none has.

        Raises:
            IntegrityError: as `spending`.
        """
        service = require(self.service)
        with OwnLedger(self.store, service) as ledger:
            return ledger.seen_payload(service.population)

    def _contributor(self, service: Service, ledger: OwnLedger, number: int, asked: SignedPlan) -> Contributor:
        """The contributor, as in simulations, for this user's history or their answers to a survey."""
        self._check_consent(asked.plan)
        histories, catalogue = self._histories(asked.plan)
        self.models.see(service, ledger)
        key, floors, clock = service.public_key, service.floors, self.store.clock
        pinned = service.pinned
        return Contributor(
            histories, [number], OneDevice(ledger), key, floors, clock, catalogue=catalogue, pinned=pinned
        )

    def _histories(self, plan: RoundPlan) -> tuple[Histories, str]:
        """The history, or answers, to contribute from, which is read after the charge; and its catalogue's hash."""
        if plan.algorithm == ANALYTICS:
            survey = survey_of(plan)
            return OwnAnswers(self.store, survey, self.calendar), catalogue_hash(survey.questions())
        current = self.models.current()
        if current is None:
            raise RefusedError("this device has no model yet, so that it doesn't know the catalogue")
        return OwnHistory(Interests(self.store, current.items, self.weighting)), current.catalogue.hash

    def _check_consent(self, plan: RoundPlan) -> None:
        """Refuse a plan for a purpose that the user doesn't agree to now, or once they have asked to leave."""
        with Journal(self.store.file) as journal:
            if journal.read_secret(LEAVING) is not None:
                raise RefusedError("this device has asked its server to delete it, and takes part in nothing more")
            if journal.read_secret(MOVED) is not None:
                raise RefusedError(
                    "this installation has moved to another device, or is a copy, and takes part in nothing more"
                )
        purpose = purpose_of(plan)
        if not self.consent.get(purpose):
            raise RefusedError(f"the user has not agreed, or no longer agrees, to take part in {_SAID[purpose]}")

    def _note(self, plan: RoundPlan, what: str, data: bytes) -> None:
        """Record in the journal what is about to be sent. No statement for an erasure can be made meanwhile."""
        dp = plan.dp.value if plan.events is None else EVENTS
        sent = Sent(what, dp, plan.run, plan.round, plan.attempt, len(data), self.store.clock())
        with Journal(self.store.file) as journal, self.store.file.there():
            journal.record(sent)

    @contextmanager
    def _refuse_on_error(self) -> Iterator[None]:
        """Turn any error into a refusal, and record its reason for the user."""
        self.refusal = ""
        try:
            yield
        except Exception as error:
            self.refusal = reason_of(error)
            note_refusal(self.store, "plan", self.refusal)


def _check_size(service: Service, plan: bytes, model: bytes = b"", directory: bytes = b"") -> None:
    """Refuse a plan, model or directory that is too large, before it is parsed."""
    for name, data in (("plan", plan), ("model", model), ("directory", directory)):
        if len(data) > service.most_bytes:
            raise RefusedError(f"a {name} must be at most {service.most_bytes} bytes, got {len(data)}")
