"""Service: what a node answers over HTTP, to media servers, to other programs, and to its people's browsers.

    POST /1/submit-listens, GET /1/validate-token                  as ListenBrainz, for whatever takes a custom address
    GET /1/user/NAME/playlists/createdfor, /1/playlist/ID          lists back, as ListenBrainz
    POST /hook/jellyfin                                            Jellyfin's webhook, with all properties
    GET /list.json, /list.atom, /list.opds                         a person's list
    GET, POST /                                                    the page: of a person, or of the node's owner
    GET, POST /me                                                  a person's own page, as of any device

A request says whose it is by a token: `Authorization: Token`, `Bearer`, or `Basic` with the token as the password, for
which browsers and readers of feeds ask. Without a right one there is no answer but 401.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from palate_client.consent import PURPOSES
from palate_core.errors import InputError, PalateError, RefusedError
from palate_core.log.canonical import digest
from palate_node.feeds import OPDS, as_feed, as_json, as_jspf, list_id
from palate_node.page import node_page
from palate_node.people import OWNER, HostedPeople, HostedPerson
from palate_node.sources import CalibreWeb, Jellyfin, listens
from palate_node.work import listed

MOST_BODY: Final = 10 * 2**20
"""Bytes of the largest request; ListenBrainz takes as many."""
_PRIVATE: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Call:
    """A request of somebody who has a token.

    Attributes:
        people: the node's people.
        who: whose token it is: a person, or `OWNER`.
        request: the request.
        body: its body.
    """

    people: HostedPeople
    who: HostedPerson | str
    request: Request
    body: bytes

    @property
    def person(self) -> HostedPerson:
        """Who asks, where it is for a person who is switched on; the node's owner has no device.

        Raises:
            RefusedError: it is somebody else.
        """
        if isinstance(self.who, str) or not self.who.settings.on:
            raise RefusedError("this is for a person who is switched on")
        return self.who

    def json(self) -> Any:
        """What the body says.

        Raises:
            InputError: it isn't JSON.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise InputError("a request must be JSON, got something else") from None

    @property
    def form_token(self) -> str:
        """What a form of the page has."""
        return digest(f"form {OWNER if isinstance(self.who, str) else self.who.settings.token}".encode())

    def form(self) -> dict[str, str]:
        """The fields of a form of the page.

        Raises:
            RefusedError: it is from elsewhere.
        """
        found = {name: values[0] for name, values in parse_qs(self.body[:4096].decode("utf-8", "replace")).items()}
        if found.get("token") != self.form_token:
            raise RefusedError("a form must be of this node's own page, got one from elsewhere")
        return found


Work = Callable[[Call], Response]


def application(people: HostedPeople) -> Starlette:
    """The service of a node."""
    routes: list[tuple[str, str, Work]] = [
        ("POST", "/1/submit-listens", _submit),
        ("GET", "/1/validate-token", _validate),
        ("GET", "/1/user/{name}/playlists/createdfor", _playlists),
        ("GET", "/1/playlist/{id}", _playlist),
        ("POST", "/hook/jellyfin", _jellyfin),
        ("GET", "/list.{format}", _list),
        ("GET", "/", lambda call: HTMLResponse(node_page(call.people, call.who, call.form_token))),
        ("POST", "/", _act),
        ("GET", "/me", _me),
        ("POST", "/me", _act),
    ]
    return Starlette(routes=[Route(path, _answer(people, work), methods=[verb]) for verb, path, work in routes])


def _answer(people: HostedPeople, work: Work) -> Callable[[Request], Awaitable[Response]]:
    def answered(call: Call) -> Response:
        try:
            return work(call)
        except InputError as error:
            return _error(400, str(error))
        except RefusedError as error:
            return _error(403, str(error))
        except PalateError as error:
            return _error(503, str(error))

    async def read(request: Request) -> Response:
        who, body = people.of(_token(request.headers.get("Authorization", ""))), bytearray()
        if who is None:
            return _error(401, "Invalid authorization token.")
        if _is_from_elsewhere(request):
            return _error(403, "a request with a browser's password must be of this node's own page")
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY:
                return _error(413, "too large")
        return await run_in_threadpool(answered, Call(people, who, request, bytes(body)))

    async def answer(request: Request) -> Response:
        made = await read(request)
        made.headers.update(_PRIVATE)
        return made

    return answer


