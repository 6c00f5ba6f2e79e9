"""From outside the gateway: nginx with the generated configuration, and a socket behind it that records what comes."""

from __future__ import annotations

import http.server
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serve.world import free_ports
from palate_cli.cli import run
from palate_core.errors import InputError
from palate_core.log.checkpoints import log_key, sign_checkpoint
from palate_server.edge.sockets import listening
from palate_server.folder.certificates import issue, make_authority
from palate_server.folder.edges import grant_edge, make_edge_folder
from palate_server.folder.server_folder import Site
from palate_server.ledger.mirror import Mirror
from palate_server.rounds.shelf import ModelShelf
from palate_server.service import gateway
from palate_server.service.edge_process import KEEP_SECONDS
from palate_server.service.gateway import (
    check_ports,
    configuration,
    nginx,
    nginx_command,
    trust_anchor,
    write_configuration,
)
from palate_server.service.processes import child as processes
from palate_server.service.processes.child import Child
from palate_server.service.setup import make_site

CONFIG = """
population = "readers"
name = "palate.example.org"
[cohort]
size = 20
[gateway]
listen = "127.0.0.1"
port = {ports[0]}
path = "{path}"
superlink_port = {ports[1]}
metrics_port = {ports[2]}
requests_per_second = {rate}
origins = ["https://shop.example", "http://localhost:8080"]
"""
NAME = "palate.example.org"
LARGE = bytes(2**22)
"""More than nginx's buffers and the kernel's hold."""


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers everything, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]]

    def answer(self) -> None:
        self.seen.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.close_connection |= "Transfer-Encoding" in self.headers
        if body == b"broken":
            self.close_connection = True
            return
        answer = LARGE if body == b"large" else b"reached"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = do_PATCH = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Nothing."""


@dataclass
class Outside:
    """A gateway, seen from the network."""

    site: Site
    seen: list[tuple[str, str]] = field(default_factory=list)
    ca: Path | None = None

    @property
    def port(self) -> int:
        return self.site.config.gateway.port

    @property
    def log(self) -> str:
        return (self.site.logs / "gateway.log").read_text()

    def send(
        self,
        data: bytes,
        *,
        name: str | None = NAME,
        seconds: float = 15.0,
        slowly: float = 0.0,
        before_reading: float = 0.0,
        until: bytes | None = None,
        address: str = "127.0.0.1",
    ) -> bytes:
        """Raw bytes, inside TLS for a server name, or, without one, in the clear; what comes back, up to a mark."""
        with socket.create_connection((address, self.port), timeout=seconds) as plain:
            connection = plain
            if name is not None:
                context = ssl.create_default_context(cafile=str(self.ca or self.site.tls / "ca.pem"))
                context.check_hostname = False
                connection = context.wrap_socket(plain, server_hostname=name)
            with connection:
                for byte in (data[place : place + 1] for place in range(len(data))) if slowly else (data,):
                    connection.sendall(byte)
                    time.sleep(slowly)
                time.sleep(before_reading)
                answer = bytearray()
                while part := connection.recv(65536):
                    answer += part
                    if until is not None and until in answer:
                        break
                return bytes(answer)

    def ask(
        self,
        method: str,
        path: str,
        *,
        host: str = NAME,
        body: bytes = b"",
        before_reading: float = 0.0,
        address: str = "127.0.0.1",
    ) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        return self.send(f"{head}\r\n".encode() + body, before_reading=before_reading, address=address)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    yield from started(tmp_path_factory.mktemp("gateway") / "site", rate=100_000)


def made(folder: Path, *, rate: int) -> Site:
    return make_site(folder, CONFIG.format(ports=free_ports(), rate=rate, path=""), ("a", "b"))


def started(folder: Path, *, rate: int) -> Iterator[Outside]:
    found = Outside(made(folder, rate=rate))
    with recorded(found):
        write_configuration(found.site)
        with answering(found):
            yield found


class OnSocket(http.server.ThreadingHTTPServer):
    """An HTTP server on a Unix socket that listens already."""

    def __init__(self, place: socket.socket, handler: type[Recorder]) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = place

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return self.socket.accept()[0], ("", 0)


@contextmanager
def recorded(found: Outside) -> Iterator[None]:
    """Behind the gateway: what listens in the place of the edge."""
    handler = type("Handler", (Recorder,), {"seen": found.seen})
    server = OnSocket(listening(found.site.edge_socket, mode=0o666), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(found: Outside, address: str = "127.0.0.1") -> Iterator[None]:
    """The gateway's nginx, once it answers."""
    with running(nginx_command(found.site), found.site.public, found, address):
        yield


