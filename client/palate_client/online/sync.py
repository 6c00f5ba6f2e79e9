"""Sync: a device online, for a bounded time, in the thread that calls it.

    consent -> policy -> newest model -> activate -> (pull -> answer -> push)* -> leave
    models_only: policy -> newest model -> leave

It opens no port, starts no process, installs no signal handler, and never ends its host: whatever happens becomes a
`SyncResult`. Nothing touches the network without the user's consent to `train` or `analytics`, but a download of the
newest model that the app asks for. What a plan needs of the two is asked when it comes.

    result = device.sync(seconds=300, policy=palate.Policy(charging=power.is_charging))
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Never

from palate_client.consent import agreed
from palate_client.online import downloads
from palate_client.online import enrolment as enrolling
from palate_client.online.flower_wire import LEAVE_SECONDS, Fleet
from palate_client.online.hosting import OwnHost
from palate_client.online.https import Address, Https, RejectedError, StoppedError
from palate_client.online.policy import Policy
from palate_client.online.retry import Ended, OverError, Patience, Stop
from palate_client.rounds.dispatch import COME_BACK, QUERY, answered
from palate_client.rounds.participation import OwnLedger, reason_of
from palate_client.store.journal import Contact, Journal
from palate_common.errors import InputError, IntegrityError, LockedError, PalateError, RefusedError, UnreachableError
from palate_common.records.canonical import digest
from palate_common.secagg.directory import Directory

if TYPE_CHECKING:
    from palate_client.device import Device
    from palate_client.online.enrolment import Enrolment
    from palate_client.online.flower_messages import Asked
    from palate_client.service import Service

logger = logging.getLogger("palate")

POLL_GROWTH, POLL_RANGE = 1.5, 4.0
"""A look that finds nothing makes the next one wait this much longer, up to so many times the shortest."""
RHYTHM = 0.6
"""Share of the time that the latest message took to come, after which a device looks for the next one."""
MOST_COME_BACK = 30 * 86400.0


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What became of a sync.

    Attributes:
        ended: why it ended, see `docs/sdk.md`.
        reason: more about it; for the user and the log.
        model: whether a newer model was taken into use.
        rounds: attempts that the device took part in.
        refused: messages that it refused.
        next: seconds after which the server wants to see it again; None: it didn't say.
        requests: HTTP requests.
        exchanges: messages that were answered.
        sent: bytes that went out.
        received: bytes that came in.
        seconds: how long it took.
    """

    ended: Ended
    reason: str = ""
    model: bool = False
    rounds: int = 0
    refused: int = 0
    next: float | None = None
    requests: int = 0
    exchanges: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0


