"""Sync: a device is online for a bounded time, in the calling thread.

    consent -> policy -> newest model -> (ask -> answer)* -> leave
    models_only: policy -> newest model -> leave

It opens no port, starts no process, installs no signal handler, and never ends its host: every error becomes a
`SyncResult`. It doesn't use the network without the user's consent to `train` or `analytics`, except to download the
newest model if the app asks for that. Which of the two a plan needs is checked when it arrives.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from palate_client.models import Models
from palate_client.online import downloads
from palate_client.online.enrolment import Enrolment, enrolment_of
from palate_client.online.exchange import LEAVE_SECONDS, AnswerBack, Exchanges, Reply
from palate_client.online.hosting import OwnHost
from palate_client.online.https import Address, Https, RejectedError, StoppedError
from palate_client.online.policy import Policy
from palate_client.online.retry import GRACE_SECONDS, Deadline, Ended, SyncEnd
from palate_client.rounds.participation import Rounds
from palate_client.service import Service
from palate_client.store.journal import Contact, Journal, reason_of
from palate_client.store.store import EventStore
from palate_common.enrolment import Invitation
from palate_common.rounds.exchange import SURVEYS, TRAINING, Availability, MessageKind
from palate_core.errors import InputError, IntegrityError, LockedError, PalateError, RefusedError, UnreachableError

logger = logging.getLogger("palate")

turns: AbstractContextManager[object] = nullcontext()
"""Entered while an answer is computed: a process of many devices, for load tests, lets few compute at a time."""


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """The options of a sync; each is described at `Device.sync`.

    Raises:
        InputError: a member is invalid.
    """

    seconds: float
    policy: Policy | None
    poll_seconds: float
    models_only: bool
    invitation: Invitation | str | None

    def __post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("poll_seconds", self.poll_seconds)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InputError(f"`{name}` must be a number of seconds above 0, got {value!r:.80}")
        if self.invitation is not None and not self.models_only:
            raise InputError("`invitation` must be left out without `models_only`, got one: `enroll` uses it")


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """The result of a sync.

    Attributes:
        ended: why it ended, see `docs/sdk-rounds.md`.
        reason: details, for the user and the log.
        model: whether a newer model was taken into use.
        rounds: attempts that the device took part in to their end.
        dropped: attempts that it was charged for, and left before it saw their end.
        refused: messages that it refused.
        next: seconds after which the server wants the device to sync again; None: it didn't say.
        requests: number of HTTP requests.
        exchanges: number of messages that were answered.
        sent: bytes that were sent.
        received: bytes that were received.
        seconds: its duration.
    """

    ended: Ended
    reason: str = ""
    model: bool = False
    rounds: int = 0
    dropped: int = 0
    refused: int = 0
    next: float | None = None
    requests: int = 0
    exchanges: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0


@dataclass
class Session:
    """One sync of a device.

    Attributes:
        store: the encrypted events and the files beside them.
        service: the server that the app trusts; None: there is none.
        models: the model in use.
        rounds: answers plans.
        deadline: decides when it ends.
        poll_seconds: the pause after a request that found no message, where the server doesn't wait for one.
        result: its result so far.
    """

    store: EventStore
    service: Service | None
    models: Models
    rounds: Rounds
    deadline: Deadline
    poll_seconds: float
    result: SyncResult = field(default_factory=partial(SyncResult, ended="failed"), init=False)

    def run(self, work: Callable[[], SyncEnd]) -> SyncResult:
        """Run `take_part` or `fetch`, and record and return the result; it raises no error."""
        begun = time.monotonic()
        over = _run_to_end(work)
        self.result = replace(
            self.result, ended=over.ended, reason=over.reason, next=over.next, seconds=time.monotonic() - begun
        )
        _note(self.store, self.result)
        logger.info("sync ended: %s %s", self.result.ended, self.result.reason)
        return self.result

    def take_part(self) -> SyncEnd:
        """Take the newest model into use and answer rounds, if the device is enrolled."""
        if over := self.deadline.over():
            return over
        ready = self._ready()
        if isinstance(ready, SyncEnd):
            return ready
        with self.store.file.alone_online():
            return self._online(*ready)

    def fetch(self, server: Address | None) -> SyncEnd:
        """Take the newest model into use, from this server, or from where the device is enrolled."""
        if over := self.deadline.over():
            return over
        service = self.service
        if server is None or service is None:
            ready = self._ready()
            if isinstance(ready, SyncEnd):
                return ready
            server, service = ready[0].address, ready[1]
        https = Https(server, until=lambda: self.deadline.until, stop=self.deadline.stopped)
        with self.store.file.alone_online(), https:
            try:
                without = self._update_model(https, service)
                return without if isinstance(without, SyncEnd) else SyncEnd("model", without)
            finally:
                self.result = replace(self.result, requests=https.requests, sent=https.sent, received=https.received)

    def _ready(self) -> tuple[Enrolment, Service] | SyncEnd:
        """The enrolment and the service, if they fit."""
        enrolment, service = enrolment_of(self.store), self.service
        if enrolment is None or service is None:
            return SyncEnd("not enrolled", "this device must be enrolled first, and its app have a service")
        keys = (service.began_with, service.public_key)
        if enrolment.public_key not in keys or enrolment.population != service.population:
            return SyncEnd("not enrolled", "this device must be enrolled with its app's service, and is with another")
        return enrolment, service

    def _online(self, enrolment: Enrolment, service: Service) -> SyncEnd:
        """Connect, answer rounds and sign off; why it ended."""
        with Https(enrolment.address, until=lambda: self.deadline.until, stop=self.deadline.stopped) as https:
            exchanges = Exchanges(
                https,
                enrolment.device,
                enrolment.population,
                enrolment.path,
                self.rounds.identity(),
                most=service.most_bytes,
                declares=self._availability,
            )

            def model_of(name: str) -> bytes | SyncEnd:
                return self._round_model(https, service.most_bytes, name, host)

            with OwnHost(self.store, self.rounds, enrolment.device, model_of) as host:
                over = _run_to_end(lambda: self._answer(https, exchanges, host, service))
            if not over.quiet:
                https.say_farewell(seconds=LEAVE_SECONDS)
                exchanges.leave()
            self.result = replace(
                self.result,
                rounds=host.rounds,
                dropped=host.begun - host.rounds,
                refused=host.refused,
                requests=https.requests,
                exchanges=exchanges.answered,
                sent=https.sent,
                received=https.received,
            )
            return over

    def _availability(self) -> Availability:
        """For how long this device takes plans now, and for what: the server draws it for nothing else."""
        agreed = self.rounds.consent.get
        return Availability(self.deadline.stays(), TRAINING * agreed("train") + SURVEYS * agreed("analytics"))

    def _answer(self, https: Https, exchanges: Exchanges, host: OwnHost, service: Service) -> SyncEnd:
        """Update the model, go online, and answer messages until there is a reason to end.

        An answer and the next message are one request, which waits at the server; it is sent again until the server
        replies. A plan is taken only with time left for it. An attempt that has begun is finished, at most
        `GRACE_SECONDS` after the sync's time, unless the app, the user or the policy end it.
        """
        without = self._update_model(https, service)
        if isinstance(without, SyncEnd):
            return without
        if self.rounds.at_limit():
            return SyncEnd("spent", "the user's limits are reached")
        host.left = self.deadline.stays
        deadline, answer = self.deadline, AnswerBack()
        while True:
            began = time.monotonic()
            found = deadline.retry(partial(self._ask, exchanges, answer, host))
            if isinstance(found, SyncEnd):
                return found
            if found.taken:
                host.note_delivery(found.taken)
            deadline.grace = GRACE_SECONDS if host.under_way else 0.0
            answer, message = AnswerBack(), found.message
            if message is not None and message.kind is MessageKind.COME_BACK:
                return SyncEnd("come back", next=message.seconds)
            news = message is not None and not host.has_answered(message)
            quick = time.monotonic() - began < self.poll_seconds
            # What is refused is soon computed: a server could else have as many signatures as its line carries.
            if (not news or host.has_refused) and quick and (over := deadline.pause(self.poll_seconds)):
                return over
            if message is not None:
                with turns:
                    answer = AnswerBack(message.exchange, host.reply_to(message))
                if host.over:
                    return host.over
                deadline.grace = GRACE_SECONDS if host.under_way else 0.0

    def _ask(self, exchanges: Exchanges, answer: AnswerBack, host: OwnHost) -> Reply | SyncEnd:
        """Send an answer, while the user agrees to what it is for, and wait for the next message."""
        answers = host if answer.exchange else None
        # After the last answer of an attempt nothing is left to finish.
        left = self.deadline.stays() if answers and host.last else self.deadline.end - time.monotonic()
        try:
            return exchanges.ask(answer, wait=left - self.poll_seconds, over=partial(self._is_over, answers))
        except StoppedError:
            if answers and not host.is_agreed():
                return _REVOKED
            raise

    def _is_over(self, host: OwnHost | None = None) -> bool:
        """Whether to wait no longer; with `host`, also whether the user no longer agrees to what it answers."""
        return self.deadline.over() is not None or (host is not None and not host.is_agreed())

    def _update_model(self, https: Https, service: Service) -> str | SyncEnd:
        """Take the newest model into use; otherwise the reason why not, and the model in use stays."""
        manifest = self.deadline.retry(partial(downloads.latest, https))
        if isinstance(manifest, SyncEnd):
            return manifest
        with Journal(self.store.file) as journal:
            used = journal.editions()[-1:]
        if manifest is None or (used and used[0].manifest == manifest):
            return "the server has no model yet" if manifest is None else ""
        try:
            with self.models.noting_refusals():
                found = downloads.model(
                    https,
                    manifest,
                    public_key=service.public_key,
                    most=service.most_bytes,
                    again=self.deadline.retry,
                    have=self.models.in_use(),
                )
                if isinstance(found, SyncEnd):
                    return found
                self.result = replace(self.result, model=self.models.take(found))
        except (UnreachableError, IntegrityError, RefusedError) as error:
            logger.info("the newest model is not used: %s", error)
            return reason_of(error)
        return ""

    def _round_model(self, https: Https, most: int, name: str, host: OwnHost) -> bytes | SyncEnd:
        """The model that a plan names, downloaded while the user agrees to what it is for."""
        over = partial(self._is_over, host)
        found = self.deadline.retry(partial(downloads.round_model, https, name, most=most, over=over))
        return _REVOKED if isinstance(found, SyncEnd) and not host.is_agreed() else found


_REVOKED = SyncEnd("no consent", "the user no longer agrees to what an answer is for")


def _run_to_end(work: Callable[[], SyncEnd]) -> SyncEnd:
    """Run a function; an error becomes a `SyncEnd`."""
    try:
        return work()
    except RejectedError as error:
        return SyncEnd("rejected", reason_of(error))
    except LockedError as error:
        return SyncEnd("busy", reason_of(error))
    except Exception as error:
        logger.debug("sync failed", exc_info=True)
        return SyncEnd("failed", reason_of(error))


def _note(store: EventStore, result: SyncResult) -> None:
    """Record a contact with the server in the journal. A failure to write it is only logged."""
    if not result.requests:
        return
    counts = (result.rounds, result.refused, result.sent, result.received)
    try:
        with Journal(store.file) as journal:
            journal.meet(Contact(store.clock(), result.ended, result.reason, *counts))
    except (PalateError, OSError) as error:
        logger.warning("a contact with the server was not noted: %s", error)
