"""A house's supervisor with nginx, and in the place of each population a process that sleeps: who is started when."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from palate_core.errors import InputError, LockedError
from palate_server.console.access import Access, hash_password
from palate_server.console.pages import HouseConsole
from palate_server.folder.events import EventLog
from palate_server.folder.house import House, make_house
from palate_server.service import house as supervising
from palate_server.service import processes
from palate_server.service.house import HouseSupervisor, read_house_health
from palate_server.service.setup import make_site, server_toml

WORDS = "correct horse battery"
POPULATION = """
import os, pathlib, sys, time
pid = pathlib.Path(sys.argv[1], "state", "pid")
pid.with_suffix(".new").write_text(str(os.getpid()))
pid.with_suffix(".new").replace(pid)  # whole, or as before
time.sleep(600)
"""


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass
class Kept:
    """A house that is kept by a thread of this process."""

    house: House
    supervisor: HouseSupervisor

    def pid(self, name: str) -> int:
        return int((self.house.populations / name / "state" / "pid").read_text())

    def get(self, path: str) -> int:
        context = ssl.create_default_context(cafile=str(self.house.tls / "ca.pem"))
        url = f"https://localhost:{self.house.config.port}{path}"
        return httpx.get(url, verify=context, trust_env=False).status_code

    def events(self, *kinds: str) -> list[tuple[str, str]]:
        told = EventLog(self.house.events).all()
        return [
            (each["event"], each.get("population", each.get("part", ""))) for each in told if each["event"] in kinds
        ]


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def add(house: House, name: str, loopback: list[int]) -> None:
    chain, key = house.certificate_seen
    gateway = {"port": house.config.port, "path": f"/p/{name}", "certificate": chain, "certificate_key": key}
    gateway |= zip(("superlink_port", "enrolment_port", "metrics_port"), loopback, strict=True)
    text = server_toml(
        {"population": name, "cohort.size": 20} | {f"gateway.{each}": value for each, value in gateway.items()}
    )
    make_site(house.populations / name, text, ("a", "b"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(supervising, "LOOK", 0.05)
    monkeypatch.setattr(supervising, "AGAIN", 0.2)
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.0)
    house = make_house(tmp_path / "house", name="localhost", port=8443)
    ports = free_ports(8)
    house.config_file.write_text(
        f'name = "localhost"\nlisten = "127.0.0.1"\nport = {ports[0]}\nmetrics_port = {ports[1]}\n'
        f'[console]\npassword = "{hash_password(WORDS)}"\n'
    )
    house = House.at(house.folder)
    for name, loopback in (("shop", ports[2:5]), ("news", ports[5:])):
        add(house, name, loopback)
        house.open(name)
    command = [sys.executable, "-S", "-c", POPULATION]
    supervisor = HouseSupervisor(house, command=lambda folder: [*command, str(folder)], page=HouseConsole)
    thread = threading.Thread(target=supervisor.run)
    try:
        thread.start()
        wait(lambda: bool(read_house_health(house).get("gateway")))
        for name in house.names():
            wait((house.populations / name / "state" / "pid").exists)
        yield Kept(house, supervisor)
    finally:
        supervisor.stop()
        thread.join(60.0)
        supervisor.close()


def test_one_that_ends_is_started_again_and_the_others_are_left_alone(kept: Kept) -> None:
    news, shop = kept.pid("news"), kept.pid("shop")
    os.kill(shop, signal.SIGKILL)
    wait(lambda: kept.pid("shop") != shop)
    assert kept.pid("news") == news
    assert kept.events("restarted") == [("restarted", "shop")]
    with pytest.raises(LockedError):
        HouseSupervisor(kept.house, command=lambda folder: [])


def test_one_that_is_broken_is_not_served_and_the_others_are(kept: Kept) -> None:
    """By its configuration, by what nginx says of it, or because it would take what another has."""
    news, gateway = kept.pid("news"), (kept.house.state / "nginx.pid").read_text()
    add(kept.house, "books", free_ports(3))
    site = kept.house.site("books")
    good = site.config_file.read_text()
    own = ('path = "/p/books"', "[gateway]", "certificate = ", "certificate_key = ")
    named = "\n".join(line for line in good.splitlines() if not line.startswith((own[0], own[2], own[3])))
    named = named.replace('name = "localhost"', 'name = "books.example.org"')
    cases = {
        "typo": good.replace("[cohort]", "[cohort]\ntypo = 1"),
        "no certificate": named.replace("[gateway]", '[gateway]\ncertificate = "no.pem"\ncertificate_key = "no.key"'),
        "a port of another": good.replace(
            str(site.config.gateway.metrics_port), str(kept.house.site("news").config.gateway.metrics_port)
        ),
    }
    for count, (name, text) in enumerate(cases.items(), 1):
        (kept.house.open_folder / "books").unlink(missing_ok=True)
        site.config_file.write_text(text)
        wait(lambda: "books" not in read_house_health(kept.house))
        (kept.house.open_folder / "books").touch()  # as one that was opened before its file was changed
        wait(lambda count=count: len(kept.events("not opened")) == count)  # type: ignore[misc]
        assert kept.get("/p/news/models/latest") == 200, name
        assert read_house_health(kept.house)["books"] is False
    told = [each["reason"] for each in EventLog(kept.house.events).all() if each["event"] == "not opened"]
    assert ["typo" in told[0], "no.pem" in told[1], "the ports of books" in told[2]] == [True] * 3, told
    site.config_file.write_text(good)
    wait((site.state / "pid").exists)  # once it fits it is started, without another word
    wait(lambda: kept.get("/p/books/models/latest") == 200)
    assert kept.pid("news") == news
    assert (kept.house.state / "nginx.pid").read_text() == gateway


def test_one_is_shut_while_another_request_is_under_way(kept: Kept) -> None:
    """A new configuration of nginx ends no connection of another population."""
    context = ssl.create_default_context(cafile=str(kept.house.tls / "ca.pem"))
    path, port = "/p/news/models/latest", kept.house.config.port
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode())
        shop = kept.pid("shop")
        kept.house.shut("shop")
        wait(lambda: kept.get("/p/shop/models/latest") == 503)
        wait(lambda: not Path(f"/proc/{shop}").exists())
        secure.sendall(b"Connection: close\r\n\r\n")
        answer = b""
        while part := secure.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["manifest"]
    (kept.house.populations / "shop" / "state" / "pid").unlink()
    kept.house.open("shop")
    wait((kept.house.populations / "shop" / "state" / "pid").exists)
    wait(lambda: kept.get("/p/shop/models/latest") == 200)
    assert kept.events("opened", "shut") == [
        ("opened", "news"),
        ("opened", "shop"),
        ("shut", "shop"),
        ("opened", "shop"),
    ]


def test_its_page_is_behind_the_gateway_and_on_loopback(kept: Kept) -> None:
    context = ssl.create_default_context(cafile=str(kept.house.tls / "ca.pem"))
    base = f"https://localhost:{kept.house.config.port}/console/"
    with httpx.Client(verify=context, trust_env=False) as client:
        assert client.get(base).status_code == 401
        assert client.post(f"{base}enter", data={"password": "wrong horse battery"}).status_code == 403
        assert client.post(f"{base}enter", data={"password": WORDS}).headers["location"] == "/console/"
        said = client.get(base).text
        assert 'data-name="shop" data-verdict="act"' in said, "its process here answers nothing"
        assert 'data-name="news"' in said
        for path in ("of/shop", "card/x", "../metrics", "live/../../health"):
            assert client.get(f"{base}{path}").status_code == 404, path
        assert client.get(f"{base}static/console.css").status_code == 200
        kept.house.shut("shop")
        wait(lambda: 'data-name="shop" data-verdict="off"' in client.get(base).text)
    address = f"http://127.0.0.1:{kept.house.config.metrics_port}/console/"
    token = Access(kept.house).make_token()
    assert httpx.get(f"{address}?token={token}", follow_redirects=False).status_code == 303
    assert httpx.get(address).status_code == 401
    kept.house.shut("news")
    wait(lambda: kept.get("/p/news/models/latest") == 503)
    assert kept.get("/console/") == 401, "also while none is open"


def test_a_port_that_is_taken_is_named(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from palate_server.service import gateway

    monkeypatch.setattr(gateway, "FREED", 0.0)
    other = make_house(tmp_path / "other", name="localhost", port=8443)
    other.config_file.write_text(f'name = "localhost"\nlisten = "127.0.0.1"\nport = {kept.house.config.port}\n')
    with (
        HouseSupervisor(House.at(other.folder), command=lambda folder: []) as supervisor,
        pytest.raises(InputError, match=r"`port` must be a port that is free on 127\.0\.0\.1"),
    ):
        supervisor.run()
