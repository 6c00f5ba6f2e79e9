"""The operator's page in a real Chromium, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsers import Browser

from benchmarks.serve.world import free_ports
from palate_common.rounds.wire import REFUSED
from palate_server.console.access import Access
from palate_server.console.pages import Console
from palate_server.folder.events import EventLog
from palate_server.operation.releases import publish
from palate_server.service.listener import Listener
from palate_server.service.status import unpublished
from palate_sim.card.card import card_payload, sign_card

pytestmark = pytest.mark.slow


class Served:
    """A server folder with some history, and its page."""

    def __init__(self, service: Any, port: int) -> None:
        self.site, self.where = service.site, f"http://127.0.0.1:{port}/console/"
        self.parts = dict.fromkeys(("superlink", "serverapp", "gateway", "edge"), True)

    def address(self) -> str:
        return f"{self.where}?token={Access(self.site).make_token()}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser.started() as started:
        yield started


@pytest.fixture(scope="module")
def served(make_shared_service: Callable[..., Any]) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate_server.operation.operation.sleep", lambda seconds: None)
        service = make_shared_service(algorithm="als", epsilon=2.0, lifetime=9.0, every_hours=0.0)
        service.devices.spoil = lambda device, answer: REFUSED if device < 2 else answer
        service.operate()
        service.devices.spoil = lambda device, answer: answer
        service.operate(2)
    with service.site.ledger(read_only=True) as ledger:
        run = unpublished(ledger)
    key = service.site.key()
    publish(service.site, run, lambda extract: sign_card(card_payload(extract), key))
    (port,) = free_ports(1)
    found = Served(service, port)
    listener = Listener(Console(service.site, lambda: found.parts).application, host="127.0.0.1", port=port)
    listener.start()
    yield found
    listener.stop()


def test_an_address_works_once_and_leaves_no_token_behind(browser: Browser, served: Served) -> None:
    address = served.address()
    found = browser.open(address)
    assert (found["status"], found["url"]) == (200, served.where)
    (cookie,) = browser.do("cookies")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    card = browser.eval("document.querySelector('main a').href")
    assert browser.open(card)["status"] == 200
    assert "guarantee" in browser.eval("document.body.textContent")
    assert browser.open(address, cookies=False)["status"] == 401
    assert browser.eval("document.querySelector('[role=alert]').textContent").startswith("That address was used")
    assert browser.do("cookies") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_read_in_light_and_dark_and_on_a_phone_and_breaks_no_policy_of_its_own(
    browser: Browser, served: Served, scheme: str, width: int
) -> None:
    served.parts["serverapp"] = False  # so that what is wrong is on the page, too
    EventLog(served.site.events).tell("failed", kind="MemoryError", error="out of memory")
    try:
        browser.open(served.address(), scheme=scheme, width=width, height=844)
        found = browser.do("contrast")
        assert found["bad"] == []
        assert found["seen"] > 20
        assert browser.eval("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        ground = browser.eval("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 150) == (scheme == "dark")
        told = browser.do("told")
        assert [each for each in told if "asked" in each and not each["asked"].startswith(served.where)] == []
        assert [each["said"] for each in told if "said" in each] == []
        top = browser.text("top")
        assert "out of memory" in top
        assert "% of the lifetime's" in browser.text("budget")
    finally:
        served.parts["serverapp"] = True
