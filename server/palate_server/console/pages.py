"""Pages: the operator's page over HTTP, on the metrics port of the loopback interface.

    GET  /console/          the page; whoever has no session gets the door, which takes a token
    GET  /console/card/SHA  a published model's privacy card
    POST /console/leave     the end of a session

It shows what `palate serve status` prints, and asks for itself again every few seconds. It only reads: no request
changes anything but sessions. It is one file without a script, and its content security policy allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from palate_core.errors import InputError
from palate_server.console.access import SECONDS, Access
from palate_server.folder.events import EventLog, told_reason
from palate_server.folder.profiles import TRIAL_WORDS
from palate_server.folder.server_folder import Site
from palate_server.operation.releases import CARD
from palate_server.service.listener import LOOPBACK, name_of
from palate_server.service.problems import BROKEN
from palate_server.service.report import read_report

PATH = "/console"
EVERY = 15
"""Seconds after which the page asks for itself again."""
STYLE = (files("palate_server.console") / "templates" / "console.css").read_text(encoding="utf-8")
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
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
Parts = Callable[[], Mapping[str, bool] | None]
"""Returns part -> whether it runs; None: the server doesn't."""
Endpoint = Callable[[Request], Awaitable[Response]]


class Console:
    """The operator's page of one server folder.

    **Guarantees:** neither the page nor a card without a session.
    **Guarantees:** nothing that tells devices apart: the page has numbers of devices only.

    Args:
        site: the server folder.
        parts: what runs.
    """

    def __init__(self, site: Site, parts: Parts) -> None:
        self._site, self._parts, self._access = site, parts, Access(site)
        self._cookie = f"palate-console-{site.config.gateway.metrics_port}"  # cookies are of all ports

    @property
    def application(self) -> Starlette:
        """What answers the page's paths."""
        answers: tuple[tuple[str, str, Endpoint], ...] = (
            ("GET", "", self._moved),
            ("GET", "/", self._page),
            ("GET", "/card/{name:str}", self._card),
            ("POST", "/leave", self._leave),
        )
        return Starlette(
            routes=[Route(f"{PATH}{path}", _with_headers(answer), methods=[method]) for method, path, answer in answers]
        )

    async def _moved(self, request: Request) -> Response:
        """The page's path without its slash, from which nothing of it would be found."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{PATH}/{query}", status_code=303)

    async def _page(self, request: Request) -> Response:
        token = request.query_params.get("token") if request.method == "GET" else None  # HEAD is a look, not an entry
        if token is not None:
            return await self._let_in(token)
        if not await self._admitted(request):
            return _html("door.html", status=401, why="")
        return await run_in_threadpool(self._shown)

    async def _let_in(self, token: str) -> Response:
        """Send a browser to the page, with its session in a cookie that no script and no other site sees."""
        try:
            session = await run_in_threadpool(self._access.enter, token)
        except InputError:  # a session can't be written
            return _html("door.html", status=503, why="full")
        if session is None:
            return _html("door.html", status=401, why="token")
        answer = RedirectResponse(f"{PATH}/", status_code=303)
        most = int(SECONDS["session"])
        answer.set_cookie(self._cookie, session, max_age=most, path=PATH, httponly=True, samesite="strict")
        return answer

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

    async def _leave(self, request: Request) -> Response:
        origin, place = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
        foreign = origin is not None and name_of(origin.partition("://")[2]) != name_of(request.headers["host"])
        if foreign or place != "same-origin":  # a browser says where a form comes from
            return Response(status_code=404)
        await run_in_threadpool(self._access.leave, request.cookies.get(self._cookie, ""))
        answer = RedirectResponse(f"{PATH}/", status_code=303)
        answer.delete_cookie(self._cookie, path=PATH, httponly=True, samesite="strict")
        return answer

    async def _admitted(self, request: Request) -> bool:
        return await run_in_threadpool(self._access.admits, request.cookies.get(self._cookie, ""))

    def _shown(self) -> Response:
        """The page; where the folder can't be read, that it can't."""
        config = self._site.config
        try:
            report = read_report(self._site, now=time.time(), parts=self._parts())
            events = EventLog(self._site.events).latest()[::-1]
        except BROKEN as error:
            return _html("unreadable.html", reason=f"{type(error).__name__}: {error}")
        told = [(event["at"], event["event"], told_reason(event)) for event in events]
        spent, period = report.status, report.outlook.period
        budgets = (("period", period["mu2"], period["mu2_limit"]), ("lifetime", spent.mu2_spent, spent.mu2_lifetime))
        cards = {each["version"]: each["manifest"] for each in spent.models if self._has_card(each["manifest"])}
        return _html(
            "page.html", title=config.population, trial=config.trial, report=report, budgets=budgets, cards=cards,
            events=told,
        )  # fmt: skip

    def _has_card(self, manifest: str) -> bool:
        return (self._site.models / manifest / CARD).is_file()


def _with_headers(endpoint: Endpoint) -> Endpoint:
    """An endpoint for loopback's own names alone, so that no page of elsewhere reaches it by a name of its own."""

    async def answer(request: Request) -> Response:
        ours = name_of(request.headers.get("host", "")) in LOOPBACK
        found = await endpoint(request) if ours else Response(status_code=404)
        for name, value in HEADERS.items():
            found.headers.setdefault(name, value)
        return found

    return answer


def _html(template: str, *, status: int = 200, **values: Any) -> Response:
    return HTMLResponse(_environment().get_template(template).render(**values), status_code=status)


@cache
def _environment() -> Environment:
    """The templates: what is undefined is an error, and every text is escaped."""
    made = Environment(
        loader=PackageLoader("palate_server.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"style": STYLE, "every": EVERY, "trial_words": TRIAL_WORDS}
    return made
