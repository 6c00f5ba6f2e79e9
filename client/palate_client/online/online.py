"""Online: the part of a device that enrols at its server and syncs with it: `Device.online`.

Invitation -> enroll -> Enrolment
SyncOptions -> Session -> SyncResult, in the app's thread or in one of its own
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from palate_client.consent import Consent, agrees_to_online
from palate_client.models import Models
from palate_client.online.enrolment import Enrolment, enroll, enrolment_of, leave
from palate_client.online.https import Address
from palate_client.online.policy import Policy
from palate_client.online.retry import Deadline, Stop
from palate_client.online.sync import Session, SyncOptions, SyncResult
from palate_client.rounds.participation import Rounds
from palate_client.service import Service, require
from palate_client.store.store import EventStore
from palate_common.enrolment import Invitation
from palate_core.errors import InputError, PalateError, RefusedError


class Syncing:
    """A sync in a thread of its own. The thread is a daemon: it never delays the host's exit.

    Attributes:
        result: the sync's result; None: it isn't over.
    """

    def __init__(self, run: Callable[[threading.Event], SyncResult]) -> None:
        self.result: SyncResult | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(run,), name="palate-sync", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the sync to end; returns at once."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> SyncResult | None:
        """Wait until the sync is over and return its result; None: it isn't over yet.

        Args:
            seconds: the longest wait; None: until it is over; its time is bounded.
        """
        self._thread.join(seconds)
        return self.result

    def _run(self, run: Callable[[threading.Event], SyncResult]) -> None:
        self.result = run(self._stop)


@dataclass(frozen=True)
class Online:
    """A device's connection with its server.

    Attributes:
        store: the encrypted events and the files beside them.
        consent: what the user agreed to.
        service: the server that the app trusts; None: there is none.
        models: the model in use.
        rounds: answers plans.
    """

    store: EventStore
    consent: Consent
    service: Service | None
    models: Models
    rounds: Rounds

    def enroll(self, invitation: Invitation | str) -> Enrolment:
        """See `Device.enroll`."""
        invited = self._check_invitation(invitation)
        if not agrees_to_online(self.consent):
            raise RefusedError("the user has not agreed to take part in training")
        began = require(self.service).began_with  # of all release keys of a population, the one that stays the same
        return self._enroll(invited.model_copy(update={"public_key": began}))

    @property
    def enrolment(self) -> Enrolment | None:
        """See `Device.enrolment`."""
        return enrolment_of(self.store)

    def leave(self, *, seconds: float) -> None:
        """See `Device.leave`."""
        leave(self.store, self.rounds.identity(), seconds=seconds)

    def sync(self, options: SyncOptions, *, stop: Stop | None = None) -> SyncResult:
        """See `Device.sync`."""
        return self._prepare(options)(stop)

    def sync_in_background(self, options: SyncOptions) -> Syncing:
        """See `Device.sync_in_background`."""
        return Syncing(self._prepare(options))

    def _prepare(self, options: SyncOptions) -> Callable[[Stop | None], SyncResult]:
        """Check the options, and return the sync that they describe."""
        server = None
        if options.invitation is not None:
            invited = self._check_invitation(options.invitation)
            server = Address(invited.server, invited.port, invited.ca, invited.path)

        def run(stop: Stop | None) -> SyncResult:
            enrolled = False
            with suppress(PalateError):  # the sync says what is wrong with the store
                self.store.tidy()
                enrolled = self.enrolment is not None
            deadline = Deadline(
                seconds=options.seconds,
                stop=stop,
                policy=options.policy or Policy(),
                consents=lambda: options.models_only or self._takes_part(enrolled=enrolled),
            )
            session = self._session(deadline, options.poll_seconds)
            return session.run(partial(session.fetch, server) if options.models_only else session.take_part)

        return run

    def _enroll(self, invited: Invitation) -> Enrolment:
        return enroll(self.store, invited, self.rounds.identity())

    def _session(self, deadline: Deadline, poll_seconds: float) -> Session:
        return Session(self.store, self.service, self.models, self.rounds, deadline, poll_seconds)

    def _takes_part(self, *, enrolled: bool) -> bool:
        """Whether the user agrees now, and hasn't left a server meanwhile where the device was enrolled."""
        return agrees_to_online(self.consent) and not (enrolled and self.enrolment is None)

    def _check_invitation(self, invitation: Invitation | str) -> Invitation:
        """Read an invitation, and check that it is for the app's service."""
        invited = invitation if isinstance(invitation, Invitation) else Invitation.from_json(invitation)
        if self.service is None:
            raise InputError("`service` must be given to `palate.open`: an invitation alone is no reason for trust")
        self.service.check_invitation(invited)
        return invited
