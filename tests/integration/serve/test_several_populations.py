"""Two populations in one house, with real devices, nginx, TLS and masks: each has nothing of the other's.

The first one's devices are in Python, in Node and in Chromium, and take part in one masked round. The same apps are in
both: each has two stores, and so two node keys.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import palate
from palate_cli.cli import run
from palate_client.leaving.statement import Statement
from palate_client.online.enrolment import keep
from palate_client.online.flower_wire import Fleet as Wire
from palate_client.online.https import Https, RejectedError
from palate_common.models import published
from palate_common.rounds.wire import REFUSED
from palate_core.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_core.log.checkpoints import read_state
from palate_core.log.notes import read_note
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.house import House, make_house
from palate_server.folder.witness import WITNESS
from palate_server.ledger.ledger import Ledger
from palate_server.service.house import read_house_health
from palate_server.service.setup import make_site
from palate_server.service.status import read_status

pytestmark = pytest.mark.slow

NAMES = ("shop", "news")


@dataclass
class Housed:
    """A house, the process that serves it, and its populations."""

    house: House
    servers: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "palate_cli", "serve", "run", str(self.house.folder)]
        with (self.house.logs / "command.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.wait("shop", "news")

    def wait(self, *names: str, seconds: float = 400.0) -> None:
        """Until the house says that these populations are well, and the gateway is."""
        deadline = time.monotonic() + seconds
        while not all(self.health().get(name) for name in ("gateway", *names)):
            assert self.process is not None
            assert self.process.poll() is None, self.words()
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.2)

    def health(self) -> dict[str, bool]:
        return dict(read_house_health(self.house))

    def words(self) -> str:
        own = "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.house.logs.iterdir()))
        return "\n".join((own, *(server.words() for server in self.servers.values())))

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(90.0)
            self.process = None

    def get(self, path: str) -> int:
        context = ssl.create_default_context(cafile=str(self.house.tls / "ca.pem"))
        url = f"https://localhost:{self.house.config.port}{path}"
        return httpx.get(url, verify=context, trust_env=False).status_code


def make_housed(
    parts: Any, folder: Path, *, size: int, every_hours: float = 720.0, pages: Sequence[str] = ()
) -> Housed:
    """A house of two. The pages are those of the shop alone."""
    ports = parts.free_ports(8)
    house = make_house(folder / "house", name="localhost", port=ports[0])
    house.config_file.write_text(
        f'name = "localhost"\nlisten = "127.0.0.1"\nport = {ports[0]}\nmetrics_port = {ports[1]}\n'
    )
    house = House.at(house.folder)
    servers = {}
    for number, name in enumerate(NAMES):
        own = [ports[0], *ports[2 + 3 * number : 5 + 3 * number]]
        origins = json.dumps(list(pages) if name == "shop" else [])
        text = parts.CONFIG.format(
            size=size, dropout=0.17, every_hours=every_hours, superlinks=1, origins=origins, ports=own
        )
        text = text.replace("exchange_seconds = 30.0", "exchange_seconds = 200.0")
        text = text.replace("wait_seconds = 20.0", "wait_seconds = 300.0")  # nobody is missing: it ends before
        text = text.replace('"readers"', f'"{name}"').replace("[gateway]", f'[gateway]\npath = "/p/{name}"')
        text += 'certificate = "../../tls/server.pem"\ncertificate_key = "../../tls/server.key"\n'
        servers[name] = parts.Server(make_site(house.populations / name, text, parts.ITEMS), dev=False)
        house.open(name)
    return Housed(house, servers)


@pytest.fixture(scope="module")
def page(parts: Any) -> int:
    """The port of the shop's page, on which a browser's device is."""
    return int(parts.free_ports(1)[0])


@pytest.fixture(scope="module")
def housed(parts: Any, page: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Housed]:
    pages = [f"http://localhost:{page}"]
    found = make_housed(parts, tmp_path_factory.mktemp("housed"), size=6, pages=pages)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def fleets(parts: Any, housed: Housed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Three apps in both populations, and three in the second alone: the first has devices of the web, too."""
    found = {name: parts.Fleet(server, tmp_path_factory.mktemp(name)) for name, server in housed.servers.items()}
    try:
        for name, fleet in found.items():
            fleet.enrol(3 if name == "shop" else 6)
        yield found
    finally:
        for fleet in found.values():
            fleet.close()


@pytest.fixture(scope="module")
def webs(parts: Any, housed: Housed, page: int) -> Iterator[list[Any]]:
    """Node, and Chromium on the shop's page."""
    authority = housed.house.tls / "ca.pem"
    found = [parts.WebDevices.start(place, authority=authority) for place in (["node"], ["chromium", str(page)])]
    try:
        yield found
    finally:
        for web in found:
            web.close()


