"""Exchange: the requests of `palate/device/1`, by which a device answers its server and waits for what comes next.

    device                                            server
    POST /v1/device/exchange                      ->  verified by its headers, before a byte of its body is read
    the answer to the latest message, or nothing
                                                  <-  200: what became of the answer, and the next message
                                                  <-  204: no message came in time

Bodies are raw bytes: of an answer as it was made, of a message as `ServerMessage.parts` reads it. All else is headers.
A request is signed by the device's identity over all that it says, with the length and the SHA-256 of its body, so that
whoever ends the TLS in between can change neither. A message names its exchange; its answer names it again, so that the
same answer may come twice, or too late, and nothing is an error that would have to be repeated.

A device declares with each request for how long it takes plans, and for what: cohorts are drawn from nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey, verify

PATH: Final = "/v1/device/exchange"
TAG: Final = "palate/exchange/1"
VERSIONS: Final = (1, 1)
"""The lowest and the highest version of this protocol that is spoken here."""
TRAINING: Final = 1
SURVEYS: Final = 2
MOST_WAIT: Final = 25.0
"""The longest that a server holds a request, in seconds: less than gateways and devices wait for a reply."""
CLOCK_SECONDS: Final = 300.0
"""Seconds by which a device's clock may be wrong."""
MOST_COME_BACK: Final = 30 * 86400.0
"""Seconds after which a device syncs again at the latest, whatever its server says."""
HEADERS: Final = (
    "palate-version", "palate-device", "palate-answers", "palate-wait", "palate-stays", "palate-takes", "palate-time",
    "palate-body", "palate-signature",
)  # fmt: skip
"""The headers of a request, beside `content-length`."""
REPLY_HEADERS: Final = ("palate-exchange", "palate-kind", "palate-seconds", "palate-taken", "palate-versions")
"""Those of a reply."""
NOTHING: Final = hashlib.sha256().hexdigest()
"""The SHA-256 of an empty body."""

_MOST_MILLISECONDS = 2**32 - 1
_SPELLINGS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(spelling, re.ASCII)
    for name, spelling in {
        "palate-version": r"[1-9][0-9]{0,3}",
        "palate-device": r"0|[1-9][0-9]{0,9}",
        "palate-answers": r"-|[0-9a-f]{32}",
        "palate-wait": r"0|[1-9][0-9]{0,9}",
        "palate-stays": r"0|[1-9][0-9]{0,9}",
        "palate-takes": r"[0-3]",
        "palate-time": r"[1-9][0-9]{0,15}",
        "palate-body": r"[0-9a-f]{64}",
        "palate-signature": r"[0-9a-f]{128}",
        "content-length": r"0|[1-9][0-9]{0,11}",
        "palate-exchange": r"[0-9a-f]{32}",
        "palate-kind": r"plan|masked|step|come-back",
        "palate-seconds": r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,3})?",
        "palate-taken": r"yes|late|twice",
        "palate-versions": r"[1-9][0-9]{0,3}-[1-9][0-9]{0,3}",
    }.items()
}


class VersionError(InputError):
    """The other side speaks no version of this protocol that is spoken here."""


class MessageKind(StrEnum):
    """What a message asks for."""

    PLAN = "plan"
    """A contribution to an attempt without masks. Body: the signed plan."""
    MASKED = "masked"
    """The first answer in a masked attempt. Body: the plan and the directory, each after its length (4 bytes,
    big-endian), and a request."""
    STEP = "step"
    """A later answer in it. Body: the request."""
    COME_BACK = "come-back"
    """Nothing: the device isn't needed now, and syncs again in so many seconds. No body, and no answer."""


@dataclass(frozen=True)
class Availability:
    """What a device declares while it is online: a server draws cohorts from those that have the time and the consent.

    It is declared anew with each request, because both change. A device that declares nothing takes part in nothing.

    Attributes:
        stays: seconds for which it takes plans; one that it has taken is finished after that, too.
        takes: what its user agrees to: the sum of `TRAINING` and `SURVEYS`.
    """

    stays: float = 0.0
    takes: int = 0


@dataclass(frozen=True)
class ExchangeRequest:
    """What a device says with a request; its body is the answer's bytes, or empty.

    Attributes:
        device: its number in the population.
        answers: the exchange that the body answers, 32 hexadecimal digits; empty: it answers none, and the body is
            empty.
        wait: seconds for which the server may hold its reply until there is a message.
        available: for how long the device takes plans, and for what; for no time: it goes offline.
        time: when it was signed, in milliseconds since 1970; higher with each request of the device.
        length: bytes of the body.
        body: SHA-256 of the body.
        version: of the protocol.
    """

    device: int
    answers: str
    wait: float
    available: Availability
    time: int
    length: int = 0
    body: str = NOTHING
    version: int = VERSIONS[1]

    def headers(self) -> dict[str, str]:
        """All headers but the signature; `content-length` too."""
        return {
            "palate-version": str(self.version),
            "palate-device": str(self.device),
            "palate-answers": self.answers or "-",
            "palate-wait": _milliseconds(min(self.wait, MOST_WAIT)),
            "palate-stays": _milliseconds(self.available.stays),
            "palate-takes": str(self.available.takes),
            "palate-time": str(self.time),
            "palate-body": self.body,
            "content-length": str(self.length),
        }

    def signed(self, population: str, path: str, key: SigningKey) -> dict[str, str]:
        """All headers of the request, signed by the device's identity.

        Args:
            population: the population that the device is of.
            path: the path of the request, as it is sent.
            key: the identity.
        """
        headers = self.headers()
        return headers | {"palate-signature": key.sign(TAG, _payload(headers, population, path))}

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Self:
        """Read a request's headers; whose signature fits is for `check` to say.

        Raises:
            VersionError: it is of another version.
            InputError: a header is missing, or is spelled otherwise.
        """
        version = int(_spelled(headers, "palate-version"))
        if not VERSIONS[0] <= version <= VERSIONS[1]:
            raise VersionError(f"`palate-version` must be {VERSIONS[0]} to {VERSIONS[1]}, got {version}")
        found = {name: _spelled(headers, name) for name in (*HEADERS, "content-length")}
        answers, length = found["palate-answers"].strip("-"), int(found["content-length"])
        if not answers and (length or found["palate-body"] != NOTHING):
            raise InputError(f"a body must answer an exchange, got {length} bytes that answer none")
        available = Availability(int(found["palate-stays"]) / 1000, int(found["palate-takes"]))
        wait = min(int(found["palate-wait"]) / 1000, MOST_WAIT)
        return cls(
            int(found["palate-device"]), answers, wait, available, int(found["palate-time"]), length,
            found["palate-body"], version,
        )  # fmt: skip


