"""`palate simulate`, killed (kill -9) at every kind of step, then `--resume`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common.records.key_file import load_key
from palate_core.log.canonical import digest
from palate_server.ledger.ledger import verify_extract
from palate_sim.card.card import verify_card

SCRIPT = Path(__file__).with_name("killed_run.py")
KILLED = -signal.SIGKILL

IN_THE_SECOND_ROUND = {
    "before the charge": [(1, 0)],
    "before an answer is sent": [(1, 0), (1, 1)],
    "after the seal": [(1, 0)],
}
"""Points that differ in what is charged; test_crash.py kills at each, and where a model is published."""
AFTERWARDS = ("after the extract", "after the card", "before the result")


@pytest.fixture
def simulation(processes: Any, killable: Any, folder: Path) -> Any:
    """A run of three releases through the command line, on a small log."""
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, 26)
    lines = ["user_id,item_id"]
    for user in range(60):
        lines += [f"u{user},i{item}" for item in rng.choice(25, 8, replace=False, p=odds / odds.sum())]
    log, ledger = folder.with_name("log.csv"), folder.with_name("ledger.db")
    log.write_text("\n".join(lines) + "\n")
    argv = ["simulate", str(log), "--out", str(folder), "--ledger", str(ledger), "--rounds", "3"]
    for setting in (
        "algorithm.settings.popularity_only_below=0",
        "engine.users_per_node=16",
        "evaluation.baselines=none",
        "evaluation.projection=none",
    ):
        argv += ["--set", setting]
    return killable(processes, folder, {"argv": argv, "dp": "central"}, ledger)


def resumed(simulation: Any) -> Any:
    argv = ["simulate", "--resume", "--out", str(simulation.folder)]
    return replace(simulation, job={**simulation.job, "argv": argv})


def check_card(simulation: Any) -> None:
    """Card, extract and result are there, signed, and say what the ledger says."""
    folder = simulation.folder
    public_key = load_key(folder / "key").public
    card = json.loads((folder / "privacy_card.json").read_bytes())
    verify_card(card, public_key=public_key)
    assert [(release["round"], release["attempt"]) for release in card["releases"]] == simulation.charged()
    assert [(r["round"], r["attempt"]) for r in card["releases"] if r["sealed"]] == simulation.sealed()
    assert 0 < card["epsilon"] <= 5
    assert card["model_hash"] == digest((folder / "model" / "model.safetensors").read_bytes())
    extract = verify_extract((folder / "ledger.json").read_bytes(), public_key)
    assert extract.spent == pytest.approx(float(simulation.spent), rel=1e-12)
    result = json.loads((folder / "result.json").read_bytes())
    assert result["epsilon"] == card["epsilon"]
    assert result["rounds"] == len(simulation.sealed())


@pytest.mark.parametrize("point", IN_THE_SECOND_ROUND)
def test_a_run_killed_in_a_round_is_resumed_to_its_card(simulation: Any, point: str) -> None:
    assert simulation.go(point, 5 if point == "before an answer is sent" else 2) == KILLED, simulation.log
    assert not (simulation.folder / "result.json").exists()
    again = resumed(simulation)
    assert again.go() == 0, again.log
    attempts = IN_THE_SECOND_ROUND[point]
    assert again.charged() == [(0, 0), *attempts, (2, 0)]
    assert again.sealed() == [(0, 0), attempts[-1], (2, 0)]
    again.check_finished()
    check_card(again)


@pytest.mark.parametrize("point", AFTERWARDS)
def test_a_run_killed_after_its_rounds_is_resumed_at_no_cost(simulation: Any, point: str) -> None:
    assert simulation.go(point) == KILLED, simulation.log
    assert not (simulation.folder / "result.json").exists()
    again = resumed(simulation)
    assert again.go() == 0, again.log
    assert again.charged() == again.sealed() == [(0, 0), (1, 0), (2, 0)]
    again.check_finished()
    check_card(again)


def test_a_second_owner_is_refused_while_the_first_lives(simulation: Any) -> None:
    stopped = {**simulation.job, "folder": "", "point": "after the seal", "signal": int(signal.SIGSTOP)}
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps(stopped)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as owner:
        try:
            _, status = os.waitpid(owner.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            second = resumed(simulation)
            assert second.go() == 1, second.log
            assert second.log.startswith("palate: the run folder has an owner already")
            assert len(second.log.splitlines()) == 1
            assert simulation.go() == 2, simulation.log  # nor may another run begin there
        finally:
            owner.kill()
    again = resumed(simulation)
    assert again.go() == 0, again.log
    assert again.charged() == again.sealed() == [(0, 0), (1, 0), (2, 0)]
    check_card(again)