@pytest.mark.soak
def test_one_that_is_killed_in_its_round_leaves_the_others_round_alone(parts: Any, tmp_path: Path) -> None:
    """Ten devices each. All processes of one, its supervisor too, are killed once its round is charged."""
    housed = make_housed(parts, tmp_path, size=10, every_hours=0.02)
    shop, news = (housed.servers[name] for name in NAMES)
    fleets = {name: parts.Fleet(server, tmp_path / f"devices-{name}") for name, server in housed.servers.items()}
    try:
        housed.start()
        for fleet in fleets.values():
            fleet.enrol(10)
        steady = {part: news.pid_of(part) for part in ("superlink", "serverapp")}
        found: dict[str, list[Any]] = {}
        syncing = threading.Thread(target=lambda: found.update(at_once(fleets)))
        syncing.start()
        shop.wait(lambda: read_status(shop.site).attempts == 1, seconds=400.0)
        assert read_status(shop.site).releases == 0
        victims = [pid for part in ("superlink", "serverapp") for pid in shop.pid_of(part)]
        for pid in (*supervisors(shop.site.folder), *victims):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        syncing.join()
        assert [(each.ended, each.rounds) for each in found["news"]] == [("come back", 1)] * 10, housed.words()
        assert read_status(news.site).releases == 1
        assert {part: news.pid_of(part) for part in steady} == steady
        assert not [event for kind in ("aborted", "lost", "restarted", "failed") for event in news.events(kind)]
        housed.wait("shop", "news")
        deadline = time.monotonic() + 900.0
        while not read_status(shop.site).releases:
            assert time.monotonic() < deadline, housed.words()
            fleets["shop"].sync(seconds=400.0)
        assert read_status(shop.site).attempts == 2, "what was cut off stays charged"
        restarted = [event["part"] for event in EventLog(housed.house.events).all() if event["event"] == "restarted"]
        assert set(restarted) == {"shop"}
    finally:
        for fleet in fleets.values():
            fleet.close()
        housed.stop()


def supervisors(folder: Path) -> list[int]:
    """The process that serves this folder in a house."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and f"\0{folder}\0--housed".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def at_once(fleets: dict[str, Any], *, seconds: float = 400.0) -> dict[str, list[Any]]:
    """All devices of all fleets sync at one time."""
    found: dict[str, list[Any]] = {}
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: fleets[name].sync(seconds=seconds)}))
        for name in fleets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def together(webs: Sequence[Any], fleets: dict[str, Any]) -> tuple[list[Any], dict[str, list[Any]]]:
    """All devices online at once: what became of those of the web, and of Python's."""
    with ThreadPoolExecutor(len(webs)) as pool:
        asked = [pool.submit(web.ask, do="sync", seconds=400) for web in webs]
        own = at_once(fleets)
        return [each for future in asked for each in future.result()], own


