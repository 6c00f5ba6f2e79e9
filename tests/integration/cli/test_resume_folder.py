"""`--resume` and what may have happened to a run folder, its data and its ledger in the meantime."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from palate_common.records.key_file import load_key
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json
from palate_server.ledger.ledger import Ledger, verify_extract
from palate_server.rounds import coordinator
from palate_server.rounds.coordinator import Release
from palate_sim.card.card import card_payload, verify_card
from palate_sim.config import SimulationConfig, load_config
from palate_sim.evaluation.curve import LearningCurve
from palate_sim.run import experiment
from palate_sim.run.result import Result

SLOW = (
    "import sys, time\n"
    "from palate_sim.run import outcome\n"
    "from palate_cli.cli import run\n"
    "outcome.judged = lambda *a, **k: (open('judging', 'w').close(), time.sleep(60))\n"
    "sys.exit(run(sys.argv[1:]))\n"
)


@pytest.fixture
def unfinished(palate: Any, folder: Path, quick: Any) -> Path:
    """A run that lacks the last thing that is written."""
    done = palate("simulate", "log.csv", "--out", "run", *quick, cwd=folder)
    assert done.code == 0, done.err
    (folder / "run" / "result.json").unlink()
    return folder / "run"


def spent(folder: Path) -> float:
    with Ledger(folder / "log.ledger.db", population=None, read_only=True) as ledger:
        return ledger.spent()


def test_a_finished_run_is_only_shown_again(palate: Any, folder: Path, quick: Any) -> None:
    first = palate("simulate", "log.csv", "--out", "run", *quick, cwd=folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    again = palate("simulate", "--resume", "--out", "run", cwd=folder)
    assert (again.code, again.err) == (0, "")
    assert again.out == first.out
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")} == before


def test_a_run_is_resumed_from_anywhere_at_no_cost(palate: Any, folder: Path, unfinished: Path) -> None:
    before, card = spent(folder), json.loads((unfinished / "privacy_card.json").read_bytes())
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    done = palate("simulate", "--resume", "--out", unfinished, cwd=elsewhere)
    assert done.code == 0, done.err
    assert spent(folder) == before
    again = json.loads((unfinished / "privacy_card.json").read_bytes())
    assert again == card
    assert not any(elsewhere.iterdir())


@pytest.mark.parametrize("dp", ["distributed", "off"])
def test_a_round_that_was_sealed_and_not_evaluated_has_its_point_after_a_resume(
    palate: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, dp: str
) -> None:
    words = ["--set", "evaluation.baselines=none", "--set", "evaluation.projection=none", "--noise", "seeded"]
    words += ["--algorithm", "sgd", "--rounds", "3", "--dp", dp]
    assert palate("simulate", "log.csv", "--out", "whole", "--ledger", "whole.db", *words, cwd=folder).code == 0
    evaluated = LearningCurve._quality

    def interrupted(curve: LearningCurve, release: Release) -> dict[str, Any]:
        if release.plan.round == 1:
            raise KeyboardInterrupt
        return evaluated(curve, release)

    with monkeypatch.context() as cut:
        cut.setattr(LearningCurve, "_quality", interrupted)
        assert palate("simulate", "log.csv", "--out", "run", "--ledger", "run.db", *words, cwd=folder).code == 130
    done = palate("simulate", "--resume", "--out", "run", cwd=folder)
    assert done.code == 0, done.err
    whole, run = (json.loads((folder / name / "result.json").read_bytes()) for name in ("whole", "run"))
    assert [point["round"] for point in run["curve"]] == [0, 1, 2]
    for point in (*whole["curve"], *run["curve"]):
        del point["seconds"]
    assert run["curve"] == whole["curve"]
    assert run["bytes_per_client"] == whole["bytes_per_client"]


@pytest.mark.parametrize("who", ["train", "test"])
def test_other_data_is_refused(palate: Any, folder: Path, unfinished: Path, rows: Any, who: str) -> None:
    prepared = experiment.prepare(load_config(None), folder / "log.csv")
    users = prepared.split.train_users if who == "train" else prepared.split.test.users
    with (folder / "log.csv").open("a") as file:
        file.write(f"{users[0]},{next(i for i in prepared.split.items if (users[0], i) not in pairs(rows))},3,5\n")
    before = spent(folder)
    done = palate("simulate", "--resume", "--out", "run", cwd=folder)
    assert (done.code, len(done.lines)) == (2, 1), done.err
    assert "needs the data that the run was started with, got other interactions" in done.err
    assert spent(folder) == before
    assert not (unfinished / "result.json").exists()


def pairs(rows: Any) -> set[tuple[str, str]]:
    return {(row[0], row[1]) for row in rows}


def test_data_that_is_gone_is_named(palate: Any, folder: Path, unfinished: Path) -> None:
    (folder / "log.csv").unlink()
    done = palate("simulate", "--resume", "--out", unfinished, cwd=folder)
    assert (done.code, len(done.lines)) == (2, 1)
    assert "`data` must be an existing file" in done.err


def test_a_ledger_that_is_gone_is_not_begun_anew(palate: Any, folder: Path, unfinished: Path) -> None:
    (folder / "log.ledger.db").rename(folder / "elsewhere.db")
    done = palate("simulate", "--resume", "--out", "run", cwd=folder)
    assert (done.code, len(done.lines)) == (1, 1)
    assert "the ledger must hold what the run has spent, got none at" in done.err
    assert not (folder / "log.ledger.db").exists()
    (folder / "elsewhere.db").rename(folder / "log.ledger.db")
    assert palate("simulate", "--resume", "--out", "run", cwd=folder).code == 0
    assert (unfinished / "result.json").exists()


def test_a_run_that_never_began_can_be_resumed(
    palate: Any, folder: Path, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after its folder was made: there is no ledger yet, and nothing was charged."""
    monkeypatch.chdir(folder)
    experiment.start(config(), source="log.csv", out=Path("run"))
    assert not (folder / "log.ledger.db").exists()
    assert palate("simulate", "--resume", "--out", "run", cwd=folder).code == 0
    assert spent(folder) > 0


