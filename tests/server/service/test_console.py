"""The operator's page without a browser: who is let in, what is told, and that nothing tells devices apart."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serve.world import free_ports
from benchmarks.worlds.surveys import World
from palate_cli.cli import run
from palate_cli.commands.serve.console import with_password
from palate_common.enrolment import new_node_key
from palate_common.rounds.wire import REFUSED
from palate_common.survey import Survey
from palate_core.errors import InputError
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.console import access as access_module
from palate_server.console import charts
from palate_server.console.access import LONGEST, Access, hash_password, matches
from palate_server.console.board import KEPT, Board, BoardReader, EventMemory
from palate_server.console.live import MOST as MOST_STREAMS
from palate_server.console.pages import GATEWAY, HEADERS, SECTIONS, Console
from palate_server.console.words import _SAID, told, without_identifiers
from palate_server.folder.config import MetricsSettings, parse_config
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.profiles import TRIAL_WORDS
from palate_server.folder.server_folder import Site
from palate_server.operation.releases import publish
from palate_server.operation.survey_results import read_result, write_result
from palate_server.rounds.progress import ActivityFile
from palate_server.service.metrics import Metrics, metrics_listeners
from palate_server.service.setup import make_site

Maker = Callable[..., Any]
WELL = {"superlink": True, "serverapp": True, "gateway": True, "enrolment": True}
WORDS = "correct horse battery"
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


def with_secret(site: Site, kept: str) -> Site:
    """A folder whose configuration has a password."""
    site.__dict__["config"] = site.config.model_copy(
        update={"console": site.config.console.model_copy(update={"password": kept})}
    )
    return site


@pytest.fixture(scope="module")
def secret() -> str:
    """The hash of the password."""
    return hash_password(WORDS)


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
    session = access.enter_by_token(token)
    assert session is not None
    assert access.admits(session)
    assert access.enter_by_token(token) is None, "it is for one use"
    assert not access.admits(token)
    assert not access.admits("")
    old = access.make_token()
    clock.now += access_module.TOKEN_SECONDS + 1
    assert access.enter_by_token(old) is None
    assert access.admits(session)
    clock.now += access_module.SESSION_SECONDS
    assert not access.admits(session)
    kept = {path.name for path in (site.state / "console").iterdir()}
    assert not any(secret in name for name in kept for secret in (token, session, old)), "hashes are kept alone"
    assert {path.stat().st_mode & 0o777 for path in (site.state / "console").iterdir()} == {0o600}


def test_two_that_use_a_token_at_one_time_are_one(site: Site) -> None:
    access = Access(site)
    token, found = access.make_token(), list[str | None]()
    threads = [threading.Thread(target=lambda: found.append(access.enter_by_token(token))) for _ in range(8)]
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
    assert [access.enter_by_token(each) is not None for each in tokens] == [False] * 3 + [True] * 3


def test_a_changed_password_ends_the_sessions_of_the_former_one(site: Site, secret: str) -> None:
    access = Access(with_secret(site, secret))
    assert access.enter_by_password("another horse battery") is None
    session = access.enter_by_password(WORDS)
    assert session is not None
    assert access.admits(session)
    by_token = access.enter_by_token(access.make_token())
    assert by_token is not None
    for changed in (hash_password(WORDS), ""):
        later = Access(with_secret(site, changed))
        assert not later.admits(session), "it was of the former password"
        assert later.admits(by_token)
    assert later.enter_by_password("") is None
    assert later.enter_by_password(WORDS) is None
    access.leave(session)
    assert not access.admits(session)


def test_wrong_passwords_are_so_many_a_minute(site: Site, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time()
    access = Access(with_secret(site, secret), clock)
    monkeypatch.setattr(access_module, "matches", lambda password, kept: password == WORDS)
    assert [access.enter_by_password("wrong") for _ in range(access_module.TRIES)] == [None] * access_module.TRIES
    for password in ("wrong", WORDS):
        with pytest.raises(BlockingIOError):
            access.enter_by_password(password)
    clock.now += access_module.WITHIN + 1
    assert access.enter_by_password(WORDS) is not None


def test_who_fails_shuts_out_other_strangers_for_a_minute_and_no_browser_that_the_password_has_let_in(
    site: Site, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_, access = Time(), Access(with_secret(site, secret))
    access._clock = time_
    known = access.know("")
    assert access.know(known) == known
    monkeypatch.setattr(access_module, "matches", lambda password, _: password == WORDS)
    for _ in range(access_module.TRIES):
        assert access.enter_by_password("wrong horse battery", "made up") is None
    for stranger in ("", "made up", f"{known}x"):
        with pytest.raises(BlockingIOError):
            access.enter_by_password(WORDS, stranger)
    assert access.enter_by_password(WORDS, known) is not None
    for _ in range(access_module.KNOWN_TRIES):
        assert access.enter_by_password("wrong horse battery", known) is None
    with pytest.raises(BlockingIOError):
        access.enter_by_password(WORDS, known)
    time_.now += access_module.WITHIN
    assert access.enter_by_password(WORDS, known) is not None
    assert access.admits(known) is False, "it opens nothing"
    with access._checking, pytest.raises(BlockingIOError):  # who is known waits, and is heard
        access.enter_by_password(WORDS)
    time_.now += access_module.KNOWN_SECONDS
    assert access.know(known) != known


def test_a_changed_password_forgets_the_browsers_of_the_former_one(site: Site, secret: str) -> None:
    known = Access(with_secret(site, secret)).know("")
    assert Access(with_secret(site, hash_password("another horse battery"))).know(known) != known


def test_a_browser_is_known_by_a_cookie_of_its_own(site: Site, secret: str) -> None:
    asking = Asking(Console(with_secret(site, secret), lambda: WELL))
    found = asking("POST", "/console/enter", headers={GATEWAY: "1", "Host": "localhost"}, data={"password": WORDS})
    first, second = found.headers.get_list("set-cookie")
    assert first.startswith("__Secure-palate-console=")
    assert second.startswith("__Secure-palate-known=")
    assert all(f"; {word}" in second for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/console"))


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 257])
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(InputError, match="must have 12 to 256 characters, got "):
        hash_password(password)


NO_HASH = ["swordfish and more", "scrypt$1$1$1$00$00"]
COSTLY = [f"scrypt${costs}${'0' * 32}${'0' * 64}" for costs in ("3$8$1", "1$8$1", "1048576$8$1", "32768$99$1")]


@pytest.mark.parametrize("kept", [*NO_HASH, *COSTLY])
def test_what_is_no_hash_or_costs_too_much_is_no_setting(kept: str) -> None:
    with pytest.raises(InputError) as found:
        parse_config(f'population = "p"\n[console]\npassword = "{kept}"\n'.encode(), "server.toml")
    assert "must be a hash that `palate serve console --password` has made" in str(found.value)
    assert "swordfish" not in str(found.value), "it may be a password"
    assert kept in COSTLY or not matches(WORDS, kept)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('population = "p"\n', 'population = "p"\n\n[console]\npassword = "H"\n'),
        ('[console]\npassword = "" # none\n[gateway]\nport = 1\n', '[console]\npassword = "H"\n[gateway]\nport = 1\n'),
        ("[console]\n\n[gateway]\n", '[console]\npassword = "H"\n\n[gateway]\n'),
        ('[a]\npassword = "x"\n', '[a]\npassword = "x"\n\n[console]\npassword = "H"\n'),
    ],
)
def test_a_password_is_one_line_of_the_configuration(before: str, after: str) -> None:
    assert with_password(before, "H") == after


def test_the_command_sets_the_password_and_takes_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "site"
    text = 'population = "readers"  # mine\n[gateway]\nport = 9443\nmetrics_port = 9446\n'
    made = make_site(folder, text, ("a",))
    made.config_file.chmod(0o600)
    for password, code in (("short", 2), (WORDS, 0)):
        monkeypatch.setattr("sys.stdin", open_line(password))
        assert run(["serve", "console", str(folder), "--password"]) == code
    assert matches(WORDS, Site(folder).config.console.password)
    assert "https://localhost:9443/console/" in capsys.readouterr().out
    assert made.config_file.read_text().startswith(text)
    assert made.config_file.stat().st_mode & 0o777 == 0o600
    assert run(["serve", "console", str(folder), "--no-password"]) == 0
    assert Site(folder).config.console.password == ""


def open_line(text: str) -> io.StringIO:
    return io.StringIO(f"{text}\n")


def test_no_page_without_a_session(site: Site) -> None:
    asking = Asking(Console(site, lambda: WELL))
    for path in ("/console/", "/console/live", f"/console/card/{'0' * 64}"):
        found = asking("GET", path)
        assert found.status_code == 401
        assert "readers" not in found.text or path == "/console/"
        assert not any(word in found.text for word in ("Budget", "enrolled", site.key().public))
    assert asking("GET", "/console/?token=wrong").status_code == 401
    assert asking("POST", "/console/enter", data={"password": WORDS}).status_code == 404, "there is none"
    assert not asking.cookies
    asking.entered()
    found = asking("GET", "/console/")
    assert found.status_code == 200
    assert all(f'id="{name}"' in found.text for name in SECTIONS)
    assert asking("POST", "/console/leave", headers={"Origin": "http://elsewhere.example"}).status_code == 404
    assert asking("GET", "/console/").status_code == 200
    assert asking("POST", "/console/leave").status_code == 303
    assert asking("GET", "/console/").status_code == 401


def test_its_answers_allow_nothing_from_elsewhere_and_are_not_kept(site: Site) -> None:
    asking = Asking(Console(site, lambda: WELL)).entered()
    for path in ("/console", "/console/", "/console/static/console.css", "/console/static/nothing", "/console/card/x"):
        found = asking("GET", path).headers
        assert {name: found[name] for name in HEADERS if name != "Cache-Control"} == {
            name: value for name, value in HEADERS.items() if name != "Cache-Control"
        }
        assert "unsafe" not in found["Content-Security-Policy"]
        assert found["Cache-Control"] == ("private, max-age=86400" if path.endswith("css") else "no-store")
    page = asking("GET", "/console/").text
    assert not re.search(r"<script(?![^>]*\bsrc=\"static/)|<style|\sstyle=|\son[a-z]+=|javascript:", page)
    assert not re.search(r"(?:src|href|action)=\"(?!static/|card/|#|leave|enter)", page)


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


def test_behind_the_gateway_a_password_opens_it_and_a_token_does_not(site: Site, secret: str) -> None:
    asking = Asking(Console(with_secret(site, secret), lambda: WELL))
    through = {GATEWAY: "1", "Host": "localhost"}
    token = Access(site).make_token()
    assert asking("GET", f"/console/?token={token}", headers=through).status_code == 401
    wrong = asking("POST", "/console/enter", headers=through, data={"password": "wrong horse battery"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (403, False)
    assert asking("POST", "/console/enter", headers=through, content=b"password=" + b"x" * 4000).status_code == 413
    assert asking("POST", "/console/enter", data={"password": WORDS}).status_code == 404, "not on loopback"
    crossing = {**through, "Origin": "https://elsewhere.example"}
    assert asking("POST", "/console/enter", headers=crossing, data={"password": WORDS}).status_code == 404
    for origin in ("null", "http://[", "https://x@localhost", "localhost"):
        crossing = {**through, "Origin": origin}
        assert asking("POST", "/console/enter", headers=crossing, data={"password": WORDS}).status_code == 404
    found = asking("POST", "/console/enter", headers=through, data={"password": WORDS})
    assert found.status_code == 303
    cookie = found.headers["set-cookie"]
    assert all(f"; {word}" in cookie for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/console"))
    assert cookie.startswith("__Secure-palate-console=")
    told_of = [event for event in EventLog(site.events).all() if event["event"] == "console refused"]
    assert [event["reasons"] for event in told_of] == [{"a wrong password": 1}]


def test_the_longest_password_of_any_signs_opens_it(site: Site) -> None:
    longest = "\N{OWL}" * LONGEST
    asking = Asking(Console(with_secret(site, hash_password(longest)), lambda: WELL))
    found = asking("POST", "/console/enter", headers={GATEWAY: "1", "Host": "localhost"}, data={"password": longest})
    assert found.status_code == 303


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
        page.close()


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


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("device 17 must be in the cohort, got one outside it", "device … must be in the cohort, got one outside it"),
        ("devices 3, 4 and 17 were silent", "devices … were silent"),
        ("node 9223372036854775808 left", "node … left"),
        ("at least 7 devices must be left after advertise, got 6", None),
        ("10.1.2.3:5120 and 2001:db8::17 and fe80::1 closed", "…:5120 and … and … closed"),
        ("ipv6:%5B2001:db8::7%5D:4711, ::17 and run9223372036854775807", "ipv6:[…]:4711, … and run…"),
        ("key " + "aB3/" * 10 + "aB3= is known", "key … is known"),
        ("127.0.0.1:8446 and ::1 at 2026-11-29T12:30:05 and 12:30:05", None),
        ("run 20261127T162515-256db1 of mu^2 0.1234", None),
        ("key " + "ab" * 32 + " is known", "key … is known"),
        ("token Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3A is used", "token … is used"),
        ("invitation number 5 of -----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----.", "invitation … of …."),
        ("/srv/palate/readers/site/state/attempt.json: No space left on device", None),
    ],
)
def test_texts_lose_what_tells_devices_apart_and_nothing_else(said: str, shown: str | None) -> None:
    assert without_identifiers(said) == (said if shown is None else shown)


def test_enrolments_have_a_day_and_no_time() -> None:
    lines = told(
        [
            {"at": "2026-11-27T09:15:01.000+00:00", "event": "enrolled"},
            {"at": "2026-11-27T18:40:02.000+00:00", "event": "enrolled"},
            {"at": "2026-11-27T19:00:00.000+00:00", "event": "round", "round": 0},
            {"at": "2026-11-28T19:00:00.000+00:00", "event": "of another version", "reason": "device 5"},
        ],
        most=9,
    )
    assert [(line.at, line.text) for line in lines][::-1] == [
        ("2026-11-27", "2 devices enrolled"),
        ("2026-11-27T19:00:00.000+00:00", "round"),
        ("2026-11-28T19:00:00.000+00:00", "of another version: device …"),
    ]


def test_every_event_that_the_code_tells_has_a_sentence() -> None:
    root = Path(access_module.__file__).parents[1]
    text = "".join(path.read_text() for path in root.rglob("*.py") if path.name not in ("house.py", "app.py"))
    told_by_code = set(re.findall(r"[eE]vents?(?:Log\(site\.events\))?\.tell\(\s*\"([a-z ]+)\"", text))
    told_by_code |= {"enrolment refused", "enrolment failed", "console refused", "cosigned", "uncosigned", "witnessed"}
    assert len(told_by_code) > 25
    assert told_by_code - set(_SAID) - {"enrolled"} == set()


def test_a_long_log_is_read_once_and_the_latest_of_each_kind_is_kept(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.tell("started")
    memory = EventMemory(log.file)
    with log.file.open("ab") as file:
        line = json.dumps({"at": "2026-11-27T09:15:01+00:00", "event": "gathered", "invited": 3}).encode() + b"\n"
        file.write(line * (KEPT + 500))
    memory.read()
    log.tell("stopped")
    found = memory.read()
    assert [found[0]["event"], found[-1]["event"], len(found)] == ["started", "stopped", KEPT + 2]


def test_charts_say_in_words_what_they_show() -> None:
    points = [charts.Spent(1e9, 1.0, False, True), charts.Spent(1e9 + 86400, 1.5, True, False)]
    drawn = charts.spending(points, limit=8.0, now=1e9 + 2e5, label='of "8" <lifetime>')
    assert 'aria-label="of &#34;8&#34; &lt;lifetime&gt;"' in drawn
    assert drawn.count("<circle") == 2
    assert "chart-survey chart-void" in drawn
    assert 'style="' not in drawn
    assert "chart-zero" in charts.interval(-1.0, 0.0, 1.0, scale=(-2.0, 2.0), label="x")
    assert "chart-zero" not in charts.interval(1.0, 2.0, float("inf"), scale=(1.0, 3.0), label="x")


def board_of(service: Any, parts: Any = WELL, clock: Any = None) -> Board:
    return BoardReader(service.site, lambda: parts, *([] if clock is None else [lambda: clock.now])).read()


def codes(board: Board) -> set[str]:
    return {problem.code for problem in board.problems}


NOTED = {"few_devices"}


@pytest.mark.slow
def test_a_server_that_was_never_started_one_that_is_stopped_and_one_that_waits(make_service: Maker) -> None:
    service = make_service()
    board = board_of(service, None)
    assert (board.verdict, board.parts, board.chart, board.steps) == (("off", "Not running"), (), None, ())
    assert "never started" in next(each.said for each in board.problems if each.code == "not_running")
    EventLog(service.site.events).tell("started", dev=False, pid=os.getpid())
    board = board_of(service)
    assert board.verdict == ("good", "All is well")
    assert {part.name for part in board.parts} == {
        "Supervisor", "SuperLink", "ServerApp", "Gateway", "Enrolment", "Witness folder",
    }  # fmt: skip
    assert all(part.good for part in board.parts)
    assert board.due, "it waits for devices alone"
    assert [budget.share for budget in board.budgets] == [0.0, 0.0]
    board = board_of(service, {**WELL, "gateway": False})
    assert board.verdict == ("watch", "Starting"), "for a minute that is no problem"
    board = BoardReader(service.site, lambda: {**WELL, "gateway": False}, lambda: time.time() + 61).read()
    assert board.verdict[0] == "act"
    assert [part.name for part in board.parts if not part.good] == ["Gateway"]
    assert "part_down" in codes(board)
    EventLog(service.site.events).tell("stopped")
    assert board_of(service, None).verdict[0] == "off"


@pytest.mark.slow
def test_each_stage_of_an_attempt_is_on_the_page_while_it_goes_on(
    make_service: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, boards = make_service(algorithm="als"), list[Board]()
    tell, reader = ActivityFile._tell, BoardReader(service.site, lambda: WELL)

    def told_and_read(self: ActivityFile, **changed: Any) -> None:
        tell(self, **changed)
        boards.append(reader.read())

    monkeypatch.setattr(ActivityFile, "_tell", told_and_read)
    service.operate()
    gathering = [board.seen.gathering for board in boards if board.seen.gathering is not None]
    assert gathering[-1].here == gathering[-1].enough == 8
    now = [step.name for board in boards for step in board.steps if step.state == "now"]
    assert list(dict.fromkeys(now)) == ["Keys", "Shares", "Check", "Masked vectors", "Who is in", "Unmask"]
    first = next(board for board in boards if board.steps and board.steps[0].state == "now")
    assert [step.state for step in first.steps] == ["now", *["next"] * 5]
    assert not any("charge_void" in codes(board) for board in boards), "what goes on isn't void"
    assert (first.attempt_state, first.outlook.next_run["why"]) == ("now", "an attempt is under way")
    last = board_of(service)
    assert (last.attempt_state, {step.state for step in last.steps}) == ("released", {"done"})
    assert "8 of 8 invited devices are in the sum" in last.attempt_words
    assert last.chart is not None
    assert [point.released for point in last.points] == [True]
    assert last.unpublished is not None
    found = publish(service.site, last.unpublished, lambda extract: b'{"epsilon": 4.0, "guarantee": "g"}')
    shown = board_of(service)
    assert (shown.models[0].version, shown.models[0].card) == (found.version, {"epsilon": 4.0, "guarantee": "g"})
    assert shown.unpublished is None
    cut = BoardReader(service.site, lambda: {**WELL, "serverapp": False})
    progress = ActivityFile(service.site.progress_file)
    progress.begin(run="r", round_=0, survey=False, invited=8, seconds=60.0)
    assert cut.read().attempt_state == "lost", "who was about it is gone"


@pytest.mark.slow
def test_a_void_attempt_a_budget_that_is_spent_and_a_witness_folder_that_is_lost(make_service: Maker) -> None:
    service = make_service(algorithm="als", epsilon=4.0, period=4.5, lifetime=8.0, every_hours=0.0, pause=3600.0)
    service.devices.spoil = lambda device, answer: REFUSED if device < 2 else answer
    service.operate()
    board = board_of(service)
    assert (board.attempt_state, board.steps[-1].state, board.steps[-1].refused) == ("void", "cut", 2)
    assert {"charge_void", "budget_period"} <= codes(board), codes(board)
    assert board.budgets[0].trainings == 0
    assert board.outlook.next_run["epsilon"] == 0.0
    assert [point.released for point in board.points] == [False]
    assert board.errors[0][0].event == "aborted"
    assert not board.errors[0][1]
    service.site.witness.rename(service.site.folder / "elsewhere")
    board = board_of(service)
    assert board.verdict[0] == "act"
    assert "witness_unwritable" in codes(board)
    assert [part.name for part in board.parts if not part.good] == ["Witness folder"]


@pytest.mark.slow
def test_witnesses_that_nobody_answers_for_are_told(make_service: Maker) -> None:
    key = VerifierKey.of("w.example/palate", SigningKey.generate(), COSIGNATURE)
    service = make_service(extra=f'[witnesses]\nkeys = ["{key}"]\nurls = ["http://127.0.0.1:9"]\nseconds = 1\n')
    service.operate()
    board = board_of(service)
    assert "witnesses_missing" in codes(board)
    assert [part.name for part in board.parts if not part.good] == ["Witnesses"]
    assert board.outlook.next_run["at"] is None


SURVEYS = """
[surveys]
weekly = true
epsilon = 60.0
channels = ["email"]
[surveys.experiments]
new-order = ["2026-11-16"]
"""


@pytest.mark.slow
def test_surveys_and_tests_have_error_bars_and_a_changed_file_is_not_believed(make_service: Maker, clock: Any) -> None:
    service = make_service(extra=SURVEYS, every_hours=1e6, lifetime=500.0, period=400.0, count=26, size=26)
    histories = service.devices.histories

    def before(coordinator: Any) -> None:
        asked = coordinator.terms.algorithm == "analytics"
        survey = Survey.model_validate(coordinator.terms.settings) if asked else None
        service.devices.histories = histories if survey is None else World(devices=26, seed=2).answers(survey)

    service.devices.before = before
    service.operate()
    board = board_of(service, clock=clock)
    (survey,) = board.surveys
    assert (survey.week, survey.broken) == ("2026-11-16", "")
    assert [test.name for test in survey.tests] == ["new-order"]
    assert {figure.name for figure in survey.figures} >= {"Active in 30 days"}
    assert all("interval" in figure.image for figure in survey.figures)
    assert "Retention on day 30" in survey.hushed
    assert board.budgets[0].surveys is not None
    assert any("Surveys: one of ε 60 a week" in line for line in board.plan)
    assert [point.survey for point in board.points] == [True]
    path = service.site.surveys / "2026-11-16.json"
    result = read_result(path.read_bytes(), public_key=service.site.key().public)
    compared = {"difference": 0.2, "low": 0.1, "high": 0.3, "p_value": 0.001, "confidence": 0.975}
    told_apart = [("B is better", 1.0, 0.1), ("A is better", -1.0, -0.3), ("no difference shown", 1.0, -0.1)]
    for verdict, sign, low in told_apart:
        one = compared | {"difference": 0.2 * sign, "low": low, "high": low + 0.2 + 0.2 * (low == -0.1)}
        write_result(service.site, result | {"tests": {"new-order": {"looks": ["2026-11-16"], "found": one}}})
        (shown,) = board_of(service, clock=clock).surveys
        assert (shown.tests[0].verdict, shown.tests[0].look) == (verdict, "1 look registered: 2026-11-16")
        assert shown.tests[0].image is not None
        assert "chart-zero" in shown.tests[0].image
    path.write_bytes(path.read_bytes().replace(b"readers", b"writers"))
    (changed,) = board_of(service, clock=clock).surveys
    assert changed.broken
    assert changed.figures == ()


@pytest.fixture
def marked(make_service: Maker) -> tuple[Any, list[str]]:
    """A server that has run, whose devices' keys, numbers and addresses are known by sight, and its log, too."""
    service = make_service(algorithm="als", count=9, pause=0.0)
    pem = new_node_key().public
    with Enrolments(service.site.enrolment_file) as register:
        token = register.invite(now=0.0, hours=1e6)
        open_token = register.invite(now=0.0, hours=1e6)
        identity = "ab" * 32
        number = register.enrol(token, node_key=pem, identity=identity, now=1.0).number
        register.registered(number, 9_220_000_000_000_000_017)
        identities = [device.identity for device in register.devices()]
    service.operate()
    log = EventLog(service.site.events)
    log.tell("enrolment failed", count=1, reasons={f"node 9220000000000000017 at 203.0.113.77 has {pem}": 1})
    log.tell("failed", kind="KeyError", error=f"device 9: {identity} from 2001:db8::77 with {open_token}")
    log.tell("held", reason=f"token {token} of device 9")
    body = pem.replace("-----BEGIN PUBLIC KEY-----", "").strip()[:40]
    return (
        service,
        [body, token, open_token, "9220000000000000017", "203.0.113.77", "2001:db8::77", "device 9", *identities],
    )


