"""Enrolment: how an installation becomes a device of a population.

    operator: Invitation (one-time token) -> device: EnrolRequest -> server: checks, registers -> device: Enrolled
                                                    LeaveRequest -> server: checks, deletes   -> device: LeaveAnswer

A device has one key: the Ed25519 identity that a directory lists, and that signs its requests and what it says in
masked attempts. It signs the token's hash, too, so that nobody can enrol an identity of others. Repeating a request
repeats the answer, because an answer may get lost.

    >>> identity, token = SigningKey.generate(), new_token()
    >>> request = make_request(token, identity)
    >>> read_request(request.to_bytes()) == request
    True
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.cosignatures import MOST_WITNESSES
from palate_core.log.handovers import MOST_HANDOVERS
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey, verify

ENROL_TAG: Final = "palate/enrol/1"
LEAVE_TAG: Final = "palate/leave/1"
ENROL_PATH: Final = "/v1/enroll"
MOST_REQUEST: Final = 4096
"""Bytes of the largest request that is read."""
MOST_MESSAGE: Final = 2**17
"""Bytes of the largest invitation that is read: its certificates have up to half of it."""
TOKEN_BYTES: Final = 32

_HEX = r"^[0-9a-f]{64}$"
_TOKEN = r"^[A-Za-z0-9_-]{20,128}$"  # noqa: S105 # the shape of one
_NAME = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$"
_PATH = r"^(/p/[a-z0-9][a-z0-9-]{0,62})?$"

Hex64 = Annotated[str, Field(pattern=_HEX)]
Token = Annotated[str, Field(pattern=_TOKEN)]
Population = Annotated[str, Field(min_length=1, max_length=200)]


def new_token() -> str:
    """A one-time token: 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> str:
    """SHA-256 of a token: the server stores it, and requests sign it, in place of the token."""
    return digest(token.encode())


class _Strict(BaseModel):
    """Base of the messages: unknown fields and other types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    def to_bytes(self) -> bytes:
        """Canonical JSON; the same message has the same bytes."""
        return canonical_json(self.model_dump())


_Message = TypeVar("_Message", bound=_Strict)
_Loaded = TypeVar("_Loaded")


class Invitation(_Strict):
    """What an operator gives to one installation: whom to trust, and a token. Its holder can use it, once.

    Attributes:
        palate: the kind of file.
        version: of its format.
        server: the name that the server's certificate is for.
        port: its port.
        ca: PEM certificates that the server's certificate is checked against, and no others.
        public_key: the release key.
        population: the population that the device joins.
        token: valid for one enrolment.
        witnesses: verifier keys of the witnesses that cosign the population's ledger; with version 2, and only then.
        quorum: how many of them must have cosigned what a plan or a model shows.
        former_keys: the release keys before `public_key`, oldest first, which were handed over; with version 2 only.
        path: what each request's path begins with, `/p/NAME`, where several populations share a name and a port; with
            version 2 only.
    """

    palate: Literal["invitation"] = "invitation"
    version: Literal[1, 2] = 1
    server: Annotated[str, Field(pattern=_NAME, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)]
    ca: Annotated[str, Field(max_length=65536)]
    public_key: Hex64
    population: Population
    token: Annotated[Token, Field(repr=False)]
    witnesses: Annotated[list[str], Field(max_length=MOST_WITNESSES, exclude_if=lambda keys: not keys)] = []
    quorum: Annotated[int, Field(ge=0, exclude_if=lambda needed: needed == 0)] = 0

    former_keys: Annotated[list[Hex64], Field(max_length=MOST_HANDOVERS, exclude_if=lambda keys: not keys)] = []
    path: Annotated[str, Field(pattern=_PATH, exclude_if=lambda path: not path)] = ""

    @model_validator(mode="after")
    def _has_its_version(self) -> Self:
        """Check that witnesses make a quorum, and that version 2 says what version 1 can't."""
        if (self.version == 2) != bool(self.witnesses or self.former_keys or self.path):
            raise ValueError("witnesses, former keys or a path without version 2, or version 2 without them")
        if bool(self.quorum) != bool(self.witnesses):
            raise ValueError("witnesses without a quorum, or a quorum without witnesses")
        if self.witnesses:
            try:
                Pinned.of(self.population, self.public_key, self.witnesses, needed=self.quorum)
            except InputError:
                raise ValueError("witnesses that make no quorum") from None
        return self

    @field_validator("ca")
    @classmethod
    def _certificates(cls, value: str) -> str:
        """Check that it holds a certificate."""
        _load_pem(x509.load_pem_x509_certificates, value)
        return value

    def to_json(self) -> str:
        """One line of JSON."""
        return canonical_json(self.model_dump()).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read an invitation.

        Raises:
            InputError: it isn't one.
        """
        return _parse_message(cls, text, "an invitation")


class EnrolRequest(_Strict):
    """A device's request, POSTed to `/v1/enroll` as JSON.

    Attributes:
        token: the one-time token.
        identity: Ed25519, 64 hexadecimal digits.
        proof: the identity's signature over all fields, with the token's hash in place of the token.
    """

    token: Annotated[Token, Field(repr=False)]
    identity: Hex64
    proof: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @property
    def signed_payload(self) -> bytes:
        """The bytes that the proof signs."""
        return signed_bytes(token_hash(self.token), self.identity)


class Enrolled(_Strict):
    """The server's answer.

    Attributes:
        device: this installation's id: its number, in directories too.
        population: the population that it has joined.
    """

    device: Annotated[int, Field(ge=0, lt=2**31)]
    population: Population

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an answer.

        Raises:
            InputError: it isn't one.
        """
        return _parse_message(cls, data, "an enrolment's answer")


