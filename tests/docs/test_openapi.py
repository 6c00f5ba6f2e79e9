"""docs/openapi.yaml: it names the doors that there are, and what they answer is what it says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from starlette.routing import Route

from palate_common.enrolment import make_leave, make_request, new_token
from palate_common.rounds import exchange
from palate_core.log.signing import SigningKey
from palate_server.edge.application import EnrolmentService, application
from palate_server.edge.door import DeviceDoor
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import ALLOWED
from palate_server.service.invitations import InvitationService
from palate_server.service.listener import WithToken
from palate_server.service.metrics import Metrics
from palate_server.service.setup import make_certificates, make_site

HASH = "0" * 64
SAMPLES = {"{manifest}": HASH, "{model}": HASH, "{file}": "manifest.json", "{tile}": "entries/x001/234.p/7"}


@pytest.fixture(scope="module")
def document(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = make_site(tmp_path_factory.mktemp("openapi") / "site", 'population = "p"\n', ("a", "b"))
    make_certificates(made)
    return made


def test_the_paths_are_those_that_are_open(document: dict[str, Any], site: Site) -> None:
    tagged = {
        tag: {path for path, each in document["paths"].items() if tag in (each.get("get") or each["post"])["tags"]}
        for tag in ("public", "operator")
    }
    filled = {re.sub(r"\{\w+\}", lambda found: SAMPLES[found[0]], path) for path in tagged["public"]}
    assert [path for path in filled if not re.fullmatch(ALLOWED, path)] == []
    for opening in (
        "/v1/device/exchange",
        "/v1/enroll",
        "/models/latest",
        "/models/0",
        "/round/",
        "/ledger/checkpoint",
    ):
        assert any(path.startswith(opening) for path in filled), opening
    metrics, inviting = Metrics(site, lambda: {}).application(), InvitationService(site).application()
    assert tagged["operator"] == {
        route.path for each in (metrics, inviting) for route in each.routes if isinstance(route, Route)
    }


def test_the_headers_of_an_exchange_are_spelled_as_the_door_reads_them(document: dict[str, Any]) -> None:
    operation, parts = document["paths"]["/v1/device/exchange"]["post"], document["components"]
    asked = [parts["parameters"][each["$ref"].rpartition("/")[2]] if "$ref" in each else each
             for each in operation["parameters"]]  # fmt: skip
    assert tuple(each["name"].lower() for each in asked) == exchange.HEADERS
    replied = operation["responses"]["200"]["headers"] | operation["responses"]["426"]["headers"]
    replied["Palate-Taken"] = parts["headers"]["Taken"]
    assert sorted(name.lower() for name in replied) == sorted(exchange.REPLY_HEADERS)
    for name, schema in [(each["name"], each["schema"]) for each in asked] + [
        (name, each["schema"]) for name, each in replied.items()
    ]:
        spelling = exchange._SPELLINGS[name.lower()].pattern
        assert schema["pattern"] == f"^({spelling})$", name


def test_what_the_applications_answer_is_what_it_says(document: dict[str, Any], site: Site) -> None:
    key = SigningKey.generate()
    with Enrolments(site.enrolment_file) as register:
        whole = make_request(register.invite(now=4e9, hours=1.0), key).to_bytes()
    seen = set[tuple[str, int]]()
    for path, template, method, body, headers in (
        ("/v1/enroll", "", "POST", whole, {}),
        ("/v1/enroll", "", "POST", make_leave("p", 0, key).to_bytes(), {}),
        ("/v1/enroll", "", "POST", b"{", {}),
        ("/v1/enroll", "", "POST", make_request(new_token(), key).to_bytes(), {}),
        ("/v1/enroll", "", "POST", b" " * 5000, {}),
        ("/v1/device/exchange", "", "POST", b"", {}),
        ("/v1/device/exchange", "", "POST", b"", {"palate-version": "9"}),
        ("/models/latest", "", "GET", b"", {}),
        (f"/models/{HASH}/manifest.json", "/models/{manifest}/{file}", "GET", b"", {}),
        (f"/round/{HASH}", "/round/{model}", "GET", b"", {}),
        ("/ledger/checkpoint", "", "GET", b"", {}),
        ("/ledger/tile/0/000.p/1", "/ledger/tile/{tile}", "GET", b"", {}),
        ("/v1/invitations", "", "POST", b"", {"authorization": "Bearer t"}),
        ("/v1/invitations", "", "POST", b'{"label": 1}', {"authorization": "Bearer t"}),
        ("/v1/invitations", "", "POST", b" " * 2000, {"authorization": "Bearer t"}),
        ("/v1/invitations", "", "POST", b"", {}),
        *((name, "", "GET", b"", {}) for name in ("/metrics", "/health", "/ready", "/problems")),
    ):
        answer = asyncio.run(_asked(site, path, method, body, headers))
        operation = document["paths"][template or path][method.lower()]
        _check(document, operation["responses"], answer)
        seen.add((operation["operationId"], answer.status_code))
    assert {("enrol", 200), ("enrol", 400), ("enrol", 403), ("enrol", 413), ("exchange", 400), ("exchange", 426)} < seen
    assert {("invite", 201), ("invite", 400), ("invite", 401), ("invite", 413), ("problems", 200)} < seen
    spoken = Draft202012Validator(_of(document, "Enrolment"))
    assert spoken.is_valid(json.loads(whole))
    assert not spoken.is_valid(json.loads(whole) | {"more": 1})


def _check(document: dict[str, Any], responses: dict[str, Any], answer: httpx.Response) -> None:
    """One answer against the responses of its operation."""
    said = responses[str(answer.status_code)]
    if "$ref" in said:
        said = document["components"]["responses"][said["$ref"].rpartition("/")[2]]
    for kind, each in said.get("content", {}).items():
        assert answer.headers["content-type"].startswith(kind)
        if kind == "application/json":
            Draft202012Validator(each["schema"] | {"components": document["components"]}).validate(answer.json())


def _of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A schema, with what it refers to."""
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


async def _asked(site: Site, path: str, method: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """The answer of the application whose path it is."""
    with (
        EnrolmentService(site) as enrolling,
        InvitationService(site) as inviting,
        Enrolments(site.enrolment_file) as register,
    ):
        made: Any = application(site, DeviceDoor(WaitingRoom(), register, population="p"), enrolling, stand_in=True)
        if path == "/v1/invitations":
            made = WithToken(inviting.application(), "t")
        elif path in ("/metrics", "/health", "/ready", "/problems"):
            made = Metrics(site, lambda: {"edge": True}).application()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="https://palate") as client:
            return await client.request(method, path, content=body, headers=headers)
