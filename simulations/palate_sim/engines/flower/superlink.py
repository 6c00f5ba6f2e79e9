"""SuperLink: the requests of the engine to Flower's SuperLink over its loopback port.

Every use of Flower's internals that the engine `flower` needs is in this module. A request through Flower's own client
takes a millisecond in this process; `flwr list` takes more than a second of processor time.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.common.constant import Status, SubStatus
from flwr.proto.control_pb2 import ListRunsRequest, StreamLogsRequest
from flwr.supercore.control import ControlHttpClient

from palate_core.errors import PalateError


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def superlink_command(scripts: Path, port: int) -> list[str]:
    """Flower's SuperLink for simulations, on the loopback interface alone."""
    listen = ["--host", "127.0.0.1", "--port", str(port), "--insecure"]
    return [str(scripts / "flower-superlink"), "--simulation", *listen, "--disable-runtime-dependency-installation"]


@dataclass(frozen=True)
class SuperLink:
    """A SuperLink on this machine.

    Attributes:
        port: where it listens.
        scripts: the folder of Flower's commands.
        environment: for those commands.
    """

    port: int
    scripts: Path
    environment: Mapping[str, str]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def submit(self, app: Path, connection: str, *, nodes: int) -> int:
        """Start a run by `flwr run`; return its number.

        Raises:
            PalateError: Flower refused it.
        """
        federation = f"num-supernodes={nodes} client-resources-num-cpus=1 init-args-log-to-driver=true"
        command = [str(self.scripts / "flwr"), "run", str(app), connection, "--federation-config", federation]
        done = subprocess.run(  # noqa: S603 - a fixed command of our own environment
            [*command, "--format", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        try:
            answer = json.loads(done.stdout)
            return int(answer["run-id"])
        except (ValueError, KeyError, TypeError):
            words = " ".join(f"{done.stdout} {done.stderr}".split())
            raise PalateError(f"`flwr run` must start the run, got {words[:300]}") from None

    def verdict(self, run: int) -> str | None:
        """None while a run is active; then "" if it succeeded, or Flower's error message."""
        try:
            with closing(self._client()) as client:
                status = client.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
        except httpx.HTTPError:
            return None  # it may be busy; the guard knows whether it has ended
        if status.status != Status.FINISHED:
            return None
        return "" if status.sub_status == SubStatus.COMPLETED else str(status.details or status.sub_status)

    def copy_log(self, run: int, file: Path) -> None:
        """Append what the ServerApp and the workers print to a file, until the run or the SuperLink ends."""
        latest = 0.0
        with closing(self._client()) as client, file.open("a", encoding="utf-8") as log:
            while self.ready():
                with suppress(httpx.HTTPError):  # an idle stream is closed after half a minute
                    for part in client.StreamLogs(StreamLogsRequest(run_id=run, after_timestamp=latest)):
                        log.write(part.log_output)
                        log.flush()
                        latest = part.latest_timestamp
                    return
                time.sleep(0.5)

    def _client(self) -> ControlHttpClient:
        return ControlHttpClient(f"http://127.0.0.1:{self.port}", verify=False)