def test_both_release_and_what_is_ones_is_nothing_to_the_other(
    parts: Any, housed: Housed, fleets: dict[str, Any], webs: list[Any]
) -> None:
    """A token, a node key, a model, a directory, a plan and a ledger of one, where the other's belong.

    Half of the shop's devices are of the web; one is a page's, which asks a server of another origin, below the
    population's path.
    """
    names = {"publicKey": housed.servers["shop"].site.key().public, "population": "shop"}
    for web, numbers in zip(webs, ([3, 4], [5]), strict=True):
        invited = [each.to_json() for each in housed.servers["shop"].invitations(len(numbers))]
        items = [[parts.ITEMS[at], parts.ITEMS[at + 9], parts.ITEMS[3]] for at in numbers]
        assert web.ask(do="open", **names, invitations=invited, items=items) == numbers
    pages, results = together(webs, fleets)
    said = [(each["ended"], each["reason"], each["rounds"], each["refusals"]) for each in pages]
    assert said == [("come back", "", 1, [])] * 3, (pages, housed.words())
    # The web devices' own account: what they spent is what Python's devices spent, and each step left once.
    spent = {fleets["shop"].devices[0].privacy_report().spending.epsilon} | {each["epsilon"] for each in pages}
    assert max(spent) - min(spent) < 1e-6
    steps = ["advertise", "share", "check", "input", "consistency", "unmask"]
    assert [[each["what"] for each in page["left"]] for page in pages] == [steps] * 3
    # An exchange is one request, as Python's is, beside those for model, directory, coming and going; one that waits in
    # vain is another. A page asks once for each address whether it may, not for each request.
    for each in [*pages, *(vars(each) for each in results["shop"])]:
        assert each["exchanges"] == 7
        assert each["requests"] <= each["exchanges"] + 10 + each["seconds"] / 20.0, each
    assert [each["preflights"] for each in pages if "preflights" in each] <= [6]
    for name, server in housed.servers.items():
        expected = [("come back", 1)] * len(fleets[name].devices)
        assert [(each.ended, each.rounds) for each in results[name]] == expected, housed.words()
        server.wait(lambda server=server: bool(server.events("published")), seconds=400.0)
        status = read_status(server.site)
        assert (status.attempts, status.releases, status.devices["enrolled"]) == (1, 1, 6)
        assert 0.0 < status.epsilon_spent <= 2.0 + 1e-6, "its own round alone"

    shop, news = (housed.servers[name] for name in NAMES)
    folder = shop.site.models / read_status(shop.site).models[0]["manifest"]
    assert published.read(folder, public_key=names["publicKey"]).model.header.releases == 1
    assert json.loads((folder / "privacy_card.json").read_bytes())["mode"] == "distributed"
    # They take the model into use, and aren't asked again before the next run is due.
    again, own = together(webs, fleets)
    assert {(each["ended"], each["rounds"], each["model"]) for each in again} == {("come back", 0, True)}
    assert {(each.ended, each.rounds, each.model) for each in own["shop"]} == {("come back", 0, True)}
    heads = {name: (server.site.mirror / "checkpoint").read_bytes() for name, server in housed.servers.items()}
    logs = [read_state(read_note(head).text).checkpoint for head in heads.values()]
    assert logs[0].root != logs[1].root
    assert len({head.split(b"\n")[0] for head in heads.values()}) == 2, "two logs, to whoever witnesses both"
    with pytest.raises(PalateError):
        Ledger(shop.site.ledger_file, population="news", read_only=True).close()

    # Tokens, and keys.
    device = fleets["shop"].open()
    invitation = shop.invitations(1)[0]
    with pytest.raises(RefusedError):
        device.enroll(invitation.model_copy(update={"path": "/p/news"}))
    with pytest.raises(InputError, match="must be the service's"):
        device.enroll(news.invitations(1)[0])
    enrolled = device.enroll(invitation)
    assert enrolled.address.path == "/p/shop"
    elsewhere = replace(enrolled, path="/p/news")
    with Https(elsewhere.address, until=time.monotonic() + 30) as https:
        wire = Wire(https, elsewhere.key)
        for ask in (wire.activate, wire.pull, lambda: wire.beat(silent=60.0)):
            wire.node = fleets["news"].devices[0].enrolment.node  # a number that is there, under another key
            with pytest.raises(RejectedError) as refused:
                ask()
            assert refused.value.status in (401, 403, 412), "activate-node answers 412 for a key that it doesn't know"
    keep(device.store, elsewhere)
    result = device.sync(seconds=8.0)
    assert result.ended in ("revoked", "rejected", "unreachable", "time"), result
    assert (result.rounds, result.exchanges, result.model, device.model()) == (0, 0, False, None)

    # Files by hash are there for their own population alone.
    for name, other in (("shop", "news"), ("news", "shop")):
        site = housed.servers[name].site
        manifest = read_status(site).models[0]["manifest"]
        directory = next(site.directories.iterdir()).name
        for path in (f"models/{manifest}/manifest.json", f"directory/{directory}"):
            assert (housed.get(f"/p/{name}/{path}"), housed.get(f"/p/{other}/{path}")) == (200, 404)
    for path in (
        "/models/latest",
        "/ledger/checkpoint",
        "/p/other/models/latest",
        "/p/shop/%2e%2e/news/ledger/checkpoint",
    ):
        assert housed.get(path) in (400, 404)

    # Models and plans, as if somebody had put them there.
    mine = fleets["shop"].devices[0]
    version = mine.privacy_report().spending
    theirs = read_status(news.site).models[0]["manifest"]
    with pytest.raises((IntegrityError, RefusedError)):
        mine.update_model(news.site.models / theirs)
    plan = (news.site.witness / WITNESS).read_bytes()
    assert mine.contribute(plan, b"") == REFUSED
    assert "signature must be by key" in mine.refusal
    assert mine.privacy_report().spending == version

    # Who leaves one is deleted there, and takes part in nothing more; it asks below the same path. Its statement is one
    # that Python reads, and by it the model has this device's part.
    browser = webs[1]
    made = Statement.from_bytes(browser.ask(do="leave")[0].encode())
    assert made.server is not None
    assert made.server.answered
    assert made.server.server == f"localhost:{housed.house.config.port}/p/shop"
    assert [each.contributed for each in made.rounds] == [True]
    assert made.mu2 == fleets["shop"].devices[0].statement().mu2
    assert palate.Traces.of(made, shop.site.models / read_status(shop.site).models[0]["manifest"]).holds == "yes"
    with Enrolments(shop.site.enrolment_file) as register:
        assert [each.number for each in register.devices() if each.node_key and each.revoked is None][5:] == [6]
    (page,) = browser.ask(do="sync", seconds=20)
    assert (page["ended"], page["requests"]) == ("not enrolled", 0)

    # The certificate of one SuperLink is none to the other's gateway or ServerApp.
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"https://localhost:{news.site.config.gateway.superlink_port}/health", verify=shop.tls)


