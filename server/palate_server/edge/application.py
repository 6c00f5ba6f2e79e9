"""Application: all that devices ask of a server, but for files: the door, and enrolment.

    POST /v1/device/exchange   -> DeviceDoor
    POST /v1/enroll            a token, an identity and a proof -> a device number, or one constant refusal
                               a number, an identity and a proof -> what is known of that device is deleted

With `palate serve run --dev`, which has no nginx, it also replaces the gateway: it serves the public files, and answers
pages of `gateway.origins` as nginx does. It then has none of nginx's limits, and is for loopback only.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate_common.enrolment import (
    ENROL_PATH,
    MOST_REQUEST,
    Enrolled,
    EnrolRequest,
    LeaveAnswer,
    asks_to_leave,
    read_leave,
    read_request,
    token_hash,
)
from palate_common.records.closing import Closing
from palate_common.rounds.exchange import HEADERS, PATH, REPLY_HEADERS
from palate_core.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_core.log.canonical import canonical_json
from palate_server.edge.door import DeviceDoor
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog, EventTally
from palate_server.folder.server_folder import Site

REFUSAL = {"error": "the enrolment is refused"}
"""The same answer for every reason; only the operator's log has the reason."""
PUBLIC = re.compile(
    r"(models/latest|models/[0-9a-f]{64}/[a-z0-9._-]{1,40}|round/[0-9a-f]{64}|ledger/checkpoint|"
    r"ledger/tile/(\d|entries)/(x\d{3}/)*\d{3}(\.p/[1-9]\d{0,2})?|app/([\w-][\w.-]*/)*[\w-][\w.-]*)",
    re.ASCII,
)
KINDS = {"models/latest": "application/json", "ledger/checkpoint": "text/plain; charset=utf-8"}
"""Of files that aren't only bytes the media type; nginx has the same."""
PAGE_HEADERS = {
    "v1/device/": ", ".join(("content-type", *HEADERS)),
    "v1/enroll": "content-type",
    **dict.fromkeys(("models/", "round/"), "accept"),
}
"""Beginning of a path to which web pages may send requests -> headers that they may send; nginx has the same."""
MANY = 10
"""Factor from the gateway's limit of requests per minute and address to the limit of tokens per minute."""


class EnrolmentService(Closing):
    """Enrols devices, and forgets those that leave.

    **Guarantees:** a client without a token of this server can't keep others out, however much it sends; a client with
    a token uses one place per minute with it. The gateway limits the requests of one address. Refusals and failures
    write at most one line a minute to the events, so that nobody can fill the log. Of who leaves there is no line.

    Args:
        site: the server folder.
        clock: returns monotonic seconds.
    """

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site, self._clock = site, clock
        self._events = EventLog(site.events)
        self._refusals = EventTally(self._events, "enrolment refused", clock)
        self._failures = EventTally(self._events, "enrolment failed", clock)
        self._lock = threading.Lock()
        self._places: dict[str, float] = {}

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Answer a request's body with HTTP status and JSON."""
        if asks_to_leave(body):
            return self._leaving(body)
        try:
            request = read_request(body)
        except IntegrityError:
            return self._refused(400, "a proof that doesn't fit")
        except PalateError:
            return self._refused(400, "no request")
        try:
            with Enrolments(self._site.enrolment_file) as register:
                if not register.knows(request.token):
                    return self._refused(403, "an unknown token")
                with self._lock:
                    if not self._has_place(request.token):
                        return self._refused(
                            429, "more tokens in a minute than `enrolment.requests_per_minute` lets in"
                        )
                    return self._enrol(register, request)
        except RefusedError as error:
            return self._refused(403, str(error))
        except PalateError as error:  # not the request's fault: the device may try again
            self._failures.add(str(error))
            return 503, canonical_json(REFUSAL)

    def tell(self) -> None:
        """Write the numbers of refusals and failures to the log, if it is time to; call it regularly."""
        self._refusals.tell()
        self._failures.tell()

    def close(self) -> None:
        """Write the remaining numbers to the log; closing twice is fine."""
        self._refusals.close()
        self._failures.close()

    def _enrol(self, register: Enrolments, request: EnrolRequest) -> tuple[int, bytes]:
        """Answer a request with a token of this server."""
        before = register.number_of(request.identity)
        device = register.enrol(request.token, identity=request.identity, now=time.time())
        if before is None:
            self._events.tell("enrolled")
        answer = Enrolled(device=device.number, population=self._site.config.population)
        return 200, answer.to_bytes()

    def _leaving(self, body: bytes) -> tuple[int, bytes]:
        """Answer a device that asks to be forgotten: excluded first, deleted last, so that it can ask again."""
        population = self._site.config.population
        try:
            request = read_leave(body)
            if request.population != population:
                raise RefusedError("a device must leave the population that it is in, got another")
            with Enrolments(self._site.enrolment_file) as register:
                register.leave(request.device, identity=request.identity)
                register.forget(request.device)  # once more, too: somebody may have been reading what was there
        except IntegrityError:
            return self._refused(400, "a proof that doesn't fit")
        except RefusedError as error:
            return self._refused(403, str(error))
        except InputError:
            return self._refused(400, "no request")
        except PalateError as error:  # not the request's fault: the device may try again
            self._failures.add(str(error))
            return 503, canonical_json(REFUSAL)
        return 200, LeaveAnswer(device=request.device, population=population).to_bytes()

    def _refused(self, status: int, reason: str) -> tuple[int, bytes]:
        """The constant refusal; the reason, which identifies no device, is counted for the log."""
        self._refusals.add(reason)
        return status, canonical_json(REFUSAL)

    def _has_place(self, token: str) -> bool:
        """Whether a token is within the limit of this minute."""
        now, name = self._clock(), token_hash(token)
        while self._places and now - next(iter(self._places.values())) > 60.0:
            del self._places[next(iter(self._places))]
        if name in self._places or len(self._places) < MANY * self._site.config.enrolment.requests_per_minute:
            self._places.setdefault(name, now)
            return True
        return False


