"""Exchange: the device's side of `palate/device/1`, see `palate_common.rounds.exchange`.

    answer, or nothing -> Exchanges.ask -> what became of the answer, and the next message

Each request is signed when it is sent. One that got no reply is sent again with a new signature, and costs nothing
twice: its answer has the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from palate_client.online.https import HttpResponse, Https, RejectedError, Stop, StoppedError
from palate_common.rounds import exchange
from palate_common.rounds.exchange import PATH, Availability, ExchangeRequest, ServerMessage, common_version
from palate_core.errors import IntegrityError, UnreachableError
from palate_core.log.canonical import digest
from palate_core.log.signing import SigningKey

LEAVE_SECONDS: Final = 3.0
"""Seconds that a device takes to say that it goes offline."""
REPLY_SECONDS: Final = 30.0
"""Seconds in which a server must reply, after the time for which it may wait for a message."""
_TAKEN: Final = ("yes", "late", "twice")
_WHAT: Final = "a request of this device"


@dataclass(frozen=True)
class AnswerBack:
    """An answer to a message.

    Attributes:
        exchange: the message's exchange; empty: it answers none.
        body: the answer's bytes.
    """

    exchange: str = ""
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """A server's reply.

    Attributes:
        taken: what became of the answer: "yes", "late" or "twice"; empty where there was none.
        message: the next message; None: none came in time.
    """

    taken: str
    message: ServerMessage | None


class Exchanges:
    """A device's requests to its server, one after the other.

    Args:
        https: the connection.
        device: the device's number.
        population: its population.
        path: the path of its requests, as it is sent.
        identity: signs them.
        most: bytes of the largest message that is read.
        declares: returns for how long the device takes plans now, and for what.
        clock: returns the time in seconds since 1970; a server accepts an error of five minutes.

    Attributes:
        answered: answers that the server has taken.
    """

    def __init__(
        self,
        https: Https,
        device: int,
        population: str,
        path: str,
        identity: SigningKey,
        *,
        most: int = 2**28,
        declares: Callable[[], Availability] = Availability,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.answered = 0
        self._https, self._device, self._population, self._path = https, device, population, path + PATH
        self._identity, self._most, self._declares, self._clock = identity, most, declares, clock
        self._version, self._time, self._online = exchange.VERSIONS[1], 0, False

    def ask(self, answer: AnswerBack = AnswerBack(), *, wait: float = 0.0, over: Stop | None = None) -> Reply:
        """Send an answer, or nothing, and wait for the next message.

        Args:
            answer: the answer to the latest message.
            wait: seconds for which the server may wait for the next one; it is asked for `MOST_WAIT` at most.
            over: returns whether to wait no longer, and to send nothing any more.

        Raises:
            RejectedError: a refusal. Where the server takes no version that is spoken here, it is one, too.
            UnreachableError: no reply, or one that isn't as it must be.
            StoppedError: `over`, or the app asked to stop.
        """
        wait = max(0.0, min(wait, exchange.MOST_WAIT))
        found = self._sent(answer, self._declares, wait, over)
        if found.status == HTTPStatus.UPGRADE_REQUIRED:
            version = common_version(found.headers.get("palate-versions", ""))
            if version not in (None, self._version):
                self._version = int(version or 0)
                found = self._sent(answer, self._declares, wait, over)
        if found.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            error = RejectedError(_WHAT, found.status)
            self._online = self._online and not error.final  # whoever is online now, it isn't this one
            raise error
        return self._read(answer, found)

    def leave(self) -> None:
        """Say that the device goes offline. If nobody hears it, the server notices that no request comes.

        Raises:
            StoppedError: the app asked to stop.
        """
        if self._online:
            with suppress(UnreachableError):
                self._sent(AnswerBack(), Availability, 0.0, None, seconds=LEAVE_SECONDS)
            self._online = False

    def _sent(
        self,
        answer: AnswerBack,
        declares: Callable[[], Availability],
        wait: float,
        over: Stop | None,
        *,
        seconds: float = REPLY_SECONDS,
    ) -> HttpResponse:
        body = digest(answer.body)

        def signed() -> Mapping[str, str]:
            """The headers, for one try; whoever has revoked since the last one sends nothing more."""
            if over is not None and over():
                raise StoppedError
            self._time, self._online = max(int(self._clock() * 1000), self._time + 1), True
            asked = ExchangeRequest(
                self._device, answer.exchange, wait, declares(), self._time, len(answer.body), body, self._version
            )
            return asked.signed(self._population, self._path, self._identity)

        return self._https.request(
            "POST", PATH, answer.body, signed, most=self._most, seconds=seconds + wait, over=over
        )

    def _read(self, answer: AnswerBack, found: HttpResponse) -> Reply:
        """Read a reply that is none of a refusal."""
        taken = found.headers.get("palate-taken", "") if answer.exchange else ""
        if answer.exchange and taken not in _TAKEN:
            raise UnreachableError(f"the server must say what became of an answer, got {taken!r:.80}")
        message = None
        if found.status == HTTPStatus.OK:
            try:
                message = ServerMessage.read(found.headers, found.body)
                _ = message.parts
            except IntegrityError as error:
                raise UnreachableError(f"the server must send a message, got something else: {error}") from None
        self.answered += bool(taken) and taken != "late"
        return Reply(taken, message)