@contextmanager
def running(command: Sequence[str], folder: Path, found: Outside, address: str) -> Iterator[None]:
    """An nginx, once it answers."""
    with (
        (found.site.logs / "gateway.log").open("ab") as log,
        subprocess.Popen(command, cwd=folder, stderr=log) as nginx,
    ):
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    found.ask("GET", "/", address=address)
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield
        finally:
            nginx.terminate()
            nginx.wait(20)


def from_page(outside: Outside, method: str, path: str, origin: str, *more: str, body: bytes = b"") -> str:
    """What a browser's request gets."""
    lines = (f"{method} {path} HTTP/1.1", f"Host: {NAME}", f"Origin: {origin}", f"Content-Length: {len(body)}", *more)
    return outside.send("\r\n".join((*lines, "Connection: close", "", "")).encode() + body).decode(errors="replace")


PAGE = "https://shop.example"
FOR_PAGES = (
    ("POST", "/v1/device/exchange"),
    ("POST", "/v1/enroll"),
    ("GET", "/models/latest"),
    ("GET", f"/models/{'0' * 64}/manifest.json"),
    ("GET", f"/round/{'0' * 64}"),
)


@pytest.mark.parametrize(("method", "path"), FOR_PAGES)
def test_a_page_of_a_named_origin_may_use_what_devices_use(outside: Outside, method: str, path: str) -> None:
    before = len(outside.seen)
    asked = from_page(outside, "OPTIONS", path, PAGE, f"Access-Control-Request-Method: {method}")
    assert asked.startswith("HTTP/1.1 204")
    for line in (f"Access-Control-Allow-Origin: {PAGE}", f"Access-Control-Allow-Methods: {method}", "Vary: Origin"):
        assert line in asked
    assert "Allow-Credentials" not in asked
    assert outside.seen[before:] == [], "a preflight is answered here"
    answer = from_page(outside, method, path, PAGE)
    assert f"Access-Control-Allow-Origin: {PAGE}" in answer, "also of an error, or a page couldn't read its status"
    assert ("Access-Control-Expose-Headers: palate-exchange, " in answer) == path.startswith("/v1/device")
    assert outside.seen[before:] == ([(method, path)] if method == "POST" else [])


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "https://evil.example",
            "https://shop.example.evil",
            "http://shop.example",
            "https://shop.example:444",
            "null",
        ),
        *(
            "https://shop.example https://evil.example",
            "HTTPS://SHOP.EXAMPLE|",
            "|",
            "http://localhost",
            "https://shopxexample",
        ),
    ],
)
def test_a_page_of_another_origin_may_nothing(outside: Outside, origin: str) -> None:
    before = len(outside.seen)
    for method, path in FOR_PAGES:
        for answer in (
            from_page(outside, "OPTIONS", path, origin, f"Access-Control-Request-Method: {method}"),
            from_page(outside, method, path, origin, body=b"x" if method == "POST" else b""),
        ):
            assert answer.startswith("HTTP/1.1 403")
            assert "Access-Control" not in answer
    assert outside.seen[before:] == []