class LeaveRequest(_Strict):
    """A device asks its server to delete what it has of it, POSTed to `/v1/enroll` as canonical JSON.

    It names no time and nothing that is new each time: the same bytes again get the same answer.

    Attributes:
        palate: the kind of message.
        population: the population that it leaves.
        device: its number.
        identity: Ed25519, 64 hexadecimal digits.
        proof: the identity's signature over population, number and identity.
    """

    palate: Literal["leave"] = "leave"
    population: Population
    device: Annotated[int, Field(ge=0, lt=2**31)]
    identity: Hex64
    proof: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @property
    def signed_payload(self) -> bytes:
        """The bytes that the proof signs."""
        return canonical_json({"population": self.population, "device": self.device, "identity": self.identity})


class LeaveAnswer(_Strict):
    """The server's answer: what it had of the device, beside number and identity, is deleted.

    Attributes:
        palate: the kind of message.
        population: the population.
        device: the number that was the device's.
    """

    palate: Literal["left"] = "left"
    population: Population
    device: Annotated[int, Field(ge=0, lt=2**31)]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an answer.

        Raises:
            InputError: it isn't one.
        """
        return _parse_message(cls, data, "the answer to who leaves")


def signed_bytes(token_digest: str, identity: str) -> bytes:
    """What an identity signs: canonical JSON of the token's hash and the identity."""
    return canonical_json({"token_hash": token_digest, "identity": identity})


def make_request(token: str, identity: SigningKey) -> EnrolRequest:
    """A device's request.

    Args:
        token: the invitation's.
        identity: this installation's own key.

    Raises:
        InputError: the token isn't one.
    """
    proof = identity.sign(ENROL_TAG, signed_bytes(token_hash(token), identity.public))
    try:
        return EnrolRequest(token=token, identity=identity.public, proof=proof)
    except ValidationError as error:
        wrong = _first(error)
    raise InputError(f"an enrolment must have a token, got {wrong}")  # as in `_parse_message`


def read_request(data: bytes) -> EnrolRequest:
    """Read and verify a request, as a server does before it looks for the token.

    Raises:
        InputError: it isn't a request.
        IntegrityError: the proof doesn't fit.
    """
    if len(data) > MOST_REQUEST:
        raise InputError(f"an enrolment must be at most {MOST_REQUEST} bytes, got {len(data)}")
    request = _parse_message(EnrolRequest, data, "an enrolment")
    verify(request.identity, ENROL_TAG, request.signed_payload, request.proof)
    return request


def make_leave(population: str, device: int, identity: SigningKey) -> LeaveRequest:
    """A device's request to be forgotten.

    Args:
        population: the population that it leaves.
        device: its number there.
        identity: this installation's own key.
    """
    unsigned = LeaveRequest(population=population, device=device, identity=identity.public, proof="0" * 128)
    return unsigned.model_copy(update={"proof": identity.sign(LEAVE_TAG, unsigned.signed_payload)})


def asks_to_leave(data: bytes) -> bool:
    """Whether a body is a request to leave, if it is any: no enrolment can have these bytes."""
    return b'"palate":"leave"' in data


def read_leave(data: bytes) -> LeaveRequest:
    """Read and verify a request to leave, as a server does before it looks for the device.

    Raises:
        InputError: it isn't one.
        IntegrityError: the proof doesn't fit.
    """
    if len(data) > MOST_REQUEST:
        raise InputError(f"a request to leave must be at most {MOST_REQUEST} bytes, got {len(data)}")
    request = _parse_message(LeaveRequest, data, "a request to leave")
    verify(request.identity, LEAVE_TAG, request.signed_payload, request.proof)
    return request


def _parse_message(model: type[_Message], data: str | bytes, what: str) -> _Message:
    """Parse a message from strict JSON; a repeated field is refused.

    The error is raised outside of the handler: its context would hold the whole message, with its token.
    """
    if len(data) > MOST_MESSAGE:
        raise InputError(f"{what} must be at most {MOST_MESSAGE} bytes, got {len(data)}")
    try:
        value = json.loads(data, object_pairs_hook=_once)
        return model.model_validate(value)
    except ValidationError as error:
        wrong = f"{what} must have the members of one, got {_first(error)}"
    except (ValueError, RecursionError):
        wrong = f"{what} must be JSON, got something else"
    raise InputError(wrong)


def _load_pem(load: Callable[[bytes], _Loaded], value: str) -> _Loaded:
    """Parse PEM by `load`, which raises errors of several families where it can't."""
    try:
        return load(value.encode())
    except Exception:
        raise ValueError("PEM that can't be read") from None  # pydantic turns ValueError into its own


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; refuse a repeated field."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member that stands twice")
    return dict(pairs)


def _first(error: ValidationError) -> str:
    """The first error, without the value, which may be a secret."""
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"