@pytest.mark.slow
def test_nothing_that_tells_devices_apart_is_on_the_page_in_what_follows_or_in_a_log(
    marked: tuple[Any, list[str]],
) -> None:
    service, marks = marked
    files = [service.site.events, service.site.progress_file]
    written = [line for file in files for line in file.read_text().splitlines()]
    own = ("enrolment failed", '"failed"', '"held"')  # lines of this test, as a careless version might write them
    assert [line for line in written for mark in marks if mark in line and not any(word in line for word in own)] == []
    assert any(mark in line for line in written for mark in marks)
    console = Console(service.site, lambda: WELL)
    page = Asking(console).entered()("GET", "/console/").text

    async def streamed() -> str:
        found, stream = "", console._live.stream("", lambda: True)
        async for event in stream:
            found += event
            if "event: beat" in event:
                break
        await stream.aclose()
        return found

    sent = asyncio.run(streamed())
    for where in (page, sent):
        assert "Enrolment failed" in where
        assert [mark for mark in marks if mark in where] == []
        assert not re.search(r"key-\d", where), "the node keys of the other devices"
    console.close()


def test_a_folder_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    made = make_site(tmp_path / "site", 'population = "readers"\n', ("a",))
    made.ledger_file.write_bytes(b"nothing of the kind" * 300)
    found = Asking(Console(made, lambda: WELL)).entered()("GET", "/console/")
    assert found.status_code == 200
    assert "can&#39;t be read" in found.text or "can't be read" in found.text