def test_a_preflight_opens_nothing_else(outside: Outside) -> None:
    before = len(outside.seen)
    for path in ("/", "/ledger/checkpoint", "/v1/control/start-run", "/metrics", "/v1/device/../control"):
        for asked in ("GET", "POST", "DELETE", "PUT"):
            answer = from_page(outside, "OPTIONS", path, PAGE, f"Access-Control-Request-Method: {asked}")
            assert answer.startswith(("HTTP/1.1 404", "HTTP/1.1 403", "HTTP/1.1 400")), answer[:80]
            assert "Access-Control" not in answer
    for asked in ("GET", "DELETE", "PUT", "CONNECT"):
        answer = from_page(outside, "OPTIONS", "/v1/enroll", PAGE, f"Access-Control-Request-Method: {asked}")
        assert answer.startswith("HTTP/1.1 403")
    assert from_page(outside, "OPTIONS", "/v1/enroll", PAGE).startswith("HTTP/1.1 403")
    for method in ("DELETE", "PUT", "GET"):
        assert from_page(outside, method, "/v1/enroll", PAGE).startswith("HTTP/1.1 403")
    assert outside.seen[before:] == []


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://",
        "shop.example",
        "https://Shop.example",
        "https://shop.example/",
        "http://shop.example",
        'https://a"b',
    ],
)
def test_what_is_no_origin_is_refused(tmp_path: Path, origin: str) -> None:
    config = CONFIG.format(ports=free_ports(), rate=1, path="").replace(
        "https://shop.example", origin.replace('"', '\\"')
    )
    with pytest.raises(InputError, match="origin"):
        make_site(tmp_path / "site", config, ("a", "b"))


@pytest.mark.parametrize("path", ["/v1/device/exchange", "/v1/enroll"])
def test_what_is_meant_gets_through(outside: Outside, path: str) -> None:
    before = len(outside.seen)
    assert b"reached" in outside.ask("POST", path, body=b"x")
    assert outside.seen[before:] == [("POST", path)]


def test_pages_of_the_operators_own_are_files_and_may_use_what_devices_use(outside: Outside) -> None:
    """What a browser must be told to take them for what they are is said; nothing that begins with a dot is there."""
    pages, own = outside.site.pages, f"https://{NAME}:{outside.site.config.gateway.port}"
    (pages / "shop").mkdir()
    for name, kind in (("index.html", "text/html"), ("shop/a.js", "text/javascript"), ("shop/.env", "")):
        (pages / name).write_text("own")
        answer = outside.ask("GET", f"/app/{name}")
        assert answer.startswith(b"HTTP/1.1 200" if kind else b"HTTP/1.1 404")
        for line in (f"Content-Type: {kind}", "X-Content-Type-Options: nosniff", "Cache-Control: no-cache"):
            assert not kind or line.encode() in answer
    assert outside.ask("GET", "/app/").endswith(b"own")
    (pages / "stolen.txt").symlink_to(outside.site.folder / "key")
    for path in (
        "/app",
        "/app/stolen.txt",
        "/app/shop/",
        "/app/../key",
        "/app/shop/../../server.toml",
        "/app//index.html",
    ):
        assert b"200 OK" not in outside.ask("GET", path)
    assert b"200 OK" not in outside.ask("POST", "/app/index.html")
    before = len(outside.seen)
    assert "reached" in from_page(outside, "POST", "/v1/enroll", own, body=b"x")
    assert outside.seen[before:] == [("POST", "/v1/enroll")]


def test_models_are_files(outside: Outside) -> None:
    latest = outside.ask("GET", "/models/latest")
    assert latest.startswith(b"HTTP/1.1 200")
    name = next(path.name for path in outside.site.models.iterdir() if path.is_dir())
    assert outside.ask("GET", f"/models/{name}/manifest.json").startswith(b"HTTP/1.1 200")
    (outside.site.models / "stolen").symlink_to(outside.site.folder / "key")
    (outside.site.models / name / "stolen").symlink_to(outside.site.folder / "items")
    for path in (
        "/models/stolen",
        f"/models/{name}/stolen",
        f"/models/{name}",
        f"/models/{name}/",
        "/models/",
        "/round/",
        "/key",
    ):
        assert b"200 OK" not in outside.ask("GET", path)


