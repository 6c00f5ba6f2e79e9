"""The page over HTTP, on the loopback interface: your own list, what it brings the people, and what is behind it.

    GET  /               the page; /live is what has changed since it was asked last
    POST /you            a title that you like, or take out of what you liked
    POST /set            the switch, the pace, a pause
    GET  /person/en/ROW  a person's own page, as their device makes it, in a language
    POST /person/en/ROW  what its buttons do: turn a purpose off, take the data along, erase all

It loads nothing from elsewhere. It answers to the loopback's own names alone, and changes something only where its own
page asks: one from elsewhere can do neither, nor, on Linux, can another user of the machine.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
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
from palate_core.errors import PalateError
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
        "frame-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
FRAMED = "frame-ancestors 'self'"
"""A person's page says itself what it may load, which is nothing; it may stand in this page."""
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
LANGUAGES = {
    "en": ("English", "Waiting for the end of the day …"),
    "zh": ("简体中文", "正在等这一天结束……"),
    "de": ("Deutsch", "Wartet auf das Ende des Tages …"),
}
"""Of each language its name, and what is said while an erasure waits."""


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
            Route("/person", self._ours(self._chosen), methods=["GET"]),
            Route("/person/{language}/{row}", self._ours(self._person), methods=["GET"]),
            Route("/person/{language}/{row}", self._ours(self._decide), methods=["POST"]),
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
        shown = (self._epoch, now.facts["days"], now.policy, now.pace, now.paused, now.doing, now.broken, now.persons)
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
        await run_in_threadpool(self._you.more if "more" in form else self._you.click, *_item(form))
        if request.headers.get("accept") != "application/json":
            return RedirectResponse("/", status_code=303)
        now = self._runner.standing()
        return JSONResponse({"sections": await run_in_threadpool(self._sections, now, ("you",))})

    async def _chosen(self, request: Request) -> Response:
        """Without a script, the choice of a person is a form that leads here."""
        row, language = (request.query_params.get(name, "") for name in ("row", "language"))
        if _row(row) is None or language not in LANGUAGES:
            return Response(status_code=404)
        return RedirectResponse(f"/person/{language}/{_row(row)}", status_code=303)

    async def _person(self, request: Request) -> Response:
        row = _row(request.path_params["row"])
        if row is None:
            return Response(status_code=404)
        return await run_in_threadpool(self._own_page, row, request.path_params["language"])

    async def _decide(self, request: Request) -> Response:
        row, language, form = _row(request.path_params["row"]), request.path_params["language"], await _form(request)
        if row is None or language not in LANGUAGES:
            return Response(status_code=404)
        try:
            return await run_in_threadpool(self._decided, row, language, form)
        except PalateError:  # it was erased just now
            return self._gone(row)

    async def _file(self, request: Request) -> Response:
        found = self._static.get(request.path_params["name"])
        if found is None:
            return Response(status_code=404)
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "private, max-age=3600"})

    def _own_page(self, row: int, language: str) -> Response:
        """A person's page, as their device makes it; or that the device is gone."""
        person = self._world.persons.get(row)
        if language not in LANGUAGES or person is None:
            return self._gone(row)
        catalogue = self._world.catalogue
        try:
            html = person.device.page(
                language=language,
                titles=dict(zip(catalogue.items, catalogue.titles, strict=True)),
                tags=dict(zip(catalogue.items, catalogue.genres, strict=True)),
                actions=f"/person/{language}/{row}",
            )
        except PalateError:  # it was erased just now
            return self._gone(row)
        return HTMLResponse(html, headers={"Content-Security-Policy": FRAMED})

    def _gone(self, row: int) -> Response:
        found = self._html("gone.html", status=404, row=row)
        found.headers["Content-Security-Policy"] = POLICY.replace("frame-ancestors 'none'", "frame-ancestors 'self'")
        return found

    def _decided(self, row: int, language: str, form: Mapping[str, str]) -> Response:
        """What a person has decided, on their device; who erases all waits for the end of the day."""
        person = self._world.persons.get(row)
        match form.get("do"), form.get("purpose"), form.get("sure"):
            case "revoke", purpose, _ if purpose in PURPOSES:
                self._world.withdraw(row, purpose)
            case "export", _, _ if person is not None:
                lines = "".join(f"{line}\n" for line in person.device.export_lines())
                shown = {"Content-Disposition": f'attachment; filename="person-{row + 1}.jsonl"'}
                return Response(lines, media_type="application/jsonl", headers=shown)
            case "erase", _, "yes":
                with self._runner.lock:
                    self._world.erase(row)
                    self._runner.refresh()
            case _:
                return Response(status_code=404)
        return RedirectResponse(f"/person/{language}/{row}", status_code=303)

    def _sections(self, now: SandboxStanding, names: Sequence[str] = SECTIONS) -> dict[str, str]:
        """The HTML of some sections."""
        shown = {"facts": now.facts, "yours": self._you.yours()} | (_shown(now) if names is SECTIONS else {})
        return {name: self._templates.get_template(f"sections/{name}.html").render(now=now, **shown) for name in names}

    def _html(self, template: str, *, status: int = 200, **values: Any) -> Response:
        html = self._templates.get_template(template).render(**values, words=WORDS, languages=LANGUAGES)
        return HTMLResponse(html, status_code=status)


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


def _row(text: str) -> int | None:
    """The number of a person; None if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _item(form: Mapping[str, str]) -> list[str]:
    """The title that was clicked, unless others were asked for."""
    return [] if "more" in form else [form.get("item", "")]


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
