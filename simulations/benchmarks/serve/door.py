"""Devices that only exchange: what transport costs, what those that wait hold, and what a register of many costs.

nginx -> edge -> SuperLink -> coordinator, with devices that sign and answer and compute nothing, in one event loop
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.serve.world import free_ports
from palate_common.rounds.exchange import PATH, Availability, ExchangeRequest, MessageKind, ServerMessage
from palate_core.device.attempt import MaskedDevice
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.transcript import AttemptTerms
from palate_core.noise_share import NoisedVector
from palate_server.edge.sockets import reachable
from palate_server.edge.transport import EdgeMessenger
from palate_server.flower.control import LinkControl
from palate_server.flower.superlink import superlink_command
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.rounds.run import Request
from palate_server.secagg.attempt import Unmasking
from palate_server.service.edge_process import edge_answers, edge_command
from palate_server.service.gateway import answers_at, nginx_command, write_configuration
from palate_server.service.processes.child import FLOWER
from palate_server.service.serverapp import link_of
from palate_server.service.setup import make_certificates, make_secret, make_site

EXCHANGES, DOWN, UP = 13, 1_500, 3_000
"""Exchanges of an attempt, and bytes of a request and of an answer."""
COHORT, LARGE = 100, 1_000
"""Devices of the usual cohort, and of a large one."""
VECTOR = 1_000
"""Numbers of a masked vector."""
ITEMS = tuple(f"item-{number}" for number in range(40))
CONFIG = """
population = "bench"
name = "localhost"
[privacy]
epsilon = 2.0
lifetime_epsilon = 8.0
period_epsilon = 4.0
[cohort]
size = {size}
[gateway]
listen = "127.0.0.1"
port = {ports[0]}
superlink_port = {ports[1]}
metrics_port = {ports[2]}
link = "{link}"
requests_per_second = 100000
connections = 60000
"""


Served = tuple[Site, dict[str, psutil.Process], list[SigningKey]]


@contextmanager
def served(
    devices: int, *, link: str, gateway: bool = True, size: int = 10, changes: Mapping[str, str] | None = None
) -> Iterator[tuple[Site, dict[str, psutil.Process], list[SigningKey]]]:
    """A server's processes without its ServerApp and supervisor, with enrolled devices.

    Args:
        devices: how many.
        link: between ServerApp and edge.
        gateway: whether there is one.
        size: of a cohort, where it is larger.
        changes: lines of the gateway's configuration -> what stands there here.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = CONFIG.format(size=max(devices, size) if gateway else 10, ports=free_ports(), link=link)
        site = make_site(home / "site", config, ITEMS)
        make_certificates(site)
        make_secret(site)
        keys = [SigningKey.generate() for _ in range(devices)]
        with Enrolments(site.enrolment_file) as register:
            for key in keys:
                token = register.invite(now=time.time(), hours=1.0)
                register.enrol(token, identity=key.public, now=time.time())
        log = stack.enter_context((home / "log").open("wb"))
        environment = {**os.environ, **FLOWER, "FLWR_HOME": str(site.state / "flower")}
        found = dict[str, psutil.Process]()

        def start(name: str, command: list[str], ready: Callable[[], bool], folder: Path | None = None) -> None:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            found[name] = psutil.Process(process.pid)
            while not ready():
                time.sleep(0.2)

        if link == "flower":
            start("SuperLink", superlink_command(site), LinkControl(site).ready)
        start("edge", edge_command(site, dev=False), lambda: edge_answers(site, dev=False))
        if gateway:
            file, at = write_configuration(site), site.config.gateway
            for line, other in (changes or {}).items():
                file.write_text(file.read_text().replace(line, other))
            start("gateway", nginx_command(site), lambda: answers_at(at.listen, at.port, "localhost"), site.public)
        yield site, found, keys


