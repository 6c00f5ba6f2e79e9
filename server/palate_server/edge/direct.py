"""Direct: the link between a coordinator and the one edge on its own machine: a Unix socket that their account may use.

    EdgeTransport -> DirectLink -> POST / on state/link.sock -> LinkService -> WaitingRoom

It has no Flower in between: for one machine, for trials and for tests. Beside others it is a second of latency quicker.
"""

from __future__ import annotations

import http.client
import secrets
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from palate_core.errors import IntegrityError
from palate_server.edge.sockets import reachable
from palate_server.edge.waiting_room import WaitingRoom

EDGE: Final = "edge"
"""The name of the only edge."""
PAUSE: Final = 0.2
"""Seconds before an edge that isn't there is asked again."""


class LinkService:
    """The ASGI application on the link's socket: a batch in, a batch out.

    **Assumes:** only the coordinator can connect.

    Args:
        room: what answers.
    """

    def __init__(self, room: WaitingRoom) -> None:
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a batch."""
        if scope["type"] != "http":
            return
        try:
            reply = Response(await self._room.answer(await Request(scope, receive).body()))
        except ClientDisconnect:
            return
        except IntegrityError:
            reply = Response(status_code=400)
        await reply(scope, receive, send)


class DirectLink:
    """An `EdgeLink` to the edge behind a socket.

    Args:
        path: the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asked: dict[str, tuple[bytes, float]] = {}

    def edges(self) -> Mapping[str, str]:
        """The one edge."""
        return {EDGE: EDGE}

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        """Keep a question until its reply is waited for; this edge's is read whole."""
        asked = secrets.token_hex(8)
        self._asked = {asked: (batch, seconds)}
        return asked

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        """Ask the edge; while it is started again, its questions are lost, after a short pause."""
        return [(each, self._reply(*self._asked.pop(each))) for each in asked if each in self._asked]

    def _reply(self, batch: bytes, seconds: float) -> bytes | None:
        connection = _UnixConnection(self._path, timeout=seconds)
        try:
            connection.request("POST", "/", batch)
            reply = connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException):
            time.sleep(min(PAUSE, seconds))
            return None
        finally:
            connection.close()
        if reply.status != http.client.OK:
            raise IntegrityError(f"an edge must know what it is asked, got status {reply.status}")
        return data


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(self.timeout)
        try:
            found.connect(reachable(self._path))
        except OSError:
            found.close()
            raise
        self.sock = found
