"""The operator's page in a real Chromium, over real sockets: on loopback, and through nginx with a password.

One server folder, one browser, one nginx for all: each test takes the page as the one before has left it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from browsers import Browser

from benchmarks.serve.world import free_ports
from palate_common.rounds.wire import REFUSED
from palate_server.console.access import Access, hash_password
from palate_server.console.pages import SECTIONS, Console
from palate_server.console.words import STEPS
from palate_server.folder.config import MetricsSettings
from palate_server.folder.events import EventLog
from palate_server.operation.releases import publish
from palate_server.rounds.progress import ActivityFile
from palate_server.service.gateway import nginx_command, write_configuration
from palate_server.service.metrics import Metrics, metrics_listeners
from palate_server.service.status import unpublished
from palate_sim.card.card import card_payload, sign_card

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]
WORDS = "correct horse battery"
EXTRA = """
[gateway]
listen = "127.0.0.1"
path = "/p/shop"
port = {ports[0]}
superlink_port = {ports[1]}
enrolment_port = {ports[2]}
metrics_port = {ports[3]}
[console]
password = "{kept}"
"""


class Board(Browser):
    """A Chromium that waits for the page to be live."""

    def open(self, url: str, **options: Any) -> Any:
        found = super().open(url, **options)
        if found["status"] == 200 and "console" in found["url"]:
            self.wait("document.getElementById('live')?.dataset.state === 'live'")
        return found


@dataclass
class Served:
    """A server folder with some history, its page, and its gateway."""

    service: Any
    parts: dict[str, bool] = field(default_factory=dict)
    answered: dict[str, bool] = field(default_factory=dict)
    """What `/ready` says: at first nothing, as if another program had the port."""

    @property
    def site(self) -> Any:
        return self.service.site

    @property
    def loopback(self) -> str:
        return f"http://127.0.0.1:{self.site.config.gateway.metrics_port}/console/"

    @property
    def outside(self) -> str:
        return f"https://localhost:{self.site.config.gateway.port}/p/shop/console/"

    def address(self) -> str:
        return f"{self.loopback}?token={Access(self.site).make_token()}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Board.started() as started:
        yield started


@pytest.fixture(scope="module")
def served(make_shared_service: Maker) -> Iterator[Served]:
    extra = EXTRA.format(ports=free_ports(), kept=hash_password(WORDS))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate_server.operation.operation.sleep", lambda seconds: None)
        service = make_shared_service(algorithm="als", epsilon=2.0, lifetime=9.0, every_hours=0.0, extra=extra)
        service.devices.spoil = lambda device, answer: REFUSED if device < 2 else answer
        service.operate()
        service.devices.spoil = lambda device, answer: answer
        service.operate(2)
    with service.site.ledger(read_only=True) as ledger:
        run = unpublished(ledger)
    key = service.site.key()
    publish(service.site, run, lambda extract: sign_card(card_payload(extract), key))
    parts = dict.fromkeys(("superlink", "serverapp", "gateway", "enrolment"), True)
    page = Console(service.site, lambda: parts)
    answered: dict[str, bool] = {}
    listener = metrics_listeners(
        Metrics(service.site, lambda: answered).application(), port=service.site.config.gateway.metrics_port,
        settings=MetricsSettings(), folder=service.site.folder, pages=page.application,
    )["metrics"]  # fmt: skip
    write_configuration(service.site)
    listener.start()
    with (
        (service.site.logs / "gateway.log").open("ab") as log,
        subprocess.Popen(nginx_command(service.site), cwd=service.site.public, stderr=log) as nginx,
    ):
        yield Served(service, parts, answered)
        nginx.terminate()
    page.close()
    listener.stop()


@pytest.fixture(scope="module")
def entered(browser: Browser, served: Served) -> Browser:
    """The browser on the page."""
    browser.open(served.address())
    return browser


def test_an_address_works_once_and_leaves_no_token_behind(browser: Browser, served: Served) -> None:
    address = served.address()
    found = browser.open(address)
    assert (found["status"], found["url"]) == (200, served.loopback)
    (cookie,) = browser.do("cookies")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    assert browser.open(address, cookies=False)["status"] == 401
    assert browser.eval("document.querySelector('[role=alert]').textContent").startswith("That address was used")
    assert browser.do("cookies") == []


def test_first_sight_says_whether_it_is_well_what_is_left_and_what_went_wrong(entered: Browser) -> None:
    top = entered.text("top")
    assert "All is well" in top
    assert "of the lifetime's" in top
    assert "of the period's" in top
    assert "adjacency: zero-out" in top
    assert "Attempt at round 1 released nothing" in top
    bottom = entered.eval("document.querySelector('.glance').getBoundingClientRect().bottom")
    assert bottom < 900, "it is seen without scrolling"


def test_it_loads_nothing_from_elsewhere_and_breaks_no_policy_of_its_own(entered: Browser, served: Served) -> None:
    told = entered.do("told")
    asked = [each["asked"] for each in told if "asked" in each]
    assert len(asked) >= 6
    assert [each for each in asked if not each.startswith(served.loopback)] == []
    assert [each["said"] for each in told if "said" in each] == []
    assert entered.eval("document.querySelectorAll('style, [style], script:not([src])').length") == 0
    refused = entered.eval(
        "new Promise((done) => { addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective));"
        " const s = document.createElement('script'); s.textContent = 'window.inline = 1'; document.head.append(s); })"
    )
    assert refused.startswith("script-src")
    assert entered.eval("window.inline ?? null") is None


def test_every_section_is_there_with_a_heading(entered: Browser) -> None:
    headings = entered.eval(
        "[...document.querySelectorAll('#board section')].map((s) => [s.id, !!s.querySelector('h2')])"
    )
    assert headings == [[name, True] for name in SECTIONS]
    levels = entered.eval("[...document.querySelectorAll('h1, h2, h3')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_a_model_shows_its_card(entered: Browser) -> None:
    models = entered.text("models")
    assert "ε 2.000 at δ 1e-06; unit: user: one installation; adjacency: zero-out" in models
    card = entered.eval("fetch(document.querySelector('#models a').href).then((r) => r.json())")
    assert card["guarantee"] in models
    assert card["signature"]


def test_pictures_have_words(entered: Browser) -> None:
    words = entered.eval("[...document.querySelectorAll('#board svg')].map((s) => s.getAttribute('aria-label'))")
    assert len(words) > 4
    assert all(len(each) > 10 for each in words)
    assert any("Epsilon of the population over time" in each for each in words)
    rows = entered.eval("document.querySelectorAll('#points tbody tr').length")
    assert rows == entered.eval("document.querySelectorAll('#budget circle').length") > 1


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Lima"])
def test_times_are_in_the_readers_zone(entered: Browser, served: Served, zone: str) -> None:
    entered.open(served.loopback, zone=zone)
    assert entered.eval("document.getElementById('zone').textContent") == f"times in {zone}"
    entered.eval("window.first = document.querySelector('#log time[data-as=moment]')")
    shown, at = entered.eval("[first.textContent, first.dateTime]")
    hour = entered.eval(f"new Date('{at}').toLocaleString('en-GB', {{timeZone: '{zone}', hour: '2-digit'}})")
    assert f" {hour}:" in shown.replace(",", "")


def test_what_happens_is_seen_without_a_reload(entered: Browser, served: Served) -> None:
    entered.eval("window.same = 'page'")
    EventLog(served.site.events).tell("held", reason="a gate of this test")
    entered.wait("document.getElementById('log').textContent.includes('a gate of this test')")
    entered.wait("document.getElementById('top').textContent.includes('a gate of this test')")
    EventLog(served.site.events).tell("published", run="20261127T000000-abcdef", version=99)
    entered.wait("document.getElementById('log').textContent.includes('Model version 99')")
    served.parts["gateway"] = False
    entered.wait("document.querySelector('#top .parts .bad')?.textContent.includes('Gateway')")
    served.parts["gateway"] = True
    entered.wait("!document.querySelector('#top .parts .bad')")
    assert entered.eval("window.same") == "page"


def test_what_was_opened_and_focused_stays_so_when_its_section_changes(entered: Browser, served: Served) -> None:
    for _ in range(20):
        EventLog(served.site.events).tell("started", dev=False, pid=os.getpid())
    entered.wait("document.querySelectorAll('#log li').length > 30")
    entered.eval(
        "document.getElementById('points').open = true; document.querySelector('#models details').open = false;"
        "window.kept = document.querySelector('#log .scroll'); kept.scrollTop = 9; kept.focus()"
    )
    EventLog(served.site.events).tell("held", reason="another gate")
    entered.wait("document.getElementById('log').textContent.includes('another gate')")
    assert entered.eval("document.getElementById('points').open")
    assert entered.eval("document.querySelector('#models details').open") is False
    assert entered.eval("[document.activeElement.className, document.activeElement.scrollTop]") == ["scroll log", 9]


def test_an_attempt_goes_on_before_the_readers_eyes(
    entered: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate_server.operation.operation.sleep", lambda seconds: None)
    shown: dict[int, str] = {}

    def spoil(device: int, answer: bytes) -> bytes:
        attempt = ActivityFile(served.site.progress_file).read().attempt
        step = attempt.exchanges[-1].step
        if step not in shown:  # the first answer of a step waits until the page shows that step
            name = STEPS[step][0]
            entered.wait(f"document.querySelector('#now .steps .now .step-name')?.textContent.startsWith('{name}')")
            shown[step] = name
        return answer

    entered.eval("window.same = 'page'")
    served.service.devices.spoil = spoil
    try:
        served.service.operate()
    finally:
        served.service.devices.spoil = lambda device, answer: answer
    assert list(shown.values()) == ["Keys", "Shares", "Check", "Masked vectors", "Who is in", "Unmask"]
    entered.wait("document.getElementById('now').textContent.includes('was released: 8 of 8 invited devices')")
    assert entered.eval("window.same") == "page"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_read_in_light_and_dark_and_on_a_phone(
    entered: Browser, served: Served, scheme: str, width: int
) -> None:
    served.parts["serverapp"] = False  # so that what is wrong is on the page, too
    EventLog(served.site.events).tell("failed", kind="MemoryError", error="out of memory")
    try:
        entered.open(served.loopback, scheme=scheme, width=width, height=844)
        entered.wait("document.querySelector('.verdict.act, .verdict.watch')")
        found = entered.do("contrast")
        assert found["bad"] == []
        assert found["seen"] > 100
        assert entered.eval("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        ground = entered.eval("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 150) == (scheme == "dark")
    finally:
        served.parts["serverapp"] = True


def test_the_keyboard_reaches_everything_and_shows_where_it_is(entered: Browser, served: Served) -> None:
    entered.open(served.loopback)
    entered.do("press", key="Tab")
    assert entered.eval("document.activeElement.className") == "skip"
    assert entered.eval("document.activeElement.getBoundingClientRect().left") >= 0
    entered.do("press", key="Enter")
    assert entered.eval("document.activeElement.id") == "top"
    wanted = entered.eval("document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]').length")
    reached = set()
    entered.eval("document.activeElement.blur()")
    for _ in range(wanted + 5):
        entered.do("press", key="Tab")
        reached.add(entered.eval("document.activeElement.outerHTML.slice(0, 160)"))
        style = entered.eval("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none" or entered.eval("document.activeElement === document.body")
    assert len(reached) > 12
    closed = "[...document.querySelectorAll('summary')].find((s) => !s.parentElement.open)"
    entered.eval(f"window.one = {closed}; one.focus()")
    entered.do("press", key="Enter")
    assert entered.eval("one.parentElement.open")


def test_a_page_that_lost_its_server_says_so_and_goes_on(entered: Browser, served: Served) -> None:
    entered.eval("document.getElementById('board').dispatchEvent(new CustomEvent('htmx:sseError', {detail: {}}))")
    assert entered.eval("document.getElementById('live-words').textContent").startswith("connection lost")
    EventLog(served.site.events).tell("held", reason="a third gate")
    entered.wait("document.getElementById('live').dataset.state === 'live'")


def test_without_scripts_it_is_the_same_page(served: Served) -> None:
    import httpx

    with httpx.Client(follow_redirects=True) as client:
        page = client.get(served.address()).text
    assert all(word in page for word in ("Budget left", "Epsilon over time", "Latest errors", "UTC</time>"))


def test_the_page_is_painted_in_time(entered: Browser, served: Served) -> None:
    entered.open(served.loopback)
    sizes = entered.eval(
        "performance.getEntriesByType('resource').map((e) => e.encodedBodySize).reduce((a, b) => a + b)"
    )
    assert sizes < 150_000, "what has to be there before it is painted is small, whatever this machine's load"
    assert entered.eval("[...document.scripts].every((s) => s.defer)")


def test_through_the_gateway_it_takes_the_password(entered: Browser, served: Served) -> None:
    deadline = time.monotonic() + 20
    while not (served.site.state / "nginx.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert entered.open(served.outside, cookies=False)["status"] == 401
    assert "Budget" not in entered.eval("document.body.textContent")
    entered.do("fill", at="#password", text="wrong horse battery")
    entered.do("press", key="Enter")
    entered.wait("document.querySelector('[role=alert]')?.textContent.startsWith(\"That isn't\")")
    entered.do("fill", at="#password", text=WORDS)
    entered.do("press", key="Enter")
    entered.wait("document.getElementById('live')?.dataset.state === 'live'")
    assert entered.eval("location.href") == served.outside
    cookies = entered.do("cookies")
    for cookie in cookies:
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        assert cookie["path"] == "/p/shop/console"
    assert {cookie["name"] for cookie in cookies} == {"__Secure-palate-console", "__Secure-palate-known"}


def test_through_the_gateway_it_is_live_too_and_signs_out(entered: Browser, served: Served) -> None:
    EventLog(served.site.events).tell("held", reason="a gate behind the gateway")
    entered.wait("document.getElementById('log').textContent.includes('a gate behind the gateway')")
    asked = [each["asked"] for each in entered.do("told") if "asked" in each]
    assert [each for each in asked if not each.startswith(served.outside)] == []
    entered.do("click", at="header button")
    entered.wait("document.getElementById('password')")
    assert [each["name"] for each in entered.do("cookies")] == ["__Secure-palate-known"], "which opens nothing"
    assert entered.open(served.outside)["status"] == 401


def test_the_gateway_lets_an_address_try_so_often_and_lets_nothing_else_through(served: Served) -> None:
    import httpx

    with httpx.Client(verify=False) as client:  # noqa: S501 - the folder's own authority
        assert client.get(f"{served.outside}../metrics").status_code == 404
        for path in ("enter/", "static/../../metrics", "static/%2e%2e/health", "card/x", "live?x=%00"):
            assert client.get(f"{served.outside}{path}").status_code in (400, 404), path
        assert client.get(f"{served.outside}?token={Access(served.site).make_token()}").status_code in (401, 404)
        forged = {"X-Palate-Gateway": ""}
        assert client.get(served.outside, headers=forged).status_code == 401
        found = [client.post(f"{served.outside}enter", data={"password": "no"}).status_code for _ in range(9)]
        assert set(found) == {403, 429}
        assert client.get(served.outside).status_code == 401, "who looks on isn't kept out"
    told = [event for event in EventLog(served.site.events).all() if event["event"] == "console refused"]
    assert told
    assert "127.0.0.1" not in json.dumps(told)
    assert "127.0.0.1" not in (served.site.logs / "gateway.log").read_text()
