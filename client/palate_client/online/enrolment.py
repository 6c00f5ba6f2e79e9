"""Enrolment: how this device became a member of its population, kept encrypted in its journal.

    Invitation + identity -> POST /v1/enroll -> Enrolment
    Enrolment + identity -> POST /v1/enroll -> the server has deleted it

A device that was killed meanwhile sends the same bytes again, and gets the same answer.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from http import HTTPStatus

from palate_client.online.https import Address, Https
from palate_client.store.journal import LEAVING, Journal
from palate_client.store.store import EventStore
from palate_common.enrolment import (
    ENROL_PATH,
    Enrolled,
    Invitation,
    LeaveAnswer,
    make_leave,
    make_request,
)
from palate_core.errors import InputError, RefusedError, UnreachableError
from palate_core.log.signing import SigningKey

_KEPT = "enrolment"
_MOST_ANSWER = 4096
_SECONDS = 30.0


@dataclass(frozen=True)
class Enrolment:
    """Where this device is enrolled.

    Attributes:
        server: the server's name.
        port: its port.
        ca: PEM certificates of the authorities that may have signed the server's certificate.
        public_key: the release key with which the population's ledger began.
        population: the population that it belongs to.
        device: its number in the population.
        path: what each request's path begins with, where the server is one of several at this name and port.
    """

    server: str
    port: int
    ca: str
    public_key: str
    population: str
    device: int
    path: str = ""

    def __repr__(self) -> str:
        return f"Enrolment({self.server}:{self.port}{self.path}, device {self.device} of {self.population!r})"

    @property
    def address(self) -> Address:
        """The address of its server."""
        return Address(self.server, self.port, self.ca, self.path)


@dataclass(frozen=True)
class DeletionAsked:
    """That the server was asked to delete what it has of this device.

    Attributes:
        answered: whether it has answered that it did.
    """

    answered: bool


def enrolment_of(store: EventStore, *, left: bool = False) -> Enrolment | None:
    """The enrolment of a device; None: it isn't enrolled, or has asked to leave, whatever the server has answered.

    Args:
        store: the device's store.
        left: also the one that it has left.
    """
    with Journal(store.file) as journal:
        kept = journal.read_secret(_KEPT)
        if kept is None or (journal.read_secret(LEAVING) is not None and not left):
            return None
    return Enrolment(**json.loads(kept))


def asked_to_delete(store: EventStore) -> DeletionAsked | None:
    """Whether the server was asked to delete what it has of this device, and has answered; None: it wasn't asked."""
    with Journal(store.file) as journal:
        kept = journal.read_secret(LEAVING)
    return None if kept is None else DeletionAsked(**json.loads(kept))


def keep(store: EventStore, enrolment: Enrolment) -> None:
    """Store an enrolment; it replaces an earlier one."""
    with Journal(store.file) as journal:
        journal.keep(_KEPT, json.dumps(asdict(enrolment)).encode())


def leave(store: EventStore, identity: SigningKey, *, seconds: float = _SECONDS) -> None:
    """Ask the server to delete what it has of this device; asked again, it answers the same.

    That it was asked is on the disk before the request is sent, so that a statement never says less.

    Raises:
        InputError: this device isn't enrolled.
        RefusedError: the server doesn't know this device, or is of another population.
        UnreachableError: the server can't be reached, or its answer is invalid.
    """
    enrolment = enrolment_of(store, left=True)
    if enrolment is None:
        raise InputError("a device must be enrolled to leave its server, got one that isn't")
    if asked_to_delete(store) is None:
        note_leaving(store, answered=False)
    request = make_leave(enrolment.population, enrolment.device, identity).to_bytes()
    with Https(enrolment.address, until=time.monotonic() + seconds) as https:
        reply = https.request("POST", ENROL_PATH, request, _json, most=_MOST_ANSWER)
    if reply.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN):
        raise RefusedError(f"the server must know this device to delete it, got status {reply.status}")
    if reply.status != HTTPStatus.OK:
        raise UnreachableError(f"the server must answer who leaves, got status {reply.status}: try again")
    try:
        answer = LeaveAnswer.from_bytes(reply.body)
    except InputError as error:
        raise UnreachableError(f"the server must answer that it has deleted this device: {error}") from None
    if (answer.population, answer.device) != (enrolment.population, enrolment.device):
        raise RefusedError("the server must answer about this device, got an answer about another")
    note_leaving(store, answered=True)


def note_leaving(store: EventStore, *, answered: bool) -> None:
    """Store that the server was asked to delete what it has of this device, and whether it has answered."""
    with Journal(store.file) as journal:
        journal.keep(LEAVING, json.dumps(asdict(DeletionAsked(answered=answered))).encode())


def enroll(store: EventStore, invitation: Invitation, identity: SigningKey, *, seconds: float = _SECONDS) -> Enrolment:
    """Enrol with an invitation.

    Raises:
        RefusedError: the server doesn't accept it.
        UnreachableError: the server can't be reached, or its answer is invalid.
    """
    request = make_request(invitation.token, identity).to_bytes()
    address = Address(invitation.server, invitation.port, invitation.ca, invitation.path)
    with Https(address, until=time.monotonic() + seconds) as https:
        reply = https.request("POST", ENROL_PATH, request, _json, most=_MOST_ANSWER)
    if HTTPStatus.BAD_REQUEST <= reply.status < HTTPStatus.INTERNAL_SERVER_ERROR and reply.status not in (
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    ):
        raise RefusedError(f"the server must accept the invitation, got status {reply.status}: it may have been used")
    if reply.status != HTTPStatus.OK:
        raise UnreachableError(f"the server must answer an enrolment, got status {reply.status}: try again")
    try:
        answer = Enrolled.from_bytes(reply.body)
    except InputError as error:
        raise UnreachableError(f"the server must answer with a device's number: {error}") from None
    if answer.population != invitation.population:
        raise RefusedError(f"the server must be of {invitation.population!r}, got {answer.population!r:.80}")
    enrolment = Enrolment(
        invitation.server,
        invitation.port,
        invitation.ca,
        invitation.public_key,
        invitation.population,
        answer.device,
        invitation.path,
    )
    keep(store, enrolment)
    return enrolment


def _json() -> dict[str, str]:
    """The headers of a request."""
    return {"content-type": "application/json"}
