"""Browsers in a process of their own: Chromium, driven by `client/web/test/whole/members.mjs` or `attempts.mjs`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

from palate_common.records.closing import Closing
from palate_core.errors import PalateError
from palate_sim.engines.processes import descendants

WEB = Path(__file__).resolve().parents[3] / "client" / "web"
ANSWER = 600.0
"""Seconds that an answer may take, where nothing else is said."""


class Browsers(Closing):
    """A driver in Node, which answers a line with a line, or is ended.

    Args:
        script: its name in `client/web/test/whole`.
        arguments: what is on its command line.

    Raises:
        PalateError: the browser package's tools aren't installed, or it doesn't start.

    Attributes:
        pages: the origins of its pages.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        if not (WEB / "node_modules").is_dir():
            raise PalateError("the browser package's tools must be installed: npm ci in client/web")
        self._home = tempfile.TemporaryDirectory(prefix="palate-browsers-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            ["node", f"test/whole/{script}", *arguments],
            cwd=WEB,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": self._home.name},
        )
        try:
            self.pages: list[str] = self._read(ANSWER)
            if "error" in self.pages:
                raise PalateError("the browsers must start, and have ended")
        except BaseException:
            self.kill()
            self.close()
            raise

    def ask(self, do: str, *, within: float = ANSWER, **given: Any) -> Any:
        """What it answers.

        Args:
            do: the command.
            within: seconds after which it is ended.
            given: what belongs to the command.

        Raises:
            PalateError: it has failed, or took longer.
        """
        if self._process.stdin is None:
            raise PalateError("the browsers must have a standard input")
        with suppress(BrokenPipeError):  # then there is nothing to read, either
            self._process.stdin.write(json.dumps({"do": do, **given}) + "\n")
            self._process.stdin.flush()
        found = self._read(within)
        if "error" in found:
            raise PalateError(f"the browsers must do what they are asked, got {found['error']:.800}")
        return found["answer"]

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None and self._process.stdout is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                self._process.wait()
            self._process.stdout.close()
        self._home.cleanup()

    def kill(self) -> None:
        """End it at once with its browsers, whatever it is asked."""
        for each in descendants(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        self._process.kill()

    def _read(self, within: float) -> Any:
        if self._process.stdout is None:
            raise PalateError("the browsers must have a standard output")
        late = Timer(within, self.kill)
        late.daemon = True
        late.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        return json.loads(line or json.dumps({"error": f"they have ended; they had {within:g} s"}))
