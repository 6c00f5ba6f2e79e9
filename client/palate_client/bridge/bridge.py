"""Bridge: one user's device for a host in another language, by JSON over loopback.

    request with the token -> ROUTES -> the device's own method -> JSON

    with Bridge(device, token) as bridge:
        bridge.wait()

Bodies are the arguments of the methods that `Device` has; what isn't one of them is refused, with what was expected.
`GET /openapi.json` describes all of it, without a token.

**Guarantees:** only programs of this user that have the token are answered.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from palate_client.bridge.loopback import HOST, LoopbackHandler, LoopbackServer
from palate_client.consent import PURPOSES, Purpose
from palate_client.device import Device
from palate_client.events import event_from
from palate_client.recommend.recommender import Recommendation
from palate_common.records.closing import Closing
from palate_core.errors import (
    ClosedError,
    ErasedError,
    InputError,
    LockedError,
    PalateError,
    RefusedError,
    UnreachableError,
)

MOST_BODY: Final = 2**20
"""Bytes of the largest request."""
MOST_EVENTS: Final = 10_000
"""Events of one request."""
MOST_SHOWN: Final = 1000
"""Recommendations that are kept for `feedback`, the latest."""
STATUSES: Final[Mapping[type[PalateError], HTTPStatus]] = {
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    RefusedError: HTTPStatus.FORBIDDEN,
    LockedError: HTTPStatus.CONFLICT,
    ClosedError: HTTPStatus.GONE,
    ErasedError: HTTPStatus.GONE,
    UnreachableError: HTTPStatus.BAD_GATEWAY,
}
"""Error -> status; of any other error of Palate it is 500."""


class _Body(BaseModel):
    """What a request says: other members are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(_Body):
    """No members."""


class ConsentAsked(_Body):
    """A decision of the user's."""

    purpose: Purpose
    granted: bool
    version: str = ""


class EventsAsked(_Body):
    """Events, each as a line of `palate device import`."""

    events: list[dict[str, Any]] = Field(max_length=MOST_EVENTS)


class ListAsked(_Body):
    """The arguments of `Device.recommend`."""

    n: int = 10
    filter_already_liked_items: bool = True
    filter_items: list[str] = []
    items: list[str] | None = None
    domain: str | None = None
    discovery: float | None = None
    explore: float | None = None
    diversity: float | None = None
    debias: float | None = None
    context: list[str] = []
    where: str | None = None
    pin: list[str] = []
    boost: dict[str, float] | None = None
    diversity_by: str | None = None
    tuned: bool = True


class BasketAsked(_Body):
    """The arguments of `Device.goes_with`."""

    items: list[str]
    n: int = 10
    domain: str | None = None


class SimilarAsked(_Body):
    """The arguments of `Device.similar_items`."""

    item: str
    n: int = 10
    domain: str | None = None


class FeedbackAsked(_Body):
    """Items of lists that were shown, and what the user did with some of them: item -> kind."""

    shown: list[str]
    outcomes: dict[str, str] = {}


class InvitationAsked(_Body):
    """An invitation, as the operator issued it."""

    invitation: dict[str, Any]


class SyncAsked(_Body):
    """Some of the arguments of `Device.sync`."""

    seconds: float = 60.0
    models_only: bool = False


class ErasureAsked(_Body):
    """That the user is sure."""

    sure: Literal[True]


@dataclass(frozen=True)
class Route:
    """What a request does.

    Attributes:
        method: of HTTP.
        path: the path.
        said: what it does, in a line.
        asked: what its body says.
        do: does it; returns what is answered, as JSON.
    """

    method: str
    path: str
    said: str
    asked: type[_Body]
    do: Callable[[Bridge, Any], Any]


