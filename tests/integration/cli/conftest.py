"""The command line as a newcomer meets it: in a process of its own, in a folder of its own, on a small made log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SERVER = Path(__file__).with_name("command_server.py")
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
def palate() -> Iterator[Callable[..., Done]]:
    """`palate("simulate", "log.csv", cwd=folder)`: a command line in a process of its own."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def call(*argv: object, cwd: Path, **environment: str) -> Done:
            notes = cwd.parent / f".{cwd.name}-{os.getpid()}"
            out, err = notes.with_suffix(".out"), notes.with_suffix(".err")
            job = {"argv": [str(word) for word in argv], "cwd": str(cwd), "out": str(out), "err": str(err)}
            stdin.write(json.dumps({**job, "environment": environment}) + "\n")
            stdin.flush()
            return Done(int(stdout.readline()), out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

        yield call
        stdin.close()
        assert server.wait(timeout=30) == 0


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