def test_the_model_of_a_round_is_a_file_while_its_attempt_is_open(outside: Outside) -> None:
    """Whatever the account and umask of the ServerApp, workers of another account read it."""
    shelf, former = ModelShelf(outside.site.round_models), os.umask(0o077)
    try:
        files = [shelf.put(model) for model in (b"the round before", b"a model")]
    finally:
        os.umask(former)
    before, found = (outside.ask("GET", f"/round/{file.name}") for file in files)
    assert before.startswith(b"HTTP/1.1 404")
    assert found.startswith(b"HTTP/1.1 200")
    assert found.endswith(b"\r\n\r\na model")
    assert b"Cache-Control: public, max-age=86400, immutable\r\n" in found
    shelf.clear()
    assert outside.ask("GET", f"/round/{files[1].name}").startswith(b"HTTP/1.1 404")


def test_the_ledgers_mirror_is_files(outside: Outside) -> None:
    with outside.site.ledger() as ledger:
        key = outside.site.key()
        log = log_key(outside.site.config.population, key.public)
        Mirror(outside.site.mirror).update(ledger, lambda checkpoint: sign_checkpoint(checkpoint, log.name, key))
        size = ledger.checkpoint().size
    whole = outside.ask("GET", "/ledger/checkpoint")
    assert whole.startswith(b"HTTP/1.1 200")
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in whole
    assert b"Cache-Control: no-cache\r\n" in whole
    for level in ("0", "entries"):
        found = outside.ask("GET", f"/ledger/tile/{level}/000.p/{size}")
        assert found.startswith(b"HTTP/1.1 200")
        assert b"Content-Type: application/octet-stream\r\n" in found
    (outside.site.mirror / "tile" / "0" / "001").symlink_to(outside.site.folder / "key")
    for path in (
        "/ledger",
        "/ledger/",
        "/ledger/tile",
        "/ledger/tile/0/",
        "/ledger/tile/0/000",
        "/ledger/tile/0/001",
        f"/ledger/tile/00/000.p/{size}",
        f"/ledger/tile/0/000.p/0{size}",
        f"/ledger/tile/0/000xp/{size}",
        f"/ledger/tile/0/x000/../000.p/{size}",
        "/ledger/checkpoint/",
        "/ledger/../key",
        "/ledger/.checkpoint",
    ):
        assert b"200 OK" not in outside.ask("GET", path)
    assert b"200 OK" not in outside.ask("POST", "/ledger/checkpoint", body=b"x")
    (outside.site.mirror / "tile" / "0" / "001").unlink()


def test_workers_are_not_roots(outside: Outside) -> None:
    """And read what is public all the same, in a folder that is closed to all others: the test above."""
    master = int((outside.site.state / "nginx.pid").read_text())
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    assert workers
    assert all(Path(f"/proc/{worker}").stat().st_uid != 0 for worker in workers)


def test_neither_an_address_nor_a_body_is_left_behind(outside: Outside) -> None:
    """What is masked or clipped, a model that is read slowly, and requests of which nginx would tell as errors."""
    folders = [outside.site.state / name for name in ("nginx-body", "nginx-proxy", "nginx-unused")]
    before, touched = len(outside.log), [folder.stat().st_mtime_ns for folder in folders]
    update = b"a clipped update" * 20_000
    assert outside.ask("POST", "/v1/device/exchange", body=update).endswith(b"reached")
    chunked = b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(update), update)
    outside.send(f"POST /v1/device/exchange HTTP/1.1\r\nHost: {NAME}\r\n".encode() + chunked)
    assert outside.ask("POST", "/v1/device/exchange", body=b"large", before_reading=0.3).endswith(LARGE)
    assert outside.ask("POST", "/v1/device/exchange", body=b"broken").startswith(b"HTTP/1.1 502")
    assert outside.ask("PUT", "/v1/device/exchange").startswith(b"HTTP/1.1 403")
    assert outside.ask("GET", f"/round/{'0' * 64}").startswith(b"HTTP/1.1 404")
    assert outside.ask("POST", "/v1/enroll", body=bytes(8192)).startswith(b"HTTP/1.1 413")
    assert outside.log[before:] == ""
    assert [folder.stat().st_mtime_ns for folder in folders] == touched, "no file was ever made there"
    assert not any(list(folder.iterdir()) for folder in folders)