class Bridge(Closing):
    """A device behind a port of loopback.

    Args:
        device: the device; it stays the caller's to close.
        token: what each request must have, as `Authorization: Bearer`; 16 characters at least.
        port: the port; 0: any.

    Attributes:
        url: where it is.

    Raises:
        InputError: the token is too short, or the port can't be had.
    """

    def __init__(self, device: Device, token: str, port: int = 0) -> None:
        if len(token) < 16 or not token.isascii():
            raise InputError(f"`token` must be 16 ASCII characters or more, got {len(token)}")
        self.device, self._token = device, f"Bearer {token}".encode()
        self._shown: OrderedDict[str, Recommendation] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self._server = LoopbackServer(type("_Bound", (_Handler,), {"bridge": self}), port)
        except (OSError, OverflowError) as error:
            raise InputError(f"`port` must be free on this machine, got {port}: {error}") from None
        self.url = f"http://{HOST}:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="palate bridge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; closing twice is fine."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)

    def wait(self) -> None:
        """Wait until it is closed."""
        self._thread.join()

    def is_known(self, authorization: str) -> bool:
        """Whether a request has the token."""
        return secrets.compare_digest(authorization.encode("utf-8", "replace"), self._token)

    def answer(self, method: str, path: str, body: bytes) -> tuple[HTTPStatus, Any]:
        """Answer a request of somebody who has the token, with JSON values."""
        route = _BY_PLACE.get((method, path))
        if route is None:
            known = any(path == each.path for each in ROUTES)
            status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
            return status, _problem("input", f"a request must be of /openapi.json, got {method} {path:.80}")
        try:
            asked = route.asked.model_validate_json(body or b"{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            return HTTPStatus.UNPROCESSABLE_ENTITY, _problem("input", f"`{where}`: {first['msg']}")
        try:
            return HTTPStatus.OK, route.do(self, asked)
        except PalateError as error:
            statuses = (status for kind, status in STATUSES.items() if isinstance(error, kind))
            return next(statuses, HTTPStatus.INTERNAL_SERVER_ERROR), _problem(error.code, str(error))

    def consents(self, _: Nothing) -> dict[str, bool]:
        """Purpose -> whether the user agrees to it."""
        return {purpose: self.device.consent.get(purpose) for purpose in PURPOSES}

    def decide(self, asked: ConsentAsked) -> dict[str, Any]:
        """Record a decision."""
        decide = self.device.consent.grant if asked.granted else self.device.consent.revoke
        return asdict(decide(asked.purpose, version=asked.version))

    def track(self, asked: EventsAsked) -> dict[str, Any]:
        """Store events."""
        results = self.device.track_many([event_from(fields) for fields in asked.events])
        return {"results": [str(each) for each in results], "problem": self.device.problem}

    def recommend(self, asked: ListAsked) -> dict[str, Any]:
        """A list, which is kept for `feedback`."""
        shown = self.device.recommend(**dict(asked))
        with self._lock:
            self._shown.update((each.item, each) for each in shown)
            while len(self._shown) > MOST_SHOWN:
                self._shown.popitem(last=False)
        return {"items": [asdict(each) for each in shown]}

    def similar(self, asked: SimilarAsked) -> dict[str, Any]:
        """Items like one."""
        return {"items": [asdict(each) for each in self.device.similar_items(asked.item, asked.n, domain=asked.domain)]}

    def goes_with(self, asked: BasketAsked) -> dict[str, Any]:
        """Items that go with some."""
        return {"items": [asdict(each) for each in self.device.goes_with(asked.items, asked.n, domain=asked.domain)]}

    def feedback(self, asked: FeedbackAsked) -> dict[str, Any]:
        """Store what was seen, and what the user did with it."""
        with self._lock:
            missing = [item for item in asked.shown if item not in self._shown]
            if missing:
                raise InputError(f"`shown` must be items of lists from here, got {missing[0]!r:.80}")
            shown = [self._shown[item] for item in asked.shown]
        outcomes: dict[str, Any] = dict(asked.outcomes)
        return {"results": [str(each) for each in self.device.feedback(shown, outcomes)]}

    def enroll(self, asked: InvitationAsked) -> dict[str, Any]:
        """Enrol."""
        found = self.device.enroll(json.dumps(asked.invitation))
        return {"population": found.population, "device": found.device}

    def sync(self, asked: SyncAsked) -> dict[str, Any]:
        """Be online for a while; the request waits for it."""
        return asdict(self.device.sync(seconds=asked.seconds, models_only=asked.models_only))

    def privacy(self, _: Nothing) -> dict[str, Any]:
        """What has left, what it cost, and what is left of the limits."""
        return self.device.privacy_report().as_dict()

    def leave(self, _: Nothing) -> dict[str, Any]:
        """Ask the server to delete what it has of this device."""
        self.device.leave()
        return {}

    def erase(self, _: ErasureAsked) -> dict[str, Any]:
        """Destroy all data, and say what remains elsewhere."""
        found: dict[str, Any] = json.loads(self.device.erase(statement=True).to_bytes())
        return found


ROUTES: Final = (
    Route("GET", "/v1/consents", "What the user agrees to", Nothing, Bridge.consents),
    Route("POST", "/v1/consents", "Record a decision of the user's", ConsentAsked, Bridge.decide),
    Route("POST", "/v1/events", "Store events", EventsAsked, Bridge.track),
    Route("POST", "/v1/recommendations", "A list for the user", ListAsked, Bridge.recommend),
    Route("POST", "/v1/similar", "Items like one", SimilarAsked, Bridge.similar),
    Route("POST", "/v1/basket", "Items that go with some", BasketAsked, Bridge.goes_with),
    Route("POST", "/v1/feedback", "How the user reacted to a list", FeedbackAsked, Bridge.feedback),
    Route("POST", "/v1/enrolment", "Enrol at the service, by an invitation", InvitationAsked, Bridge.enroll),
    Route("DELETE", "/v1/enrolment", "Leave the service", Nothing, Bridge.leave),
    Route("POST", "/v1/sync", "Be online for a while", SyncAsked, Bridge.sync),
    Route("GET", "/v1/privacy", "The privacy report", Nothing, Bridge.privacy),
    Route("DELETE", "/v1/device", "Destroy all of the user's data", ErasureAsked, Bridge.erase),
)
"""All that is answered with a token, beside the export, which is lines of JSON."""
_BY_PLACE: Final = {(each.method, each.path): each for each in ROUTES}
EXPORT: Final = "/v1/export"


def openapi() -> dict[str, Any]:
    """The description of the bridge, OpenAPI 3.1."""
    names, schemas = models_json_schema(
        [(each.asked, "validation") for each in ROUTES], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        body = {"application/json": {"schema": names[route.asked, "validation"]}}
        paths.setdefault(route.path, {})[route.method.lower()] = {
            "summary": route.said,
            **({} if route.asked is Nothing else {"requestBody": {"required": True, "content": body}}),
            "responses": {
                "200": {"description": "Done", "content": {"application/json": {"schema": {}}}},
                "default": {"description": "Why not", "content": {"application/json": {"schema": _PROBLEM}}},
            },
        }
    lines = {"description": "Lines of JSON", "content": {"application/jsonl": {"schema": {"type": "string"}}}}
    paths[EXPORT] = {"get": {"summary": "All of the user's data", "responses": {"200": lines}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Palate device", "version": "1"},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.get("$defs", {}),
        },
    }


_PROBLEM: Final = {
    "type": "object",
    "required": ["code", "error"],
    "properties": {"code": {"type": "string"}, "error": {"type": "string"}},
}


def _problem(code: str, error: str) -> dict[str, str]:
    return {"code": code, "error": error}


class _Handler(LoopbackHandler):
    """One request."""

    bridge: ClassVar[Bridge]

    def do_GET(self) -> None:  # noqa: N802 - as the base class has it
        """Answer a request; the description needs no token."""
        path = self.path.partition("?")[0]
        if not self.is_addressed_by_name():
            return self._json(HTTPStatus.FORBIDDEN, _problem("refused", "a request must be of a program of this user"))
        if (self.command, path) == ("GET", "/openapi.json"):
            return self._json(HTTPStatus.OK, openapi())
        if not self.bridge.is_known(self.headers.get("Authorization", "")):
            return self._json(
                HTTPStatus.UNAUTHORIZED, _problem("refused", "a request must have the token, got another")
            )
        body = self.read_body(MOST_BODY) if self.headers.get("Content-Length") else b""
        if body is None:
            most = _problem("input", f"a body must be at most {MOST_BODY} bytes of a known length")
            return self._json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most)
        if (self.command, path) == ("GET", EXPORT):
            return self._export()
        return self._json(*self.bridge.answer(self.command, path, body))

    do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815 - as the base class has them

    def _export(self) -> None:
        try:
            return self.send_lines("application/jsonl; charset=utf-8", self.bridge.device.export_lines())
        except PalateError as error:
            return self._json(HTTPStatus.INTERNAL_SERVER_ERROR, _problem(error.code, str(error)))

    def _json(self, status: HTTPStatus, value: Any) -> None:
        self.send_whole("application/json", json.dumps(value, ensure_ascii=False).encode(), status)
