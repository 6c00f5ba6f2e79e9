"""Control: what a server folder's own processes ask of its SuperLink: edges become nodes, the ServerApp gets its task.

    edge       -> register(key)                         -> a node, see `node`; also from another host
    ServerApp  -> join: a run -> its task -> a grid     -> `edge_link`

Flower's public API can do neither from a program, so this module uses what Flower's own commands use. `check_version`
refuses a version with which it was not tested. Flower's SuperExec would start whatever code a run brings, once for each
run, with the token on its command line: here the ServerApp takes its own task.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property, partial
from http.client import HTTPException, HTTPSConnection
from importlib.metadata import version
from typing import Any, Final, cast

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import run_from_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, SendTaskHeartbeatRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import http_grid

from palate_common.records.closing import Closing
from palate_core.errors import InputError, PalateError, RefusedError
from palate_server.flower.edge_link import bounded
from palate_server.flower.guard import HEADER, HEALTH, REGISTERING, bearer, token_of
from palate_server.folder.edges import grant_of, token_for
from palate_server.folder.server_folder import Site

KNOWN: Final = ("1.41.", "1.42.")
"""The versions with which this folder's modules were tested."""
SERVER_APP: Final = "flwr-serverapp"
"""Flower's name of the kind of task that a ServerApp takes."""
ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"
ANSWERS: Final = 5.0
"""Seconds in which a SuperLink answers that it is there."""
BEAT: Final = 20.0
"""Seconds between two heartbeats of a task; without any the SuperLink gives it up after sixty."""
PULLS: Final = 20.0
"""Seconds in which an edge must have sent all of a reply that it has begun: meanwhile no other one is heard. Flower
would wait for three minutes, and for an edge that goes on beginning for ever."""
EVERYWHERE: Final = ("127.0.0.1", "0.0.0.0", "::")  # noqa: S104 - one that `localhost` reaches, too
SUPERLINK: Final = 1
"""Flower's number of the SuperLink among its nodes."""
PROJECT: Final = """\
[project]
name = "palate-service"
version = "1.0.0"
description = "Has no code"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "palate"
[tool.flwr.app.components]
serverapp = "palate_server.service.serverapp:main"
clientapp = "palate_server.service.serverapp:main"
"""
"""The `pyproject.toml` of a Flower app, without which no run can be started; nothing installs or loads it."""


def check_version() -> None:
    """Refuse another version of Flower than the known ones.

    Raises:
        InputError: another version is installed.
    """
    if not (found := version("flwr")).startswith(KNOWN):
        raise InputError(
            f"Flower must be {' or '.join(f'{each}x' for each in KNOWN)}, whose internals are known here, got {found}: "
            "pip install palate[server]"
        )


class LinkControl(Closing):
    """Asks a server folder's SuperLink what only the folder's own processes may.

    Args:
        site: the server folder, or an edge's.

    Raises:
        PalateError: from each method, if the SuperLink doesn't answer or refuses.
    """

    def __init__(self, site: Site) -> None:
        self._grant = grant = grant_of(site)
        self.address = own_address(site) if grant is None else f"{grant.host}:{grant.superlink_port}"
        self.authority = site.tls / "ca.pem"
        self._secret = site.superlink_secret
        self._asking: HTTPSConnection | None = None

    def ready(self) -> bool:
        """Whether the SuperLink answers, over a connection that is kept while it does: it is asked again and again."""
        host, _, port = self.address.rpartition(":")
        asking, self._asking = self._asking, None
        try:
            asking = asking or HTTPSConnection(host, int(port), context=self._context, timeout=ANSWERS)
            asking.request("GET", HEALTH)
            answer = asking.getresponse()
            answer.read()
        except (OSError, HTTPException):
            if asking is not None:
                asking.close()
            return False
        self._asking = asking
        return answer.status == httpx.codes.OK

    def close(self) -> None:
        """Close the connection that `ready` keeps; asked again, it makes another one."""
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def register(self, public_key: bytes) -> None:
        """Register an edge's public key, P-384 in PEM, as a node's."""
        with self._client() as client:
            client.RegisterNode(RegisterNodeRequest(public_key=public_key))

    def join(self) -> http_grid.HttpGrid:
        """Start a run, take its task, keep it as long as this process lives, and return its grid."""
        bundle = build_fab_from_files({"pyproject.toml": PROJECT.encode()})[0]
        fab: Any = {"hash_str": hashlib.sha256(bundle).hexdigest(), "content": bundle}
        with self._client() as client:
            client.StartRun(StartRunRequest(fab=fab))
        ca = self.authority.read_bytes()
        shows = SuperExecAuthHttpInterceptor(master_secret=self._secret.read_bytes(), protected_methods={ACQUIRE})
        with (
            _translated(),
            closing(RuntimeHttpClient.from_server_address(self.address, False, ca, [shows])) as runtime,
        ):
            found = runtime.AcquireTask(AcquireTaskRequest(supported_task_types=[SERVER_APP]))
            if not found.token:
                raise PalateError(f"the SuperLink at {self.address} must give the ServerApp its task, and has none")
            grid = http_grid.HttpGrid(self.address, False, ca, token=found.token)
            grid.set_run(run_from_proto(grid._runtime_client.PullTaskInput(PullTaskInputRequest()).run))
        _identify(grid)
        _keep(grid)
        prompt = partial(pull_objects, max_time=PULLS, initial_backoff=0.02, backoff_cap=0.25)
        cast(Any, http_grid).pull_objects = bounded(prompt)
        return grid

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    @contextmanager
    def _client(self) -> Iterator[ControlHttpClient]:
        grant = self._grant
        shown = _Shown(bearer(token_of(self._secret) if grant is None else token_for(grant.secret, REGISTERING)))
        url = f"https://{self.address}"
        with _translated(), closing(ControlHttpClient(url, verify=self._context, interceptors=[shown])) as client:
            yield client


def own_address(site: Site) -> str:
    """Where a server's own processes reach its SuperLink."""
    gateway = site.config.gateway
    host = "localhost" if gateway.superlink_listen in EVERYWHERE else gateway.superlink_listen
    return f"{host}:{gateway.superlink_port}"


class _Shown:
    """Lets each request of one of Flower's clients have the guard's token.

    Args:
        value: of its header.
    """

    def __init__(self, value: str) -> None:
        self._value = value

    def intercept(self, context: Any, call_next: Callable[[Any], Any]) -> Any:
        """Add the header to a request."""
        context.request.headers[HEADER] = self._value
        return call_next(context)


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of Flower's clients as ours."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.UNAUTHORIZED:
            raise PalateError(f"the SuperLink must take a request, got {error!r:.300}") from None
        raise RefusedError("the SuperLink must be this folder's, got another's") from None
    except httpx.HTTPError as error:
        raise PalateError(f"the SuperLink must answer, got {error!r:.300}") from None


def _identify(grid: http_grid.HttpGrid) -> None:
    """Say once in this process whose messages are made here."""
    run = grid.run
    if run.primary_task_id is None:
        raise PalateError("a run must have a task, got one without")
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run.run_id, run.primary_task_id, SUPERLINK


def _keep(grid: http_grid.HttpGrid) -> None:
    """Send a task's heartbeats, in a thread; a SuperLink that is gone is noticed by who asks it something."""

    def beat() -> None:
        while True:
            time.sleep(BEAT)
            try:
                grid._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except (httpx.HTTPError, RuntimeError):
                continue

    threading.Thread(target=beat, daemon=True, name="keeps-task").start()
