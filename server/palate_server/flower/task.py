"""Task: the ServerApp takes its own task at each SuperLink, and keeps it; no process of Flower's starts one.

    join: stop former runs -> start a run -> acquire its task, with the folder's secret -> a grid with the task's token

Flower's SuperExec would start whatever code a run brings, once for each run, with the token on its command line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Final, Protocol

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest
from flwr.supercore.auth.superexec_secret import load_superexec_auth_secret
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.retry import RetryInvoker
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from palate_core.errors import PalateError
from palate_server.flower.guard import show
from palate_server.flower.superlink_state import LinkControl

if TYPE_CHECKING:
    from pathlib import Path

BEAT: Final = 20.0
"""Seconds between two heartbeats of a task; without any the SuperLink gives it up after sixty."""
ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"


class TaskGrid(HttpGrid):
    """Flower's grid of a task, whose requests pass the SuperLink's guard.

    Args:
        address: host and port of the SuperLink.
        authority: the PEM certificate by which it is verified.
        token: the task's.
        guard: the token of the guard.
    """

    def __init__(self, address: str, authority: bytes, *, token: str, guard: str) -> None:
        super().__init__(address, False, authority, token=token)
        self._guard = guard

    def _connect(self) -> None:
        super()._connect()
        show(self._runtime_client, self._guard)


def join(control: LinkControl, retry: RetryInvoker) -> HttpGrid:
    """Start a run at a SuperLink, take its task, and return its grid; runs of former ServerApps are stopped.

    Raises:
        httpx.HTTPError, PalateError: the SuperLink doesn't answer, or refuses.
    """
    for run in control.unfinished():
        control.stop_run(run)
    control.start_run()
    address, authority, secret, guard = control.address, control.authority, control.secret, control.token
    interceptors = (
        RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        SuperExecAuthHttpInterceptor(master_secret=_loaded(secret), protected_methods={ACQUIRE}),
    )
    with closing(RuntimeHttpClient.from_server_address(address, False, authority, interceptors)) as client:
        show(client, guard)
        found = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
    if not found.token:
        raise PalateError(f"the SuperLink at {address} must give the ServerApp its task, and has none")
    grid = TaskGrid(address, authority, token=found.token, guard=guard)
    grid._retry_invoker = retry
    grid.set_run(run_from_proto(grid._runtime_client.PullTaskInput(PullTaskInputRequest()).run))
    return grid


def identify(run: Run) -> None:
    """Say once in this process whose messages are made here.

    Raises:
        PalateError: the run has no task.
    """
    if run.primary_task_id is None:
        raise PalateError("a run must have a task, got one without")
    TaskIdentity.run_id, TaskIdentity.task_id = run.run_id, run.primary_task_id
    TaskIdentity.node_id = SUPERLINK_NODE_ID


class HeldTask(Protocol):
    """A connection to a SuperLink."""

    def beat(self) -> None:
        """Say that its task is alive, if there is one."""


def keep(connections: Iterable[HeldTask]) -> None:
    """Keep the tasks of connections, in a thread, as long as this process lives."""
    kept = list(connections)

    def beat() -> None:
        while True:
            time.sleep(BEAT)
            for connection in kept:
                connection.beat()

    threading.Thread(target=beat, daemon=True, name="keeps-tasks").start()


def _loaded(secret: Path) -> bytes:
    return load_superexec_auth_secret(str(secret)) or b""
