"""`palate tune`: whom it looks at, that it goes on, and what the card of the run that follows says."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import palate
from palate_cli.cli import run as palate_command
from palate_common.interactions import Interactions
from palate_common.records.file_lock import FileLock
from palate_core.accounting import delta_of, epsilon_of
from palate_core.errors import InputError, LockedError
from palate_sim.config import load_config
from palate_sim.preparation.preparation import prepare
from palate_sim.run import experiment
from palate_sim.run.result import Result
from palate_sim.studies import tuning
from palate_sim.studies.tuning import best_of_random_epsilon, composed_epsilon, read_space, tune

QUICK: dict[str, Any] = {
    "evaluation.baselines": [], "evaluation.projection": [], "evaluation.recency": [],
    "algorithm.settings.rounds": 2,
}  # fmt: skip
SPACE = {
    "algorithm.settings.popularity_share": {"low": 0.1, "high": 0.9},
    "algorithm.settings.embedding_size": [2, 4],
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 users with 5 to 12 of 40 items: 40 of them are for validation."""
    rng = np.random.default_rng(5)
    odds = 1 / np.arange(1, 41)
    odds /= odds.sum()
    chosen = [(user, item) for user in range(400) for item in rng.choice(40, rng.integers(5, 13), False, odds)]
    file = tmp_path_factory.mktemp("log") / "my.csv"
    pd.DataFrame(chosen, columns=["user_id", "item_id"]).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def study(log: Path) -> tuning.Tuned:
    """Six trials: the first process is interrupted after two, and the second goes on."""
    config, out, seen = load_config(None, QUICK), log.parent / "study", list[Mapping[str, Any]]()

    def interrupted(event: Mapping[str, Any]) -> None:
        seen.append(event)
        if len([each for each in seen if each["event"] == "measured"]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(config, out=out, trials=6, space=SPACE, source=str(log), notify=interrupted)
    before = [each["value"] for each in seen if each["event"] == "measured"]
    made = tune(config, out=out, trials=6, space=SPACE, source=str(log), notify=seen.append)
    assert [trial.value for trial in made.trials[1:3]] == before
    assert [each for each in seen if each.get("step") == "tuning"][-1]["done"] == 6
    return made


def test_a_study_goes_on_and_says_what_it_found(study: tuning.Tuned, log: Path) -> None:
    facts = json.loads((study.folder / "study.json").read_text())
    assert facts == study.facts
    assert (facts["trials"], facts["users"], facts["metric"]) == (6, 40, "recall_capped@20")
    assert facts["best"]["value"] == max(trial.value for trial in study.trials) >= facts["untuned"]["value"]
    assert study.best.number == facts["best"]["trial"]
    for trial in study.trials[1:]:
        assert 0.1 <= trial.settings["algorithm.settings.popularity_share"] <= 0.9
        assert trial.settings["algorithm.settings.embedding_size"] in (2, 4)
        assert 0 < trial.error < 0.2
    assert "40 validation users, who take no part" in facts["privacy"]
    assert facts["charged"]["composed"] > facts["charged"]["random"] > 5.0
    again = tune(load_config(None, QUICK), out=study.folder, trials=6, space=SPACE, source=str(log))
    assert again.facts == study.facts  # nothing was left to do


def test_the_choice_depends_on_no_training_user(log: Path) -> None:
    """The guarantee: with other histories of all training users every trial finds the same."""
    config = load_config(None, QUICK)
    prepared = prepare(config, str(log))
    train = prepared.split.train
    turned = Interactions.from_pairs(
        np.repeat(np.arange(train.n_users), train.counts()), 39 - train.indices, n_users=train.n_users, n_items=40
    )
    other = replace(prepared, split=replace(prepared.split, train=turned))
    settings = {"algorithm.settings.popularity_share": 0.4}
    found = [tuning._Bench.of(config, each, lambda event: None).judged(settings, None) for each in (prepared, other)]
    assert found[0] == found[1]
    assert set(prepared.split.validation.users if prepared.split.validation else ()).isdisjoint(
        prepared.split.train_users
    )


def test_the_card_says_who_was_looked_at_and_the_run_refuses_what_would_make_it_untrue(
    study: tuning.Tuned, log: Path, tmp_path: Path
) -> None:
    best = study.folder / "best.toml"
    assert palate_command(["simulate", str(best), "--out", str(tmp_path / "run")]) == 0
    result = Result.read(tmp_path / "run")
    assert result.summary["config"]["algorithm"] == study.facts["algorithm"]
    (said,) = [each for each in result.card["exclusions"] if each["what"].startswith("hyper-parameter choices")]
    assert said["what"] == "hyper-parameter choices: made in 6 trials on 40 validation users"
    assert "take no part in this run's training" in said["reason"]
    assert "the choice costs its training users nothing" in said["reason"]
    assert "other runs" in said["reason"], "of another split these may have trained"
    assert "those of one study" in said["reason"], "several on the same users add up"
    assert result.summary["split"]["validation_users"] == 40
    assert "made in 6 trials on 40 validation users" in result.report.read_text()

    assert tomllib.loads(best.read_text())["tuned_on"] == str(study.folder)
    assert tomllib.loads(best.read_text())["data"] == {"path": str(log)}, "and not the name of a set that isn't used"
    assert "movielens-small" not in result.report.read_text()
    for change, message in (
        ({"seed": 1}, "must be a study of this run's data, split and seed"),
        ({"split.name": "leave-last-out"}, "must be a study of this run's data, split and seed"),
        ({"algorithm.settings.embedding_size": 3}, "needs the algorithm and the settings that the study found"),
        ({"warm_start": str(tmp_path / "run")}, "needs a run without `warm_start`: users that settings are chosen on"),
        ({"tuned_on": str(tmp_path)}, "must be the folder of a study of `palate tune`"),
    ):
        with pytest.raises(InputError, match=message):
            experiment.start(load_config(str(best), change), out=tmp_path / "other")
        assert not (tmp_path / "other").exists()


def test_without_a_study_the_card_says_that_tuning_is_not_charged(log: Path, tmp_path: Path) -> None:
    result = experiment.start(load_config(None, QUICK), source=str(log), out=tmp_path / "run").run()
    what = [each["what"] for each in result.card["exclusions"]]
    assert "hyper-parameter choices made on these users" in what


def test_the_facade_tunes_and_then_fits(log: Path, tmp_path: Path) -> None:
    recommender = palate.Recommender(epsilon=8, out=tmp_path / "run", settings=QUICK)
    assert recommender.tune(log, out=tmp_path / "study", trials=2, space=SPACE) is recommender
    assert clone(recommender).get_params() == recommender.get_params()
    found = recommender.settings
    assert recommender.tune(log, out=tmp_path / "study", trials=2, space=SPACE).settings == found
    card = recommender.fit(log).card_
    assert any("made in 2 trials on 40 validation users" in each["what"] for each in card["exclusions"])


@pytest.mark.parametrize(
    ("keys", "space", "message"),
    [
        ({"split.name": "leave-last-out"}, SPACE, "needs a split that holds out users, such as strong"),
        ({"warm_start": "former"}, SPACE, "`tuned_on` needs a run without `warm_start`"),
        ({"algorithm.name": "sgd", "algorithm.settings.rounds": 2}, None, "must say where to look for settings of sgd"),
        ({}, {"privacy.epsilon": [1, 2]}, "must have keys below algorithm.settings, got `privacy.epsilon`"),
        ({}, {"algorithm.settings.rounds": []}, "`algorithm.settings.rounds` must have a value to try"),
        ({}, {"algorithm.settings.rounds": {"low": 3, "high": 2}}, "must have low below high"),
        ({}, {"algorithm.settings.rounds": {"low": 0, "high": 2}}, "`algorithm.settings.rounds` must be greater than"),
        ({}, {"algorithm.settings.no_such": [1]}, "`algorithm.settings.no_such` is not a setting of the algorithm als"),
        ({}, {"algorithm.settings.whitening": {"low": -0.5, "high": 0.0, "log": True}}, "above 0 with log"),
        ({}, {"algorithm.settings.whitening": "low"}, "must be a list of values or a range"),
    ],
)
def test_what_makes_no_sense_is_refused(
    keys: dict[str, Any], space: dict[str, Any] | None, message: str, log: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        tune(load_config(None, {**QUICK, **keys}), out=tmp_path / "study", trials=1, space=space, source=str(log))


def test_a_folder_is_that_of_this_study_or_new(study: tuning.Tuned, log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a study of other data, settings or space"):
        tune(load_config(None, {**QUICK, "seed": 1}), out=study.folder, trials=7, space=SPACE, source=str(log))
    (tmp_path / "letters").write_text("")
    with pytest.raises(InputError, match="must be a new folder or that of a study"):
        tune(load_config(None, QUICK), out=tmp_path, trials=7, space=SPACE, source=str(log))
    few = pd.read_csv(log).query("user_id < 100")
    with pytest.raises(InputError, match="needs at least 25 validation users, got 10"):
        tune(load_config(None, QUICK), out=tmp_path / "few", trials=7, space=SPACE, source=few)


def test_a_folder_is_one_process_at_a_time(study: tuning.Tuned, log: Path) -> None:
    with (
        FileLock(study.folder / tuning.LOCK),
        pytest.raises(LockedError, match="another `palate tune` is at work in"),
    ):
        tune(load_config(None, QUICK), out=study.folder, trials=7, space=SPACE, source=str(log))


def test_a_file_that_is_no_study_is_said_in_a_line(log: Path, tmp_path: Path) -> None:
    (tmp_path / "trials.db").write_text("nothing of SQLite's")
    with pytest.raises(InputError, match=r"must hold a study that Optuna can read, got .*: .*not a database") as caught:
        tune(load_config(None, QUICK), out=tmp_path, trials=1, space=SPACE, source=str(log))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a?b", "%41"])
def test_a_study_lies_in_its_folder_or_nowhere(name: str, log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`--out` must have no \? and no % in its path"):
        tune(load_config(None, QUICK), out=tmp_path / name, trials=1, space=SPACE, source=str(log))
    assert not any(tmp_path.iterdir())


def test_a_space_is_read_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text("[algorithm.settings]\nrounds = { low = 2, high = 8 }\nembedding_size = [8, 16]\n")
    assert read_space(file) == {
        "algorithm.settings.rounds": {"low": 2, "high": 8},
        "algorithm.settings.embedding_size": [8, 16],
    }
    file.write_text("rounds = ")
    with pytest.raises(InputError, match="`--space` must be TOML"):
        read_space(file)
    with pytest.raises(InputError, match="`--space` must be a readable file"):
        read_space(tmp_path / "none.toml")


def test_what_charging_would_cost_is_what_the_theorems_say() -> None:
    mu, delta = 0.8, 1e-6
    assert composed_epsilon(mu=mu, runs=1, delta=delta) == epsilon_of(mu=mu, delta=delta)
    assert delta_of(mu=mu * math.sqrt(10), epsilon=composed_epsilon(mu=mu, runs=10, delta=delta)) <= delta * (1 + 1e-6)
    found = [best_of_random_epsilon(mu=mu, mean_trials=mean, delta=delta) for mean in (1, 10, 100)]
    assert (
        epsilon_of(mu=mu, delta=delta) < found[0] < found[1] < found[2] < composed_epsilon(mu=mu, runs=100, delta=delta)
    )
    # By hand, at one order: theorem 2 with eta = 1, then proposition 12 of Canonne, Kamath and Steinke.
    order, mean = 5.0, 10
    renyi = order * mu**2 / 2
    renyi += 2 * (1 - 1 / order) * order * mu**2 / 2 + 2 * math.log(mean) / order + math.log(mean) / (order - 1)
    by_hand = renyi + math.log(1 - 1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
    assert found[1] <= by_hand * (1 + 1e-3)
    assert found[1] > 0.95 * by_hand
