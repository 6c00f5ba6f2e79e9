"""A real server in a process of its own, real devices in another, and what each of the server's processes has used."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from palate_common.enrolment import Invitation
from palate_core.errors import PalateError
from palate_core.plan import Noise
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.folder.server_folder import Site
from palate_server.service.gateway import trust_anchor
from palate_server.service.setup import make_site
from palate_sim.engines.processes import descendants, running

ITEMS = tuple(f"item-{number}" for number in range(200))
CONFIG = """
population = "bench"
[privacy]
dp = "{dp}"
noise = "{noise}"
epsilon = {epsilon}
lifetime_epsilon = 1000.0
period_epsilon = 1000.0
dropout = {dropout}
[training]
algorithm = "{algorithm}"
settings = {settings}
every_hours = {every_hours}
[cohort]
size = {size}
wait_seconds = {wait_seconds}
exchange_seconds = {exchange_seconds}
pause_seconds = 5.0
participations = 1000000
[gateway]
listen = "127.0.0.1"
port = {ports[0]}
superlink_port = {ports[1]}
metrics_port = {ports[2]}
requests_per_second = 5000
connections = 2000
origins = {origins}
[enrolment]
requests_per_minute = 100000
[release]
automatic = {automatic}
"""
MARKS = {
    "palate_server.flower.superlink": "SuperLink",
    "palate_server.service.serverapp": "ServerApp",
    "palate_server.service.edge_process": "edge",
    "nginx": "gateway",
    "palate_cli": "supervisor",
}


def free_ports(count: int = 3) -> list[int]:
    """So many free ports."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def totals(fleet: subprocess.Popen[str]) -> dict[str, int]:
    """End the devices, and ask what they did."""
    out, _ = fleet.communicate(timeout=120.0)
    found: dict[str, int] = json.loads(out.splitlines()[-1])
    return found


