"""Listener: serves HTTP applications of the operator's from this process: metrics, invitations.

What they answer is for who has a token, or for the loopback interface alone.
"""

from __future__ import annotations

import hmac
import threading
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from palate_core.errors import PalateError

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of the loopback interface."""


class WithToken:
    """An application that answers to who has a token, `Authorization: Bearer TOKEN`; to others 401, whatever they ask.

    The token is compared in constant time.

    Args:
        application: the application.
        token: the token.
    """

    def __init__(self, application: ASGIApp, token: str) -> None:
        self._application, self._wanted = application, f"bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, credentials = (given[0] if len(given) == 1 else b"").partition(b" ")
        if hmac.compare_digest(scheme.lower() + b" " + credentials, self._wanted):
            await self._application(scope, receive, send)
            return
        refusal = JSONResponse({"error": "a token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


class ForLoopback:
    """An application that answers only to who asks for the loopback interface by its name; to others 403.

    A web page of elsewhere whose name leads to 127.0.0.1 could else read the answers in a browser of this machine (DNS
    rebinding). What listens on loopback alone has no token.

    Args:
        application: the application.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        given = [value for name, value in scope["headers"] if name == b"host"]
        names = {name_of(value.decode("latin-1")) for value in given}
        if names <= LOOPBACK:
            await self._application(scope, receive, send)
            return
        await JSONResponse({"error": "another host"}, 403)(scope, receive, send)


def name_of(host: str) -> str | None:
    """The name in a `Host`, or in the rest of an address, as a browser writes it; None if it is something else."""
    try:
        found = urlsplit(f"//{host}")
        return found.hostname if found.port != 0 and found.netloc == host and "@" not in host else None
    except ValueError:
        return None


def settings_of(
    application: ASGIApp, *, certificate: tuple[Path, Path] | None, keep: int = 65, **place: Any
) -> uvicorn.Config:
    """How an application is served: no line for a request, which would say who came, and nothing but HTTP.

    Args:
        application: the application.
        certificate: files of PEM chain and key, for TLS; None: plain HTTP.
        keep: seconds for which a connection is kept without a request.
        place: host and port, where no socket is given to the server.
    """
    chain, key = (None, None) if certificate is None else map(str, certificate)
    return uvicorn.Config(
        application,
        ssl_certfile=chain,
        ssl_keyfile=key,
        access_log=False,
        log_level="warning",
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=keep,
        **place,
    )


class Listener:
    """A uvicorn server in a thread.

    Args:
        application: the HTTP application.
        host: address to listen on.
        port: port to listen on.
        certificate: files of PEM chain and key, for TLS; None: plain HTTP.
    """

    def __init__(
        self, application: ASGIApp, *, host: str, port: int, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self._server = uvicorn.Server(settings_of(application, certificate=certificate, host=host, port=port))
        self._thread = threading.Thread(target=self._server.run, name=f"listener-{port}", daemon=True)

    def start(self) -> None:
        """Start to listen.

        Raises:
            PalateError: the port isn't free.
        """
        self._thread.start()
        deadline = time.monotonic() + 30.0
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise PalateError(f"port {self._server.config.port} must be free on {self._server.config.host}")
            time.sleep(0.02)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop it, if it was started."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(10.0)
