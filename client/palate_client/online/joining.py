"""Online: how a device enrols at its server and takes part in its rounds by itself. That part of `palate.Device`.

    device.enroll(invitation)                       # once
    result = device.sync(seconds=300)               # now and then, in a thread of the app's
    syncing = device.sync_in_background()           # or in a thread of its own

What talks to the server is imported when it is first used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from palate_client.consent import agreed
from palate_client.sharing import Sharing
from palate_common.errors import InputError, RefusedError

if TYPE_CHECKING:
    from palate_client.device import Device
    from palate_client.online.enrolment import Enrolment
    from palate_client.online.https import Address
    from palate_client.online.policy import Policy
    from palate_client.online.retry import Stop
    from palate_client.online.sync import SyncResult
    from palate_common.enrolment import Invitation


class Syncing:
    """A sync in a thread of its own. The thread is a daemon: it never holds up the host's exit.

    Attributes:
        result: what became of it; None: it isn't over.
    """

    def __init__(self, run: Callable[[threading.Event], SyncResult]) -> None:
        self.result: SyncResult | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(run,), name="palate-sync", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> SyncResult | None:
        """Wait until it is over; None: it isn't yet.

        Args:
            seconds: the most that is waited; None: as long as it takes, which is bounded.
        """
        self._thread.join(seconds)
        return self.result

    def _run(self, run: Callable[[threading.Event], SyncResult]) -> None:
        """The thread."""
        self.result = run(self._stop)


class Online(Sharing):
    """A device that talks to its server."""

    def enroll(self, invitation: Invitation | str) -> Enrolment:
        """Become a device of the service's population; asked again, it goes on.

        Needs the user's consent to `train` or `analytics`.

        Args:
            invitation: what the operator issued for this installation, or its JSON. It works once.

        Raises:
            InputError: it is no invitation, or another service's.
            RefusedError: the user has agreed to neither, or the server doesn't accept the invitation.
            UnreachableError: the server can't be reached. Try again with the same invitation.
        """
        from palate_client.online.enrolment import enroll

        invited = self._invited(invitation)
        if not agreed(self.consent):
            raise RefusedError("the user has not agreed to take part in training")
        return enroll(self.store, invited, self._shared[1].identity())

    @property
    def enrolment(self) -> Enrolment | None:
        """Where this device is enrolled; None: nowhere."""
        from palate_client.online.enrolment import enrolment_of

        return enrolment_of(self.store)

    def sync(
        self,
        *,
        seconds: float = 600.0,
        stop: Stop | None = None,
        policy: Policy | None = None,
        poll_seconds: float = 2.0,
        models_only: bool = False,
        invitation: Invitation | str | None = None,
    ) -> SyncResult:
        """Be online for a while: take the newest model into use, and answer the server's rounds.

        Runs in the thread that calls it. Nothing touches the network without the user's consent to `train` or
        `analytics`, unless the app asks for the model alone: a download of what is public, of which the server learns
        an address and a time, and which model the device had where it takes a delta.

        Args:
            seconds: the most it takes, apart from a look-up of the server's name.
            stop: says whether to end now, or a `threading.Event`; it is looked at four times a second.
            policy: what must hold for as long as it is online.
            poll_seconds: the shortest time between two looks for messages; it grows up to four times.
            models_only: take the newest model into use and leave, whatever the user agreed to. No key of this device is
                shown, and no round is answered.
            invitation: with `models_only`, where the server is, for a device that isn't enrolled. It stays unused.

        Returns:
            What became of it. Only a mistake in the arguments raises.

        Raises:
            InputError: an argument that makes no sense.
        """
        from palate_client.online.sync import sync

        return sync(
            cast("Device", self),
            seconds=seconds,
            stop=stop,
            policy=policy,
            poll_seconds=poll_seconds,
            models_only=models_only,
            server=self._server(invitation, models_only=models_only),
        )

    def sync_in_background(
        self,
        *,
        seconds: float = 600.0,
        policy: Policy | None = None,
        poll_seconds: float = 2.0,
        models_only: bool = False,
        invitation: Invitation | str | None = None,
    ) -> Syncing:
        """The same in a daemon thread, for an app that has none of its own to give."""
        from palate_client.online.sync import check, sync

        check(seconds=seconds, poll_seconds=poll_seconds, stop=None)
        server = self._server(invitation, models_only=models_only)
        return Syncing(
            lambda stop: sync(
                cast("Device", self),
                seconds=seconds,
                stop=stop,
                policy=policy,
                poll_seconds=poll_seconds,
                models_only=models_only,
                server=server,
            )
        )

    def _server(self, invitation: Invitation | str | None, *, models_only: bool) -> Address | None:
        """The server that an invitation names."""
        from palate_client.online.https import Address

        if invitation is None:
            return None
        if not models_only:
            raise InputError("`invitation` must be left out without `models_only`, got one: `enroll` uses it")
        invited = self._invited(invitation)
        return Address(invited.server, invited.port, invited.ca)

    def _invited(self, invitation: Invitation | str) -> Invitation:
        """An invitation of the service's."""
        from palate_common.enrolment import Invitation as Read

        invited = invitation if isinstance(invitation, Read) else Read.from_json(invitation)
        if self.service is None:
            raise InputError("`service` must be given to `palate.open`: an invitation alone is no reason for trust")
        for name in ("public_key", "population"):
            expected, got = getattr(self.service, name), getattr(invited, name)
            if expected != got:
                raise InputError(f"the invitation's {name} must be the service's, {expected:.16}, got {got:.16}")
        return invited