@pytest.mark.parametrize("path", ["..", ".", "...", ".draft"])
def test_a_name_with_a_leading_dot_is_not_there(outside: Outside, path: str) -> None:
    for folder in ("ab", "ab" * 32):
        assert outside.ask("GET", f"/models/{folder}/{path}").startswith(b"HTTP/1.1 404")


BEYOND = [
    "/", "/health", "/docs", "/openapi.json", "/metrics", "/v1/control/list-runs", "/v1/runtime/acquire-task",
    "/console", "/console/", "/console/live", "/console/enter", "/v1/device",
    "/v1/device/", "//v1/control/list-runs", "/v1//control/list-runs", "/v1/device/../control/list-runs",
    "/v1/device/%2e%2e/control/list-runs", "/v1/device/..%2fcontrol%2flist-runs",
    "/v1/device/%2E%2E%2Fcontrol/list-runs",
    "/v1/device/exchange/../../control/list-runs", "/v1/device//control", "/v1/device/;/../control/list-runs",
    "/v1/device/..;/control/list-runs", "/v1/device/exchange?next=/v1/control", "/v1/device/exchange%00",
    "/v1/device/exchange%20/", "/v1/device/exchange#x", "/V1/DEVICE/exchange", "/v1/device/EXCHANGE",
    "/v1/device/exchanges", "/v1/fleet/pull-messages",
    "/v1/device\\..\\control", "/v1/device/%252e%252e/control/list-runs", "/./v1/device/../control/list-runs",
    "/v1/enroll/", "/v1/enroll/../control/list-runs", "/v1/enroll?x", "/models/../v1/control/list-runs",
    "/models/latest/../../v1/control/list-runs", "https://palate.example.org/v1/control/list-runs",
    "http://127.0.0.1/v1/control/list-runs", "*",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS", "CONNECT", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", BEYOND)
def test_nothing_beyond_the_exchange_is_reached(outside: Outside, path: str, method: str) -> None:
    before = len(outside.seen)
    answer = outside.ask(method, path)
    assert outside.seen[before:] == []
    assert not answer.startswith(b"HTTP/1.1 2"), answer


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_the_exchange_takes_post_alone(outside: Outside, method: str) -> None:
    before = len(outside.seen)
    assert outside.ask(method, "/v1/device/exchange").startswith((b"HTTP/1.1 403", b"HTTP/1.1 405"))
    assert outside.seen[before:] == []


def test_a_thousand_garbage_requests_reach_nothing(outside: Outside) -> None:
    """Random bytes, random paths, and requests with a piece replaced; a connection ends with the first that is none."""
    rng, before, answered = np.random.default_rng(7), len(outside.seen), 0
    pieces = [*BEYOND, "/v1/device/", "..", "%2e", "/", "\\", "~", "é", "A" * 1500, "?x=", "models/", "latest"]
    while answered < 1_000:
        batch = []
        for _ in range(100):
            path = "/" + "".join(rng.choice(pieces) for _ in range(rng.integers(1, 4)))
            method, host = rng.choice(["GET", "POST"]), rng.choice([NAME, NAME, "elsewhere"])
            batch.append(
                f"{method} {path.split(' ')[0]} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode()
            )
        batch.append(rng.bytes(int(rng.integers(1, 300))))
        with suppress(OSError):  # cut off in the middle, as it may be
            answered += outside.send(b"".join(batch), seconds=10.0).count(b"HTTP/1.1 4")
    assert outside.seen[before:] == []
    assert b"reached" in outside.ask("POST", "/v1/device/exchange", body=b"x")
    assert outside.log == ""


