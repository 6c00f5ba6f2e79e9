"""Guard: a SuperLink answers its nodes, and everything else only to who has the token of its server folder.

    POST /v1/fleet/NAME           edges: a registered node's key signs each request        -> passed on
    POST /v1/runtime/NAME         the ServerApp: the folder's secret, or its task's token    -> passed on
    GET  /health                  "it answers", and no more                                -> passed on
    POST .../register-node        with the token of an edge on another host, now and then  -> passed on
    control, documentation, ...   with `authorization: Bearer TOKEN`: passed on; without: 401

Flower has no authentication on these. Any account of the machine could start a run, and register a node.

The token follows from a secret in the folder, made anew at each start, and from the folder's place on the disk: a copy
of the folder, whose ports are the same, has another. It is on no command line.

>>> import tempfile
>>> secret, copied = (Path(tempfile.mkdtemp()) / "secret" for _ in range(2))
>>> _ = secret.write_bytes(b"x" * 64), copied.write_bytes(b"x" * 64)
>>> token_of(secret) == token_of(secret), token_of(secret) == token_of(copied)
(True, False)
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate_core.errors import InputError

OPEN: Final = ("/v1/fleet/", "/v1/runtime/")
"""Beginnings of paths on which Flower itself asks who is there."""
HEALTH: Final = "/health"
REGISTER: Final = "/v1/control/register-node"
REGISTERING: Final = "register"
"""What an edge's token is for."""
HEADER: Final = "authorization"
REGISTRATIONS, REFILL = 20.0, 1 / 3.0
"""How often an edge's token registers a node at once, and each second after that. Others get 401, and try again."""
MOST_BODY: Final = 2**24
"""Bytes of a request at most: Flower reads all of one before it knows whose it is, and objects have 4 MB."""


class TokenGuard:
    """A middleware before all others of a SuperLink.

    **Guarantees:** what no node's and no task's request is has the token, or is read no further than its headers; of no
    request more is read than `MOST_BODY`; a grant registers few nodes.

    Args:
        app: the SuperLink.
        token: the token.
        edges: returns the tokens by which edges on other hosts may register themselves.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        edges: Callable[[], Collection[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inside, self._token, self._edges, self._clock = app, token, edges, clock
        self._left = dict[str, tuple[float, float]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] == "lifespan" or self._passes(scope):
            await self._inside(scope, _bounded(receive), send)
        elif scope["type"] == "http":
            await Response(status_code=401)(scope, receive, send)

    def _passes(self, scope: Scope) -> bool:
        if scope["type"] == "http" and (scope["path"].startswith(OPEN) or scope["path"] == HEALTH):
            return True
        given = [value for name, value in scope["headers"] if name == HEADER.encode()]
        edges = self._edges() if scope["type"] == "http" and scope["path"] == REGISTER else ()
        if len(given) != 1:
            return False
        shown = [each for each in (self._token, *edges) if hmac.compare_digest(given[0], bearer(each).encode())]
        return bool(shown) and (shown[0] == self._token or self._may_register(shown[0]))

    def _may_register(self, edge: str) -> bool:
        """Whether a grant has a registration left."""
        now = self._clock()
        left, since = self._left.get(edge, (REGISTRATIONS, now))
        left = min(REGISTRATIONS, left + REFILL * (now - since))
        passes = left >= 1
        self._left[edge] = left - passes, now
        return passes


def _bounded(receive: Receive) -> Receive:
    """What comes, until it is too much: from then on nobody is there any more."""
    left = MOST_BODY

    async def received() -> Message:
        nonlocal left
        found = await receive()
        left -= len(found.get("body", b""))
        return found if left >= 0 else {"type": "http.disconnect"}

    return received


def token_of(secret: Path) -> str:
    """The token of the folder in which a secret lies.

    Raises:
        InputError: this account can't read it, or it was never made.
    """
    try:
        key, facts = secret.read_bytes(), secret.parent.stat()
    except OSError as error:
        raise InputError(f"{secret} must be a secret that `palate serve run` has made, got {error.strerror}") from None
    if len(key) < 32:
        raise InputError(f"{secret} must have 32 bytes or more, got {len(key)}")
    return hmac.new(key, f"palate superlink\n{facts.st_dev:x}-{facts.st_ino:x}".encode(), hashlib.sha256).hexdigest()


def bearer(token: str) -> str:
    """The value of the header that has a token."""
    return f"Bearer {token}"