def test_a_browser_that_was_cut_off_gets_what_it_lacks_and_no_more(site: Site) -> None:
    console = Console(site, lambda: WELL)
    seen, _ = console._live.look()

    async def names(since: str) -> list[str]:
        found: list[str] = []
        stream = console._live.stream(since, lambda: True)
        async for event in stream:
            found += re.findall(r"^event: (.+)$", event, re.MULTILINE)
            if len(found) > len(SECTIONS) or "beat" in found or (since == seen and "log" in found):
                break
        await stream.aclose()
        return found

    assert set(asyncio.run(names(""))) >= set(SECTIONS)
    assert set(asyncio.run(names("another-99"))) >= set(SECTIONS), "of another process"
    EventLog(site.events).tell("stopped")
    assert set(asyncio.run(names(seen))) - {"beat"} <= {"log", "top", "now"}
    console.close()


def test_streams_that_come_at_one_time_are_no_more_than_may_be(site: Site) -> None:
    async def together() -> int:
        live = Console(site, lambda: WELL)._live
        streams = [live.stream("", lambda: True) for _ in range(2 * MOST_STREAMS)]  # each was let in before any began
        for stream in streams:
            await anext(stream)
        found = live._streams
        live.close()
        for stream in streams:
            await stream.aclose()
        assert live._streams == 0
        return found

    assert asyncio.run(together()) == MOST_STREAMS


def test_who_is_no_longer_let_in_gets_nothing_more(site: Site) -> None:
    console = Console(site, lambda: WELL)
    console._live.look()

    async def ends() -> bool:
        async for event in console._live.stream("", lambda: False):
            assert "beat" not in event
        return True

    assert asyncio.run(asyncio.wait_for(ends(), 20.0))
    console.close()
    assert console._live.full


def test_what_the_page_loads_is_what_was_published_with_its_licence() -> None:
    folder = Path(access_module.__file__).parent / "static/vendor"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    kept = {name: value for value, name in (line.split() for line in lines)}
    files = {path.name for path in folder.iterdir()} - {"SHA256SUMS", "README.txt"}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files} == kept
    assert {name for name in files if name.endswith("LICENSE.txt")} == {"htmx-LICENSE.txt", "htmx-ext-sse-LICENSE.txt"}