def test_another_host_name_gets_no_handshake(outside: Outside) -> None:
    with pytest.raises(ssl.SSLError):
        outside.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", name="another.example.org")
    before = len(outside.seen)
    assert outside.ask("POST", "/v1/device/exchange", host="another.example.org").startswith(b"HTTP/1.1 4")
    assert outside.ask("POST", "/v1/device/exchange", host=f"{NAME}\r\nHost: x").startswith(b"HTTP/1.1 400")
    assert outside.seen[before:] == []


def test_plain_http_is_refused(outside: Outside) -> None:
    before = len(outside.seen)
    answer = outside.send(b"POST /v1/device/exchange HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", name=None)
    assert answer.startswith(b"HTTP/1.1 400")
    assert outside.seen[before:] == []


def test_large_bodies_are_refused_before_they_are_read(outside: Outside) -> None:
    before = len(outside.seen)
    for path, size in (("/v1/device/exchange", 2**40), ("/v1/enroll", 8192)):
        head = f"POST {path} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        assert outside.send(head.encode(), until=b"\r\n\r\n").startswith(b"HTTP/1.1 413")
    assert outside.seen[before:] == []


def test_two_lengths_are_refused(outside: Outside) -> None:
    """Request smuggling: the gateway and the port behind it must not disagree on where a request ends."""
    before = len(outside.seen)
    for lengths in ("Content-Length: 4\r\nTransfer-Encoding: chunked", "Content-Length: 4\r\nContent-Length: 5"):
        head = f"POST /v1/device/exchange HTTP/1.1\r\nHost: {NAME}\r\n{lengths}\r\n\r\n"
        assert outside.send(head.encode() + b"0\r\n\r\nGET /openapi.json HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert outside.seen[before:] == []


@pytest.mark.slow
def test_a_slow_request_is_cut_off(outside: Outside) -> None:
    before, begun = len(outside.seen), time.monotonic()
    head = f"POST /v1/device/exchange HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000\r\n\r\n".encode()
    for slow in (b"POST /v1/device/exchange HTTP/1.1\r\nX: " + b"y" * 60, head):
        answer = outside.send(slow, seconds=60.0)
        assert not answer.startswith(b"HTTP/1.1 2")
    assert time.monotonic() - begun < 45
    assert len(outside.seen[before:]) <= 1, "of one whose body doesn't come the edge has the headers"


def test_one_address_asks_so_often_and_no_more(tmp_path: Path) -> None:
    for slow in started(tmp_path / "site", rate=1):
        answers = [slow.ask("POST", "/v1/device/exchange") for _ in range(60)]
        refused = sum(answer.startswith(b"HTTP/1.1 429") for answer in answers)
        assert 20 <= refused <= 45
        assert len(slow.seen) == 60 - refused
        assert slow.log == "", "who was refused is nobody's business either"


def test_of_two_populations_behind_the_proxy_of_the_docs_each_has_its_places(tmp_path: Path) -> None:
    """The nginx of docs/operations.md, with this test's folders and ports: a path leads to its population alone."""
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    proxy = page.partition("```nginx\n")[2].partition("```")[0]
    port, found = free_ports(1)[0], dict[str, Outside]()
    (tmp_path / "tls").mkdir()
    make_authority(tmp_path / "tls")
    issue(tmp_path / "tls", "server", [NAME])
    with ExitStack() as stack:
        for place, name in enumerate(("shop", "news"), start=2):
            own = [port, *free_ports(2)]
            text = CONFIG.format(ports=own, rate=100_000, path=f"/p/{name}")
            text = text.replace('listen = "127.0.0.1"', f'listen = "127.0.0.{place}"')
            text += 'certificate = "../tls/server.pem"\ncertificate_key = "../tls/server.key"\n'
            found[name] = Outside(make_site(tmp_path / name, text, ("a", "b")), ca=tmp_path / "tls/ca.pem")
            stack.enter_context(recorded(found[name]))
            write_configuration(found[name].site)
            stack.enter_context(answering(found[name], f"127.0.0.{place}"))
            assert trust_anchor(found[name].site) == (tmp_path / "tls/server.pem").read_text()
        for old, new in (
            ("192.0.2.7:8443", f"127.0.0.1:{port}"),
            (":8443;", f":{port};"),
            ("/etc/palate/chain.pem", f"{tmp_path}/tls/server.pem"),
            ("/etc/palate/key.pem", f"{tmp_path}/tls/server.key"),
        ):
            assert old in proxy, old
            proxy = proxy.replace(old, new)
        parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        kept = "".join(f"{each}_temp_path {tmp_path}/{each};" for each in parts)
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; events {{}} http {{ {kept} {proxy} }}"
        )
        command = [nginx(), "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
        stack.enter_context(running(command, tmp_path, found["shop"], "127.0.0.1"))
        for name, other in (("shop", "news"), ("news", "shop")):
            for path in ("/v1/device/exchange", "/v1/enroll"):
                assert b"reached" in found[other].ask("POST", f"/p/{name}{path}", body=b"x")
                assert found[name].seen[-1] == ("POST", path), "the population doesn't know of the path before its own"
            assert len(found[name].seen) == 2
            mine = found[name].site.models / "latest"
            assert found[other].ask("GET", f"/p/{name}/models/latest").endswith(mine.read_bytes())
        for path in (
            "/v1/enroll",
            "/models/latest",
            "/p/other/models/latest",
            "/p/shop",
            "/p/shop/key",
            "/p/news/items",
        ):
            assert not found["shop"].ask("GET", path).startswith(b"HTTP/1.1 2"), path
        assert [len(each.seen) for each in found.values()] == [2, 2]


def test_a_gateway_whose_master_is_killed_comes_back_and_leaves_nobody_listening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "FREED", 0.0)
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.0)
    found = Outside(made(tmp_path / "site", rate=100_000))
    write_configuration(found.site)
    pid_file = found.site.state / "nginx.pid"
    child = Child(
        "gateway",
        nginx_command(found.site),
        log=found.site.logs / "gateway.log",
        environment={},
        folder=found.site.public,
        pid_file=pid_file,
    )

    def wait(until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not until():
            assert time.monotonic() < deadline, found.log
            time.sleep(0.02)

    try:
        for _ in range(3):
            wait(lambda: child.keep() or child.up)
            wait(lambda: child.up)
            assert found.ask("GET", "/models/latest").startswith(b"HTTP/1.1 200")
            with pytest.raises(InputError, match=rf"^`gateway.port` must be .*, got {found.port}: Address already"):
                check_ports(found.site)
            master = child.pid
            assert master is not None
            os.kill(master, signal.SIGKILL)
            wait(lambda: child.pid is None)
    finally:
        child.stop()
    monkeypatch.undo()
    check_ports(found.site)
    assert "bind()" not in found.log


def test_a_server_whose_port_is_taken_says_so_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gateway, "FREED", 0.0)
    site = made(tmp_path / "site", rate=1)
    for name, options in (("port", ()), ("superlink_port", ()), ("metrics_port", ("--dev",))):
        port = getattr(site.config.gateway, name)
        with socket.create_server(("127.0.0.1", port)):
            assert run(["serve", "run", str(site.folder), *options]) == 2
        said = capsys.readouterr()
        assert said.err.splitlines()[-1].endswith(
            f"`gateway.{name}` must be a port that is free on 127.0.0.1, got {port}: Address already in use by "
            f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
        )
        assert "serving" not in said.out
    assert not site.edge_socket.exists()