class Fleet:
    """Devices in one event loop, in a thread: each waits, answers what it is asked, and waits again.

    Args:
        site: the server folder.
        keys: their identities.
        gateway: whether they come through it; else they are at the edge's socket.
    """

    def __init__(self, site: Site, keys: list[SigningKey], *, gateway: bool = True) -> None:
        self._port, self._keys, self._gate = site.config.gateway.port, keys, asyncio.Semaphore(100)
        self._socket = "" if gateway else reachable(site.edge_socket)
        self._tls = ssl.create_default_context(cafile=str(site.tls / "ca.pem"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until all were sent home."""
        self._thread.join(60.0)

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(len(self._keys))))

    async def _one(self, number: int) -> None:
        """A device, which connects again and says the same once more where its connection is lost."""
        said = _Said()
        while not said.over:
            with suppress(OSError, asyncio.IncompleteReadError):
                async with self._gate:
                    reader, writer = await self._connect()
                with closing(writer):
                    while not said.over:
                        await self._ask(number, said, reader, writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._socket:
            return await asyncio.open_unix_connection(self._socket, limit=2**22)
        return await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost", limit=2**22
        )

    async def _ask(self, number: int, said: _Said, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.time, body = max(said.time + 1, int(time.time() * 1000)), said.body
        asked = ExchangeRequest(
            number, said.answers, 25.0, Availability(3600.0, 3), said.time, len(body), hashlib.sha256(body).hexdigest()
        )
        headers = asked.signed("bench", PATH, self._keys[number])
        lines = [f"POST {PATH} HTTP/1.1", "host: localhost", *(f"{name}: {headers[name]}" for name in headers)]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        got = dict(field.split(": ", 1) for field in fields if field)
        data = await reader.readexactly(int(got.get("content-length", "0")))
        if " 200" in status or " 204" in status:
            said.answers, said.body = "", b""
        if " 200" in status:
            message = ServerMessage.read(got, data)
            said.over = message.kind is MessageKind.COME_BACK
            said.answers, said.body = message.exchange, os.urandom(UP)


@dataclass
class _Said:
    """What a device says next."""

    answers: str = ""
    body: bytes = b""
    time: int = 0
    over: bool = False


def transport(devices: int, *, link: str = "flower") -> dict[str, Any]:
    """CPU of each process a device, for the exchanges of an attempt; the seconds of each."""
    with served(devices, link=link) as (site, processes, keys):
        messenger = EdgeMessenger(link_of(site))
        fleet = Fleet(site, keys)
        while len(messenger.online(wait=5.0)) < devices:
            pass
        before, own = _cpu(processes), time.thread_time()
        carrier, seconds = messenger.transport(set(range(devices)), timeout=120.0), list[float]()
        for step in range(1, EXCHANGES + 1):
            began = time.monotonic()
            answers = dict(carrier.exchange(Request(range(devices), {}, lambda _: {"request": bytes(DOWN)}, step)))
            seconds.append(time.monotonic() - began)
            if len(answers) != devices:
                raise RuntimeError(f"{devices} must answer, got {len(answers)}")
        used = {name: spent - before[name] for name, spent in _cpu(processes).items()}
        used["ServerApp"] = time.thread_time() - own
        memory = {name: process.memory_info().rss / 2**20 for name, process in processes.items()}
        messenger.send_home(dict.fromkeys(range(devices), 60.0))
        fleet.join()
    return {"devices": devices, "link": link, "cpu": used, "seconds": seconds, "memory": memory}


def waiting(devices: int) -> dict[str, Any]:
    """What devices that wait hold at an edge, and what it takes to wake them all."""
    with served(devices, link="direct", gateway=False) as (site, processes, keys):
        messenger, edge = EdgeMessenger(link_of(site)), processes["edge"]
        alone = edge.memory_info().rss
        fleet = Fleet(site, keys, gateway=False)
        while len(messenger.online(wait=5.0)) < devices:
            pass
        time.sleep(2.0)
        there, before = edge.memory_info().rss, sum(edge.cpu_times()[:2])
        time.sleep(20.0)
        share = (sum(edge.cpu_times()[:2]) - before) / 20.0
        began, carrier = time.monotonic(), messenger.transport(set(range(devices)), timeout=120.0)
        answers = dict(carrier.exchange(Request(range(devices), {}, lambda _: {"request": bytes(1000)}, 1)))
        seconds, most = time.monotonic() - began, _most(edge)
        messenger.send_home(dict.fromkeys(range(devices), 60.0))
        fleet.join()
    sizes = {"alone": alone, "waiting": there, "most": most}
    return {"devices": len(answers), "share": share, "seconds": seconds, "bytes": sizes}


def half_open(connections: int) -> dict[str, Any]:
    """What connections hold at gateway and edge that have said half of a TLS hello, or half of a request's headers.

    The gateway cuts them off after ten seconds, in which a machine that is busy opens fewer: here after an hour.
    """
    changes = {"client_header_timeout 10s": "client_header_timeout 1h"}
    changes["events {"] = f"events {{ worker_connections {connections + 100}; }} #"
    said = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\npalate-version: 1\r\npalate-device: ".encode()
    hello, found = bytes.fromhex("1603010200010001fc0303") + bytes(200), dict[str, Any]()
    for kind in ("hello", "headers"):
        with ExitStack() as stack:
            site, processes, _ = stack.enter_context(served(10, link="direct", changes=changes))
            tls, before = ssl.create_default_context(cafile=str(site.tls / "ca.pem")), _resident(processes)
            for number in range(connections):
                if number % 256 == 0:
                    time.sleep(0.2)  # as many as the gateway lets wait to be taken
                one = stack.enter_context(socket.create_connection(("127.0.0.1", site.config.gateway.port)))
                if kind == "headers":
                    one = stack.enter_context(tls.wrap_socket(one, server_hostname="localhost"))
                one.sendall(hello if kind == "hello" else said)
            opened, (worker,), until = 0, processes["gateway"].children(), time.monotonic() + 60.0
            while opened < connections and time.monotonic() < until:
                time.sleep(1.0)
                opened = sum(each.status == "ESTABLISHED" for each in worker.net_connections("tcp"))
            held = _resident(processes)
        found[kind] = {"open": opened, **{part: held[part] - before[part] for part in ("gateway", "edge")}}
    return {"connections": connections, **found}


def _resident(processes: dict[str, psutil.Process]) -> dict[str, int]:
    """Bytes of processes with their children."""
    return {
        name: sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
        for name, process in processes.items()
    }


def register(count: int) -> dict[str, Any]:
    """Milliseconds of CPU of what a server asks of its register, and does with it; and bytes of a masked attempt."""
    keys = {place * count // COHORT: SigningKey.generate() for place in range(COHORT)}
    with tempfile.TemporaryDirectory() as home, Enrolments(Path(home) / "enrolment.db") as found:
        with found._database.transaction(write=True) as connection:
            connection.executemany(
                "INSERT INTO devices(number, identity, enrolled) VALUES (?, ?, 0)",
                ((each, keys[each].public if each in keys else f"{each:064x}") for each in range(count)),
            )
            connection.executemany(
                "INSERT INTO tokens VALUES (?, 1e12, ?)", ((f"{number:x}", number) for number in range(count))
            )
        now = time.time()
        tokens = iter([found.invite(now=now, hours=1.0) for _ in range(20)])
        fresh = iter(range(count, count + 20))
        return {
            "enrolled": count,
            "look": _mean(lambda: found.eligible(range(100), period=1, most=5, now=now)),
            "full": _mean(lambda: found.first_eligible(100, period=1, most=5, now=now)),
            "enrol": _mean(lambda: found.enrol(next(tokens), identity=f"{next(fresh):064x}", now=now)),
            "seen": _mean(lambda: found.seen([count // 2], quarter=8000)),
            "door": _mean(lambda: found.standing(count // 2)),
            "scrape": _mean(lambda: found.counts(now=now)),
            "invite": _mean(lambda: found.invite(now=now, hours=1.0)),
            "directory": _mean(lambda: found.directory(range(0, count, count // LARGE)).hash),
            "bytes": {
                "directory": {
                    each: len(found.directory(range(0, count, count // each)).to_bytes()) for each in (COHORT, LARGE)
                },
                "attempt": _attempt(found.directory(keys), keys),
            },
        }


def _attempt(directory: Directory, keys: Mapping[int, SigningKey]) -> int:
    """Bytes of a device in a masked attempt, in and out: its directory, all requests and all answers.

    The plan and the model are as large whatever the cohort is; the vector has `VECTOR` numbers.
    """
    server = SigningKey.generate()
    terms = AttemptTerms(
        context=bytes(32), size=VECTOR, bits=32, n_max=COHORT, n_min=COHORT - COHORT // 10, c_max=COHORT // 10,
        directory=directory.hash,
    )  # fmt: skip
    devices = {
        number: MaskedDevice(
            terms, id=number, identity=key, directory=directory, server_key=server.public,
            vector=lambda: NoisedVector(np.zeros(VECTOR, np.int64)), latch=lambda *_: None,
        )
        for number, key in keys.items()
    }  # fmt: skip
    attempt, size = Unmasking(terms, directory, server), len(directory.to_bytes())
    while not attempt.finished:
        answers = {each: devices[each].answer(attempt.step, attempt.request(each)) for each in attempt.asked}
        size += len(attempt.request(min(keys))) + len(answers[min(keys)])
        attempt.collect(answers)
    return size


def _mean(do: Callable[[], object], *, times: int = 20) -> float:
    began = time.process_time()
    for _ in range(times):
        do()
    return 1000 * (time.process_time() - began) / times


def _cpu(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """CPU seconds of processes with their children."""
    return {
        name: sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))
        for name, process in processes.items()
    }


def _most(process: psutil.Process) -> int:
    """The most memory that a process has had."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(text.split("VmHWM:")[1].split()[0])
