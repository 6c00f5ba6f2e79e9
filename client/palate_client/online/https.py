"""Https: one kept-alive TLS connection to the one server that was pinned, with an end to everything.

    Address (name, port, CA) -> Https.request -> Reply

Each read and write waits in short steps. Between them it looks whether the app asked to stop, and whether the time is
up: a server that trickles single bytes can't hold a device. Only the pinned CA counts, redirects and proxies are not
followed, and what is larger than was asked for is not read.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from palate_common.errors import InputError, UnreachableError
from palate_common.records.closing import Closing

STEP_SECONDS = 0.25
"""How long a read waits before it looks around."""
CONNECT_SECONDS = 5.0
"""The most that one address is tried for; a stop is seen after it."""
MOST_REFUSAL = 2**14
"""Bytes of an error's text that are read."""
_PIECE = 2**16

Stop = Callable[[], bool]


class StoppedError(Exception):
    """The app asked to stop. Never leaves this package."""


class RejectedError(UnreachableError):
    """The server answered, and said no.

    Attributes:
        status: HTTP's: 401 an unknown key or a wrong clock, 403 a run that ended, 404 nothing there, 412 a node that
            can't be activated.
    """

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"the server must accept {what}, got status {status}")
        self.status = status


@dataclass(frozen=True)
class Address:
    """A server.

    Attributes:
        server: its name, which its certificate must be for.
        port: its port.
        ca: PEM certificates; a chain must end in one of them.
    """

    server: str
    port: int
    ca: str


@dataclass(frozen=True)
class HttpResponse:
    """What came back.

    Attributes:
        status: HTTP's.
        body: its bytes.
    """

    status: int
    body: bytes


class _Socket(ssl.SSLSocket):
    """A TLS socket that waits in short steps."""

    left: Callable[[], float]

    def recv_into(self, *args: Any) -> int:
        """Read, waiting in steps."""
        return int(self._patiently(super().recv_into, *args))

    def send(self, data: Any, flags: int = 0) -> int:
        """Write, waiting in steps; OpenSSL takes the same bytes up again."""
        return int(self._patiently(super().send, data, flags))

    def _patiently(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call until it is done; `left` raises when there is no time left, or the app asked to stop."""
        while True:
            self.settimeout(min(self.left(), STEP_SECONDS))
            try:
                return call(*args)
            except TimeoutError:
                continue


class _Connection(http.client.HTTPConnection):
    """HTTP over our socket."""

    def __init__(self, address: Address, context: ssl.SSLContext, left: Callable[[], float]) -> None:
        super().__init__(address.server, address.port)
        self._context, self._left = context, left

    def connect(self) -> None:
        """Open the socket; the handshake is bounded, too."""
        plain = socket.create_connection((self.host, self.port), timeout=min(self._left(), CONNECT_SECONDS))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Whoever is on the way can end TCP, but not TLS: an end without TLS's own is no end of a body.
            secure = self._context.wrap_socket(plain, server_hostname=self.host, suppress_ragged_eofs=False)
        except BaseException:
            plain.close()
            raise
        secure.left = self._left  # type: ignore[attr-defined] # the context makes our class
        self.sock = secure


class Https(Closing):
    """A connection to a server, opened when it is needed, and again after it was lost.

    Args:
        address: the server.
        until: when all of it must be over, on the monotonic clock.
        stop: whether the app asked to stop.
        request_seconds: the most that one request takes.

    Attributes:
        sent: bytes of bodies and paths that went out.
        received: bytes of bodies that came in.
        requests: how many were made.

    Raises:
        InputError: the address has no certificate.
    """

    def __init__(
        self, address: Address, *, until: float, stop: Stop = lambda: False, request_seconds: float = 30.0
    ) -> None:
        self.sent = self.received = self.requests = 0
        self._until, self._stop, self._request_seconds = until, stop, request_seconds
        self._limit = until
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and its name
        context.hostname_checks_common_name = False  # RFC 9525: names are in subjectAltName alone
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _Socket
        try:
            context.load_verify_locations(cadata=address.ca)
        except (ssl.SSLError, ValueError):
            raise InputError("`ca` must be PEM certificates, got something else") from None
        self._address = address
        self._connection = _Connection(address, context, self._left)

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        self._connection.close()

    def say_farewell(self, *, seconds: float) -> None:
        """From here on nothing stops a request but this much time."""
        self._stop, self._until = (lambda: False), time.monotonic() + seconds

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        most: int,
        seconds: float | None = None,
    ) -> HttpResponse:
        """One request and its reply. Where a kept connection turns out to be gone, it is made on a new one.

        Args:
            method: GET or POST.
            path: from the root.
            body: of a POST.
            headers: besides what HTTP needs.
            most: bytes of the largest body that is read.
            seconds: the most it takes; None: as the connection has it.

        Raises:
            UnreachableError: there is no such server, it is another one, or it doesn't answer as HTTP has it.
            StoppedError: the app asked to stop.
        """
        self._limit = min(self._until, time.monotonic() + (self._request_seconds if seconds is None else seconds))
        kept = self._connection.sock is not None
        try:
            try:
                return self._once(method, path, body, headers or {}, most)
            except (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError):
                self.close()
                if not kept:
                    raise
                return self._once(method, path, body, headers or {}, most)
        except (OSError, http.client.HTTPException, ValueError) as error:  # http.client lets some of its own out
            self.close()
            raise UnreachableError(
                f"{self._address.server}:{self._address.port} must answer, got {_why(error)}"
            ) from None
        except BaseException:
            self.close()  # a reply that was read in part must not be the next one's
            raise

    def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str], most: int) -> HttpResponse:
        """Send and read."""
        self._left()
        self.requests += 1
        self._connection.request(method, path, body=body if method == "POST" else None, headers=dict(headers))
        self.sent += len(body) + len(path)
        response = self._connection.getresponse()
        most = most if response.status == http.HTTPStatus.OK else MOST_REFUSAL
        if (response.length or 0) > most:
            raise http.client.HTTPException(f"a body of {response.length} bytes, more than {most}")
        data = bytearray()
        while piece := response.read1(_PIECE):  # never what a chunk says of itself: "-1" would be all that comes
            data += piece
            if len(data) > most:
                raise http.client.HTTPException(f"a body of more than {most} bytes")
        if response.length:
            raise http.client.HTTPException(f"a body that was cut off, {response.length} bytes before its end")
        response.close()
        self.received += len(data)
        return HttpResponse(response.status, bytes(data))

    def _left(self) -> float:
        """Seconds that are left, more than none."""
        if self._stop():
            raise StoppedError
        left = self._limit - time.monotonic()
        if left <= 0:
            raise http.client.HTTPException("no whole answer in time")
        return left


def _why(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"a certificate that doesn't verify: {error.verify_message}"
    return " ".join(str(error).split())[:200] or type(error).__name__