def check(headers: Mapping[str, str], population: str, path: str, identity: str) -> None:
    """Check that a device has signed a request's headers, which `ExchangeRequest.read` has read.

    Args:
        headers: the headers, by lower-case names.
        population: the population that the server serves.
        path: the path of the request, as the device has sent it.
        identity: the public key of the device that the request names, hexadecimal.

    Raises:
        IntegrityError: the signature is another one's, or of another request.
    """
    verify(identity, TAG, _payload(headers, population, path), headers["palate-signature"])


@dataclass(frozen=True)
class ServerMessage:
    """A server's message to a device.

    Attributes:
        kind: what it asks for.
        exchange: its exchange, 32 hexadecimal digits, which the answer names.
        seconds: with a plan: for how long the server waits for the answers of an exchange; a device that has less
            doesn't take it. With `COME_BACK`: after how many the device syncs again.
        body: what it asks with.
    """

    kind: MessageKind
    exchange: str
    seconds: float = 0.0
    body: bytes = b""

    def headers(self) -> dict[str, str]:
        """The headers of the reply that has it."""
        return {
            "palate-exchange": self.exchange,
            "palate-kind": self.kind.value,
            "palate-seconds": f"{self.seconds:.3f}",
        }

    @classmethod
    def read(cls, headers: Mapping[str, str], body: bytes) -> Self:
        """Read the message of a reply with status 200.

        Raises:
            IntegrityError: it has none, or something else.
        """
        try:
            kind, exchange = MessageKind(_spelled(headers, "palate-kind")), _spelled(headers, "palate-exchange")
            seconds = float(_spelled(headers, "palate-seconds"))
        except InputError as error:
            raise IntegrityError(str(error)) from None
        if kind is MessageKind.COME_BACK:
            return cls(kind, exchange, min(seconds, MOST_COME_BACK))
        return cls(kind, exchange, seconds, body)

    @property
    def parts(self) -> tuple[bytes, bytes, bytes]:
        """The plan, the directory and the request that it carries; empty where its kind has none.

        Raises:
            IntegrityError: the body of a first message is too short for what it says.
        """
        if self.kind is MessageKind.PLAN:
            return self.body, b"", b""
        if self.kind is MessageKind.STEP:
            return b"", b"", self.body
        if self.kind is MessageKind.COME_BACK:
            return b"", b"", b""
        plan, rest = _split(self.body)
        directory, request = _split(rest)
        if not (plan and directory and request):
            raise IntegrityError(
                f"a first message must have a plan, a directory and a request, got {len(self.body)} bytes"
            )
        return plan, directory, request


def first_body(plan: bytes, directory: bytes, request: bytes) -> bytes:
    """The body of the first message of a masked attempt."""
    return framed(plan) + framed(directory) + request


def framed(part: bytes) -> bytes:
    """A part of such a body, after its length."""
    return len(part).to_bytes(4) + part


def common_version(spoken: str) -> int | None:
    """The highest version that both sides speak, of what `palate-versions` says; None: there is none.

    >>> common_version("1-3"), common_version("2-3"), common_version("all")
    (1, None, None)
    """
    if _SPELLINGS["palate-versions"].fullmatch(spoken) is None:
        return None
    low, high = map(int, spoken.split("-"))
    found = min(high, VERSIONS[1])
    return found if found >= max(low, VERSIONS[0]) else None


def _payload(headers: Mapping[str, str], population: str, path: str) -> bytes:
    """What is signed: canonical JSON of each header, the population and the path."""
    said = {name: headers[name] for name in (*HEADERS[:-1], "content-length")}
    return canonical_json({**said, "population": population, "path": path})


def _milliseconds(seconds: float) -> str:
    return str(min(int(1000 * max(0.0, min(seconds, _MOST_MILLISECONDS))), _MOST_MILLISECONDS))


def _split(data: bytes) -> tuple[bytes, bytes]:
    """What stands after its length, and the rest; both empty where there is less."""
    end = 4 + int.from_bytes(data[:4])
    return (data[4:end], data[end:]) if end <= len(data) else (b"", b"")


def _spelled(headers: Mapping[str, str], name: str) -> str:
    """A header that is there, spelled as it must be.

    Raises:
        InputError: it isn't.
    """
    value = headers.get(name, "")
    if _SPELLINGS[name].fullmatch(value) is None:
        raise InputError(f"`{name}` must be spelled as docs/wire-exchange.md says, got {value!r:.80}")
    return value