def check(*, seconds: float, poll_seconds: float, stop: Stop | None) -> None:
    """Refuse arguments that make no sense."""
    for name, value in (("seconds", seconds), ("poll_seconds", poll_seconds)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InputError(f"`{name}` must be a number of seconds above 0, got {value!r:.80}")
    if stop is not None and not isinstance(stop, threading.Event) and not callable(stop):
        raise InputError(f"`stop` must be a function or a threading.Event, got {stop!r:.80}")


def sync(
    device: Device,
    *,
    seconds: float = 600.0,
    stop: Stop | None = None,
    policy: Policy | None = None,
    poll_seconds: float = 2.0,
    models_only: bool = False,
    server: Address | None = None,
) -> SyncResult:
    """Be online with a device, see `Device.sync`; `server` is for a device that isn't enrolled."""
    check(seconds=seconds, poll_seconds=poll_seconds, stop=stop)
    begun = time.monotonic()
    consents = partial(bool, True) if models_only else partial(agreed, device.consent)
    patience = Patience(seconds=seconds, stop=stop, policy=policy or Policy(), consents=consents)
    session = _Session(device, patience, poll_seconds)
    over = session.run(partial(session.fetch, server) if models_only else session.take_part)
    result = replace(
        session.result, ended=over.ended, reason=over.reason, next=over.next, seconds=time.monotonic() - begun
    )
    _note(device, result)
    logger.info("sync ended: %s %s", result.ended, result.reason)
    return result


class _Session:
    """One sync."""

    def __init__(self, device: Device, patience: Patience, poll_seconds: float) -> None:
        self.result = SyncResult(ended="failed")
        self._device, self._patience, self._poll = device, patience, poll_seconds

    def run(self, work: Callable[[], str]) -> OverError:
        """Do it; how it ended, whatever happens. What comes to an end by itself is a model, or why there is none."""
        try:
            return OverError("model", work())
        except OverError as over:
            return over
        except StoppedError:
            return OverError("stopped")
        except RejectedError as error:
            return OverError("rejected", reason_of(error))
        except LockedError as error:
            return OverError("busy", reason_of(error))
        except Exception as error:
            logger.debug("sync failed", exc_info=True)
            return OverError("failed", reason_of(error))

    def take_part(self) -> Never:
        """Where the device is enrolled."""
        self._patience.look()
        enrolment, service = self._ready()
        with self._device.store.file.alone_online():
            raise self._online(enrolment, service)

    def fetch(self, server: Address | None) -> str:
        """The newest model alone, from this server, or from where the device is enrolled."""
        self._patience.look()
        patience, service = self._patience, self._device.service
        if server is None or service is None:
            enrolment, service = self._ready()
            server = enrolment.address
        https = Https(server, until=patience.until, stop=patience.stopped)
        with self._device.store.file.alone_online(), https:
            try:
                return self._update_model(https, service)
            finally:
                self.result = replace(self.result, requests=https.requests, sent=https.sent, received=https.received)

    def _ready(self) -> tuple[Enrolment, Service]:
        """Where to, and with whose rules."""
        enrolment, service = enrolling.enrolment_of(self._device.store), self._device.service
        if enrolment is None or service is None:
            raise OverError("not enrolled", "this device must be enrolled first, and its app have a service")
        if (enrolment.public_key, enrolment.population) != (service.public_key, service.population):
            raise OverError("not enrolled", "this device must be enrolled with its app's service, and is with another")
        return enrolment, service

    def _online(self, enrolment: Enrolment, service: Service) -> OverError:
        """With the network; how it ended."""
        with Https(enrolment.address, until=self._patience.until, stop=self._patience.stopped) as https:
            fleet = Fleet(https, enrolment.key, most=service.most_bytes)
            with OwnHost(self._device, enrolment.device, partial(self._directory, https, service.most_bytes)) as host:
                over = self.run(lambda: self._answer_rounds(https, fleet, host, enrolment, service))
            if not over.quiet:
                https.say_farewell(seconds=LEAVE_SECONDS)
                fleet.leave()
            self.result = replace(
                self.result,
                rounds=host.rounds,
                refused=host.refused,
                requests=https.requests,
                exchanges=fleet.exchanges,
                sent=https.sent,
                received=https.received,
            )
            return over

    def _answer_rounds(
        self, https: Https, fleet: Fleet, host: OwnHost, enrolment: Enrolment, service: Service
    ) -> Never:
        """Model, activation, rounds."""
        self._update_model(https, service)
        self._check_limits(service)
        node = self._patience.again(partial(fleet.activate, earlier=enrolment.node))
        enrolling.came_online(self._device.store, enrolment, node)
        self._answer(fleet, host)

    def _answer(self, fleet: Fleet, host: OwnHost) -> Never:
        """Answer what is asked until there is a reason to end.

        The next message comes when the others have answered, too. How long that took last time says when to look again:
        each look costs the server some milliseconds. A device that computes for long announces that it will be silent:
        the server counts it as gone after twice the time that its longest answer took, and a minute at least.
        """
        wait, rhythm, answered_at, computed = self._poll, self._poll, 0.0, 0.0
        while True:
            self._patience.look()
            asked = self._pulled(fleet)
            if asked is None:
                self._patience.pause(wait)
                wait = min(wait * POLL_GROWTH, self._poll * POLL_RANGE)
                continue
            if answered_at:
                lull = (asked.pulled - answered_at) * RHYTHM
                rhythm = min(max(self._poll, lull), self._poll * POLL_RANGE * 2)
            self._patience.again(partial(fleet.beat, silent=computed))
            began = time.monotonic()
            reply = fleet.reply(asked, answered(host, 0, asked.kind, asked.record))
            computed = max(computed, time.monotonic() - began)
            self._patience.look()  # consent or policy may have changed while it was computed
            try:
                self._patience.again(reply.go_on)
            except RejectedError as error:
                logger.info("an answer came too late: %s", error)
            if (seconds := _come_back(asked)) is not None:
                raise OverError("come back", next_=seconds)
            wait, answered_at = self._poll, time.monotonic()
            self._patience.pause(rhythm)

    def _pulled(self, fleet: Fleet) -> Asked | None:
        """The next message. One that can't be read, or whose run has ended, is lost: it is handed over once."""
        again = self._patience.again
        again(fleet.beat)
        try:
            notice = again(fleet.pull)
            return None if notice is None else again(partial(fleet.take, notice))
        except IntegrityError as error:
            logger.info("a message was not one: %s", error)
        except RejectedError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            logger.info("a message came too late: %s", error)
        return None

    def _update_model(self, https: Https, service: Service) -> str:
        """Take the newest model into use; why not. One that can't be had or doesn't verify leaves the one in use."""
        manifest = self._patience.again(partial(downloads.latest, https))
        with Journal(self._device.store.file) as journal:
            used = journal.editions()[-1:]
        if manifest is None or (used and used[0].manifest == manifest):
            return "the server has no model yet" if manifest is None else ""
        key, most, again = service.public_key, service.most_bytes, self._patience.again
        get = partial(downloads.model, https, manifest, public_key=key, most=most, again=again)
        try:
            self.result = replace(self.result, model=self._device._take(lambda models: get(have=models.in_use())))
        except (UnreachableError, IntegrityError, RefusedError) as error:
            logger.info("the newest model is not used: %s", error)
            return reason_of(error)
        return ""

    def _check_limits(self, service: Service) -> None:
        """A device that may not take part any more needn't check in."""
        with OwnLedger(self._device.store, service) as ledger:
            rounds, spent = len(ledger.receipts(0)), ledger.spent(0)
        if rounds >= service.participations or spent >= service.limit_mu2:
            raise OverError("spent", "the user's limits are reached")

    def _directory(self, https: Https, most: int, name: str) -> Directory:
        """The directory of a plan: kept, or fetched. It stays the same for many rounds."""
        with Journal(self._device.store.file) as journal:
            data = journal.kept("directory")
        if data is None or digest(data) != name:
            data = self._patience.again(partial(downloads.directory, https, name, most=most))
            with Journal(self._device.store.file) as journal:
                journal.keep("directory", data)
        return Directory.from_json(data)


def _come_back(asked: Asked) -> float | None:
    """When the server wants to see this device again; None: it doesn't send it away."""
    seconds = (asked.record or {}).get(COME_BACK)
    if asked.kind != QUERY or isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        return None
    return min(float(seconds), MOST_COME_BACK)


def _note(device: Device, result: SyncResult) -> None:
    """Write a contact into the journal; that it can't be written is no reason to fail."""
    if not result.requests:
        return
    counts = (result.rounds, result.refused, result.sent, result.received)
    try:
        with Journal(device.store.file) as journal:
            journal.meet(Contact(device.store.clock(), result.ended, result.reason, *counts))
    except (PalateError, OSError) as error:
        logger.warning("a contact with the server was not noted: %s", error)
