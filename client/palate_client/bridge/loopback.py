"""Loopback: a small server of the standard library for the user of this machine alone, in daemon threads.

    LoopbackServer(handler) -> handle_request, one thread a connection -> a subclass of LoopbackHandler

**Guarantees:** it listens on loopback, is asked by its own name only (a name elsewhere that leads here is a page of
others), and on Linux, where the kernel says whose a connection is, by no other user of the machine. Answers are kept by
no cache and framed by no page.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from itertools import chain
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from palate_common.system import is_anothers
from palate_core.errors import PalateError

logger = logging.getLogger("palate")

HOST = "127.0.0.1"
"""Where it listens."""


class LoopbackServer(ThreadingMixIn, TCPServer):
    """A server at a port of loopback; 0: any.

    Args:
        handler: answers a connection.
        port: the port.
    """

    daemon_threads, block_on_close, allow_reuse_address = True, False, True

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        super().__init__((HOST, port), handler)
        self.timeout = 0.25

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no matter; anything else is for the log, not for the app's screen."""
        if not isinstance(sys.exception(), OSError):
            logger.warning("a server on loopback failed", exc_info=True)


class LoopbackHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: LoopbackServer
    timeout, server_version, sys_version = 10.0, "palate", ""
    protocol_version = "HTTP/1.1"  # before it, nothing tells a file that is whole from one that was cut short

    def is_addressed_by_name(self) -> bool:
        """Whether the server was asked by its own name, and by a program of its own user."""
        port = self.server.port
        return self.headers.get("Host") == f"{HOST}:{port}" and not is_anothers(self.client_address[1], at=port)

    def read_body(self, most: int) -> bytes | None:
        """The body, if its length is said and at most so many bytes."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > len(str(most)) or int(length) > most:
            return None
        return self.rfile.read(int(length))

    def begin(self, kind: str, *headers: tuple[str, str], status: HTTPStatus = HTTPStatus.OK) -> None:
        """Begin an answer that no cache keeps, and no page elsewhere frames."""
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Connection": "close",
            "Cache-Control": "no-store",
            "Content-Security-Policy": "frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "same-origin",  # not `no-referrer`: then browsers say no origin of a form
        }
        for name, value in (*fixed.items(), *headers):
            self.send_header(name, value)
        self.end_headers()

    def send_whole(self, kind: str, body: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send an answer of a known length."""
        self.begin(kind, ("Content-Length", str(len(body))), status=status)
        self.wfile.write(body)

    def send_lines(self, kind: str, lines: Iterator[str], *headers: tuple[str, str]) -> None:
        """Send lines in chunks; of a file that was cut short the last one is missing, so that browsers say it failed.

        Raises:
            PalateError: there isn't even a first line; nothing was sent.
        """
        first = next(lines, "")
        self.begin(kind, ("Transfer-Encoding", "chunked"), *headers)
        try:
            for line in chain((first,), lines):
                part = f"{line}\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        except PalateError as error:  # an answer has begun: no other one can be sent in its place
            logger.warning("what was read on loopback was cut short: %s", error)
            return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: an address may be a secret."""
