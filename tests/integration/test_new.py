"""`make new`: what the templates make is registered, clean, and works as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "client", "server", "simulations", "tests")
NEEDED = (*PACKAGES[:-1], "tests/mutants")
FILES = (".ci/new.py", "pyproject.toml", "tests/common/test_algorithms.py", "tests/simulations/test_metrics.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The code, and the files that the script changes beside it."""
    for name in NEEDED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "figures.jsonl"))
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def new(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, checkout / ".ci/new.py", *arguments], capture_output=True, text=True, timeout=60
    )


def test_what_is_new_is_registered_and_clean(checkout: Path) -> None:
    for asked in ("metric=found_again", "algorithm=count_twice", "mutant=noise/half_drawn", "mutant=units/half_unit"):
        done = new(checkout, asked)
        assert (done.returncode, done.stderr) == (0, ""), asked
    tool = [sys.executable, "-m", "ruff"]
    for check in (["check", "--quiet", "--no-cache"], ["format", "--check", "--quiet", "--no-cache"]):
        assert subprocess.run([*tool, *check, checkout], capture_output=True, text=True, timeout=60).stdout == ""
    code = """
import doctest, sys
import numpy as np
from palate_common.algorithms import PublicFacts
from palate_common.algorithms.count_twice import CountTwice
from palate_common.interactions import Interactions
from palate_sim.metrics import USER_METRICS, found_again
from mutants.listed import MUTANTS
assert doctest.testmod(sys.modules["palate_sim.metrics.found_again"]) == (0, 2)
assert USER_METRICS["found_again"] is found_again
assert {"half drawn", "half unit"} <= {each.name for each in MUTANTS}
for each in MUTANTS:
    if each.name.startswith("half "):
        with each.injected():
            pass
made = CountTwice(CountTwice.Settings(), PublicFacts(n_users=9, n_items=3, mu=1.0))
histories = Interactions.from_pairs([0, 1], [0, 2], n_users=2, n_items=3)
state = made.start()
for round_, _ in enumerate(made.shares):
    assert made.contribute(state, round_, histories).n_users == 2
    state = made.release(state, round_, {"counts": np.array([4.0, 0.0, 2.0])}, {"counts": 0.0})
assert made.scores(state, histories).tolist() == [[4.0, 0.0, 2.0]] * 2
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(checkout / name) for name in PACKAGES)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((), "one of metric=NAME"),
        (("metric=Bad",), "one of metric=NAME"),
        (("metric=recall",), "recall.py is there already"),
        (("mutant=nowhere/x",), "with a group of"),
    ],
)
def test_what_can_not_be_made_changes_nothing(checkout: Path, asked: tuple[str, ...], said: str) -> None:
    before = {file: file.read_bytes() for file in checkout.rglob("*") if file.is_file()}
    done = new(checkout, *asked)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert {file: file.read_bytes() for file in checkout.rglob("*") if file.is_file()} == before
