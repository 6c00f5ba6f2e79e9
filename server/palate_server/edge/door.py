"""Door: the ASGI application that devices talk to, see "The exchange" in docs/wire-exchange.md.

    headers -> spelled right? -> whose? -> signed by that identity, now, once -> body -> answer taken -> next message

It is raw ASGI, because ten thousand devices wait here at once, each of which costs what one request holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import Receive, Scope, Send

from palate_common.rounds.exchange import (
    CLOCK_SECONDS,
    HEADERS,
    PATH,
    VERSIONS,
    ExchangeRequest,
    ServerMessage,
    VersionError,
    check,
)
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_server.edge.proofs import DeviceRegister, proof_of
from palate_server.edge.waiting_room import OverError, WaitingRoom

AT_ONCE: Final = 2**28
"""Bytes of the bodies that are read at the same time; others wait for their turn. A slow device takes its time."""
MOST_TIMES: Final = 2**20
"""Devices whose latest time is remembered."""
BODY_SECONDS: Final = 60.0
"""Seconds in which a body must have come."""
_ALL: Final = frozenset(name.encode() for name in (*HEADERS, "content-length"))


class RefusedRequestError(PalateError):
    """A request is answered by a status alone.

    Args:
        status: the HTTP status.
        why: for tests and nobody else: no log says who was refused.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"{status}: {why}")
        self.status = status


