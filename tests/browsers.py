"""A real Chromium for tests of pages: `browser.mjs` drives it, a line of JSON for each command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass
class Browser:
    """A Chromium that does what it is told."""

    process: subprocess.Popen[str]

    def do(self, what: str, **options: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, **options}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Self]:
        """A browser, until the context ends."""
        command = ["node", str(Path(__file__).with_name("browser.mjs"))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield cls(process)
            assert process.stdin is not None
            process.stdin.close()

    def open(self, url: str, **options: Any) -> Any:
        """A fresh context, and a page in it."""
        return self.do("open", url=url, **options)

    def eval(self, js: str) -> Any:
        return self.do("eval", js=js)

    def wait(self, js: str) -> None:
        self.do("wait", js=f"!!({js})")

    def text(self, name: str) -> str:
        return str(self.eval(f"document.getElementById('{name}').textContent.replace(/\\s+/g, ' ')"))
