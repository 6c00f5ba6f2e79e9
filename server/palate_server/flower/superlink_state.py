"""Flower's internals that operating a SuperLink needs, for only one version of Flower.

    superlink_command, superexec_command   commands that the supervisor starts
    LinkControl                            manages nodes and runs at the SuperLink, over loopback TLS

Flower's public API can't register a node or start a run from a program, so this module uses what
Flower's own commands use. `check_version` refuses a version with which this module was not tested.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import Status
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab

from palate_common.errors import InputError, PalateError
from palate_server.folder.places import number_at, split
from palate_server.folder.server_folder import Site

SUPEREXEC = """\
import sys, types
import flwr.supercore
commands = sys.modules["flwr.supercore.cli"] = types.ModuleType("flwr.supercore.cli")
commands.__path__ = [flwr.supercore.__path__[0] + "/cli"]
from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.logger import update_console_handler
update_console_handler(colored=False)
sys.argv[0] = "flower-superexec"
sys.exit(flower_superexec())
"""
"""Flower's command of that name. Its log is a file, and Flower has no setting that turns colours off. The package that
the command is in would load all other commands, too, with their databases: half of the time and 34 MB of 128."""
KNOWN = "1.42."
"""The version with which this module was tested."""


def check_version() -> None:
    """Refuse another version of Flower than the known one.

    Raises:
        InputError: another version is installed.
    """
    if not (found := version("flwr")).startswith(KNOWN):
        raise InputError(
            f"Flower must be {KNOWN}x, whose internals are known here, got {found}: pip install palate[server]"
        )


def scripts() -> Path:
    """The folder of Flower's commands."""
    return Path(sysconfig.get_path("scripts"))


def superlink_command(site: Site, place: int = 0) -> list[str]:
    """A SuperLink's command: loopback, TLS, node authentication, and the ServerApp in another process."""
    tls, port = site.tls, site.config.gateway.superlink_ports[place]
    return [
        *(sys.executable, "-m", "palate_server.flower.superlink"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-certfile", str(tls / "superlink.pem"), "--ssl-keyfile", str(tls / "superlink.key")),
        *("--ssl-ca-certfile", str(tls / "ca.pem")),
        *("--enable-supernode-auth", "--isolation", "process", "--disable-runtime-dependency-installation"),
        *("--database", str(site.superlink_files[place])),
        *("--superexec-auth-secret-file", str(site.state / "superexec.secret")),
    ]


def superexec_command(site: Site, *, parent: int) -> list[str]:
    """The command of the process that starts the ServerApp when the SuperLink has a run; it ends with its parent."""
    return [
        *(sys.executable, "-c", SUPEREXEC),
        *("--runtime-api-address", f"localhost:{site.config.gateway.superlink_port}"),
        *("--root-certificates", str(site.tls / "ca.pem"), "--parent-pid", str(parent)),
        *("--superexec-auth-secret-file", str(site.state / "superexec.secret")),
    ]


def environment(site: Site, place: int = 0) -> dict[str, str]:
    """Environment variables for Flower's processes, in addition to this process's; each SuperLink has its own home."""
    return {
        "PATH": f"{scripts()}{os.pathsep}{os.environ.get('PATH', '')}",  # SuperExec starts flwr-serverapp by name
        "FLWR_HOME": str(site.state / f"flower{place + 1 if place else ''}"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "10",
        "OPENBLAS_NUM_THREADS": "1",
    }


class LinkControl:
    """Controls one of a server folder's SuperLinks, as Flower's own command line does.

    Args:
        site: the server folder.
        place: which of them, see `palate_server.folder.places`; numbers of nodes are those of the register.

    Raises:
        PalateError: from each method, if the SuperLink doesn't answer or refuses.
    """

    def __init__(self, site: Site, place: int = 0) -> None:
        self._site, self._place = site, place
        self._tls: ssl.SSLContext | None = None

    def ready(self) -> bool:
        """Whether the SuperLink answers."""
        try:
            return httpx.get(f"{self._address}/health", verify=self._context, timeout=5.0, trust_env=False).is_success
        except (httpx.HTTPError, OSError):
            return False

    def nodes(self) -> dict[str, int]:
        """Public key (PEM) -> number of every registered node."""
        with self._client() as client:
            found = client.ListNodes(ListNodesRequest()).nodes_info
            there = [node for node in found if node.status != "unregistered"]
            return {node.public_key.decode(): number_at(self._place, node.node_id) for node in there}

    def register(self, node_key: str) -> int:
        """Register the public key of a node, if it isn't yet; returns the node's number."""
        with self._client() as client:
            try:
                number = int(client.RegisterNode(RegisterNodeRequest(public_key=node_key.encode())).node_id)
                return number_at(self._place, number)
            except httpx.HTTPStatusError:
                pass  # the key may be registered already, if an enrolment was interrupted here
        found = self.nodes().get(node_key)
        if found is None:
            raise PalateError("the SuperLink must register a node's key, and refused it")
        return found

    def unregister(self, node: int) -> None:
        """Remove a node's access."""
        with self._client() as client:
            client.UnregisterNode(UnregisterNodeRequest(node_id=split(node)[1]))

    def start_run(self) -> int:
        """Start this folder's ServerApp; returns the run's number at the SuperLink."""
        files = {"pyproject.toml": _project(self._site.folder).encode()}
        bundle = build_fab_from_files(files)[0]
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        with self._client() as client:
            return int(client.StartRun(StartRunRequest(fab=fab_to_proto(fab))).run_id)

    def unfinished(self) -> list[int]:
        """The numbers of runs that are not over."""
        with self._client() as client:
            runs = client.ListRuns(ListRunsRequest()).run_dict
            return [int(number) for number, run in runs.items() if run.status.status != Status.FINISHED]

    def stop_run(self, run: int) -> None:
        """End a run."""
        with self._client() as client:
            client.StopRun(StopRunRequest(run_id=run))

    @property
    def _address(self) -> str:
        return f"https://localhost:{self._site.config.gateway.superlink_ports[self._place]}"

    @property
    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self._site.tls / "ca.pem"))
        return self._tls

    @contextmanager
    def _client(self) -> Iterator[ControlHttpClient]:
        try:
            with closing(ControlHttpClient(self._address, verify=self._context)) as client:
                yield client
        except httpx.HTTPError as error:
            raise PalateError(f"the SuperLink must answer, got {error!r:.300}") from None


def _project(folder: Path) -> str:
    """The `pyproject.toml` of a Flower app without code: it names the INSTALLED ServerApp, and this folder."""
    return "\n".join(
        (
            "[project]",
            'name = "palate-service"',
            'version = "1.0.0"',
            'description = "Names the installed apps"',
            'license = "Apache-2.0"',
            "[tool.flwr.app]",
            'publisher = "palate"',
            "[tool.flwr.app.components]",
            'serverapp = "palate_server.flower.service_app:app"',
            'clientapp = "palate_client.flower:app"',
            "[tool.flwr.app.config]",
            f"folder = {json.dumps(str(folder), ensure_ascii=False)}",
            "",
        )
    )
