"""The page over HTTP, on the loopback interface: your own list, what it brings the people, and what is behind it.

    GET  /               the page; /live is what has changed since it was asked last
    POST /you            a title that you like, or take out of what you liked
    POST /set            the switch, the pace, a pause
    GET  /own/en         your own page, as your device makes it, in a language
    POST /own/en         what its buttons do: turn a purpose off, take the data along, erase all

It loads nothing from elsewhere. It answers to the loopback's own names alone, and changes something only where its own
page asks: one from elsewhere can do neither, nor, on Linux, can another user of the machine.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from palate_client.consent import PURPOSES
from palate_common.system import is_anothers
from palate_sandbox.config import POLICIES, assumptions
from palate_sandbox.page import bars
from palate_sandbox.page.charts import DayCurve, ErrorPoint, curves
from palate_sandbox.page.runner import PACES, Runner, SandboxStanding
from palate_sandbox.page.you import You
from palate_sandbox.report import DAYS
from palate_server.service.listener import LOOPBACK, name_of

POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
OWN_PAGE = "frame-ancestors 'none'"
"""A person's own page says itself what it may load, which is nothing."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SECTIONS = ("you", "top", "pays", "known", "rounds")
WORDS = {"none": "no recommendations", "popularity": "the most popular", "palate": "Palate"}
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FILES = ("page.css", "live.js", "icon.svg", "sandbox.css", "sandbox.js")
"""What the page loads."""
NAMES = {
    "dau": "Active on day", "wau": "Active in the week", "mau": "Active in 30 days", "stickiness": "Stickiness",
    "churn": "Churn", "retention": "Back on day", "retention_after": "Back from day",
}  # fmt: skip
LANGUAGES = {"en": "English", "zh": "简体中文", "de": "Deutsch"}