def test_nothing_that_is_kept_links_an_apps_two_devices(housed: Housed, fleets: dict[str, Any]) -> None:
    """No key, identity, node number or token of one population is in the other's folder, or in the house's own."""
    for name, other in (("shop", "news"), ("news", "shop")):
        with Enrolments(housed.servers[name].site.enrolment_file) as register:
            known = register.devices()
        there = [device for device in known if device.revoked is None]  # of who left nothing but the identity is there
        assert len(known) - len(there) == (name == "shop")
        secrets = [device.identity for device in known] + [device.node_key.splitlines()[1] for device in there]
        secrets += [str(device.node) for device in there]
        own = housed.servers[name].site.enrolment_file.read_bytes()
        wal = housed.servers[name].site.enrolment_file.with_name("enrolment.db-wal")
        own += wal.read_bytes() if wal.exists() else b""
        assert all(secret.encode() in own for secret in secrets), "they would be found"
        house = [housed.house.logs, housed.house.state, housed.house.open_folder]
        for folder in (housed.servers[other].site.folder, *house):
            for file in folder.rglob("*"):
                if file.is_file():
                    data = file.read_bytes()
                    assert not [secret for secret in secrets if secret.encode() in data], file
    assert not {each.enrolment.node_key for each in fleets["shop"].devices if each.enrolment} & {
        each.enrolment.node_key for each in fleets["news"].devices if each.enrolment
    }
    assert not {each.identity for each in fleets["shop"].devices} & {each.identity for each in fleets["news"].devices}


@pytest.mark.soak  # the gateway's own tests have what it says to a population that is shut
def test_one_is_shut_and_opened_while_the_other_goes_on(
    housed: Housed, fleets: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    news = housed.servers["news"]
    before = {part: news.pid_of(part) for part in ("superlink", "serverapp")}
    gateway = (housed.house.state / "nginx.pid").read_text()
    assert run(["serve", "shut", str(housed.house.folder), "shop"]) == 0
    assert housed.servers["shop"].pid_of("superlink") == []
    result = fleets["shop"].devices[0].sync(seconds=3.0)
    assert result.ended in ("unreachable", "time"), "it comes again: nothing tells it that it is no longer wanted"
    assert fleets["news"].devices[0].sync(seconds=400.0).ended == "come back"
    assert run(["serve", "status", str(housed.house.folder)]) == 0
    said = capsys.readouterr().out
    assert "shop: shut" in said
    assert "news: open" in said
    assert run(["serve", "open", str(housed.house.folder), "shop"]) == 0
    housed.wait("shop", "news")
    assert fleets["shop"].devices[0].sync(seconds=400.0).ended == "come back"
    assert {part: news.pid_of(part) for part in before} == before
    assert (housed.house.state / "nginx.pid").read_text() == gateway


def test_metrics_and_events_of_a_house_name_populations_and_nobody(housed: Housed) -> None:
    text = httpx.get(f"http://127.0.0.1:{housed.house.config.metrics_port}/metrics").text
    for part in ("gateway", *NAMES):
        assert f'palate_house_up{{part="{part}"}} 1.0' in text
    kinds = {event["event"] for event in EventLog(housed.house.events).all()}
    assert {"started", "opened", "serving"} <= kinds
    assert (housed.house.logs / "gateway.log").read_text() == ""


def test_the_gateways_workers_pass_to_what_is_public_alone(housed: Housed) -> None:
    """By the rights of files, whatever nginx is told: to other accounts nothing else is open."""
    for server in housed.servers.values():
        if os.geteuid() == 0:
            assert server.site.folder.stat().st_mode & 0o777 == 0o711
        for path in server.site.folder.iterdir():
            if path not in (server.site.public, server.site.folder / "lock"):
                assert path.stat().st_mode & 0o077 == 0, path
    assert housed.house.folder.stat().st_mode & 0o077 == 0
