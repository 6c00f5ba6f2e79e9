"""Pages: the operator's page over HTTP, on the metrics port of the loopback interface, or behind the gateway.

    GET  /console/          the page; whoever has no session gets the door: a token, or behind the gateway a password
    GET  /console/live      what changes, as server-sent events
    GET  /console/card/SHA  a published model's privacy card
    POST /console/enter     the password -> a session
    POST /console/leave     the end of a session
    GET  /console/static/   script, style and icon, the page's own

It only reads: no request changes anything but sessions. Nothing is loaded from elsewhere, and no script or style stands
in the page: the content security policy allows neither.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Generic
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from palate_common.records.closing import Closing
from palate_core.errors import InputError
from palate_server.console.access import KNOWN_SECONDS, LONGEST, SESSION_SECONDS, Access
from palate_server.console.board import Board, BoardReader, Parts
from palate_server.console.live import BoardSource, Live, Sections, Shown
from palate_server.folder.events import EventLog, EventTally
from palate_server.folder.profiles import TRIAL_WORDS
from palate_server.folder.server_folder import Site
from palate_server.operation.releases import CARD
from palate_server.service.http_api import LOOPBACK, name_of

PATH = "/console"
GATEWAY = "x-palate-gateway"
"""The header by which the gateway says that a request came through it; nginx sets it whatever a client sends."""
KNOWN = "__Secure-palate-known"
"""The cookie of a browser that the password has let in before: it opens nothing, and has tries of its own."""
Columns = Sequence[tuple[str, Sequence[str]]]
"""How wide a column is, and its sections."""
COLUMNS: Columns = (
    ("whole", ("top",)),
    ("narrow", ("now", "errors", "devices")),
    ("wide", ("budget", "models", "surveys")),
    ("whole", ("log", "server")),
)
"""The page's sections, in their order, by column; each is a template in `templates/sections`."""
SECTIONS = tuple(name for _, names in COLUMNS for name in names)
POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Headers of each answer."""
MOST_FORM = 12 * LONGEST + 64
"""Bytes of the largest form: a character may take four bytes, and each of them three signs."""

Endpoint = Callable[[Request], Awaitable[Response]]


class GuardedPage(Closing, Generic[Shown]):
    """A page that shows a board to who has a session.

    **Guarantees:** no page without a session: neither the page, nor what changes, nor what its further paths answer.

    Args:
        place: the server folder.
        reader: reads the board.
        port: the port of the loopback interface.
        base: the page's path behind the gateway.
        columns: the sections, in their order, by column.
        templates: the folder of their templates.
        shown: what the templates have beside the board.
    """

    def __init__(
        self, place: Site, reader: BoardSource[Shown], *, port: int, base: str,
        columns: Columns, templates: str, shown: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self._place, self._access, self._shown = place, Access(place), shown
        self._columns, self._folder = columns, templates
        self._templates, self._static = _environment(), _static_files()
        self._live = Live(reader, self._sections)
        self._refused = EventTally(EventLog(place.events), "console refused")
        self._cookie, self._outside = f"palate-console-{port}", base

    @property
    def application(self) -> Starlette:
        """What answers the page's paths."""
        read = {"": self._moved, "/": self._page, "/live": self._stream, "/static/{name:path}": self._file}
        answers: Mapping[str, Mapping[str, Endpoint]] = {
            "GET": read | self._further(),
            "POST": {"/enter": self._enter, "/leave": self._leave},
        }
        return Starlette(
            routes=[
                Route(f"{PATH}{path}", self._with_headers(answer), methods=[method])
                for method, each in answers.items()
                for path, answer in each.items()
            ]
        )

    def close(self) -> None:
        """End all streams; closing twice is fine."""
        self._live.close()
        self._refused.close()

    def _further(self) -> dict[str, Endpoint]:
        """Path below the page's -> what answers it, to who has a session."""
        return {}

    def _with_headers(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint for the page's own hosts alone, so that no page of elsewhere reaches it by a name of its own."""

        async def answer(request: Request) -> Response:
            ours = {self._place.config.name} if _by_gateway(request) else LOOPBACK
            host = name_of(request.headers.get("host", ""))
            try:
                found = await endpoint(request) if host in ours else Response(status_code=404)
            except InputError:  # a session can't be written
                found = self._door(request, "full", status=503)
            for name, value in HEADERS.items():
                found.headers.setdefault(name, value)
            return found

        return answer

    async def _moved(self, request: Request) -> Response:
        """The page's path without its slash, from which nothing of it would be found."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{self._base(request)}/{query}", status_code=303)

    async def _page(self, request: Request) -> Response:
        token = request.query_params.get("token") if request.method == "GET" else None  # HEAD is a look, not an entry
        if token is not None and not _by_gateway(request):
            session = await run_in_threadpool(self._access.enter_by_token, token)
            return self._door(request, "token") if session is None else self._let_in(request, session)
        if not await self._admitted(request):
            return self._door(request, "")
        seen, sections = await run_in_threadpool(self._live.look)
        way = "gateway" if _by_gateway(request) else "loopback"
        return self._html("page.html", seen=seen, sections=sections, columns=self._columns, way=way)

    async def _stream(self, request: Request) -> Response:
        if not await self._admitted(request):
            return Response(status_code=401)
        if self._live.full:
            return Response(status_code=503, headers={"Retry-After": "10"})
        seen = request.headers.get("last-event-id") or request.query_params.get("seen", "")
        session = self._session(request)
        events = self._live.stream(seen, lambda: self._access.admits(session))
        return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def _enter(self, request: Request) -> Response:
        if not _by_gateway(request) or not self._access.has_password or not self._is_own(request):
            return Response(status_code=404)
        form = await _form(request)
        if form is None:
            return Response(status_code=413)
        try:
            known = request.cookies.get(KNOWN, "")
            session = await run_in_threadpool(self._access.enter_by_password, form.get("password", ""), known)
        except BlockingIOError:
            return self._door(request, "many", status=429)
        if session is None:
            self._refused.add("a wrong password")
            return self._door(request, "wrong", status=403)
        answer = self._let_in(request, session)
        known = await run_in_threadpool(self._access.know, known)
        self._set_cookie(request, answer, KNOWN, known, KNOWN_SECONDS)
        return answer

    async def _leave(self, request: Request) -> Response:
        if not self._is_own(request):
            return Response(status_code=404)
        await run_in_threadpool(self._access.leave, self._session(request))
        answer = RedirectResponse(f"{self._base(request)}/", status_code=303)
        answer.delete_cookie(  # a browser forgets one only as it was set
            self._name(request),
            path=self._base(request),
            secure=_by_gateway(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _file(self, request: Request) -> Response:
        found = self._static.get(request.path_params["name"])
        if found is None:
            return Response(status_code=404)
        data, kind, _ = found
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})

    def _let_in(self, request: Request, session: str) -> Response:
        """Send a browser to the page, with its session in a cookie that no script and no other site sees."""
        answer = RedirectResponse(f"{self._base(request)}/", status_code=303)
        self._set_cookie(request, answer, self._name(request), session, SESSION_SECONDS)
        return answer

    def _set_cookie(self, request: Request, answer: Response, name: str, value: str, seconds: float) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=int(seconds),
            path=self._base(request),
            secure=_by_gateway(request),
            httponly=True,
            samesite="strict",
        )

    def _door(self, request: Request, why: str, *, status: int = 401) -> Response:
        asked = _by_gateway(request) and self._access.has_password
        return self._html("door.html", status=status, asked=asked, why=why)

    async def _admitted(self, request: Request) -> bool:
        return await run_in_threadpool(self._access.admits, self._session(request))

    def _session(self, request: Request) -> str:
        return request.cookies.get(self._name(request), "")

    def _name(self, request: Request) -> str:
        """The cookie's name; on loopback it has the port, since cookies are of all ports."""
        return "__Secure-palate-console" if _by_gateway(request) else self._cookie

    def _base(self, request: Request) -> str:
        """The page's path as the browser sees it."""
        return self._outside if _by_gateway(request) else PATH

    def _is_own(self, request: Request) -> bool:
        """Whether a form was sent by this page; a browser says where it comes from."""
        origin, place = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
        if origin is not None and name_of(origin.partition("://")[2]) != name_of(request.headers["host"]):
            return False
        return place == "same-origin"

    def _sections(self, board: Shown | str) -> Sections:
        """The sections of a board, or one that says why there is none."""
        if isinstance(board, str):
            return {"top": self._templates.get_template("unreadable.html").render(reason=board)}
        names = [name for _, column in self._columns for name in column]
        return {name: self._templates.get_template(f"{self._folder}/{name}.html").render(board=board) for name in names}

    def _html(self, template: str, *, status: int = 200, **values: Any) -> Response:
        versions = {name: stamp for name, (_, _, stamp) in self._static.items()}
        return HTMLResponse(
            self._templates.get_template(template).render(**self._shown, **values, versions=versions),
            status_code=status,
        )


class Console(GuardedPage[Board]):
    """The operator's page of one server folder.

    **Guarantees:** nothing that tells devices apart: the page has numbers of devices only, and no text of the log is on
    it that names a device, a node, a key, an invitation or an address.

    Args:
        site: the server folder.
        parts: returns part -> whether it runs; None: the server doesn't.
    """

    def __init__(self, site: Site, parts: Parts) -> None:
        gateway = site.config.gateway
        super().__init__(
            site, BoardReader(site, parts), port=gateway.metrics_port, base=f"{gateway.path}{PATH}", columns=COLUMNS,
            templates="sections",
            shown={"title": site.config.population, "trial": site.config.trial, "folder": "FOLDER"},
        )  # fmt: skip
        self._site = site

    def _further(self) -> dict[str, Endpoint]:
        return {"/card/{name:str}": self._card}

    async def _card(self, request: Request) -> Response:
        if not await self._admitted(request):
            return Response(status_code=401)
        name = request.path_params["name"]
        if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            return Response(status_code=404)
        try:
            card = json.loads((self._site.models / name / CARD).read_bytes())
        except (OSError, ValueError):
            return Response(status_code=404)
        return Response(json.dumps(card, indent=1, ensure_ascii=False), media_type="application/json")


def _by_gateway(request: Request) -> bool:
    return GATEWAY in request.headers


async def _form(request: Request) -> Mapping[str, str] | None:
    """A short form's fields; None if it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM:
            return None
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace"), keep_blank_values=True).items()}


def _static_files() -> Mapping[str, tuple[bytes, str, str]]:
    """The page's own files: name -> bytes, media type, and a stamp by which browsers tell versions apart."""
    found = {}
    root = files("palate_server.console") / "static"
    for folder, prefix in ((root, ""), (root / "vendor", "vendor/")):
        for file in folder.iterdir():
            if file.is_file():
                data = file.read_bytes()
                kind = mimetypes.guess_type(file.name)[0] or "text/plain"
                found[f"{prefix}{file.name}"] = data, kind, hashlib.sha256(data).hexdigest()[:12]
    return found


def _environment() -> Environment:
    """The templates: what is undefined is an error, and every text is escaped."""
    made = Environment(
        loader=PackageLoader("palate_server.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["trial_words"] = TRIAL_WORDS
    made.filters |= {"moment": _moment, "stamp": _stamp, "bytes": _bytes, "marked": _marked}
    return made


def _moment(at: str | None, kind: str = "ago") -> Markup:
    """A time, which the page's script turns into the reader's zone; without the script it is UTC.

    `kind` says how it is shown: how long "ago", as a "moment", or as a "date".
    """
    if at is None:
        return Markup("")
    if len(at) == 10:  # a day alone
        return _day(at)
    said = datetime.fromisoformat(at).astimezone(UTC)
    text = said.strftime("%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}" data-as="{}">{}</time>').format(said.isoformat(), kind, text)


def _stamp(at: float) -> Markup:
    """The same for seconds since 1970."""
    return _moment(datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"))


def _day(day: str) -> Markup:
    """A day alone, in no zone; the page's script writes it as it does other days."""
    return Markup('<time datetime="{}" data-day>{}</time>').format(day, day)


def _marked(text: str) -> Markup:
    """A text whose `names` are set as code."""
    parts = [
        Markup("<code>{}</code>").format(each) if place % 2 else escape(each)
        for place, each in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    raise AssertionError("a number of bytes must have a unit")
