"""`palate.simulate` in Python: what it takes, what it gives back, and what it refuses."""

from __future__ import annotations

import json
import re
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import palate
from palate_client.rounds.contribution import Contributor
from palate_common.models.item_table import ItemFacts
from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_sim.config import load_config
from palate_sim.progress import print_result
from palate_sim.run.experiment import start
from palate_sim.run.result import Result

QUICK: dict[str, Any] = {"evaluation.baselines": ["popularity"], "evaluation.projection": []}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """120 users with 3 to 12 of 40 items."""
    rng = np.random.default_rng(5)
    odds = 1 / np.arange(1, 41)
    odds /= odds.sum()
    chosen = [(user, item) for user in range(120) for item in rng.choice(40, rng.integers(3, 13), False, odds)]
    return pd.DataFrame(chosen, columns=["user_id", "item_id"])


def named(item: str) -> pd.DataFrame:
    """A frame with an odd item."""
    return pd.DataFrame({"user": ["a", "b", "c"], "item": ["x", item, "z"]}, dtype=object)


@pytest.fixture(scope="module")
def result(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Result:
    settings = {**QUICK, "evaluation.baselines": ["popularity", "ease"]}
    return palate.simulate(frame, epsilon=4, out=tmp_path_factory.mktemp("runs") / "one", settings=settings)


def test_a_result_has_metrics_model_card_and_plots(result: Result, frame: pd.DataFrame) -> None:
    assert 0 < result.metrics["recall_capped@20"] <= 1
    assert set(result.baselines) == {"popularity", "ease"}
    assert set(result.baselines["ease"]) == set(result.metrics)
    assert result.epsilon == pytest.approx(4, rel=1e-4)
    assert result.epsilon == result.card["epsilon"] <= 4
    assert set(result.items) == set(frame["item_id"].astype(str))
    assert result.model.header.facts.n_items == 40
    assert result.model.hash == result.card["model_hash"]
    assert result.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert result.plots.quality() is not None


def test_a_model_has_the_titles_of_its_log(frame: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    frame.to_csv(folder / "interactions.csv", index=False)
    rows = "".join(f'{item},"Film {item}, The (Otro) ({1950 + item})",Drama|War,{item:07}\n' for item in range(1, 40))
    (folder / "items.csv").write_text(f"item_id,title,genres,imdbId\n{rows}", encoding="utf-8")
    made = palate.simulate(folder, epsilon=4, out=tmp_path / "run", settings=QUICK)
    table = made.table
    assert table is not None
    assert table.get("7") == ItemFacts("7", "Film 7, The", 1957, ("Otro",), ("Drama", "War"), {"imdb": "0000007"})
    assert table.get("0") == ItemFacts("0")


def test_samples_of_users_are_said_wherever_their_figures_stand(frame: pd.DataFrame, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"evaluation.projection": [], "evaluation.baselines": ["popularity", "ials"]}
    settings |= {"evaluation.look_users": 5, "evaluation.test_users": 7, "evaluation.fit_users": 60}
    said = palate.simulate(frame, epsilon=4, out=tmp_path / "few", settings=settings)
    facts = said.summary
    assert (facts["judged_users"], facts["split"]["test_users"]) == (7, 12)
    assert facts["fitted_on"] == {"ials": 60}
    assert {point["looked_at"] for point in facts["curve"]} == {5}
    assert all(point["low"] <= point[facts["metric"]] <= point["high"] for point in facts["curve"])
    page = said.report.read_text(encoding="utf-8")
    for words in ("7 other users, drawn at random from 12", "iALS: fitted on 60 training users", "iALS (on 60 users)"):
        assert words in page
    assert "on 5 validation users" in page


def test_it_says_itself_in_one_line_with_the_privacy_in_full(result: Result) -> None:
    text = repr(result)
    assert "\n" not in text
    assert re.match(r"<palate run on frame: recall_capped@20 [01]\.\d{4}; ", text)
    for words in ("ε = 4 ", "δ = 1e-5", "unit: user", "adjacency: zero-out", "accountant: palate closed form"):
        assert words in text


def test_it_is_what_is_read_back_from_the_folder(result: Result) -> None:
    again = Result.read(result.folder)
    assert (again.summary, again.card) == (result.summary, result.card)
    assert again.metrics == result.metrics


def test_a_model_that_was_changed_is_not_loaded(frame: pd.DataFrame, tmp_path: Path) -> None:
    made = palate.simulate(frame, out=tmp_path / "run", settings=QUICK)
    items = tmp_path / "run" / "model" / "items"
    items.write_text(items.read_text().replace("7\n", "seven\n", 1))
    with pytest.raises(IntegrityError):
        _ = made.model


def test_it_runs_quietly_and_beside_its_ledger(
    frame: pd.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = palate.simulate(frame, settings=QUICK)
    assert capfd.readouterr() == ("", "")
    assert made.folder.parent == Path("runs")
    assert [path.name for path in Path("runs").glob("*.ledger.db")] == ["frame.ledger.db"]
    palate.simulate(frame, settings=QUICK, out="other", ledger="runs/frame.ledger.db", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("prepared frame")


@pytest.mark.parametrize("source", ["log.csv", Path("log.csv"), "log.parquet"])
def test_a_path_is_as_good_as_a_frame(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    frame.to_csv("log.csv", index=False)
    frame.to_parquet("log.parquet")
    made = palate.simulate(source, settings=QUICK, out="run")
    assert made.summary["name"] == "log"
    assert made.summary["config"]["data"]["path"] == str(source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": float("nan")}, "`privacy.epsilon` must be a finite number"),
        ({"epsilon": True}, "`privacy.epsilon` must be a number"),
        ({"dp": "maybe"}, "`privacy.dp` must be 'distributed', 'local', 'central' or 'off'"),
        ({"out": "a\0b"}, "`--out` must be a folder to write to"),
        ({"data": 5}, "`data` must be a name, a path or a data frame, got int"),
        ({"data": pd.DataFrame()}, "`columns` must give user_id and item_id"),
        ({"data": named("x\ny")}, "`item_id` must be on one line, got 'x?y'"),
        ({"data": named("x\ry")}, "`item_id` must be on one line"),
        ({"data": named("\udce9")}, "`item_id` must be valid text, got '?'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"data": frame, "out": "run", "settings": QUICK, **change}
    with pytest.raises(InputError) as caught:
        palate.simulate(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "chosen",
    [
        {"algorithm.name": "sgd", "algorithm.settings.loss": "ratings", "split.name": "random"},
        {"privacy.epsilon": 2.0, "privacy.dp": "central", "algorithm.name": "popularity", "seed": 7},
    ],
    ids=["the preset ratings", "a file of one's own"],
)
def test_what_python_leaves_out_is_the_presets(frame: pd.DataFrame, tmp_path: Path, chosen: dict[str, Any]) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in chosen.items()))
    rated = frame.assign(rating=np.random.default_rng(1).integers(1, 6, len(frame)))
    few, named = ({"algorithm.settings.rounds": 2}, "ratings") if "split.name" in chosen else ({}, str(preset))
    made = palate.simulate(rated, preset=named, out=tmp_path / "run", settings={**QUICK, **few})
    for key, value in chosen.items():
        assert reduce(getitem, key.split("."), made.summary["config"]) == value, key


def test_a_budget_that_does_not_pay_is_an_error_of_its_own(frame: pd.DataFrame, tmp_path: Path) -> None:
    limit = {**QUICK, "privacy.lifetime_epsilon": 2.0}
    with pytest.raises(BudgetError, match="has a lifetime budget of epsilon 2"):
        palate.simulate(frame, epsilon=4, out=tmp_path / "run", settings=limit)
    assert not any(tmp_path.iterdir())


def test_a_run_that_no_delta_is_kept_for_is_refused_before_it_begins(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Charging its first rounds, and then none, would spend them for nothing."""
    monkeypatch.setattr("palate_sim.run.budget.MAX_ATTEMPTS", 1)
    options: dict[str, Any] = {"algorithm": "popularity", "settings": QUICK, "ledger": tmp_path / "people.db"}
    palate.simulate(frame, out=tmp_path / "one", **options)
    with pytest.raises(BudgetError, match="has had 1 of the 1 attempts"):
        palate.simulate(frame, out=tmp_path / "two", **options)
    assert not (tmp_path / "two").exists()
    palate.simulate(frame, out=tmp_path / "two", dp="central", **options)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"epsilon": 150.0}, "too fine a grid"), ({"delta": 1e-20, "dp": "central"}, "can't resolve so small a delta")],
)
def test_a_second_accountant_that_cannot_count_says_why(
    frame: pd.DataFrame, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    made = palate.simulate(frame, out=tmp_path / "run", settings=QUICK, **change)
    assert made.card["second_accountant"]["epsilon"] is None
    assert reason in made.card["second_accountant"]["reason"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epsilon": 50.0}, "epsilon 50 (user-level, zero-out) promises next to nothing"),
        ({"delta": 0.5}, "delta 0.5 is above 1 in 96 users"),
    ],
)
def test_a_promise_that_is_none_is_warned_of(
    frame: pd.DataFrame, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    made = palate.simulate(frame, out=tmp_path / "run", settings=QUICK, **change)
    assert any(words in warning for warning in made.summary["warnings"])
    assert words in made.report.read_text(encoding="utf-8")


def test_users_whose_node_failed_are_missed(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained = Contributor._train_and_clip

    def short_of_memory(contributor: Contributor, *given: Any) -> Any:
        if contributor.devices[0] == 40:
            raise MemoryError
        return trained(contributor, *given)

    options: dict[str, Any] = {"dp": "central", "settings": {**QUICK, "engine.users_per_node": 40}}
    whole = palate.simulate(frame, out=tmp_path / "whole", **options)
    monkeypatch.setattr(Contributor, "_train_and_clip", short_of_memory)
    made = palate.simulate(frame, out=tmp_path / "run", **options)
    words = "contributions of 56 users, and not of all 96: nodes failed or refused"
    assert any(words in warning for warning in made.summary["warnings"])
    assert not any("nodes failed" in warning for warning in whole.summary["warnings"])
    assert "MemoryError" in caplog.text


def test_a_baseline_that_cannot_be_had_is_left_out_with_a_warning(tmp_path: Path) -> None:
    """EASE inverts a matrix of items; at 21,000 of them it steps back, and the run goes on."""
    rows = [(user, item) for user in range(150) for item in [*range(140 * user, 140 * user + 140), 0, 140, 280]]
    wide = pd.DataFrame(rows, columns=["user_id", "item_id"])
    settings = {**QUICK, "evaluation.baselines": ["popularity", "ease", "noised_popularity"]}
    made = palate.simulate(wide, out=tmp_path / "run", settings=settings)
    assert set(made.baselines) == {"popularity", "noised_popularity"}
    assert "The baseline ease was left out: `n_items` must be at most 20000 for EASE" in made.summary["warnings"][-1]
    assert "The baseline ease was left out" in made.report.read_text(encoding="utf-8")


def test_a_run_without_a_collaborative_round_says_what_it_is_beside_true_popularity(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    settings = {**QUICK, "evaluation.baselines": ["popularity", "noised_popularity"], "evaluation.recency": []}
    events = list[Any]()
    config = load_config(None, {**settings, "privacy.epsilon": 0.5, "engine.workers": 3})
    started = start(config, source=frame, out=tmp_path / "run")
    made = started.run(events.append)
    own, true = made.metrics["recall_capped@20"], made.baselines["popularity"]["recall_capped@20"]
    told = [warning for warning in made.summary["warnings"] if "popularity" in warning]
    assert told == [
        "No round is collaborative: at epsilon 0.5 96 users buy noised popularity, and more users buy more. "
        f"recall_capped@20: {own:.3f}, true popularity {true:.3f}."
    ]
    console = Console(file=StringIO(), width=80)
    print_result(console, made.summary)
    rows = [line.split("  ")[0] for line in console.file.getvalue().splitlines()]
    assert {"popularity", "noised popularity"} <= set(rows)
    notes = [event["words"] for event in events if event["event"] == "note"]
    assert notes == ["`engine.workers` 3 does nothing: up to 65,536 training users are in one process, got 96 users"]
