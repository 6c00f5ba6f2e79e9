"""The page of a house without a browser: who is let in, where it leads, and what it says of each population."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from benchmarks.serve.world import free_ports
from palate_cli.cli import run
from palate_server.console.access import Access
from palate_server.console.house import SAID, HouseReader
from palate_server.console.pages import GATEWAY, HouseConsole
from palate_server.console.words import told
from palate_server.folder.config import MetricsSettings
from palate_server.folder.events import EventLog
from palate_server.folder.house import House, make_house
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import Front, HousePage, check_configuration, configuration
from palate_server.service.metrics import Metrics, _is_somebody, metrics_listeners
from palate_server.service.proving import NUMBER, PROOF

WORDS = "correct horse battery"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    home = tmp_path_factory.mktemp("house")
    house = make_house(home / "house", name="localhost", port=9443)
    (home / "items").write_text("a\nb\n")
    for name in ("shop", "news"):
        given = ["--population", f"readers of the {name}", "--items", str(home / "items"), "--yes"]
        assert run(["serve", "init", str(house.populations / name), *given]) == 0
    config, (free,) = house.populations / "shop" / "server.toml", free_ports(1)
    config.write_text(re.sub("(?m)^metrics_port = [0-9]+", f"metrics_port = {free}", config.read_text()))
    house.open("shop")
    return house


def asked(page: HouseConsole, path: str, cookies: httpx.Cookies, method: str = "GET", **options: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=page.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9447", cookies=cookies) as client:
            found = await client.request(method, path, **options)
            cookies.update(client.cookies)
            return found

    return asyncio.run(ask())


def test_it_says_of_each_population_how_it_is(made: House) -> None:
    runs: list[bool | None] = [True]
    with HouseReader(made, lambda: runs[0]) as reader:
        board = reader.read()
        assert [(each.name, each.verdict) for each in board.populations] == [
            ("shop", ("act", "Open, and not running")),
            ("news", ("off", "Shut")),
        ]
        assert board.verdict == ("act", "1 of 1 needs you")
        shown = board.populations[0]
        assert shown.board is not None
        assert [budget.name for budget in shown.board.budgets] == ["period", "lifetime"]
        before = reader.stamp()
        assert before == reader.stamp()
        EventLog(made.site("shop").events).tell("held", reason="a gate")
        assert reader.stamp() != before, "what happens in a population changes the page of the house"
        found = reader.read().populations[0].board
        assert found is not None
        assert "a gate" in found.errors[0][0].text
        for gateway, words in ((False, "The gateway isn't running"), (None, "The house isn't running")):
            runs[0] = gateway
            assert reader.read().verdict[1] == words


def test_no_page_and_no_way_on_without_a_session(made: House) -> None:
    with HouseConsole(made, lambda: True) as page:
        cookies = httpx.Cookies()
        for path in ("/console/", "/console/live", "/console/of/shop"):
            found = asked(page, path, cookies)
            assert found.status_code == 401
            assert "readers" not in found.text
        token = Access(made.site("shop")).make_token()
        assert asked(page, f"/console/?token={token}", cookies).status_code == 401, "a population's opens no house"
        assert asked(page, f"/console/?token={Access(made).make_token()}", cookies).status_code == 303
        assert "readers of the shop" in asked(page, "/console/", cookies).text
        port = made.site("shop").config.gateway.metrics_port
        with answering(made.site("shop")):
            there = asked(page, "/console/of/shop", cookies)
        address, _, token = there.headers["location"].partition("?token=")
        assert (there.status_code, address) == (303, f"http://127.0.0.1:{port}/console/")
        assert Access(made.site("shop")).enter_by_token(token)
        assert Access(made.site("shop")).enter_by_token(token) is None, "once"
        assert asked(page, "/console/of/none", cookies).status_code == 404
        assert asked(page, "/console/of/..%2Fshop", cookies).status_code == 404


class Impostor(BaseHTTPRequestHandler):
    """A program of another account that has a population's port, and says all that its server says."""

    proofs: ClassVar[list[str]] = []
    asks: ClassVar[str] = ""
    """Where it asks the server itself for a proof, instead of showing one that it has kept."""

    def do_GET(self) -> None:
        if self.asks:
            given = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            self.proofs.append(httpx.get(f"{self.asks}{self.path}", headers=given).headers[PROOF])
        self.send_response(200)
        if self.proofs:
            self.send_header(PROOF, self.proofs[-1])
        self.end_headers()
        self.wfile.write(b'{"gateway": true}')

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(site: Site, port: int = 0) -> Iterator[str]:
    """A server, on its port or another; its address."""
    port = port or site.config.gateway.metrics_port
    application = Metrics(site, lambda: {"gateway": True}).application()
    found = metrics_listeners(application, port=port, settings=MetricsSettings(), folder=site.folder)["metrics"]
    found.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        found.stop()


