"""A public certificate: pebble, the ACME server that Let's Encrypt tests clients with, certbot and lego; nothing faked.

`make around` runs it. Names are answered by pebble's own DNS server, everything else is as it is on a public network.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palate_cli.cli import run
from palate_server.folder.certificates import issue, make_authority
from palate_server.service.setup import make_site

pytestmark = pytest.mark.around
NAME = "palate.example"
HOOK = f"{sys.executable} -m palate_cli serve certificate"
Completed = subprocess.CompletedProcess[str]


@dataclass
class Pebble:
    """An ACME authority of this machine, whose own TLS has `ca`, and who issues by `root`."""

    address: str
    ca: Path
    root: Path
    folder: Path

    def certbot(self, *arguments: str) -> Completed:
        """Run Debian's certbot, as an operator does but for folders and the authority."""
        places = [f"--{name}-dir={self.folder / name}" for name in ("config", "work", "logs")]
        # Debian's program starts with its own Python; what this test's environment says of Python isn't for it.
        environment = {"PATH": "/usr/bin:/bin", "REQUESTS_CA_BUNDLE": str(self.ca)}
        command = ["/usr/bin/certbot", *arguments, *places, f"--server={self.address}", "--non-interactive"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def lego(self, *arguments: str) -> Completed:
        """Run lego."""
        command = ["lego", f"--server={self.address}", f"--path={self.folder / 'lego'}", "--accept-tos", *arguments]
        environment = {**os.environ, "LEGO_CA_CERTIFICATES": str(self.ca)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path, parts: Any) -> tuple[Any, int]:
    """A server folder of a public name, and the port that an authority asks on."""
    ports = parts.free_ports()
    acme = parts.free_ports()[0]
    text = (
        parts.CONFIG.format(ports=ports, size=6, dropout=0.17, every_hours=720.0, link="flower", origins="[]")
        .replace('name = "localhost"', f'name = "{NAME}"')
        .replace("[gateway]", f"[gateway]\nacme_port = {acme}")
    )
    return parts.Server(make_site(tmp_path / "site", text, parts.ITEMS), False), acme


@pytest.fixture
def pebble(tmp_path: Path, parts: Any, place: tuple[Any, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Pebble]:
    """Pebble and its DNS server, for which every name is this machine; for this process `NAME` is, too."""
    tls, (api, management, dns, _) = tmp_path / "pebble", parts.free_ports()
    tls.mkdir()
    make_authority(tls)
    issue(tls, "server", ["localhost", "127.0.0.1"])
    settings = {
        "listenAddress": f"127.0.0.1:{api}", "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(tls / "server.pem"), "privateKey": str(tls / "server.key"), "httpPort": place[1],
        "tlsPort": 9, "certificateValidityPeriod": 90 * 86400,
    }  # fmt: skip
    (tls / "pebble.json").write_text(json.dumps({"pebble": settings}))
    off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", ""]
    answering = ["pebble-challtestsrv", *off, "-dns01", f"127.0.0.1:{dns}", "-defaultIPv6", ""]
    authority = ["pebble", "-config", str(tls / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    resolve = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host == NAME else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    with ExitStack() as stack:
        log = stack.enter_context((tls / "log").open("w"))
        for command in (answering, authority):
            environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1"}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
        deadline = time.monotonic() + 10.0
        while True:
            try:
                root = httpx.get(
                    f"https://localhost:{management}/roots/0", verify=ssl.create_default_context(cafile=tls / "ca.pem")
                )
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, (tls / "log").read_text()
                time.sleep(0.1)
        (tls / "root.pem").write_bytes(root.content)
        yield Pebble(f"https://localhost:{api}/dir", tls / "ca.pem", tls / "root.pem", tls)


def shown(server: Any) -> x509.Certificate:
    """What the gateway shows, to who trusts pebble alone."""
    context = ssl.create_default_context(cafile=server.root)
    with (
        socket.create_connection(server.address) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as tls,
    ):
        found = tls.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found)


def shows_another(server: Any, former: x509.Certificate | None) -> bool:
    try:
        return shown(server) != former
    except ssl.SSLError:
        return False


def test_a_public_certificate_is_issued_and_renewed_by_two_lines_while_devices_sync(
    place: tuple[Any, int], pebble: Pebble, tmp_path: Path, parts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """`acme_port` in server.toml, and one command of certbot; its timer, or lego, renews."""
    server, acme = place
    folder = str(server.site.folder)
    server.root = pebble.root
    hook = f"{HOOK} {folder} --root {pebble.root}"
    try:
        server.start()
        # Until then the folder's own keeps its place: nobody can be invited, and it is said what to do.
        assert {each["code"] for each in server.get("problems").json()} >= {"certificate_awaited"}
        assert run(["serve", "enroll", folder]) == 2
        assert "got none yet" in capsys.readouterr().err

        webroot = str(server.site.public)
        done = pebble.certbot(
            "certonly", "--webroot", f"--webroot-path={webroot}", f"--domain={NAME}", f"--deploy-hook={hook}",
            "--agree-tos", "--register-unsafely-without-email",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        server.wait(lambda: shows_another(server, None), seconds=10.0)
        first = shown(server)
        assert first.subject != first.issuer
        chain = (server.site.tls / "public.pem").read_bytes()
        anchor = x509.load_pem_x509_certificates(pebble.root.read_bytes())[0]
        assert chain.endswith(anchor.public_bytes(Encoding.PEM)), "the root is last"
        assert not {each["code"] for each in server.get("problems").json()} & {"certificate_awaited"}
        assert [each["part"] for each in server.events("reloaded")] == ["gateway"], "without a restart"

        # What lies there is answered on that port alone, and nothing else is.
        challenge = server.site.public / ".well-known" / "acme-challenge"
        challenge.mkdir(parents=True, exist_ok=True)
        (challenge / "token").write_text("what the authority asks for")
        (challenge / "link").symlink_to(server.site.config_file)
        with httpx.Client(base_url=f"http://127.0.0.1:{acme}", trust_env=False) as client:
            assert client.get("/.well-known/acme-challenge/token").text == "what the authority asks for"
            for path in ("link", "", ".", "%2e%2e", "../../models/latest", "none"):
                assert client.get(f"/.well-known/acme-challenge/{path}").status_code in (403, 404), path
            for path in ("/", "/models/latest", "/v1/enroll", "/console/", "/ledger/checkpoint"):
                assert client.get(path).status_code == 404, path
            assert client.post("/.well-known/acme-challenge/token").status_code == 403
        with httpx.Client(verify=ssl.create_default_context(cafile=pebble.root), trust_env=False) as client:
            address = f"https://{NAME}:{server.site.config.gateway.port}/.well-known/acme-challenge/token"
            assert client.get(address).status_code == 404
        shutil.rmtree(challenge.parent)

        # Devices in a masked round, and a certificate that is renewed in the middle of it; twice, by either client.
        fleet = parts.Fleet(server, tmp_path / "devices")
        fleet.enrol(6)
        results: list[Any] = []
        syncing = threading.Thread(target=lambda: results.extend(fleet.sync(seconds=120.0)))
        syncing.start()
        renewed = pebble.certbot("renew", "--force-renewal", "--no-random-sleep-on-renew")
        assert renewed.returncode == 0, renewed.stdout + renewed.stderr
        server.wait(lambda: shows_another(server, first), seconds=10.0)
        second = shown(server)
        issued = pebble.lego(
            "--email=operator@palate.example", f"--domains={NAME}", "--http", f"--http.webroot={webroot}",
            "run", f"--run-hook={hook}",
        )  # fmt: skip
        assert issued.returncode == 0, issued.stdout + issued.stderr
        server.wait(lambda: shows_another(server, second), seconds=10.0)
        syncing.join()
        assert {result.ended for result in results} == {"come back"}, server.words()
        assert [result.rounds for result in results] == [1] * 6
        server.wait(lambda: bool(server.events("published")), seconds=30.0)
        assert {result.model for result in fleet.sync()} == {True}
        assert len(server.events("reloaded")) >= 3
        assert not server.events("restarted")
        fleet.close()

        for log in server.site.logs.iterdir():
            assert "acme-challenge" not in log.read_text(errors="replace"), log
    finally:
        server.stop()
