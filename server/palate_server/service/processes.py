"""Processes: a child that is started again when it ends, and that ends with this process whatever happens to it.

A child leads a process group of its own, and the group ends with it: nginx's workers would serve on without their
master, hold its port, and keep the next one from it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 10.0
"""Seconds between asking a process to end and making it."""
FIRST_PAUSE, LAST_PAUSE, STEADY = 0.5, 30.0, 60.0
"""Seconds before a process that ended is started again: at first, at most, and running for how long makes it new."""
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None) if os.name == "posix" else None


class Child:
    """A process that should always be there.

    Args:
        name: what logs and metrics call it.
        command: how it is started.
        log: what it prints goes to the end of this file.
        environment: on top of this process's.
        folder: where it is started; this process's when left out.
        pid_file: where it writes its number once it listens; when left out, it is up as soon as it runs.
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
    ) -> None:
        self.name, self.starts = name, 0
        self._command, self._log, self._environment = list(command), log, {**os.environ, **environment}
        self._folder, self._pid_file = folder, pid_file
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._pause = 0.0, FIRST_PAUSE

    @property
    def pid(self) -> int | None:
        """Its number, while it runs."""
        process = self._process
        return process.pid if process is not None and not _ended(process) else None

    @property
    def up(self) -> bool:
        """Whether it does what it is there for."""
        pid = self.pid
        if pid is None or self._pid_file is None:
            return pid is not None
        with suppress(OSError):
            return self._pid_file.read_text().strip() == str(pid)
        return False

    def keep(self) -> bool:
        """Start it if it isn't there and its pause is over; whether it was started. Its group ends when it does."""
        if self.pid is not None:
            return False
        self._bury()
        now = time.monotonic()
        if self.starts:
            if now - self._started > STEADY:
                self._pause = FIRST_PAUSE
            if now - self._started < self._pause:
                return False
            self._pause = min(2 * self._pause, LAST_PAUSE)
        self._started = now
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - commands of our own
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self.starts += 1
        return True

    def stop(self) -> None:
        """End it, and whoever it has started."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while not _ended(process) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._bury()

    def _bury(self) -> None:
        """End its group, and only then let its number go: until then nobody else can have it."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child of this process has ended; it keeps its number until it is waited for."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _end_with_parent() -> None:
    """In the child: be told to end when the parent is gone, however it went. Linux only."""
    if _LIBC is not None and hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