class SandboxPage:
    """The page of a sandbox.

    Args:
        runner: lives it.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner, self._world, self._you = runner, runner.world, You(runner.world)
        self._templates = _environment()
        self._static = _static_files()
        self._epoch = secrets.token_hex(4)

    @property
    def application(self) -> Starlette:
        """What answers."""
        own: list[BaseRoute] = [
            Route("/", self._ours(self._page), methods=["GET"]),
            Route("/live", self._ours(self._changed), methods=["GET"]),
            Route("/set", self._ours(self._set), methods=["POST"]),
            Route("/you", self._ours(self._clicked), methods=["POST"]),
            Route("/own/{language}", self._ours(self._own), methods=["GET"]),
            Route("/own/{language}", self._ours(self._decide), methods=["POST"]),
            Route("/static/{name:path}", self._ours(self._file), methods=["GET"]),
        ]
        return Starlette(routes=own)

    def _ours(self, endpoint: Any) -> Any:
        """An endpoint for the loopback's own names alone; a form must be this page's own."""

        async def answer(request: Request) -> Response:
            here = name_of(request.headers.get("host", "")) in LOOPBACK and not _from_another_account(request)
            if not here or (request.method == "POST" and not _own_form(request)):
                return Response(status_code=404)
            found: Response = await endpoint(request)
            for name, value in HEADERS.items():
                found.headers.setdefault(name, value)
            return found

        return answer

    async def _page(self, request: Request) -> Response:
        now = self._runner.standing()
        return self._html(
            "sandbox.html",
            seen=self._stamp(now),
            sections=await run_in_threadpool(self._sections, now),
            now=now,
            assumed=list(assumptions(self._world.config)),
            world=self._world,
        )

    async def _changed(self, request: Request) -> Response:
        """The sections, where something has changed since what a browser has seen."""
        now = self._runner.standing()
        if request.query_params.get("seen") == self._stamp(now):
            return Response(status_code=204)
        return JSONResponse({"seen": self._stamp(now), "sections": await run_in_threadpool(self._sections, now)})

    def _stamp(self, now: SandboxStanding) -> str:
        """What differs as soon as there is something new to see."""
        shown = (self._epoch, now.facts["days"], now.policy, now.pace, now.paused, now.doing, now.broken)
        return hashlib.sha256(repr(shown).encode()).hexdigest()

    async def _set(self, request: Request) -> Response:
        form = await _form(request)
        policy = next((each for each in POLICIES if each == form.get("policy")), None)
        paused = {"pause": True, "go": False}.get(form.get("clock", ""))
        await run_in_threadpool(self._runner.set, policy=policy, pace=form.get("pace"), paused=paused)
        return RedirectResponse("/", status_code=303)

    async def _clicked(self, request: Request) -> Response:
        """A click on a title; a script gets what has changed, and a form the whole page."""
        form = await _form(request)
        await run_in_threadpool(self._you.more if "more" in form else partial(self._you.click, form.get("item", "")))
        if request.headers.get("accept") != "application/json":
            return RedirectResponse("/", status_code=303)
        now = self._runner.standing()
        return JSONResponse({"sections": await run_in_threadpool(self._sections, now, ("you",))})

    async def _own(self, request: Request) -> Response:
        if (language := request.path_params["language"]) not in LANGUAGES:
            return Response(status_code=404)
        html = await run_in_threadpool(self._you.page, language, actions=f"/own/{language}")
        return HTMLResponse(html, headers={"Content-Security-Policy": OWN_PAGE})

    async def _decide(self, request: Request) -> Response:
        """What you have decided on your own page."""
        language, form = request.path_params["language"], await _form(request)
        match form.get("do"), form.get("purpose"), form.get("sure"):
            case "revoke", purpose, _ if purpose in PURPOSES:
                await run_in_threadpool(self._you.device.consent.revoke, purpose)
            case "export", _, _:
                shown = {"Content-Disposition": 'attachment; filename="yours.jsonl"'}
                lines = await run_in_threadpool(list, self._you.device.export_lines())
                return Response("".join(f"{each}\n" for each in lines), media_type="application/jsonl", headers=shown)
            case "erase", _, "yes":
                await run_in_threadpool(self._you.erase)
                return RedirectResponse("/", status_code=303)
            case _:
                return Response(status_code=404)
        return RedirectResponse(f"/own/{language}" if language in LANGUAGES else "/", status_code=303)

    async def _file(self, request: Request) -> Response:
        found = self._static.get(request.path_params["name"])
        if found is None:
            return Response(status_code=404)
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "private, max-age=3600"})

    def _sections(self, now: SandboxStanding, names: Sequence[str] = SECTIONS) -> dict[str, str]:
        """The HTML of some sections."""
        shown = {"facts": now.facts, "yours": self._you.yours(), "languages": LANGUAGES}
        shown |= _shown(now) if names is SECTIONS else {}
        return {name: self._templates.get_template(f"sections/{name}.html").render(now=now, **shown) for name in names}

    def _html(self, template: str, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(**values, words=WORDS))


def _shown(now: SandboxStanding) -> dict[str, Any]:
    """What the sections need beside the facts: the charts, and the latest survey."""
    found = now.facts
    figures = found["surveys"]["figures"]
    days, daily = found["config"]["days"], found["daily"]
    points = [
        ErrorPoint(each["of"], each["value"], each["low"], each["high"])
        for each in figures
        if each["name"] == "dau" and each["value"] is not None
    ]
    marks = {int(day): WORDS[policy] for day, policy in found["switched"].items() if int(day) > 0}
    known = curves(
        [DayCurve("truth, of those who answer surveys", daily["answering"], "curve-true")],
        points, most_days=days, marks=marks,
        label=f"People who came each day, true and as surveys have it, for {found['days']} of {days} days",
    )  # fmt: skip
    leads = [
        DayCurve(
            f"beside {WORDS[name]}",
            [100 * lead for lead, _ in each],
            f"curve-{name}",
            [100 * off for _, off in each],
        )
        for name, each in found["weekly"].items()
    ]
    pays = curves(
        leads, [], most_days=days, marks=marks,
        label=f"Visits per 100 people and week beyond those of the same people in two other worlds, {days} days",
    )  # fmt: skip
    week = max((each["week"] for each in figures), default=None)
    latest = [each | {"image": _bar(each, figures)} for each in figures if each["week"] == week]
    lives = [(name.removesuffix(" (shadow)"), "shadow" in name, each) for name, each in found["policies"].items()]
    return {
        "known_chart": known,
        "pays_chart": pays,
        "week": week,
        "latest": latest,
        "lives": lives,
        "budget": bars.bar(found["privacy"]["share"], label="How much of the budget is spent"),
        "words": WORDS,
        "names": NAMES,
        "paces": tuple(PACES),
        "retention_days": DAYS,
    }


def _bar(each: Mapping[str, Any], figures: list[dict[str, Any]]) -> Any:
    """A figure's error bar; numbers of people share a scale."""
    if each["value"] is None:
        return ""
    counted = each["name"] in ("dau", "wau", "mau")
    most = max((other["high"] or 0 for other in figures if other["name"] in ("dau", "wau", "mau")), default=1)
    label = (
        f"{NAMES[each['name']]}: {each['value']:,.4g}, 95 percent interval {each['low']:,.4g} to {each['high']:,.4g}"
    )
    return bars.interval(
        each["low"], each["value"], each["high"], scale=(0.0, most * 1.05 if counted else 1.0), label=label
    )


def _from_another_account(request: Request) -> bool:
    """Whether another user of this machine asks, as far as the system says so."""
    client, server = request.client, request.scope.get("server")
    return client is not None and server is not None and is_anothers(client.port, at=server[1])


def _own_form(request: Request) -> bool:
    """Whether a form was sent by this page; a browser says where it comes from."""
    origin, place = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    if origin is not None and origin.partition("://")[2] != request.headers["host"]:
        return False
    return place == "same-origin"


async def _form(request: Request) -> dict[str, str]:
    """A short form's fields."""
    body = await request.body()
    return {name: values[0] for name, values in parse_qs(body[:4096].decode(errors="replace")).items()}


def _static_files() -> Mapping[str, tuple[bytes, str]]:
    """Name -> bytes and media type of the page's files."""
    own = files("palate_sandbox.page") / "static"
    return {name: (own.joinpath(*name.split("/")).read_bytes(), TYPES[name.rpartition(".")[2]]) for name in FILES}


def _environment() -> Environment:
    """The templates: what is undefined is an error, and every text is escaped."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader("palate_sandbox.page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"share": _share, "figure": _figure}
    return made


def _share(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _figure(value: float | None, name: str) -> str:
    """A number of people, or a share."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if name in ("dau", "wau", "mau") else f"{100 * value:.1f} %"
