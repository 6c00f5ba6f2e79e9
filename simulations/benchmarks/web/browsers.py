"""Browsers in a process of their own: Chromium, driven by `client/web/test/whole/members.mjs` or `attempts.mjs`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from palate_common.errors import PalateError
from palate_common.records.closing import Closing

WEB = Path(__file__).resolve().parents[3] / "client" / "web"


class Browsers(Closing):
    """A driver in Node, which answers a line with a line.

    Args:
        script: its name in `client/web/test/whole`.
        arguments: what is on its command line.

    Raises:
        PalateError: the browser package's tools aren't installed.

    Attributes:
        pages: the origins of its pages.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        if not (WEB / "node_modules").is_dir():
            raise PalateError("the browser package's tools must be installed: npm ci in client/web")
        self._process = subprocess.Popen(
            ["node", f"test/whole/{script}", *arguments],
            cwd=WEB,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pages: list[str] = self._read()

    def ask(self, do: str, **given: Any) -> Any:
        """What it answers.

        Raises:
            PalateError: it has failed.
        """
        if self._process.stdin is None:
            raise PalateError("the browsers must have a standard input")
        self._process.stdin.write(json.dumps({"do": do, **given}) + "\n")
        self._process.stdin.flush()
        found = self._read()
        if "error" in found:
            raise PalateError(f"the browsers must do what they are asked, got {found['error']:.800}")
        return found["answer"]

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None and self._process.stdout is not None:
            self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()

    def kill(self) -> None:
        """End it at once, whatever it is asked."""
        self._process.kill()

    def _read(self) -> Any:
        if self._process.stdout is None:
            raise PalateError("the browsers must have a standard output")
        return json.loads(self._process.stdout.readline() or '{"error": "they have ended"}')