class World:
    """A server folder, served."""

    def __init__(
        self,
        folder: Path,
        *,
        size: int,
        dp: str = "distributed",
        dropout: float = 0.1,
        every_hours: float = 0.0,
        settings: str = "{}",
        noise: str = "secure",
        exchange_seconds: float = 30.0,
        wait_seconds: float = 20.0,
        automatic: bool = True,
        algorithm: str = "sgd",
        origins: Sequence[str] = (),
        items: Sequence[str] = ITEMS,
        epsilon: float = 2.0,
    ) -> None:
        ports = free_ports()
        given: dict[str, Any] = {
            "size": size,
            "dp": dp,
            "dropout": dropout,
            "every_hours": every_hours,
            "settings": settings,
        }
        given |= {"exchange_seconds": exchange_seconds, "wait_seconds": wait_seconds, "noise": noise}
        given |= {"epsilon": epsilon, "automatic": str(automatic).lower(), "algorithm": algorithm}
        given["origins"] = json.dumps(list(origins))
        text = CONFIG.format(**given, ports=ports)
        self.folder, self.items = folder, items
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] | None = None
        self.devices: dict[str, str] | None = None
        self.site = self.make(folder / "site", text)

    def make(self, folder: Path, config: str) -> Site:
        """Make the server folder."""
        return make_site(folder, config, self.items)

    def start(self) -> None:
        command = [sys.executable, "-m", "palate_cli", "serve", "run", str(self.site.folder)]
        with (self.site.logs / "command.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        self.wait(lambda: self.health().get("edge", False))

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60.0)
            self.process = None

    def kill(self) -> None:
        """SIGKILL of every process of it at once, as when the power goes."""
        if self.process is not None:
            for pid in [pid for pids in self.pids().values() for pid in pids]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(60.0)
            self.process = None

    def health(self) -> Mapping[str, bool]:
        try:
            found: Mapping[str, bool] = httpx.get(
                f"http://127.0.0.1:{self.site.config.gateway.metrics_port}/health", timeout=5.0
            ).json()
            return found
        except (httpx.HTTPError, ValueError):
            return {}

    def wait(self, until: Callable[[], bool], *, seconds: float = 180.0) -> float:
        begun = time.monotonic()
        while not until():
            if time.monotonic() - begun > seconds:
                raise PalateError(f"the server must get there in {seconds:g} s: see {self.site.logs}")
            time.sleep(0.2)
        return time.monotonic() - begun

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in EventLog(self.site.events).all() if event["event"] in kinds]

    def pids(self) -> dict[str, list[int]]:
        """The server's processes, by part."""
        found: dict[str, list[int]] = {}
        root = self.process.pid if self.process is not None else -1
        for pid in [root, *(process.pid for process in descendants(root))]:
            try:
                command = (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            part = next((name for mark, name in MARKS.items() if mark in command), None)
            if part is not None:
                found.setdefault(part, []).append(pid)
        return found

    def cpu(self) -> dict[str, float]:
        """Processor seconds of each part so far."""
        ticks, everybody = os.sysconf("SC_CLK_TCK"), running()
        return {
            part: sum(everybody[pid].ticks for pid in pids if pid in everybody) / ticks
            for part, pids in self.pids().items()
        }

    def memory(self) -> dict[str, tuple[float, int]]:
        """Resident MiB and open files of each part."""
        found = {}
        for part, pids in self.pids().items():
            size, files = 0.0, 0
            for pid in pids:
                try:
                    text = (Path("/proc") / str(pid) / "status").read_text()
                    size += int(text.split("VmRSS:")[1].split()[0]) / 1024
                    files += len(list((Path("/proc") / str(pid) / "fd").iterdir()))
                except (OSError, IndexError):
                    continue
            found[part] = (size, files)
        return found

    def most_memory(self) -> float:
        """The most MiB that the edge has had."""
        (pid,) = self.pids()["edge"]
        text = (Path("/proc") / str(pid) / "status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) / 1024

    def invitations(self, count: int) -> list[str]:
        config = self.site.config
        with Enrolments(self.site.enrolment_file) as register:
            tokens = [register.invite(now=time.time(), hours=1.0) for _ in range(count)]
        key, anchor = self.site.key().public, trust_anchor(self.site)
        return [
            Invitation(
                server=config.name,
                port=config.gateway.port,
                ca=anchor,
                public_key=key,
                population=config.population,
                token=token,
            ).to_json()
            for token in tokens
        ]

    @contextmanager
    def fleet(
        self,
        count: int,
        *,
        stop_after: float = 1e9,
        churn: float = 0.0,
        patient: bool = False,
        windows: Sequence[float] = (600.0,),
        purposes: Sequence[Sequence[str]] = (),
        kind: str = "view",
    ) -> Iterator[subprocess.Popen[str]]:
        """Devices that enrol and then sync again and again, `patient` ones when they are asked to.

        Args:
            count: their number.
            stop_after: seconds after which they end.
            churn: the share of syncs that a device leaves out.
            patient: whether they come back when they are asked to.
            windows: seconds of a sync, of each device in turn.
            purposes: to what each device's user agrees; `train` where nothing is said.
            kind: of the events that they have.
        """
        file = self.folder / f"fleet-{time.monotonic_ns()}.json"
        job = {"invitations": self.invitations(count), "seconds": stop_after, "churn": churn, "patient": patient}
        job |= {"windows": list(windows), "purposes": [list(each) for each in purposes] or [["train"]] * count}
        job |= {"kind": kind, "first": 0}
        job["seeded"] = self.site.config.privacy.noise is Noise.SEEDED
        file.write_text(json.dumps(job))
        script = str(Path(__file__).with_name("fleet.py"))
        log = (self.folder / "fleet.log").open("ab")
        with subprocess.Popen(
            [sys.executable, script, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=self.devices,
        ) as process:
            try:
                if process.stdout is None or not process.stdout.readline():  # everybody is enrolled
                    raise PalateError(f"the devices must enrol: see {self.folder / 'fleet.log'}")
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                log.close()
