"""HTTP API: the enrolment service, on the loopback interface behind the gateway.

    POST /v1/enroll      a token, two keys and a proof -> a device number, or one constant refusal
                         a number, an identity and a proof -> what is known of that device is deleted

With `palate serve run --dev`, which has no nginx, the same application also replaces the gateway: it forwards
`/v1/fleet/*` to the SuperLink, serves the public files, and answers pages of `gateway.origins` as nginx does. It has
none of nginx's limits, and is for loopback only.
"""

from __future__ import annotations

import hmac
import re
import ssl
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
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
from palate_core.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_core.log.canonical import canonical_json
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog, EventTally
from palate_server.folder.places import place_of_header, split
from palate_server.folder.server_folder import Site

REFUSAL = {"error": "the enrolment is refused"}
"""The same answer for every reason; only the operator's log has the reason."""
FLEET = re.compile(r"/v1/fleet/[a-z-]{1,40}", re.ASCII)
PUBLIC = re.compile(
    r"(models/latest|models/[0-9a-f]{64}/[a-z0-9._-]{1,40}|(directory|round)/[0-9a-f]{64}|ledger/checkpoint|"
    r"ledger/tile/(\d|entries)/(x\d{3}/)*\d{3}(\.p/[1-9]\d{0,2})?)",
    re.ASCII,
)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of the loopback interface."""
PAGE_HEADERS = {
    "v1/fleet/": "accept, content-type, flwr-public-key, flwr-signature, flwr-timestamp",
    "v1/enroll": "content-type",
    **dict.fromkeys(("models/", "directory/", "round/"), "accept"),
}
"""Beginning of a path to which web pages may send requests -> headers that they may send; nginx has the same."""
DEV_BODY = 2**26
"""The most bytes of a request that is forwarded with `--dev`."""
MANY = 10
"""Factor from the gateway's limit of requests per minute and address to the limit of tokens per minute."""


class EnrolmentService(Closing):
    """Enrols devices: in the register first, then at the SuperLink, so that after a crash the device can ask again.

    **Guarantees:** a client without a token of this server can't keep others out, however much it sends; a client with
    a token uses one place per minute with it. The gateway limits the requests of one address. Refusals and failures
    write at most one line a minute to the events, so that nobody can fill the log. Of who leaves there is no line.

    Args:
        site: the server folder.
        register_node: registers a node key at the SuperLink, and returns the node's number.
        remove_node: removes the node of a key from the SuperLink, if it is there.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        site: Site,
        register_node: Callable[[str], int],
        remove_node: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site, self._register_node, self._remove_node, self._clock = site, register_node, remove_node, clock
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
        device = register.enrol(request.token, node_key=request.node_key, identity=request.identity, now=time.time())
        node = device.node
        if node is None:
            node = self._register_node(request.node_key)
            register.registered(device.number, node)
            self._events.tell("enrolled")
        # A device knows its node by the number that its SuperLink has given it.
        answer = Enrolled(device=device.number, population=self._site.config.population, node=split(node)[1])
        return 200, answer.to_bytes()

    def _leaving(self, body: bytes) -> tuple[int, bytes]:
        """Answer a device that asks to be forgotten: excluded first, deleted last, so that it can ask again."""
        population = self._site.config.population
        try:
            request = read_leave(body)
            if request.population != population:
                raise RefusedError("a device must leave the population that it is in, got another")
            with Enrolments(self._site.enrolment_file) as register:
                node_key = register.leave(request.device, identity=request.identity)
                if node_key is not None:
                    self._remove_node(node_key)
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


def application(site: Site, enrolling: EnrolmentService, *, stand_in: bool) -> Starlette:
    """Make the HTTP application; with `stand_in` it also replaces the gateway."""

    async def enrol(request: Request) -> Response:
        body = await _bounded(request, MOST_REQUEST)
        if body is None:
            return JSONResponse(REFUSAL, status_code=413)
        status, answer = await run_in_threadpool(enrolling.answer, body)
        return Response(answer, status_code=status, media_type="application/json")

    routes: list[BaseRoute] = [Route(ENROL_PATH, enrol, methods=["POST"])]
    if stand_in:
        upstream = _Upstream(site)
        routes += [
            Route("/v1/fleet/{name}", upstream.forward, methods=["POST"]),
            Route("/{path:path}", lambda request: _static(site.public, request.path_params["path"]), methods=["GET"]),
        ]
        if site.config.gateway.path:
            routes = [Mount(site.config.gateway.path, routes=routes)]
    middleware = [Middleware(ForPages, origins=site.config.gateway.origins, path=site.config.gateway.path)]
    return Starlette(routes=routes, middleware=middleware if stand_in else [])


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
        own |= {"Access-Control-Allow-Origin": origin}
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


class _Upstream:
    """Forwards fleet requests to the SuperLink of the node, for `--dev`."""

    def __init__(self, site: Site) -> None:
        context = ssl.create_default_context(cafile=str(site.tls / "ca.pem"))
        self._addresses = [f"https://localhost:{port}" for port in site.config.gateway.superlink_ports]
        many = httpx.Limits(max_connections=None)  # each device that waits holds one
        self._client = httpx.AsyncClient(verify=context, timeout=60.0, trust_env=False, limits=many)

    async def forward(self, request: Request) -> Response:
        """Forward a request, and return the SuperLink's answer."""
        body = await _bounded(request, DEV_BODY)
        path = f"/v1/fleet/{request.path_params['name']}"
        if body is None or not FLEET.fullmatch(path):
            return Response(status_code=404)
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "connection")}
        place = place_of_header(request.headers.get("flwr-public-key", "").encode(), len(self._addresses))
        try:
            found = await self._client.post(f"{self._addresses[place]}{path}", content=body, headers=headers)
        except httpx.HTTPError:
            return Response(status_code=502)
        kept = {name: value for name, value in found.headers.items() if name.startswith(("content-type", "flwr"))}
        return Response(found.content, status_code=found.status_code, headers=kept)


def _static(public: Path, path: str) -> Response:
    """A published file, or 404."""
    file = public / path
    return FileResponse(file) if PUBLIC.fullmatch(path) and file.is_file() else Response(status_code=404)


async def _bounded(request: Request, most: int) -> bytes | None:
    """Read a body; None if it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


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
    """An application some of whose paths answer only to who asks for the loopback interface by its name; to others 403.

    A web page of elsewhere whose name leads to 127.0.0.1 could else read the answers in a browser of this machine (DNS
    rebinding). What listens on loopback alone has no token.

    Args:
        application: the application.
        paths: these paths; the others look at the host themselves.
    """

    def __init__(self, application: ASGIApp, paths: Collection[str]) -> None:
        self._application, self._paths = application, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        given = [value for name, value in scope["headers"] if name == b"host"]
        names = {name_of(value.decode("latin-1")) for value in given}
        if scope["path"] not in self._paths or names <= LOOPBACK:
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
        pair = certificate or (None, None)
        settings = uvicorn.Config(
            application,
            host=host,
            port=port,
            ssl_certfile=None if pair[0] is None else str(pair[0]),
            ssl_keyfile=None if pair[1] is None else str(pair[1]),
            access_log=False,
            log_level="warning",
            log_config=None,
            lifespan="off",
            ws="none",
            timeout_keep_alive=65,
        )
        self._server = uvicorn.Server(settings)
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
