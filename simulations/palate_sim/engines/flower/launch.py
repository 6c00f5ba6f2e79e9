"""Launch: a context manager that runs a SuperLink under its guard.

with launched(job, histories) as engine:
    run = engine.link.submit(...)
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from palate_common.extras import to_install
from palate_common.interactions import Interactions
from palate_core.errors import InputError, PalateError
from palate_sim.engines.flower.bundle import write_bundle
from palate_sim.engines.flower.superlink import SuperLink, free_port, superlink_command
from palate_sim.engines.job import Job
from palate_sim.engines.processes import MARK, PROC, end, marked

STARTUP = 120.0  # seconds for the SuperLink to answer
OBJECT_STORE = 2**27  # bytes of Ray's shared memory: a message is a model or a contribution
LONGEST_FOLDER = 50  # characters of Ray's folder: the path of a socket holds 107, and Ray adds some 55


@dataclass(frozen=True)
class Engine:
    """A running SuperLink with its guard and files.

    Attributes:
        mark: its id, in the environment of all its processes.
        folder: the bundle.
        log: what Flower writes.
        guard: the process that ends all the others.
        link: the SuperLink.
    """

    mark: str
    folder: Path
    log: Path
    guard: subprocess.Popen[bytes]
    link: SuperLink

    def check(self) -> None:
        """Raise an error if the engine has ended.

        Raises:
            PalateError: its guard has ended.
        """
        if self.guard.poll() is not None:
            raise PalateError(f"Flower's SuperLink must keep running, and ended: see {self.log}")


@contextmanager
def launched(job: Job, histories: Interactions) -> Iterator[Engine]:
    """Run a SuperLink with the bundle of a run; on exit, all of its processes and files are removed.

    Raises:
        InputError: Ray is missing, or the system isn't Linux.
        PalateError: the SuperLink doesn't start.
    """
    require_flower()
    mark, port = uuid4().hex, free_port()
    folder = Path(tempfile.mkdtemp(prefix=".engine-", dir=job.folder))
    ray = Path(tempfile.mkdtemp(prefix="palate-", dir=_short_folder()))
    log, scripts = job.folder / "flower.log", Path(sysconfig.get_path("scripts"))
    environment = _environment(mark, folder, ray, scripts)
    guard = None
    try:
        write_bundle(folder, job, histories, port=port)
        guard = _guard(mark, superlink_command(scripts, port), remove=(folder, ray), log=log, environment=environment)
        engine = Engine(mark, folder, log, guard, SuperLink(port, scripts, environment))
        _await_superlink(engine)
        yield engine
    finally:
        if guard is not None:
            _dismiss(guard)
        end(lambda: marked(mark), grace=0.0)  # finds processes only where the guard itself was killed
        for path in (folder, ray):
            shutil.rmtree(path, ignore_errors=True)


def require_flower() -> None:
    """Refuse a system on which the engine can't run or can't be ended.

    Raises:
        InputError: Ray is missing, or there is no /proc.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"`engine` must be local where Ray is missing, got flower: {to_install('ray')}")
    if not (PROC / "self" / "stat").exists():
        raise InputError("`engine` must be local on this system, got flower: ending its processes needs Linux's /proc")


def _guard(
    mark: str, command: list[str], *, remove: tuple[Path, ...], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the guard in a session of its own; it watches the pipe on its standard input."""
    removals = [word for path in remove for word in ("--remove", str(path))]
    words = [sys.executable, "-m", "palate_sim.engines.guard", mark, *removals, "--", *command]
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own module and Flower's command
            words,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=remove[0],
            start_new_session=True,
        )


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    """Close the pipe and wait for the guard to end everything."""
    if guard.stdin is not None:
        guard.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        guard.wait(30.0)


def _await_superlink(engine: Engine) -> None:
    """Wait until the SuperLink answers; raise an error after STARTUP."""
    deadline = time.monotonic() + STARTUP
    while not engine.link.ready():
        engine.check()
        if time.monotonic() > deadline:
            raise PalateError(f"Flower's SuperLink must answer within {STARTUP:g} s, got nothing: see {engine.log}")
        time.sleep(0.1)


def _environment(mark: str, folder: Path, ray: Path, scripts: Path) -> dict[str, str]:
    """The environment of all of an engine's processes."""
    dropped = ("RAY_ADDRESS", "FLWR_APP_TOKEN")  # an engine must not join another cluster or run
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    return environment | {
        MARK: mark,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",  # the SuperLink starts flower-superexec by name
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_TMPDIR": str(ray),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(OBJECT_STORE),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def _short_folder() -> str:
    """A temporary folder whose name leaves room for Ray's sockets."""
    usual = tempfile.gettempdir()
    return usual if len(usual) + len("/palate-12345678") <= LONGEST_FOLDER else "/tmp"  # noqa: S108 - mkdtemp inside it
