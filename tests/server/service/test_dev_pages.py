"""With `--dev` a web page of `gateway.origins` may do what nginx lets it do, and another one nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from palate_common.rounds.exchange import HEADERS, REPLY_HEADERS
from palate_server.edge.application import EnrolmentService, application
from palate_server.edge.door import DeviceDoor
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.service.checks import checked
from palate_server.service.setup import make_certificates, make_site

PAGE = "http://localhost:8000"
HASH = "0" * 64
FOR_PAGES = (
    ("POST", "/v1/device/exchange"),
    ("POST", "/v1/enroll"),
    ("GET", "/models/latest"),
    ("GET", f"/models/{HASH}/manifest.json"),
    ("GET", f"/round/{HASH}"),
)


@pytest.fixture(params=["", "/p/shop"])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    gateway = f'origins = ["{PAGE}"]\npath = "{request.param}"'
    made = make_site(tmp_path / "site", f'population = "p"\n[gateway]\n{gateway}\n', ("a", "b"))
    make_certificates(made)
    return made


def ask(site: Site, method: str, path: str, origin: str | None, *, asks: str | None = None) -> httpx.Response:
    async def sent() -> httpx.Response:
        headers = {} if origin is None else {"Origin": origin}
        headers |= {"Access-Control-Request-Method": asks} if asks else {}
        with EnrolmentService(site) as enrolling, Enrolments(site.enrolment_file) as register:
            door = DeviceDoor(WaitingRoom(), register, population="p", path=site.config.gateway.path)
            transport = httpx.ASGITransport(application(site, door, enrolling, stand_in=True))
            async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
                return await client.request(method, f"{site.config.gateway.path}{path}", headers=headers)

    return asyncio.run(sent())


def test_a_page_of_a_named_origin_may_use_what_devices_use(site: Site) -> None:
    for method, path in FOR_PAGES:
        asked = ask(site, "OPTIONS", path, PAGE, asks=method)
        assert (asked.status_code, asked.headers["Access-Control-Allow-Methods"]) == (204, method), path
        allowed = asked.headers["Access-Control-Allow-Headers"].split(", ")
        assert set(HEADERS).issubset(allowed) == path.startswith("/v1/device")
        answer, plain = ask(site, method, path, PAGE), ask(site, method, path, None)
        assert answer.status_code == plain.status_code != 403, path
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE, "also of an error"
        assert answer.headers["Vary"] == "Origin"
        assert answer.headers["Access-Control-Expose-Headers"].split(", ") == list(REPLY_HEADERS)
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Access-Control-Allow-Origin" not in plain.headers


@pytest.mark.parametrize("origin", ["http://localhost", "http://localhost:8001", "https://localhost:8000", "null", ""])
def test_a_page_of_another_origin_may_nothing(site: Site, origin: str) -> None:
    for method, path in FOR_PAGES:
        for answer in (ask(site, "OPTIONS", path, origin, asks=method), ask(site, method, path, origin)):
            assert answer.status_code == 403, path
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_preflight_opens_nothing_else(site: Site) -> None:
    for path in ("/", "/ledger/checkpoint", "/v1/control/start-run", "/metrics"):
        for asks in ("GET", "POST", "DELETE"):
            answer = ask(site, "OPTIONS", path, PAGE, asks=asks)
            assert answer.status_code >= 400
            assert "Access-Control-Allow-Origin" not in answer.headers
    for method, path in FOR_PAGES:
        others = [each for each in ("GET", "POST", "DELETE", "PUT") if each != method]
        assert {ask(site, "OPTIONS", path, PAGE, asks=each).status_code for each in others} == {403}
        assert {ask(site, each, path, PAGE).status_code for each in (*others, "OPTIONS")} == {403}


def test_pages_of_the_operators_own_are_served_and_may_use_it(site: Site) -> None:
    """With no other origin named; what it has beside them stays where it is."""
    (site.pages / "shop").mkdir()
    (site.pages / "shop/index.html").write_text("own")
    assert [ask(site, "GET", f"/app/shop/{name}", None).text for name in ("", "index.html")] == ["own", "own"]
    (site.pages / "key").symlink_to(site.folder / "key")
    (site.pages / "all").symlink_to(site.folder)
    for path in (
        "/app/key",
        "/app/all/key",
        "/app/shop",
        "/app/%2e%2e/ledger.db",
        "/app/../../key",
        "/app/shop/.",
        "/app//etc/hosts",
    ):
        assert ask(site, "GET", path, None).status_code == 404, path
    assert ask(site, "POST", "/v1/enroll", site.origins[0]).status_code != 403


def test_a_page_whose_browser_knows_no_certificate_of_the_folders_is_told_before(site: Site) -> None:
    found = {each.code: each for each in checked(site, now=0.0, dev=True, starting=True).problems}
    assert "tls/ca.pem" in found["page_certificate"].act


def test_who_hangs_up_in_the_middle_of_an_enrolment_is_no_error(site: Site) -> None:
    """Of which the log would have a page for each."""
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    said = list[object]()

    async def receive() -> dict[str, object]:
        return parts.pop(0)

    async def send(message: object) -> None:
        said.append(message)

    async def hang_up() -> None:
        with EnrolmentService(site) as enrolling, Enrolments(site.enrolment_file) as register:
            path = site.config.gateway.path
            door = DeviceDoor(WaitingRoom(), register, population="p", path=path)
            scope = {"type": "http", "method": "POST", "path": f"{path}/v1/enroll", "headers": [], "query_string": b""}
            await application(site, door, enrolling, stand_in=True)(scope, receive, send)

    asyncio.run(hang_up())
    assert len(said) == 2, "nobody reads it"
