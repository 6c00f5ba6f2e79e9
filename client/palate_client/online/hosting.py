"""Hosting: passes a server's messages to the app's device.

    ServerMessage -> OwnHost -> Rounds.wanted_model -> model: downloaded by the hash in the plan
                             -> Rounds.contribute, Rounds.join -> the answer's bytes

`Rounds` refuses an invalid plan and records the reason on the device; the server doesn't learn it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from palate_client.consent import Purpose
from palate_client.online.retry import SyncEnd
from palate_client.rounds.participation import Masked, Rounds
from palate_client.rounds.purposes import purpose_of
from palate_client.store.journal import note_refusal, reason_of
from palate_client.store.store import EventStore
from palate_common.records.closing import Closing
from palate_common.rounds.exchange import MessageKind, ServerMessage
from palate_common.rounds.wire import REFUSED
from palate_core.masks.messages import Step, step_of
from palate_core.plan import read_plan


@dataclass(frozen=True)
class _Given:
    """The answer to the latest message, and what else is to be as it was when a server asks the same again."""

    kind: MessageKind
    body: bytes
    answer: bytes
    purpose: Purpose | None
    last: bool


class OwnHost(Closing):
    """What answers a server's messages: this app's one installation.

    Args:
        store: the device's store.
        rounds: answers plans.
        number: the installation's number, from its enrolment.
        model_of: downloads the model file of a hash; returns a `SyncEnd` if the sync ends meanwhile.

    Attributes:
        over: why the sync ended before a message could be answered; None: it didn't.
        purpose: what the current answer, or download, is for; None: a refusal, or what needs no consent of its own.
        needs: seconds that the device must have left to take the present plan.
        left: returns the seconds that it has left.
        under_way: whether it is in an attempt that it hasn't finished.
        last: whether its present answer is the last one of its attempt.
        begun: attempts that it began.
        rounds: attempts that it took part in to their end.
        refused: messages that it refused.
    """

    def __init__(
        self,
        store: EventStore,
        rounds: Rounds,
        number: int,
        model_of: Callable[[str], bytes | SyncEnd],
    ) -> None:
        self.begun = self.rounds = self.refused = 0
        self.needs, self.left = 0.0, _for_ever
        self.under_way = self.last = False
        self.over: SyncEnd | None = None
        self._store, self._rounds, self._number = store, rounds, number
        self._model_of = model_of
        self._kept = "", b""
        self._given: _Given | None = None
        self._counted = False
        self._machine: Masked | None = None
        self._plan = b""
        self._plan_purpose: Purpose | None = None
        self.purpose: Purpose | None = None

    def is_agreed(self) -> bool:
        """Whether the user agrees, now, to what the answer or download that is under way is for."""
        return self.purpose is None or self._rounds.consent.get(self.purpose)

    def close(self) -> None:
        """Leave the masked attempt, if it is in one."""
        machine, self._machine, self._plan = self._machine, None, b""
        if machine is not None:
            machine.close()

    def has_answered(self, message: ServerMessage) -> bool:
        """Whether its latest answer is to such a message, whatever the name of the exchange is."""
        return self._given is not None and (message.kind, message.body) == (self._given.kind, self._given.body)

    @property
    def has_refused(self) -> bool:
        """Whether its latest answer is a refusal."""
        return self._given is not None and self._given.answer == REFUSED

    def reply_to(self, message: ServerMessage) -> bytes:
        """The answer to a message. The same message again gets the same bytes, and nothing is computed.

        If the sync ends meanwhile, `over` is set, and the returned bytes must not be sent.
        """
        given = self._given
        if given is not None and self.has_answered(message):  # the server has lost its answer
            self.under_way, self.purpose, self.last = given.answer != REFUSED, given.purpose, given.last
            return given.answer
        self._given, self._counted, self.purpose, self.needs = None, False, None, message.seconds
        plan, directory, request = message.parts
        if message.kind is MessageKind.PLAN:
            answer = self.answer(plan)
        elif message.kind is MessageKind.MASKED:
            answer = self.join(plan, directory, request)
        else:
            answer = self.go_on(request)
        self._given = _Given(message.kind, message.body, answer, self.purpose, self.last)
        return answer

    def answer(self, plan: bytes) -> bytes:
        """A contribution's bytes, or the constant refusal; its model is downloaded."""
        found = self._model(plan)
        if self.over:
            return REFUSED
        ready = found is not None and self._has_time()
        answer = self._rounds.contribute(plan, found, self._number) if ready and found is not None else REFUSED
        purpose = None if answer == REFUSED else purpose_of(read_plan(plan).plan)
        return self._count(answer, purpose, begins=answer != REFUSED, last=True)

    def join(self, plan: bytes, directory: bytes, request: bytes) -> bytes:
        """Take part in a masked attempt, as `answer`. For the same plan again the same state machine answers."""
        begins = self._machine is None or self._plan != plan
        if begins:
            self.close()
            found = self._model(plan)
            if self.over:
                return REFUSED
            if found is None or not self._has_time():
                return self._count(REFUSED, None)
            self._machine, self._plan = self._rounds.join(plan, found, directory, self._number), plan
            self._plan_purpose = purpose_of(read_plan(plan).plan)
        charged = begins and self._machine is not None  # whatever it answers to the request
        return self._count(self._next(request), self._plan_purpose, begins=charged)

    def go_on(self, request: bytes) -> bytes:
        """Answer a later request."""
        answer = self._next(request)
        last = answer != REFUSED and step_of(request) is Step.UNMASK
        return self._count(answer, self._plan_purpose, last=last)

    def note_delivery(self, taken: str) -> None:
        """Note what became of the present answer: of the last one of an attempt that the server has, a round.

        Args:
            taken: "yes" or "twice"; "late": the attempt goes on without this device, if it isn't asked again.
        """
        if taken == "late":
            self.under_way = False
        elif self.last:
            self.rounds += not self._counted
            self._counted = True
            self.under_way = self.last = False

    def _has_time(self) -> bool:
        """Whether the device has time for the present plan: before it is charged, and before anything is fetched."""
        if self.needs <= (left := self.left()) and left > 0:
            return True
        reason = f"a plan needs a device that has {self.needs:.0f} s for it, and this sync ends in {left:.0f} s"
        note_refusal(self._store, "plan", reason)
        return False

    def _model(self, plan: bytes) -> bytes | None:
        """The model that a plan starts from; the latest one is kept, for another attempt at its round.

        Nothing is fetched for a plan that is refused.
        """
        name = self._rounds.wanted_model(plan) if self._has_time() else None
        if name is not None and self._kept[0] != name:
            self.purpose = purpose_of(read_plan(plan).plan)
            found = self._fetch(name)
            if found is None:
                return None
            self._kept = name, found
        return None if name is None else self._kept[1]

    def _fetch(self, name: str) -> bytes | None:
        """The model of a hash; None if it can't be fetched, which is noted, or if the sync ends meanwhile."""
        try:
            found = self._model_of(name)
        except Exception as error:
            note_refusal(self._store, "plan", reason_of(error))
            return None
        if isinstance(found, SyncEnd):
            self.over = found
            return None
        return found

    def _next(self, request: bytes) -> bytes:
        """The state machine's answer."""
        if self._machine is None:
            return REFUSED
        answer = self._machine.answer(request)
        if answer == REFUSED:
            note_refusal(self._store, "request", self._machine.refusal)
        return answer

    def _count(self, answer: bytes, purpose: Purpose | None, *, begins: bool = False, last: bool = False) -> bytes:
        """Keep count, and what the answer is for."""
        self.under_way = answer != REFUSED
        self.purpose, self.last = (purpose, last) if self.under_way else (None, False)
        self.refused += answer == REFUSED
        self.begun += begins
        return answer


def _for_ever() -> float:
    return math.inf
