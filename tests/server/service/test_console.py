"""The operator's page without a browser: who is let in, what it says, and that it is the server's own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serve.world import free_ports
from palate_core.log.signing import SigningKey
from palate_server.console import access as access_module
from palate_server.console.access import SECONDS, Access
from palate_server.console.pages import HEADERS, Console
from palate_server.folder.config import MetricsSettings
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.profiles import TRIAL_WORDS
from palate_server.folder.server_folder import Site
from palate_server.service.metrics import Metrics, metrics_listeners
from palate_server.service.report import read_report
from palate_server.service.setup import make_site

WELL = {"superlink": True, "serverapp": True, "gateway": True, "edge": True}
LOOPBACK = "http://127.0.0.1:8446"


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_795_950_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A server folder in which nothing has happened."""
    return make_site(tmp_path_factory.mktemp("plain") / "site", 'population = "readers"\n', ("a", "b"))


@pytest.fixture
def site(plain: Site, tmp_path: Path) -> Site:
    """The same folder, and a `state` of its own."""
    made = Site(tmp_path / "site")
    made.folder.symlink_to(plain.folder)
    for path in plain.state.glob("console/*"):
        path.unlink()
    return made


class Asking:
    """Requests to the page, without a socket."""

    def __init__(self, console: Console) -> None:
        self.console, self.cookies = console, httpx.Cookies()

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.console.application)
            async with httpx.AsyncClient(transport=transport, base_url=LOOPBACK, cookies=self.cookies) as client:
                found = await client.request(method, path, **options)
                self.cookies.update(client.cookies)
                return found

        return asyncio.run(ask())

    def entered(self) -> Asking:
        token = Access(self.console._site).make_token()
        assert self("GET", f"/console/?token={token}").status_code == 303
        return self


def test_a_token_opens_one_session_and_only_while_it_is_fresh(site: Site) -> None:
    clock = Time()
    access = Access(site, clock)
    token = access.make_token()
    session = access.enter(token)
    assert session is not None
    assert access.admits(session)
    assert access.enter(token) is None, "it is for one use"
    assert not access.admits(token)
    assert not access.admits("")
    old = access.make_token()
    clock.now += SECONDS["token"] + 1
    assert access.enter(old) is None
    assert access.admits(session)
    clock.now += SECONDS["session"]
    assert not access.admits(session)
    kept = {path.name for path in (site.state / "console").iterdir()}
    assert not any(secret in name for name in kept for secret in (token, session, old)), "hashes are kept alone"
    assert {path.stat().st_mode & 0o777 for path in (site.state / "console").iterdir()} == {0o600}