class DeviceDoor:
    """The application.

    **Guarantees:** nothing of a body is read before the device that it is of has signed its length and its SHA-256; a
    signed request is taken once while an edge runs, and by one that was started again as late or twice; of a body no
    more is kept than the exchange that it answers has room for.

    **Assumes:** whoever is in front of it ends TLS, and bounds the headers, the connections and the time of a request.

    Args:
        room: where devices wait.
        register: the enrolled devices.
        population: the population.
        path: what each path begins with, as devices send it, where several populations share a name and a port.
        most: bytes of the largest body that is read at all.
        clock: returns the time in seconds since 1970.
    """

    def __init__(
        self,
        room: WaitingRoom,
        register: DeviceRegister,
        *,
        population: str,
        path: str = "",
        most: int = 2**26,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._room, self._register, self._population, self._path = room, register, population, path + PATH
        self._most, self._clock = most, clock
        self._times: OrderedDict[int, int] = OrderedDict()
        self._space, self._reading = _Space(AT_ONCE), dict[int, asyncio.Timeout]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        taken = ""
        try:
            if scope["method"] != "POST":
                raise RefusedRequestError(405, "another method")
            asked, proof, identity = self._verified(scope)
            if asked.answers:
                taken = await self._body(asked, proof, identity, receive)
            message = await self._next(asked, proof, receive)
        except VersionError:
            await _reply(send, 426, {"palate-versions": f"{VERSIONS[0]}-{VERSIONS[1]}"})
        except RefusedRequestError as refused:
            await _reply(send, refused.status, {"palate-taken": taken} if taken else {})
        except ConnectionResetError:
            return
        except (PalateError, asyncio.CancelledError):  # not the request's fault, or the edge ends: it may try again
            await _reply(send, 503, {})
        else:
            headers = ({} if message is None else message.headers()) | ({"palate-taken": taken} if taken else {})
            await _reply(send, 204 if message is None else 200, headers, b"" if message is None else message.body)

    def _verified(self, scope: Scope) -> tuple[ExchangeRequest, bytes, str]:
        """Who asks what, by the headers alone, the proof of it, and the device's identity."""
        headers = dict[str, str]()
        for name, value in scope["headers"]:
            if name in _ALL:
                if name.decode() in headers:
                    raise RefusedRequestError(400, "a header that stands twice")
                headers[name.decode()] = value.decode("latin-1")
        try:
            asked = ExchangeRequest.read(headers)
        except VersionError:
            raise
        except InputError as error:
            raise RefusedRequestError(400, str(error)) from None
        known = self._register.standing(asked.device)
        if known is None:
            raise RefusedRequestError(401, "a number that no device has")
        try:
            check(headers, self._population, self._path, known.identity)
        except IntegrityError:
            raise RefusedRequestError(401, "a signature that doesn't fit") from None
        if known.revoked:
            raise RefusedRequestError(403, "a device that was revoked")
        if asked.length > self._most:
            raise RefusedRequestError(413, "a body larger than any answer")
        self._check_time(asked)
        return asked, proof_of(headers), known.identity

    def _check_time(self, asked: ExchangeRequest) -> None:
        """Refuse a time that isn't near ours, or not above the device's latest: the request was taken before."""
        if abs(self._clock() - asked.time / 1000) > CLOCK_SECONDS or asked.time <= self._times.get(asked.device, 0):
            raise RefusedRequestError(401, "another time")
        self._times[asked.device] = asked.time
        self._times.move_to_end(asked.device)
        if len(self._times) > MOST_TIMES:
            self._times.popitem(last=False)

    async def _body(self, asked: ExchangeRequest, proof: bytes, identity: str, receive: Receive) -> str:
        """Read an answer and take it; one that nobody waits for is read away. A device has one body at a time."""
        most = self._room.most_of(asked.device, asked.answers)
        if most is not None and asked.length > most:
            raise RefusedRequestError(413, "an answer larger than its exchange has room for")
        if (former := self._reading.get(asked.device)) is not None and not former.expired():
            former.reschedule(0.0)  # its connection may be dead
        limit = asyncio.timeout(BODY_SECONDS)
        try:
            async with limit:
                self._reading[asked.device] = limit
                if most is None:
                    await _read(receive, asked.length, keep=False)
                    return self._room.why_not(asked.device, asked.answers)
                async with self._space.of(asked.length):
                    data = await _read(receive, asked.length, keep=True)
        except TimeoutError:
            raise RefusedRequestError(408, "a body that didn't come in time, or comes anew") from None
        finally:
            if self._reading.get(asked.device) is limit:
                del self._reading[asked.device]
        if hashlib.sha256(data).hexdigest() != asked.body:
            raise RefusedRequestError(400, "another body than was signed")
        return self._room.take(asked.device, asked.answers, data, proof, identity)

    async def _next(self, asked: ExchangeRequest, proof: bytes, receive: Receive) -> ServerMessage | None:
        """The next message, as long as the device waits for it."""
        if not asked.wait and not asked.available.stays:
            self._room.leave(asked.device)
            return None
        self._room.arrive(asked.device, asked.available, proof)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            return await self._room.wait_for_message(asked.device, asked.wait, gone)
        except OverError:
            raise RefusedRequestError(409, "a newer request waits") from None
        finally:
            gone.cancel()


class _Space:
    """Memory for bodies that come, given out in the order in which it is asked for.

    Args:
        most: bytes; a larger body has all of it.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._queue = deque[tuple[int, asyncio.Future[None]]]()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Wait for so many bytes, and have them as long as the context lasts."""
        size = min(size, self._most)
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        self._give()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._left += size
            self._give()

    def _give(self) -> None:
        while self._queue and (self._queue[0][1].done() or self._queue[0][0] <= self._left):
            size, turn = self._queue.popleft()
            if not turn.done():
                self._left -= size
                turn.set_result(None)


async def _read(receive: Receive, length: int, *, keep: bool) -> bytes:
    """A body of this length; nothing of one that isn't kept.

    Raises:
        RefusedRequestError: it has another one.
        ConnectionResetError: nobody is there any more.
    """
    parts, left, more = list[bytes](), length, True
    while more:
        found = await receive()
        if found["type"] == "http.disconnect":
            raise ConnectionResetError
        part: bytes = found.get("body", b"")
        left, more = left - len(part), found.get("more_body", False)
        if left < 0:
            raise RefusedRequestError(400, "a longer body than was signed")
        if keep:
            parts.append(part)
    if left:
        raise RefusedRequestError(400, "a shorter body than was signed")
    return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reply(send: Send, status: int, headers: dict[str, str], body: bytes = b"") -> None:
    said = [(name.encode(), value.encode()) for name, value in headers.items()]
    if status != 204:
        said.append((b"content-length", str(len(body)).encode()))
    if body:
        said.append((b"content-type", b"application/octet-stream"))
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": body})