def test_the_gateway_gives_up_an_idle_connection_before_the_edge(outside: Outside) -> None:
    upstream = configuration(outside.site).partition("upstream edge {")[2].partition("}")[0]
    assert f"keepalive_timeout {KEEP_SECONDS - 15}s;" in upstream


def test_the_limits_of_an_address_are_those_of_its_household(outside: Outside) -> None:
    """Who has a network of IPv6 has 2^64 addresses. Addresses are as nginx writes them."""
    rules = re.findall(
        r'"~(\S+)" \$(\w+);', configuration(outside.site).partition("$household {")[2].partition("}\n")[0]
    )
    assert len(rules) == 2

    def household(address: int) -> str:
        text = str(IPv6Address(address))
        for pattern, name in rules:
            if found := re.match(pattern.replace("(?<f", "(?P<f").replace("(?<s", "(?P<s"), text):
                return found[name]
        return text

    rng = np.random.default_rng(5)
    keys = dict[str, int]()
    for network in [0x20010DB8_0000_0000, 0x20010DB8_0005_0000, 0x20010DB8_0000_0007, 0x2A02_0000_0001_0002, 2**61]:
        found = {household(network << 64 | int(host)) for host in (*rng.integers(0, 2**63, 50), 1, 2**40)}
        assert len(found) <= 2, found
        for key in found:
            assert keys.setdefault(key, network) == network


