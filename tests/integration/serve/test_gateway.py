"""From outside the gateway: nginx with the generated configuration, and ports behind it that record what comes."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from palate_server.service.gateway import TEMPLATE, configuration, nginx_command, write_configuration
from palate_server.service.setup import make_site
from palate_server.service.site import Site
from palate_server.service.superlink import KEEP_SECONDS

CONFIG = """
population = "readers"
name = "palate.example.org"
[cohort]
size = 20
[gateway]
listen = "127.0.0.1"
port = {ports[0]}
superlink_port = {ports[1]}
enrolment_port = {ports[2]}
metrics_port = {ports[3]}
requests_per_second = {rate}
"""
NAME = "palate.example.org"


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers everything, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]]

    def answer(self) -> None:
        self.seen.append((self.command, self.path))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"reached")

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = do_PATCH = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Nothing."""


@dataclass
class Outside:
    """A gateway, seen from the network."""

    site: Site
    seen: list[tuple[str, str]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.site.config.gateway.port

    def send(self, data: bytes, *, name: str | None = NAME, seconds: float = 15.0, slowly: float = 0.0) -> bytes:
        """Raw bytes, inside TLS for a server name, or, without one, in the clear; what comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as plain:
            connection = plain
            if name is not None:
                context = ssl.create_default_context(cafile=str(self.site.tls / "ca.pem"))
                context.check_hostname = False
                connection = context.wrap_socket(plain, server_hostname=name)
            with connection:
                for byte in (data[place : place + 1] for place in range(len(data))) if slowly else (data,):
                    connection.sendall(byte)
                    time.sleep(slowly)
                answer = bytearray()
                while part := connection.recv(4096):
                    answer += part
                return bytes(answer)

    def ask(self, method: str, path: str, *, host: str = NAME, body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return self.send(head.encode() + body)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    yield from started(tmp_path_factory.mktemp("gateway") / "site", rate=100_000)


def started(folder: Path, *, rate: int) -> Iterator[Outside]:
    probes = [socket.socket() for _ in range(4)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    found = Outside(make_site(folder, CONFIG.format(ports=ports, rate=rate), ("a", "b")))
    handler = type("Handler", (Recorder,), {"seen": found.seen})
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) for port in ports[1:3]]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(found.site.tls / "superlink.pem", found.site.tls / "superlink.key")
    servers[0].socket = tls.wrap_socket(servers[0].socket, server_side=True, do_handshake_on_connect=False)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    write_configuration(found.site)
    with subprocess.Popen(nginx_command(found.site)) as nginx:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    found.ask("GET", "/")
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield found
        finally:
            nginx.terminate()
            nginx.wait(20)
            for server in servers:
                server.shutdown()
                server.server_close()


@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/v1/fleet/activate-node", "/v1/enroll"])
def test_what_is_meant_gets_through(outside: Outside, path: str) -> None:
    before = len(outside.seen)
    assert b"reached" in outside.ask("POST", path, body=b"x")
    assert outside.seen[before:] == [("POST", path)]


def test_models_and_directories_are_files(outside: Outside) -> None:
    latest = outside.ask("GET", "/models/latest")
    assert latest.startswith(b"HTTP/1.1 200")
    name = next(path.name for path in outside.site.models.iterdir() if path.is_dir())
    assert outside.ask("GET", f"/models/{name}/manifest.json").startswith(b"HTTP/1.1 200")
    (outside.site.directories / ("ab" * 32)).write_bytes(b"{}")
    assert outside.ask("GET", f"/directory/{'ab' * 32}").startswith(b"HTTP/1.1 200")
    (outside.site.models / "stolen").symlink_to(outside.site.folder / "key")
    for path in ("/models/stolen", f"/models/{name}", f"/models/{name}/", "/models/", "/directory/", "/key"):
        assert b"200 OK" not in outside.ask("GET", path)


BEYOND = [
    "/", "/health", "/docs", "/openapi.json", "/metrics", "/v1/control/list-runs", "/v1/runtime/acquire-task",
    "/v1/fleet",
    "/v1/fleet/", "//v1/control/list-runs", "/v1//control/list-runs", "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs", "/v1/fleet/..%2fcontrol%2flist-runs",
    "/v1/fleet/%2E%2E%2Fcontrol/list-runs",
    "/v1/fleet/pull-messages/../../control/list-runs", "/v1/fleet//control", "/v1/fleet/;/../control/list-runs",
    "/v1/fleet/..;/control/list-runs", "/v1/fleet/pull-messages?next=/v1/control", "/v1/fleet/pull-messages%00",
    "/v1/fleet/pull-messages%20/", "/v1/fleet/pull-messages#x", "/V1/FLEET/pull-messages", "/v1/fleet/PULL",
    "/v1/fleet\\..\\control", "/v1/fleet/%252e%252e/control/list-runs", "/./v1/fleet/../control/list-runs",
    "/v1/enroll/", "/v1/enroll/../control/list-runs", "/v1/enroll?x", "/models/../v1/control/list-runs",
    "/models/latest/../../v1/control/list-runs", "https://palate.example.org/v1/control/list-runs",
    "http://127.0.0.1/v1/control/list-runs", "*",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS", "CONNECT", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", BEYOND)
def test_nothing_beyond_fleet_is_reached(outside: Outside, path: str, method: str) -> None:
    before = len(outside.seen)
    answer = outside.ask(method, path)
    assert outside.seen[before:] == []
    assert not answer.startswith(b"HTTP/1.1 2"), answer


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_fleet_takes_post_alone(outside: Outside, method: str) -> None:
    before = len(outside.seen)
    assert outside.ask(method, "/v1/fleet/pull-messages").startswith((b"HTTP/1.1 403", b"HTTP/1.1 405"))
    assert outside.seen[before:] == []


def test_a_thousand_garbage_requests_reach_nothing(outside: Outside) -> None:
    """Random bytes, random paths, and requests with a piece replaced; a connection ends with the first that is none."""
    rng, before, answered = np.random.default_rng(7), len(outside.seen), 0
    pieces = [*BEYOND, "/v1/fleet/", "..", "%2e", "/", "\\", "~", "é", "A" * 1500, "?x=", "models/", "latest"]
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
    assert b"reached" in outside.ask("POST", "/v1/fleet/pull-messages", body=b"x")


def test_another_host_name_gets_no_handshake(outside: Outside) -> None:
    with pytest.raises(ssl.SSLError):
        outside.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", name="another.example.org")
    before = len(outside.seen)
    assert outside.ask("POST", "/v1/fleet/pull-messages", host="another.example.org").startswith(b"HTTP/1.1 4")
    assert outside.ask("POST", "/v1/fleet/pull-messages", host=f"{NAME}\r\nHost: x").startswith(b"HTTP/1.1 400")
    assert outside.seen[before:] == []


def test_plain_http_is_refused(outside: Outside) -> None:
    before = len(outside.seen)
    answer = outside.send(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", name=None)
    assert answer.startswith(b"HTTP/1.1 400")
    assert outside.seen[before:] == []


def test_large_bodies_are_refused_before_they_are_read(outside: Outside) -> None:
    before = len(outside.seen)
    for path, size in (("/v1/fleet/push-object", 2**40), ("/v1/enroll", 8192)):
        head = f"POST {path} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        assert outside.send(head.encode()).startswith(b"HTTP/1.1 413")
    assert outside.seen[before:] == []


def test_two_lengths_are_refused(outside: Outside) -> None:
    """Request smuggling: the gateway and the port behind it must not disagree on where a request ends."""
    before = len(outside.seen)
    for lengths in ("Content-Length: 4\r\nTransfer-Encoding: chunked", "Content-Length: 4\r\nContent-Length: 5"):
        head = f"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: {NAME}\r\n{lengths}\r\n\r\n"
        assert outside.send(head.encode() + b"0\r\n\r\nGET /openapi.json HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert outside.seen[before:] == []


@pytest.mark.slow
def test_a_slow_request_is_cut_off(outside: Outside) -> None:
    before, begun = len(outside.seen), time.monotonic()
    head = f"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000\r\n\r\n".encode()
    for slow in (b"POST /v1/fleet/pull-messages HTTP/1.1\r\nX: " + b"y" * 60, head):
        answer = outside.send(slow, seconds=60.0)
        assert not answer.startswith(b"HTTP/1.1 2")
    assert time.monotonic() - begun < 45
    assert outside.seen[before:] == []


def test_one_address_asks_so_often_and_no_more(tmp_path: Path) -> None:
    for slow in started(tmp_path / "site", rate=1):
        answers = [slow.ask("POST", "/v1/fleet/pull-messages") for _ in range(60)]
        refused = sum(answer.startswith(b"HTTP/1.1 429") for answer in answers)
        assert 20 <= refused <= 45
        assert len(slow.seen) == 60 - refused


def test_the_gateway_gives_up_an_idle_connection_before_the_superlink() -> None:
    assert f"keepalive_timeout {KEEP_SECONDS - 15}s;" in TEMPLATE


@pytest.mark.parametrize("line", ["ssl_reject_handshake on;", "merge_slashes off;", "proxy_ssl_verify on;"])
def test_the_configuration_says(outside: Outside, line: str) -> None:
    assert line in configuration(outside.site)