def _is_from_elsewhere(request: Request) -> bool:
    """Whether a page of another site sends it, to which a browser adds the password by itself; a token it doesn't."""
    origin, scheme = request.headers.get("Origin"), request.headers.get("Authorization", "").partition(" ")[0]
    return scheme.lower() == "basic" and origin is not None and urlsplit(origin).netloc != request.headers.get("Host")


def _token(header: str) -> str:
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return text.strip() if scheme.lower() in ("token", "bearer") else ""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace").partition(":")[2]
    except ValueError:
        return ""


def _error(status: int, why: str) -> Response:
    asks = {"WWW-Authenticate": 'Basic realm="palate node", charset="UTF-8"'} if status == 401 else None
    return JSONResponse({"code": status, "error": why}, status, asks)


def _submit(call: Call) -> Response:
    report = call.person.take(listens(call.json()), "listenbrainz", made_known=True)
    return _error(403, "waits for consent to `store`") if report.not_stored else JSONResponse({"status": "ok"})


def _validate(call: Call) -> Response:
    said = {"code": 200, "message": "Token valid.", "valid": True, "user_name": call.person.name}
    return JSONResponse(said)


def _playlists(call: Call) -> Response:
    if call.request.path_params["name"] != call.person.name:
        return _error(404, "Cannot find user")
    found = as_jspf(call.person.name, [], time.time())
    return JSONResponse({"count": 1, "offset": 0, "playlist_count": 1, "playlists": [found]})


def _playlist(call: Call) -> Response:
    if call.request.path_params["id"] != list_id(call.person.name):
        return _error(404, "Cannot find playlist")
    return JSONResponse(as_jspf(call.person.name, listed(call.person), time.time()))


def _jellyfin(call: Call) -> Response:
    said = call.json()
    rows = [row for each in call.person.sources if isinstance(each, Jellyfin) for row in each.told(said)]
    call.person.take(rows, "jellyfin")
    return JSONResponse({"status": "ok"})


def _list(call: Call) -> Response:
    form, found, now = call.request.path_params["format"], listed(call.person), time.time()
    if form == "json":
        return JSONResponse(as_json(found))
    if form not in ("atom", "opds"):
        return _error(404, "there are list.json, list.atom and list.opds")
    urls = [each.url for each in call.person.sources if isinstance(each, CalibreWeb) and each.url and form == "opds"]
    feed = as_feed(call.person.name, found, now, f"{urls[0]}/opds/search/{{}}" if urls else "")
    return Response(feed, media_type=OPDS if form == "opds" else "application/atom+xml")


def _me(call: Call) -> Response:
    device, titles = call.person.device, call.person.table.titles
    return HTMLResponse(device.page(titles=titles, actions="/me", token=call.form_token))


def _act(call: Call) -> Response:
    """What a button does: the owner's switch anybody and erase them, a person's themselves alone."""
    form, who = call.form(), call.who
    person = call.people.get(form.get("name", "")) if isinstance(who, str) else who
    match form.get("do"), form.get("purpose"), form.get("sure"):
        case ("on" | "off") as state, _, _:
            person.change(on=state == "on")
        case "erase", _, "yes":
            call.people.erase(person)
            return Response("Erased: the key is destroyed, and all files are gone.")
        case ("grant" | "revoke") as decision, purpose, _ if purpose in PURPOSES and person is who:
            consent = call.person.device.consent
            (consent.grant if decision == "grant" else consent.revoke)(purpose, version="node")
        case "leave", _, _ if person is who:
            call.person.device.leave()
        case "export", _, _ if person is who:
            lines = (f"{line}\n" for line in call.person.device.export_lines())
            return StreamingResponse(lines, media_type="application/jsonl")
        case _:
            raise InputError("`do` must be what a button of the page says, got something else")
    return RedirectResponse(call.request.url.path, 303)
