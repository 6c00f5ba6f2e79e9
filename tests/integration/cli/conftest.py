"""The command line as a newcomer meets it: in a folder of its own, on a small made log.

What it prints and returns is that of a process of its own, without the process; what needs one starts one.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_cli.cli import run

QUICK = ("--set", "evaluation.baselines=none", "--set", "evaluation.projection=none")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


def made_rows(*, users: int = 300, items: int = 80, seed: int = 1) -> list[tuple[str, str, int, int]]:
    """(user, item, rating, time), popular items first, 3 to 19 of them a user."""
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(1, items + 1)
    odds /= odds.sum()
    rows = []
    for user in range(users):
        chosen = rng.choice(items, rng.integers(3, 20), replace=False, p=odds)
        for place, item in enumerate(chosen):
            rows.append((f"u{user}", f"i{item}", int(rng.integers(1, 6)), 1_600_000_000 + 1000 * place + user))
    return rows


def csv_of(rows: Any, header: str = "user,item,rating,timestamp") -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


@pytest.fixture(scope="session")
def palate() -> Callable[..., Done]:
    """`palate("simulate", "log.csv", cwd=folder)`: a command line, as in a shell in that folder."""

    def call(*argv: object, cwd: Path, encoding: str = "utf-8", **environment: str) -> Done:
        out, err = (
            io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)
            for errors in ("strict", "backslashreplace")  # as Python's own are
        )
        with pytest.MonkeyPatch.context() as shell:
            shell.chdir(cwd)
            for name, value in {"COLUMNS": "120", **environment}.items():
                shell.setenv(name, value)
            shell.setattr(sys, "stdout", out)
            shell.setattr(sys, "stderr", err)
            try:
                code = run([str(word) for word in argv])
            except SystemExit as leave:
                code = int(leave.code or 0)
            except Exception:  # an error that is nobody's purpose ends it as Python would
                traceback.print_exc()
                code = 1
        return Done(code, *(each.buffer.getvalue().decode() for each in (out, err)))

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with `log.csv`."""
    made = tmp_path / "work"
    made.mkdir()
    (made / "log.csv").write_text(csv_of(made_rows()))
    return made


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Options that leave out what surrounds a run."""
    return QUICK


@pytest.fixture(scope="session")
def rows() -> list[tuple[str, str, int, int]]:
    """The rows of `log.csv`."""
    return made_rows()


@pytest.fixture(scope="session")
def as_csv() -> Callable[..., str]:
    """Rows as CSV text with a header."""
    return csv_of