@pytest.mark.parametrize("line", ["ssl_reject_handshake on;", "merge_slashes off;", "proxy_request_buffering off;"])
def test_the_configuration_says(outside: Outside, line: str) -> None:
    assert line in configuration(outside.site)


def test_an_edge_on_another_host_passes_on_what_is_the_servers_and_keeps_files(tmp_path: Path) -> None:
    """Two gateways, one before the other: exchanges stay at the first, whose own limits are the only ones."""
    ports, config = free_ports(4), CONFIG.replace("superlink_port", 'superlink_listen = "0.0.0.0"\nsuperlink_port')
    server = Outside(make_site(tmp_path / "site", config.format(ports=ports, rate=1, path=""), ("a", "b")))
    grant = grant_edge(server.site, "one", "localhost", authority=trust_anchor(server.site))
    limits = grant.config.replace('"requests_per_second": 1', '"requests_per_second": 1000')
    grant = grant.model_copy(update={"config": limits})
    edge = Outside(make_edge_folder(tmp_path / "edge", grant, listen="127.0.0.1", port=ports[3]))
    (model := server.site.models / ("0" * 64)).mkdir()
    (model / "table").write_bytes(b"of a model")
    (server.site.models / "latest").write_bytes(b"{}")
    write_configuration(server.site)
    write_configuration(edge.site)
    with recorded(server), recorded(edge), answering(server), answering(edge):
        assert b"reached" in edge.ask("POST", "/v1/device/exchange", body=b"x")
        assert edge.seen[-1] == ("POST", "/v1/device/exchange")
        assert server.seen == []
        assert b"reached" in edge.ask("POST", "/v1/enroll", body=b"x")
        assert server.seen == [("POST", "/v1/enroll")]
        assert edge.seen[1:] == []
        for _ in range(40):  # more than the server would let one address have
            assert edge.ask("GET", "/models/latest").startswith(b"HTTP/1.1 200")
        page = from_page(edge, "GET", "/models/latest", PAGE)
        assert page.count("Access-Control-Allow-Origin") == 1
        assert edge.ask("GET", f"/models/{'0' * 64}/table").endswith(b"of a model")
        assert edge.ask("GET", f"/models/{'0' * 64}/none").startswith(b"HTTP/1.1 404")
        (model / "table").unlink()
        assert edge.ask("GET", f"/models/{'0' * 64}/table").endswith(b"of a model"), "it is kept"
        statuses = {server.ask("GET", "/models/latest")[9:12] for _ in range(40)}
        assert statuses == {b"200", b"429"}, "others have its limits"
        forged = f"GET /models/latest HTTP/1.1\r\nHost: {NAME}\r\nPalate-Edge: {'0' * 64}\r\nConnection: close\r\n\r\n"
        assert server.send(forged.encode()).startswith(b"HTTP/1.1 429")