def test_a_released_file_that_is_gone_is_found_out(palate: Any, folder: Path, unfinished: Path) -> None:
    shutil.rmtree(unfinished / "releases")
    done = palate("simulate", "--resume", "--out", "run", cwd=folder)
    assert done.code == 1
    assert done.lines[-1].startswith("palate: the release round-0-attempt-0.safetensors must be readable")


def test_a_finished_run_without_its_card_is_found_out(palate: Any, folder: Path, quick: Any) -> None:
    assert palate("simulate", "log.csv", "--out", "run", *quick, cwd=folder).code == 0
    (folder / "run" / "privacy_card.json").unlink()
    done = palate("simulate", "--resume", "--out", "run", cwd=folder)
    assert (done.code, len(done.lines)) == (1, 1)
    assert "must have its result.json and privacy_card.json" in done.err


def test_a_data_frame_is_given_again(palate: Any, folder: Path) -> None:
    frame = pd.read_csv(folder / "log.csv")
    experiment.start(config(), source=frame, out=folder / "run")
    done = palate("simulate", "--resume", "--out", "run", cwd=folder)
    assert (done.code, len(done.lines)) == (2, 1)
    assert "palate_sim.run.experiment.reopen(out, source=frame)" in done.err
    with pytest.raises(InputError, match="got other interactions"):
        experiment.reopen(folder / "run", source=frame.iloc[:-9])
    result = experiment.reopen(folder / "run", source=frame).run()
    assert result.epsilon == pytest.approx(5, rel=1e-4)


def test_a_void_attempt_stays_on_the_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in the second round: charged, never released, never refunded; the other rounds share what is left."""
    real, calls = coordinator.noised, []

    def once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(coordinator, "noised", once)
    learning = {"algorithm.settings.popularity_only_below": 0.0, "algorithm.settings.rounds": 3}
    started = experiment.start(config(learning), source=folder / "log.csv", out=folder / "run")
    with pytest.raises(KeyboardInterrupt):
        started.run()
    charged = spent(folder)
    result = experiment.reopen(folder / "run").run()
    places = [(r["round"], r["attempt"], r["sealed"]) for r in result.card["releases"]]
    assert places == [(0, 0, True), (1, 0, False), (1, 1, True), (2, 0, True)]
    assert result.card["rounds"] == {"planned": 3, "released": 3, "void_attempts": 1}
    assert result.card["releases"][1]["what"] == "void: charged, never released"
    assert charged < spent(folder) == pytest.approx(sum(r["mu2"] for r in result.card["releases"]), rel=1e-12)
    assert 4.99 < result.card["epsilon"] <= 5
    second = result.card["second_accountant"]
    assert second["epsilon"] is None
    assert "a void attempt changed the schedule" in second["reason"]
    assert "a void attempt changed the schedule" in result.report.read_text()
    key = load_key(folder / "run" / "key")
    verify_card(result.card, public_key=key.public)
    payload = card_payload(verify_extract((folder / "run" / "ledger.json").read_bytes(), key.public))
    assert canonical_json(payload) == canonical_json(unsigned(result.card))


def unsigned(card: Any) -> dict[str, Any]:
    return {name: value for name, value in card.items() if name not in ("public_key", "signature")}


def test_a_second_process_is_refused_and_writes_nothing(folder: Path, unfinished: Path) -> None:
    from palate_core.errors import LockedError
    from palate_server.rounds.lock import RunLock

    before = (unfinished / "events.jsonl").read_bytes()
    with RunLock(unfinished), pytest.raises(LockedError, match="has an owner already"):
        experiment.reopen(unfinished)
    assert (unfinished / "events.jsonl").read_bytes() == before


def test_control_c_says_how_to_go_on(palate: Any, folder: Path, hears_control_c: Any) -> None:
    command = [sys.executable, "-c", SLOW, "simulate", "log.csv", "--out", "run"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=hears_control_c
    ) as process:
        wait_for(folder / "judging", process)  # the model is published, and nothing but a sleep is interrupted
        assert (folder / "run" / "model" / "signature").exists()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "palate: interrupted; go on with: palate simulate --resume --out run"
    assert "Traceback" not in told
    assert palate("simulate", "--resume", "--out", "run", cwd=folder).code == 0


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def config(settings: dict[str, Any] | None = None) -> SimulationConfig:
    return load_config(None, {"evaluation.baselines": "none", "evaluation.projection": "none", **(settings or {})})


def test_a_folder_that_is_no_finished_run_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"must have its result\.json"):
        Result.read(tmp_path)
