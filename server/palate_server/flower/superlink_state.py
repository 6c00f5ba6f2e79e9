"""Flower's internals that operating a SuperLink needs, for only one version of Flower.

    superlink_command, serverapp_command   commands that the supervisor starts
    LinkControl                            manages nodes and runs at the SuperLink, over loopback TLS

Flower's public API can't register a node or start a run from a program, so this module uses what
Flower's own commands use. `check_version` refuses a version with which this module was not tested.
"""

from __future__ import annotations

import hashlib
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException, HTTPSConnection
from importlib.metadata import version

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

from palate_core.errors import InputError, PalateError, RefusedError
from palate_server.flower.guard import HEALTH, show, token_of
from palate_server.folder.places import number_at, split
from palate_server.folder.server_folder import Site

KNOWN = "1.42."
"""The version with which this module was tested."""


ANSWERS = 5.0
"""Seconds in which a SuperLink answers that it is there."""
PROJECT = """\
[project]
name = "palate-service"
version = "1.0.0"
description = "Has no code"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "palate"
[tool.flwr.app.components]
serverapp = "palate_server.flower.service_app:main"
clientapp = "palate_client.flower:node_app"
"""
"""The `pyproject.toml` of a Flower app, without which no run can be started; nothing installs or loads it."""


def check_version() -> None:
    """Refuse another version of Flower than the known one.

    Raises:
        InputError: another version is installed.
    """
    if not (found := version("flwr")).startswith(KNOWN):
        raise InputError(
            f"Flower must be {KNOWN}x, whose internals are known here, got {found}: pip install palate[server]"
        )


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
        *("--superexec-auth-secret-file", str(site.superlink_secret)),
    ]


def serverapp_command(site: Site) -> list[str]:
    """The command of the ServerApp, which takes its own tasks at the SuperLinks."""
    return [sys.executable, "-m", "palate_server.flower.service_app", str(site.folder)]


def environment(site: Site, place: int = 0) -> dict[str, str]:
    """Environment variables for Flower's processes, in addition to this process's; each SuperLink has its own home."""
    return {
        "FLWR_HOME": str(site.state / f"flower{place + 1 if place else ''}"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
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
        self._asking: HTTPSConnection | None = None
        self._place, self._port = place, site.config.gateway.superlink_ports[place]
        self._ca, self.secret = site.tls / "ca.pem", site.superlink_secret
        self._tls: ssl.SSLContext | None = None

    def ready(self) -> bool:
        """Whether the SuperLink answers, over a connection that is kept while it does: it is asked again and again."""
        asking = self._asking
        try:
            if asking is None:
                asking = HTTPSConnection("localhost", self._port, context=self._context, timeout=ANSWERS)
                self._asking = asking
            asking.request("GET", HEALTH)
            answer = asking.getresponse()
            answer.read()
        except (OSError, HTTPException):
            if asking is not None:
                asking.close()
            self._asking = None
            return False
        return answer.status == httpx.codes.OK

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
        """Start a run, whose task a ServerApp takes; returns its number at the SuperLink."""
        bundle = build_fab_from_files({"pyproject.toml": PROJECT.encode()})[0]
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
    def address(self) -> str:
        """Host and port."""
        return f"localhost:{self._port}"

    @property
    def authority(self) -> bytes:
        """The PEM certificate by which it is verified."""
        return self._ca.read_bytes()

    @property
    def token(self) -> str:
        """What its guard asks for; new at each start of the server.

        Raises:
            InputError: this account can't read the secret, or the server was never started.
        """
        return token_of(self.secret)

    @property
    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self._ca))
        return self._tls

    @contextmanager
    def _client(self) -> Iterator[ControlHttpClient]:
        try:
            with closing(ControlHttpClient(f"https://{self.address}", verify=self._context)) as client:
                show(client, self.token)
                yield client
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.UNAUTHORIZED:
                raise PalateError(f"the SuperLink must take a request, got {error!r:.300}") from None
            raise RefusedError(f"the SuperLink at {self.address} must be this folder's, got another's") from None
        except httpx.HTTPError as error:
            raise PalateError(f"the SuperLink must answer, got {error!r:.300}") from None
