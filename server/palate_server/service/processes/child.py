"""Processes: child processes that are restarted when they end, and that end with this process in any case.

A child leads its own process group, which ends with it: otherwise nginx's workers would go on without their master and
keep its port.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from palate_server.folder.logs import KEEP, MOST, PartLog
from palate_server.folder.server_folder import Site

PATIENCE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
FLOWER: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Environment of the processes that may load Flower, in addition to this process's."""
READ = 2.0
"""Seconds in which the last words of an ended process are read."""
FIRST_PAUSE, LAST_PAUSE, STEADY = 0.5, 30.0, 60.0
"""Seconds before an ended process is restarted: at first, and at most; and running time that resets the pause."""
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None) if os.name == "posix" else None


class Child:
    """A process that should always run.

    Args:
        name: its name in logs and metrics.
        command: its command line.
        log: the file to which its output is written, as JSON lines; its name is the part's.
        environment: variables in addition to this process's.
        folder: its working directory; None: this process's.
        pid_file: the file to which it writes its id once it listens; None: it is up as soon as it runs.
        umask: of the files that it makes; -1: this process's.
        patience: seconds that it may take to end after SIGTERM.
        bounds: bytes of its log, and how many former ones are kept.

    Attributes:
        starts: how often it was started.
        ends: how often it has ended by itself.
        how: the way in which it ended last.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path | None = None,
        pid_file: Path | None = None,
        umask: int = -1,
        patience: float = PATIENCE,
        bounds: tuple[int, int] = (MOST, KEEP),
    ) -> None:
        self.name, self.starts, self.ends, self.how = name, 0, 0, ""
        self._command, self._environment = list(command), {**os.environ, **environment}
        self._log = PartLog(log, log.stem, most=bounds[0], keep=bounds[1])
        self._reader: threading.Thread | None = None
        self._folder, self._pid_file, self._umask, self._patience = folder, pid_file, umask, patience
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._pause, self._why = 0.0, FIRST_PAUSE, ""

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        process = self._process
        return process.pid if process is not None and not _ended(process) else None

    @property
    def up(self) -> bool:
        """Whether it is up."""
        pid = self.pid
        if pid is None or self._pid_file is None:
            return pid is not None
        with suppress(OSError):
            return self._pid_file.read_text().strip() == str(pid)
        return False

    def is_due(self) -> bool:
        """Whether it doesn't run and its pause is over."""
        if self.pid is not None:
            return False
        if self._process is not None:
            status = self._bury()
            self.ends, self.how, self._why = self.ends + 1, self._why or _how(status), ""
        ago = time.monotonic() - self._started
        if ago > STEADY:
            self._pause = FIRST_PAUSE
        return not self.starts or ago >= self._pause

    def keep(self) -> bool:
        """Start it if it doesn't run and its pause is over; returns whether it was started."""
        if not self.is_due():
            return False
        if self.starts:
            self._pause = min(2 * self._pause, LAST_PAUSE)
        self._started = time.monotonic()
        self._log.begin()
        self._process = subprocess.Popen(  # noqa: S603 - commands of our own
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._folder,
            start_new_session=True,
            umask=self._umask,
            preexec_fn=_end_with_parent,
        )
        self._reader = threading.Thread(
            target=self._log.follow, args=(self._process.stdout,), name=f"log-{self.name}", daemon=True
        )
        self._reader.start()
        self.starts += 1
        return True

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if (pid := self.pid) is not None:
            os.kill(pid, number)

    def kill(self, why: str) -> None:
        """End it and all that it has started at once, as it does nothing any more; `keep` starts another one."""
        self._why = why
        if (process := self._process) is not None and not _ended(process):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it, and all processes that it has started."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self._patience
        while not _ended(process) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._bury()

    def _bury(self) -> int:
        """End its process group, before its id is released and could be used by another process; how it ended."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        if self._reader is not None:
            self._reader.join(READ)
        return status


def log_bounds(site: Site) -> tuple[int, int]:
    """Bytes of a part's log in a folder, and how many former ones are kept."""
    return site.config.logs.mib * 2**20, site.config.logs.keep


def part_of(site: Site, name: str, command: Sequence[str], **options: Any) -> Child:
    """A process of a server's or an edge's folder, with its log there.

    Args:
        site: the folder.
        name: the part's.
        command: its command line.
        options: of `Child`.
    """
    return Child(
        name,
        command,
        log=site.logs / f"{name}.log",
        environment={**FLOWER, "FLWR_HOME": str(site.state / "flower")},
        bounds=log_bounds(site),
        **options,
    )


def _how(status: int) -> str:
    """The way in which a process ended, in words."""
    if status >= 0:
        return f"ended with exit code {status}"
    with suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}"
    return f"ended by signal {-status}"


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child of this process has ended; its id stays reserved."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _end_with_parent() -> None:
    """In the child: get SIGTERM when the parent ends in any way. Linux only."""
    if _LIBC is not None and hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
