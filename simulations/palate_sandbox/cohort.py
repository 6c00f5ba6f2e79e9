"""Cohort: who is asked in a round, and how messages reach them in this process, with masks or without.

    without: one plan to all      -> contributions with their share of the noise -> sum
    with:    plan, then each step -> vectors that hide each other                -> sum, and nothing else

With masks a device is its place in the directory of identities. Places are given in the order in which devices come,
and stay: a hosted person's account in the device ledger has the same number.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from palate_client.rounds.contribution import Contributor, Identity
from palate_common.records.closing import Closing
from palate_common.rounds.wire import REFUSED
from palate_core.device.attempt import MaskedDevice
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import step_of
from palate_server.rounds.run import Request, Transport


class AttemptPart(Protocol):
    """A device's part in a masked attempt; `palate_client.rounds.participation.Masked` is one."""

    def answer(self, request: bytes) -> bytes:
        """The answer to one request, or the constant refusal."""

    def close(self) -> None:
        """Leave the attempt."""


class Masking(Protocol):
    """A device that can take part in a masked attempt."""

    def join(self, plan: bytes, model: bytes, directory: Directory) -> AttemptPart | None:
        """Charge the attempt, and begin; None: it refuses."""


@dataclass(frozen=True)
class SandboxCohort:
    """Who is asked.

    Attributes:
        devices: how many installations they are, which is public.
        transport: carries the messages.
        directory: the identities of all that could be asked, with masks; None without.
    """

    devices: int
    transport: Transport
    directory: Directory | None = None


@dataclass
class Register:
    """Who has come, in order: what an enrolment leaves on a server."""

    _places: dict[int, int] = field(default_factory=dict, init=False)
    _keys: list[str] = field(default_factory=list, init=False)
    _hosted: dict[int, SigningKey] = field(default_factory=dict, init=False)

    def enrol(self, row: int, key: str | None = None) -> None:
        """Give a person a place, by their device's identity; a hosted one, who has none yet, gets a fresh one."""
        if row not in self._places:
            if key is None:
                self._hosted[row] = SigningKey.generate()
                key = self._hosted[row].public
            self._places[row] = len(self._keys)
            self._keys.append(key)

    def place(self, row: int) -> int:
        """A person's place."""
        return self._places[row]

    def key(self, row: int) -> SigningKey:
        """A hosted person's own key."""
        return self._hosted[row]

    @property
    def directory(self) -> Directory:
        """The identities in the order of their places."""
        return Directory(tuple(self._keys))


@dataclass(frozen=True)
class Hosted:
    """A hosted person's device, for one masked attempt: the device's own state machine.

    Attributes:
        contributor: answers plans for this one person.
        key: their identity.
    """

    contributor: Contributor
    key: SigningKey

    def join(self, plan: bytes, model: bytes, directory: Directory) -> HostedPart | None:
        """Charge the attempt, and begin; None: it refuses."""
        try:
            return HostedPart(self.contributor.join(plan, model, Identity(self.key, directory)))
        except PalateError:
            return None


@dataclass(frozen=True)
class HostedPart:
    """A hosted person's part in a masked attempt."""

    machine: MaskedDevice

    def answer(self, request: bytes) -> bytes:
        """The answer to one request, or the constant refusal."""
        try:
            return self.machine.answer(step_of(request), request)
        except PalateError:
            return REFUSED

    def close(self) -> None:
        """Leave the attempt: there is nothing to let go of."""


class MaskedInProcess(Closing):
    """A `Transport` to devices of this process that mask for each other.

    Args:
        members: devices by their places in the directory.
        directory: the identities.
    """

    def __init__(self, members: Mapping[int, Masking], directory: Directory) -> None:
        self._members, self._directory = members, directory
        self._parts: dict[int, AttemptPart] = {}

    def invite(self, *, masked: bool) -> Collection[int]:
        """Invite all."""
        return sorted(self._members)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Yield each device's answer to its own request; with the first comes the plan, by which it joins."""
        if request.shared:
            self.close()
        for place in request.to:
            if request.shared:
                part = self._members[place].join(request.shared["plan"], request.shared["model"], self._directory)
                if part is not None:
                    self._parts[place] = part
            found, own = self._parts.get(place), request.own
            yield place, REFUSED if found is None or own is None else found.answer(own(place))

    def close(self) -> None:
        """Let all leave the latest attempt."""
        while self._parts:
            self._parts.popitem()[1].close()


class EndingTransport:
    """A transport that carries nothing any more once the sandbox ends: the attempt is void.

    Args:
        carrier: carries the messages.
        ending: set when the sandbox ends.
    """

    def __init__(self, carrier: Transport, ending: threading.Event) -> None:
        self._carrier, self._ending = carrier, ending

    def invite(self, *, masked: bool) -> Collection[int]:
        """As the carrier."""
        return self._carrier.invite(masked=masked)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """As the carrier.

        Raises:
            PalateError: the sandbox has ended.
        """
        answers = iter(self._carrier.exchange(request))
        while not self._ending.is_set():
            if (answer := next(answers, None)) is None:
                return
            yield answer
        raise PalateError("the sandbox has ended: the attempt is void")
