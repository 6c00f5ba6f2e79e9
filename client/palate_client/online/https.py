"""Https: one kept-alive TLS connection to the pinned server; every operation has a time limit.

    Address (name, port, CA) -> Https.request -> Reply

Each read and write waits in short steps. Between them it checks whether the app asked to stop, and whether the time is
up: a server that sends single bytes slowly can't block a device. Only the pinned CA is trusted, redirects and proxies
are not followed, and a body that is larger than allowed is not read.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from palate_common.records.closing import Closing
from palate_core.errors import InputError, UnreachableError

STEP_SECONDS = 0.25
"""Seconds that a read waits before it checks for a stop."""
OVER_SECONDS = 1.0
"""Seconds between two checks whether a request that waits is still wanted."""
CONNECT_SECONDS = 5.0
"""Seconds to connect to one IP address; a stop is noticed only after it."""
MOST_REFUSAL = 2**14
"""The most bytes of an error's body that are read."""
MOST_HEADERS = 2**14
"""The most characters of a reply's headers."""
STALE = (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)
"""How a kept connection fails that the server has closed meanwhile, for example while the device computed."""
_PIECE = 2**16

Stop = Callable[[], bool]


class StoppedError(Exception):
    """The app asked to stop. This error never reaches the app."""


MEANS = {
    401: ": it doesn't know this device's key, or one of the clocks is off by more than five minutes",
    403: ": it has excluded this device",
    409: ": another process is online as this device",
    426: ": it speaks another version of the protocol",
}
"""What a status says of the device, for the app's log."""


LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""Refusals that don't hold for long."""


