"""Runs killed at every step (kill -9), resumed by another process, and checked against their ledger in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_core.accounting import mu_of

SCRIPT = Path(__file__).with_name("killed_run.py")
KILLED = -signal.SIGKILL
BUDGET = Fraction(mu_of(epsilon=5.0, delta=1e-5)) ** 2

COSTS_NOTHING = ("before the charge", "within the charge's transaction")
VOIDS_THE_ATTEMPT = (
    "after the charge",
    "after the plan is signed",
    "after a device's charge",
    "before an answer is sent",
    "after the sum",
    "after the noise",
    "before the release has its name",
    "after the release has its name",
    "before the seal",
    "within the seal's transaction",
)
AFTER_THE_SEAL = ("after the seal", "after the next model")
AFTER_THE_ROUNDS = (
    "before the model is published",
    "after the items",
    "after the model's file",
    "after the manifest",
    "after the signature",
    "before the run is closed",
    "after the run is closed",
)
IN_A_ROUND = (*COSTS_NOTHING, *VOIDS_THE_ATTEMPT, *AFTER_THE_SEAL)


def test_a_run_that_is_left_alone_ends_well(als: Any) -> None:
    assert als.go() == 0, als.log
    assert als.sealed() == als.charged() == [(0, 0), (1, 0), (2, 0)]
    als.check_finished()


@pytest.mark.parametrize("point", IN_A_ROUND)
def test_a_run_killed_in_its_second_round_goes_on(als: Any, point: str) -> None:
    nth = {"before an answer is sent": 6, "after a device's charge": 6}.get(point, 2)  # four nodes a round
    assert als.go(point, nth) == KILLED, als.log
    before = als.charged()
    assert before == [(0, 0)] if point in COSTS_NOTHING else [(0, 0), (1, 0)]
    assert als.go() == 0, als.log
    again = (1, 1) if point in VOIDS_THE_ATTEMPT else (1, 0)
    assert als.sealed() == [(0, 0), again, (2, 0)]
    assert als.charged() == sorted({*before, *als.sealed()})
    als.check_finished()
    model = (als.folder / "model" / "model.safetensors").read_bytes()
    assert als.go() == 0, als.log
    assert len(als.charged()) == len({*before, *als.sealed()})
    assert (als.folder / "model" / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize("point", AFTER_THE_ROUNDS)
def test_a_run_killed_while_it_publishes_ends_well(als: Any, point: str) -> None:
    assert als.go(point) == KILLED, als.log
    assert als.sealed() == [(0, 0), (1, 0), (2, 0)]
    assert als.go() == 0, als.log
    assert als.charged() == als.sealed() == [(0, 0), (1, 0), (2, 0)]
    als.check_finished()


@pytest.mark.parametrize("point", IN_A_ROUND)
def test_a_run_of_one_release_has_nothing_left_for_a_second_attempt(popularity: Any, point: str) -> None:
    assert popularity.go(point) == KILLED, popularity.log
    if point in VOIDS_THE_ATTEMPT:
        for _ in range(2):
            assert popularity.go() == 3, popularity.log
            assert "BudgetError: round 0 can't be tried again: 1 charges used up" in popularity.log
        assert (popularity.charged(), popularity.sealed()) == ([(0, 0)], [])
        assert not (popularity.folder / "model").exists()
        assert popularity.spent > Fraction(99, 100) * BUDGET
    else:
        assert popularity.go() == 0, popularity.log
        assert popularity.charged() == popularity.sealed() == [(0, 0)]
        popularity.check_finished()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_killed_again_and_again_never_overspends(als: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(10):
        status = als.go(str(rng.choice([*IN_A_ROUND, *AFTER_THE_ROUNDS])), int(rng.choice([1, 1, 2])))
        if status != KILLED:
            break
    status = als.go()
    if als.sealed():
        assert status == 0, als.log
        als.check_finished()
    else:
        assert status == 3, als.log


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("before an answer is sent", 6),
        ("after the release has its name", 2),
        ("after the manifest", 1),
        ("before the run is closed", 1),
    ],
)
def test_off_goes_on_too_and_comes_to_the_same_model(als: Any, point: str, nth: int) -> None:
    als.job["dp"] = "off"
    folder = als.folder.with_name("undisturbed")
    folder.mkdir()
    undisturbed = replace(als, folder=folder, ledger=folder / "ledger.db")
    assert als.go(point, nth) == KILLED, als.log
    for run in (undisturbed, als):
        assert run.go() == 0, run.log
        assert [entry.kind for entry in run.entries("open") + run.entries("close")] == ["open", "close"]
        assert run.entries("charge") == run.entries("seal") == []
    models = {(run.folder / "model" / "model.safetensors").read_bytes() for run in (undisturbed, als)}
    assert len(models) == 1


def test_a_live_run_has_one_owner_and_a_killed_one_none(als: Any) -> None:
    """A real process of its own, stopped in the middle of a round: nobody else gets in until it is killed."""
    job = {**als.job, "folder": str(als.folder)}
    stopped = {**job, "point": "after the noise", "nth": 2, "signal": int(signal.SIGSTOP)}
    with subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(stopped)]) as owner:
        try:
            _, status = os.waitpid(owner.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            before = als.charged()
            assert als.go() == 1, als.log
            assert "LockedError: the run folder has an owner already" in als.log
            assert als.charged() == before == [(0, 0), (1, 0)]
        finally:
            owner.kill()
    assert als.go() == 0, als.log
    assert als.sealed() == [(0, 0), (1, 1), (2, 0)]
    als.check_finished()
