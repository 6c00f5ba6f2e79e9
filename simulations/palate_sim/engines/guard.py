"""The guard: starts an engine's first process, and ends every process of the engine when the command has ended.

    command --pipe--> guard -> flower-superlink -> flower-superexec -> flwr-simulation -> raylet -> workers

The command holds the other end of the guard's standard input. However the command ends, by itself, by Ctrl-C or by
kill -9, the pipe closes, and the guard ends everything that descends from it. As a subreaper it inherits whatever
its descendants detach, so no process can escape. It is not a part of the terminal's process group.

    python -m palate_sim.engines.guard MARK --remove FOLDER -- flower-superlink --simulation ...
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from palate_sim.engines.processes import descendants, end, marked

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
GRACE = 2.0  # seconds between SIGTERM and SIGKILL


class Guard:
    """One engine's guard.

    Args:
        mark: the engine's id, in the environment of all its processes.
        command: the engine's first process.
    """

    def __init__(self, mark: str, command: Sequence[str]) -> None:
        self.mark = mark
        self._ended = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._first = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - what the engine asks for

    def watch(self) -> bool:
        """Wait for the pipe to close or the first process to end; True if it was the pipe."""
        while not self._ended and self._first.pid not in self._reap():
            ready, _, _ = select.select([0], [], [], 0.2)
            if ready and not os.read(0, 1):
                return True
        return False

    def finish(self) -> bool:
        """End every process of the engine; True if none is left."""
        return end(self._left, grace=GRACE)

    def _left(self) -> set[int]:
        self._reap()
        me = os.getpid()
        return {*(process.pid for process in descendants(me)), *marked(self.mark)} - {me}

    def _reap(self) -> set[int]:
        """Wait for children that ended, inherited ones included."""
        ended: set[int] = set()
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            ended.add(pid)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._ended = True


def main() -> int:
    """Guard one engine; return 0 if the pipe ended it and no process is left."""
    parser = argparse.ArgumentParser(description="End an engine's processes when the command that started it is gone.")
    parser.add_argument("mark")
    parser.add_argument("--remove", action="append", default=[], help="folder to remove at the end")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    guard = Guard(arguments.mark, arguments.command)
    asked = guard.watch()
    clean = guard.finish()
    for folder in arguments.remove:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if asked and clean else 1


if __name__ == "__main__":
    sys.exit(main())