class RejectedError(UnreachableError):
    """The server answered with an error status.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"the server must accept {what}, got status {status}{MEANS.get(status, '')}")
        self.status = status

    @property
    def final(self) -> bool:
        """Whether the same request would be refused again."""
        return HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.status not in LATER


@dataclass(frozen=True)
class Address:
    """The address of a server.

    Attributes:
        server: its host name, which its certificate must have.
        port: its port.
        ca: PEM certificates; a chain must end in one of them.
        path: what each request's path begins with, where the server is one of several at this name and port.
    """

    server: str
    port: int
    ca: str
    path: str = ""


@dataclass(frozen=True)
class HttpResponse:
    """A reply.

    Attributes:
        status: the HTTP status.
        body: the body.
        headers: by lower-case names; the values of one that comes several times, with ", " between them.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class _Socket(ssl.SSLSocket):
    """A TLS socket that waits in short steps."""

    left: Callable[[], float]

    def recv_into(self, *args: Any) -> int:
        return int(self._patiently(super().recv_into, *args))

    def send(self, data: Any, flags: int = 0) -> int:
        """Write, waiting in steps; OpenSSL continues with the same bytes."""
        return int(self._patiently(super().send, data, flags))

    def _patiently(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call until it succeeds; `left` raises an error when the time is up, or the app asked to stop."""
        while True:
            self.settimeout(min(self.left(), STEP_SECONDS))
            try:
                return call(*args)
            except TimeoutError:
                continue


class _Connection(http.client.HTTPConnection):
    """HTTP over `_Socket`."""

    def __init__(self, address: Address, context: ssl.SSLContext, left: Callable[[], float]) -> None:
        super().__init__(address.server, address.port)
        self._context, self._left = context, left

    def connect(self) -> None:
        """Open the socket; the time limit holds for the handshake, too."""
        plain = socket.create_connection((self.host, self.port), timeout=min(self._left(), CONNECT_SECONDS))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # An attacker on the network can end the TCP connection: an end without TLS's own is not the end of a body.
            secure = self._context.wrap_socket(plain, server_hostname=self.host, suppress_ragged_eofs=False)
        except BaseException:
            plain.close()
            raise
        secure.left = self._left  # type: ignore[attr-defined] # the context makes a _Socket
        self.sock = secure


class Https(Closing):
    """A connection to a server. It is opened when needed, and again after it was lost.

    Args:
        address: the server.
        until: when everything must be over, on the monotonic clock; or a function that returns it.
        stop: whether the app asked to stop.

    Attributes:
        sent: bytes of bodies and paths that were sent.
        received: bytes of bodies that were received.
        requests: number of requests.

    Raises:
        InputError: the address has no certificate.
    """

    def __init__(
        self,
        address: Address,
        *,
        until: float | Callable[[], float],
        stop: Stop = lambda: False,
    ) -> None:
        self.sent = self.received = self.requests = 0
        self._until = until if callable(until) else lambda: until
        self._stop = stop
        self._limit = self._until()
        self._over: Stop | None = None
        self._asked = 0.0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and its name
        context.hostname_checks_common_name = False  # RFC 9525: names are in subjectAltName alone
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _Socket
        try:
            context.load_verify_locations(cadata=address.ca)
        except (ssl.SSLError, ValueError):
            raise InputError("`ca` must be PEM certificates, got something else") from None
        self._address = address
        self._connection = _Connection(address, context, self._seconds_left)

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        self._connection.close()

    def say_farewell(self, *, seconds: float) -> None:
        """From now on ignore the app's stop, and set a new time limit, so that the device can sign off."""
        until = time.monotonic() + seconds
        self._stop, self._until = (lambda: False), lambda: until

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Callable[[], Mapping[str, str]] = dict,
        *,
        most: int,
        seconds: float = 30.0,
        over: Stop | None = None,
    ) -> HttpResponse:
        """Send one request and read its reply. If a kept-alive connection was closed, a new one is used.

        Args:
            method: GET or POST.
            path: the absolute path, below the address's own.
            body: the body of a POST.
            headers: returns further headers, for each time that the request is sent.
            most: the most bytes of the reply's body.
            seconds: time limit.
            over: returns whether to wait no longer; asked once a second while the server doesn't answer.

        Raises:
            UnreachableError: the server can't be reached, its certificate doesn't verify, or its reply isn't HTTP.
            StoppedError: the app asked to stop, or `over`.
        """
        self._over, self._asked = over, time.monotonic()
        self._limit = min(self._until(), time.monotonic() + seconds)
        kept = self._connection.sock is not None
        try:
            try:
                return self._once(method, path, body, headers(), most)
            except STALE:
                self.close()
                if not kept:
                    raise
                return self._once(method, path, body, headers(), most)
        except (OSError, http.client.HTTPException, ValueError) as error:  # http.client raises these, too
            self.close()
            raise UnreachableError(
                f"{self._address.server}:{self._address.port} must answer, got {_why(error)}"
            ) from None
        except BaseException:
            self.close()  # the rest of a reply must not be read as the next one
            raise

    def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str], most: int) -> HttpResponse:
        self._seconds_left()
        self.requests += 1
        path = self._address.path + path
        self._connection.request(method, path, body=body if method == "POST" else None, headers=dict(headers))
        self.sent += len(body) + len(path)
        response = self._connection.getresponse()
        named = _named(response.getheaders())
        most = most if response.status == HTTPStatus.OK else MOST_REFUSAL
        if (response.length or 0) > most:
            raise http.client.HTTPException(f"a body of {response.length} bytes, more than {most}")
        data = bytearray()
        while piece := response.read1(_PIECE):  # never by the length of a chunk: "-1" would mean all that comes
            data += piece
            if len(data) > most:
                raise http.client.HTTPException(f"a body of more than {most} bytes")
        if response.length:
            raise http.client.HTTPException(f"a body that was cut off, {response.length} bytes before its end")
        response.close()
        self.received += len(data)
        return HttpResponse(response.status, bytes(data), named)

    def _seconds_left(self) -> float:
        """Seconds that are left, above 0; raises an error if there are none."""
        if self._stop():
            raise StoppedError
        if self._over is not None and time.monotonic() - self._asked >= OVER_SECONDS:
            self._asked = time.monotonic()
            if self._over():
                raise StoppedError
        left = self._limit - time.monotonic()
        if left <= 0:
            raise http.client.HTTPException("no whole answer in time")
        return left


def _named(headers: list[tuple[str, str]]) -> Mapping[str, str]:
    """The headers of a reply; `http.client` reads a hundred at most."""
    if (size := sum(len(name) + len(value) for name, value in headers)) > MOST_HEADERS:
        raise http.client.HTTPException(f"headers of {size} characters, more than {MOST_HEADERS}")
    named = dict[str, str]()
    for name, value in headers:
        before = named.get(name.lower())
        named[name.lower()] = value if before is None else f"{before}, {value}"
    return named


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"a certificate that doesn't verify: {error.verify_message}"
    return " ".join(str(error).split())[:200] or type(error).__name__