@contextmanager
def impostor(host: str, port: int) -> Iterator[None]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, port), Impostor) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_no_token_for_a_port_that_was_taken_and_no_proof_without_the_folder(
    made: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers as a server does, shows a proof that it has seen, and relays what it is asked to the server itself."""
    site, cookies, (elsewhere,) = made.site("shop"), httpx.Cookies(), free_ports(1)
    port = site.config.gateway.metrics_port
    monkeypatch.setattr("palate_server.service.gateway.FREED", 0.0)

    def at(host: str) -> str:
        return f"{host}:{made.config.metrics_port}"

    def tokens() -> int:
        return len(list((site.state / "console").glob("token-*")))

    with HouseConsole(made, lambda: True) as page:
        asked(page, f"/console/?token={Access(made).make_token()}", cookies)

        def refused(host: str = "127.0.0.1") -> None:
            before = tokens()
            found = asked(page, "/console/of/shop", cookies, headers={"Host": at(host)})
            assert (found.status_code, tokens()) == (503, before)
            assert "nothing was sent there" in found.text

        with answering(site) as address:
            assert asked(page, "/console/of/shop", cookies).status_code == 303
            kept = httpx.get(f"{address}/ready", headers={NUMBER: "1"}).headers
        refused()
        with impostor("127.0.0.1", port):
            refused()
            Impostor.proofs.append(kept[PROOF])
            refused()
            assert run(["serve", "console", str(site.folder)]) == 2, "the port must be free"
            with answering(site, elsewhere) as address:
                monkeypatch.setattr(Impostor, "asks", address)
                refused()
                assert len(Impostor.proofs) > 1, "it has got one, of another address"
        with answering(site) as address, impostor("::1", port):
            monkeypatch.setattr(Impostor, "asks", address)
            assert asked(page, "/console/of/shop", cookies).status_code == 303, "by a name that leads to the server"
            refused("[::1]")
            names = socket.getaddrinfo
            monkeypatch.setattr(
                socket,
                "getaddrinfo",
                lambda name, *given, **more: names("127.0.0.1" if name == "localhost" else name, *given, **more),
            )
            refused("localhost")  # browsers go to ::1 first, even where the machine's table has 127.0.0.1 alone
        monkeypatch.setattr("palate_server.service.metrics.PROBE", 0.1)
        with answering(site), socket.socket(socket.AF_INET6) as deaf, ExitStack() as waiting:
            assert asked(page, "/console/of/shop", cookies, headers={"Host": at("localhost")}).status_code == 303
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deaf.bind(("::1", port))
            deaf.listen(0)
            with suppress(TimeoutError):
                while True:
                    waiting.enter_context(socket.create_connection(("::1", port), timeout=0.1))
            assert _is_somebody("::1", port), "who takes nobody's connection now can take the browser's"


def test_behind_the_gateway_its_password_opens_it_and_nothing_of_a_population(
    made: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made.config_file.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{WORDS}\n"))
    assert run(["serve", "console", str(made.folder), "--password"]) == 0
    assert "https://localhost:9443/console/ asks for it" in capsys.readouterr().out
    house = House.at(made.folder)
    through = {GATEWAY: "1", "Host": "localhost"}
    with HouseConsole(house, lambda: True) as page:
        cookies = httpx.Cookies()
        assert (
            asked(page, "/console/enter", cookies, "POST", headers=through, data={"password": "x" * 12}).status_code
            == 403
        )
        found = asked(page, "/console/enter", cookies, "POST", headers=through, data={"password": WORDS})
        assert found.status_code == 303
        let_in = {**through, "Cookie": found.headers["set-cookie"].partition(";")[0]}
        text = asked(page, "/console/", httpx.Cookies(), headers=let_in).text
        assert "readers of the shop" in text
        assert 'data-way="gateway"' in text
        assert asked(page, "/console/of/shop", httpx.Cookies(), headers=let_in).status_code == 401
    made.config_file.write_bytes(before)


def test_the_gateway_has_it_at_the_bare_path_unless_a_population_has_that(made: House) -> None:
    shown = HousePage("localhost", 9447, made.certificate)
    sites = {"shop": made.site("shop")}
    places = (made.populations, made.state, made.logs, "127.0.0.1", 9443)
    front = Front(*places, sites, page=shown)
    text = configuration(front)
    assert "location ^~ /console {" in text
    assert "http://127.0.0.1:9447/console;" in text
    check_configuration(front)
    check_configuration(Front(*places, {}, page=shown))  # also while all populations are shut
    assert "127.0.0.1:9447" not in configuration(Front(*places, sites, page=shown, shut=[("localhost", "")]))
    assert "127.0.0.1:9447" not in configuration(Front(*places, sites))


def test_every_event_of_a_house_has_a_sentence() -> None:
    source = (Path(__file__).parents[3] / "server/palate_server/service/house.py").read_text()
    names = {part.partition('"')[0] for part in source.split('_tell("')[1:]}
    assert names == set(SAID)
    say: Callable[[dict[str, Any]], str] = lambda event: told([event], most=1, said=SAID)[0].text  # noqa: E731
    facts = {"at": "2026-11-27T00:00:00+00:00", "population": "shop", "part": "gateway", "how": "ended", "reason": "no"}
    for name in names:
        assert not say({"event": name, **facts}).startswith(name), name