def application(site: Site, door: DeviceDoor, enrolling: EnrolmentService | None, *, stand_in: bool) -> ASGIApp:
    """Make the application; with `stand_in` it also replaces the gateway."""
    prefix = site.config.gateway.path if stand_in else ""
    routes: list[BaseRoute] = []
    if enrolling is not None:
        routes.append(Route(ENROL_PATH, partial(_enrol, enrolling.answer), methods=["POST"]))
    if stand_in:
        public = partial(_static, site.public)
        routes.append(Route("/{path:path}", lambda request: public(request.path_params["path"]), methods=["GET"]))
    others = Starlette(routes=[Mount(prefix, routes=routes)] if prefix else routes)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and scope["path"] == prefix + PATH
        await (door if asked else others)(scope, receive, send)

    return ForPages(answer, site.origins, prefix) if stand_in else answer


async def _enrol(answer: Callable[[bytes], tuple[int, bytes]], request: Request) -> Response:
    """Answer a request to enrol, or to leave."""
    body = await _bounded(request, MOST_REQUEST)
    if body is None:
        return JSONResponse(REFUSAL, status_code=413)
    status, said = await run_in_threadpool(answer, body)
    return Response(said, status_code=status, media_type="application/json")


class ForPages:
    """An application whose answers the web pages of some origins may read; to pages of others 403.

    Args:
        application: the application.
        origins: the origins.
        path: where its paths begin.
    """

    def __init__(self, application: ASGIApp, origins: Collection[str], path: str) -> None:
        self._application, self._origins, self._path = application, frozenset(origins), path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or a browser that asks whether a page may send one."""
        headers = Headers(scope=scope)
        origin, rest = headers.get("origin"), scope["path"].removeprefix(f"{self._path}/")
        allowed = next((names for start, names in PAGE_HEADERS.items() if rest.startswith(start)), None)
        if origin is None or allowed is None:
            await self._application(scope, receive, send)
            return
        method, own = "POST" if rest.startswith("v1/") else "GET", {"Vary": "Origin"}
        asked = headers.get("access-control-request-method") if scope["method"] == "OPTIONS" else None
        if origin not in self._origins or (asked or scope["method"].replace("HEAD", "GET")) != method:
            await Response(status_code=403)(scope, receive, send)
            return
        own |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": ", ".join(REPLY_HEADERS)}
        if asked:
            own |= {"Access-Control-Allow-Methods": method, "Access-Control-Allow-Headers": allowed}
            own |= {"Access-Control-Max-Age": "600"}
            await Response(status_code=204, headers=own)(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(own)
            await send(message)

        await self._application(scope, receive, told)


def _static(public: Path, path: str) -> Response:
    """A published file, or 404; as with nginx, no link leads elsewhere."""
    name = f"{path}index.html" if path.endswith("/") else path
    file, kind = public / name, KINDS.get(name, "application/octet-stream")
    if not PUBLIC.fullmatch(name) or not file.is_file() or file.resolve() != public.resolve() / name:
        return Response(status_code=404)
    return FileResponse(file, media_type=None if name.startswith("app/") else kind)


async def _bounded(request: Request, most: int) -> bytes | None:
    """Read a body; None if it is too large, or who sends it is gone."""
    body = bytearray()
    with suppress(ClientDisconnect):
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                return None
        return bytes(body)
    return None
