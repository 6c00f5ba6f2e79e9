"""A real server: `palate serve run` in a process of its own, nginx and SuperLink included, and real devices for it."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import palate
from benchmarks.serve.world import free_ports
from palate_client.online.sync import SyncResult
from palate_client.service import Service
from palate_common.enrolment import Invitation
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import trust_anchor
from palate_server.service.setup import make_site

WEB = Path(__file__).parents[3] / "client" / "web"
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Who is trusted where plain HTTP is spoken: for each request httpx would read all authorities otherwise."""
ITEMS = tuple(f"item-{number}" for number in range(40))
CONFIG = """
population = "readers"
name = "localhost"
[privacy]
epsilon = 2.0
lifetime_epsilon = 100.0
period_epsilon = 100.0
dropout = {dropout}
[training]
every_hours = {every_hours}
[cohort]
size = {size}
wait_seconds = 20.0
exchange_seconds = 30.0
pause_seconds = 60.0
[gateway]
listen = "127.0.0.1"
port = {ports[0]}
superlink_port = {ports[1]}
link = "{link}"
metrics_port = {ports[2]}
requests_per_second = 500
origins = {origins}
"""


@dataclass
class Server:
    """A server folder, and the process that serves it."""

    site: Site
    dev: bool
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "palate_cli", "serve", "run", str(self.site.folder)]
        with (self.site.logs / "command.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *(["--dev"] if self.dev else [])], stdout=log, stderr=log)
        self.wait(self.serving, seconds=120.0)

    def serving(self) -> bool:
        try:
            return bool(self.get("health").json().get("edge"))
        except httpx.HTTPError:
            return False

    def healthy(self) -> bool:
        try:
            return self.get("health").status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.site.config.gateway.metrics_port}/{path}"
        return httpx.get(url, timeout=5.0, verify=NOBODY)

    def wait(self, until: Callable[[], bool], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            ended = self.process is not None and self.process.poll() is not None
            assert not ended, self.words()
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.2)

    def words(self) -> str:
        """What the server says, for a test that fails."""
        files = sorted(self.site.logs.iterdir())
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60.0)
            self.process = None

    def pid_of(self, part: str) -> list[int]:
        """The processes of a part, by what is on their command line."""
        mark = {
            "superlink": "palate_server.flower.superlink",
            "serverapp": "palate_server.service.serverapp",
            "edge": "palate_server.service.edge_process",
            "gateway": "nginx",
        }[part]
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    command = (folder / "cmdline").read_bytes().decode(errors="replace")
                    own = f"FLWR_HOME={self.site.state}".encode() in (folder / "environ").read_bytes()
                except OSError:
                    continue
                if mark in command and (own or str(self.site.folder) in command):
                    found.append(int(folder.name))
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in EventLog(self.site.events).all() if event["event"] == kind]

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.site.config.gateway.port

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.site.tls / "ca.pem"))

    def invitations(self, count: int) -> list[Invitation]:
        config = self.site.config
        with Enrolments(self.site.enrolment_file) as register:
            tokens = [register.invite(now=time.time(), hours=1.0) for _ in range(count)]
        return [
            Invitation(
                server=config.name,
                port=config.gateway.port,
                ca=trust_anchor(self.site),
                public_key=self.site.key().public,
                population=config.population,
                token=token,
                path=config.gateway.path,
                version=2 if config.gateway.path else 1,
            )
            for token in tokens
        ]


@dataclass
class Fleet:
    """Real devices, each with a store of its own, in threads of this process."""

    server: Server
    folder: Path
    devices: list[palate.Device] = field(default_factory=list)

    def open(self) -> palate.Device:
        """A new device, whose user agrees to everything and has seen a few items."""
        key, population = self.server.site.key().public, self.server.site.config.population
        floors = palate.Floors().for_few()
        service = Service(public_key=key, population=population, epsilon=200.0, participations=10**6, floors=floors)
        number = len(self.devices)
        device = palate.open(self.folder / str(number), app="test", key=palate.new_key(), service=service)
        self.devices.append(device)
        device.consent.grant("store", version="1")
        device.consent.grant("train", version="1")
        for step in range(4):
            device.track("view", ITEMS[(number * 7 + step * step) % len(ITEMS)])
        return device

    def enrol(self, count: int) -> None:
        for invitation in self.server.invitations(count):
            self.open().enroll(invitation)

    def sync(self, *, seconds: float = 90.0, but: Mapping[int, float] | None = None) -> list[SyncResult]:
        """All of them at once, some of them `but` for so many seconds; what became of each."""
        found: dict[int, SyncResult] = {}

        def one(number: int) -> None:
            found[number] = self.devices[number].sync(seconds=(but or {}).get(number, seconds), poll_seconds=0.5)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(len(self.devices))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [found[number] for number in range(len(self.devices))]

    def close(self) -> None:
        for device in self.devices:
            device.close()


@dataclass
class WebDevices:
    """Devices of the browser package, in a process of their own."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, place: Sequence[str], *, authority: Path) -> WebDevices:
        assert (WEB / "node_modules").is_dir(), "`make web` installs what the browser package is built with"
        command = ["node", "test/driver/drive.mjs", *place]
        environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(authority)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return cls(subprocess.Popen(command, cwd=WEB, env=environment, **pipes))

    def ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        found = json.loads(line or '{"error": "it ended"}')
        assert "error" not in found, found["error"]
        return found["answer"]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def make_server(
    folder: Path,
    *,
    size: int = 6,
    dropout: float = 0.17,
    every_hours: float = 720.0,
    dev: bool = True,
    link: str = "flower",
    origins: Sequence[str] = (),
    wait: float = 20.0,
    extra: str = "",
) -> Server:
    terms = {"size": size, "dropout": dropout, "every_hours": every_hours, "link": link}
    terms["origins"] = json.dumps(list(origins))
    config = CONFIG.format(ports=free_ports(), **terms) + extra
    config = config.replace("wait_seconds = 20.0", f"wait_seconds = {wait}")
    return Server(make_site(folder, config, ITEMS), dev)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server; a module says with `DEV = False` that it wants nginx, what `ELSE`."""
    wanted = {"dev": getattr(request.module, "DEV", True), **getattr(request.module, "ELSE", {})}
    found = make_server(tmp_path_factory.mktemp("serve") / "site", **wanted)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def fleet(server: Server, tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(server, tmp_path)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def parts() -> SimpleNamespace:
    """What tests make servers and devices of that are arranged in another way; they can't import this file."""
    return SimpleNamespace(
        CONFIG=CONFIG, ITEMS=ITEMS, Server=Server, Fleet=Fleet, WebDevices=WebDevices, free_ports=free_ports
    )


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