def test_two_that_use_a_token_at_one_time_are_one(site: Site) -> None:
    access = Access(site)
    token, found = access.make_token(), list[str | None]()
    threads = [threading.Thread(target=lambda: found.append(access.enter(token))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each is not None for each in found) == 1


def test_sessions_and_tokens_are_so_many_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MOST", 3)
    clock = Time()
    access, tokens = Access(site, clock), []
    for _ in range(6):
        clock.now += 1.0
        tokens.append(access.make_token())
    assert len(list((site.state / "console").iterdir())) == 3
    assert [access.enter(each) is not None for each in tokens] == [False] * 3 + [True] * 3


def test_no_page_without_a_session(site: Site) -> None:
    asking = Asking(Console(site, lambda: WELL))
    for path in ("/console/", f"/console/card/{'0' * 64}"):
        found = asking("GET", path)
        assert found.status_code == 401
        assert "readers" not in found.text or path == "/console/"
        assert not any(word in found.text for word in ("Budget", "enrolled", site.key().public))
    assert asking("GET", "/console/?token=wrong").status_code == 401
    assert not asking.cookies
    asking.entered()
    found = asking("GET", "/console/")
    assert found.status_code == 200
    said = html.unescape(found.text)
    report = read_report(site, now=time.time(), parts=WELL)
    told = [line for lines in report.sections().values() for line in lines]
    lines = [line for line in told if not line.startswith(("now: ", "next run: "))]
    assert [line for line in lines if line not in said] == [], "`palate serve status` word for word"
    assert all(each.said in said and each.act in said for each in report.problems)
    assert asking("POST", "/console/leave", headers={"Origin": "http://elsewhere.example"}).status_code == 404
    assert asking("GET", "/console/").status_code == 200
    assert asking("POST", "/console/leave").status_code == 303
    assert asking("GET", "/console/").status_code == 401


def test_nothing_that_tells_devices_apart_is_on_the_page(site: Site) -> None:
    secrets = []
    with Enrolments(site.enrolment_file) as register:
        for name in ("Ada's phone", "the tablet"):
            token = register.invite(now=time.time(), hours=1.0, label=name)
            identity = SigningKey.generate().public
            register.enrol(token, identity=identity, now=time.time())
            secrets += [html.escape(name), token, identity]
    text = Asking(Console(site, lambda: WELL)).entered()("GET", "/console/").text
    assert re.search(r"\b2\b[^<]*enrolled|enrolled[^<]*\b2\b", text), "their number is"
    assert not [each for each in secrets if each in text]


def test_its_answers_allow_nothing_from_elsewhere_and_are_not_kept(site: Site) -> None:
    asking = Asking(Console(site, lambda: WELL)).entered()
    for path in ("/console", "/console/", "/console/card/x"):
        found = asking("GET", path).headers
        assert {name: found[name] for name in HEADERS} == HEADERS
        assert "unsafe" not in found["Content-Security-Policy"]
    page = asking("GET", "/console/").text
    assert not re.search(r"<script|\sstyle=|\son[a-z]+=|javascript:", page)
    assert not re.search(r"(?:src|href|action)=\"(?!card/|leave)", page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in HEADERS["Content-Security-Policy"]


def test_a_trial_says_so_on_the_page_and_others_do_not(tmp_path: Path) -> None:
    for profile, says in (("trial", True), ("company", False)):
        config = f'population = "readers"\nprofile = "{profile}"\n'
        made = make_site(tmp_path / profile, config, ("a", "b"))
        page = Asking(Console(made, lambda: WELL)).entered()("GET", "/console/").text
        assert (TRIAL_WORDS in page) is says


@pytest.mark.parametrize(
    "host",
    [
        "palate.evil.example", "localhost.evil.example:8446", "10.0.0.1", "", "[", "[::1", "a]b", "127.0.0.1:x",
        "x@127.0.0.1", "127.0.0.1/x", "127.0.0.1@x",
    ],
)  # fmt: skip
def test_a_page_of_elsewhere_does_not_reach_it_by_a_name_of_its_own(site: Site, host: str) -> None:
    asking = Asking(Console(site, lambda: WELL)).entered()
    assert asking("GET", "/console/", headers={"Host": host}).status_code == 404
    assert asking("GET", "/console/", headers={"Host": "[::1]:8446"}).status_code in (200, 401)


def test_a_look_at_an_address_does_not_use_it_up(site: Site) -> None:
    asking, token = Asking(Console(site, lambda: WELL)), Access(site).make_token()
    assert asking("HEAD", f"/console/?token={token}").status_code == 401
    assert asking("GET", f"/console/?token={token}").status_code == 303


def test_a_session_that_cannot_be_written_is_said_to_be_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asking, token = Asking(Console(site, lambda: WELL)), Access(site).make_token()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(access_module, "create_durably", full)
    found = asking("GET", f"/console/?token={token}")
    assert found.status_code == 503
    assert "its disk is full" in found.text


def test_a_page_of_elsewhere_reads_no_metrics_on_loopback(site: Site) -> None:
    """By a name of its own that leads to 127.0.0.1, in a browser of this machine."""
    (port,) = free_ports(1)
    page = Console(site, lambda: WELL)
    listener = metrics_listeners(
        Metrics(site, lambda: WELL).application(), port=port, settings=MetricsSettings(), folder=site.folder,
        pages=page.application,
    )["metrics"]  # fmt: skip
    listener.start()
    try:
        for path in ("metrics", "ready", "health", "problems"):
            for host, answered in (
                ("127.0.0.1", True), (f"localhost:{port}", True), (f"[::1]:{port}", True),
                ("palate.evil.example", False), (f"127.0.0.1.evil.example:{port}", False), ("[", False),
            ):  # fmt: skip
                status = httpx.get(f"http://127.0.0.1:{port}/{path}", headers={"Host": host}).status_code
                assert (status != 403) == answered, (path, host)
    finally:
        listener.stop()


def test_it_is_on_the_metrics_port_of_loopback_alone_and_in_no_ones_way(site: Site, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 40)
    (tmp_path / "token").chmod(0o600)
    ports = free_ports()
    listeners = metrics_listeners(
        Metrics(site, lambda: WELL).application(),
        port=ports[0],
        settings=MetricsSettings.model_validate({"address": f"127.0.0.1:{ports[1]}", "token": "token"}),
        folder=tmp_path,
        pages=Console(site, lambda: WELL).application,
    )
    assert len(listeners) == 2
    found = []
    for listener, port in zip(listeners.values(), ports, strict=False):
        listener.start()
        try:
            with httpx.Client(headers={"Authorization": f"Bearer {'t' * 40}"}) as client:
                paths = ("metrics", "ready", "problems", "console", "console/", "else")
                found.append([client.get(f"http://127.0.0.1:{port}/{path}").status_code for path in paths])
        finally:
            listener.stop()
    assert found == [[200, 200, 200, 303, 401, 404], [200, 200, 200, 404, 404, 404]]


def test_a_folder_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    made = make_site(tmp_path / "site", 'population = "readers"\n', ("a",))
    made.ledger_file.write_bytes(b"nothing of the kind" * 300)
    found = Asking(Console(made, lambda: WELL)).entered()("GET", "/console/")
    assert found.status_code == 200
    assert "can&#39;t be read" in found.text or "can't be read" in found.text
