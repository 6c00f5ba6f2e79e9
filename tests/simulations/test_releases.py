"""A series of releases under one budget."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from palate_cli.cli import run
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.plots import releases as figure
from palate_sim.studies.releases import LATE, MODELS, OFF, ONCE, ONCE_LATE, OWN, measure

KEYS = {"releases.count": 4, "privacy.epsilon": 8.0, "privacy.delta": 1e-5, "evaluation.ks": [5]}


@pytest.fixture(scope="module")
def log():
    """Two tastes, over a year; every third item appears later."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(900):
        begins = rng.uniform(0, 250)
        for time in rng.uniform(begins, 365, 12):
            item = int(30 * (user % 2) + abs(rng.normal(0, 10)) % 30)
            item = item - 1 if item % 3 == 2 and time < 3 * item else item
            rows.append((f"u{user}", f"i{item}", 86_400 * time))
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"])


@pytest.fixture(scope="module")
def series(log):
    events = []
    return measure(load_config(None, KEYS), seeds=2, source=log, notify=events.append), events


def test_every_model_is_measured_on_every_release(series):
    found, events = series
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert tuple(facts["quality"]) == MODELS
    measured = [event for event in events if event["event"] == "measured"]
    assert len(measured) == 1 + 2 * (len(MODELS) - 1)
    for name, values in facts["quality"].items():
        missing = LATE - 1 if name == ONCE_LATE else 0
        assert [value is None for value in values] == [True] * missing + [False] * (4 - missing)
    assert facts["quality"][OWN][0] == facts["quality"]["from nothing"][0]


def test_the_releases_together_cost_the_budget(series):
    found, _ = series
    whole = mu_of(epsilon=8.0, delta=1e-5)
    assert found.spent[-1] <= 8.0
    assert found.spent[-1] == pytest.approx(8.0, rel=1e-6)
    for number, spent in enumerate(found.spent, 1):
        assert mu_of(epsilon=spent, delta=1e-5) == pytest.approx(whole * math.sqrt(number / 4), rel=1e-6)
    assert "mu^2 adds up over all of them" in found.facts()["composition"]


def test_tastes_are_found_and_a_later_release_beats_the_first(series):
    facts = series[0].facts()
    assert facts["quality"][OWN][-1] > facts["quality"]["noised popularity"][-1]
    assert facts["quality"][OWN][-1] > facts["quality"][ONCE][-1]
    assert facts["quality"][OFF][-1] >= facts["quality"][OWN][-1] - 0.03


def test_differences_are_paired(series):
    facts = series[0].facts()
    mean, low, high = facts["differences"][ONCE][-1]
    apart = [a[-1] - b[-1] for a, b in zip(facts["values"][OWN], facts["values"][ONCE], strict=True)]
    assert mean == pytest.approx(np.mean(apart))
    assert low < mean < high
    assert facts["differences"][ONCE_LATE][0] is None


def test_equal_seeds_give_equal_figures(series, log):
    again = measure(load_config(None, KEYS), seeds=2, source=log, notify=lambda event: None)
    assert again.facts() == series[0].facts()


def test_validation_users_can_be_left_out(series, log):
    alone = measure(load_config(None, KEYS), seeds=1, source=log, notify=lambda event: None, validation=False).facts()
    assert alone["parts"]["validation"][OWN] == [None] * 4
    assert alone["sizes"] == series[0].facts()["sizes"]
    assert alone["values"][OWN][0] == series[0].facts()["values"][OWN][0]


@pytest.mark.parametrize(("division", "ratio"), [("decreasing", 0.9), ("increasing", 1 / 0.9)])
def test_a_budget_can_be_divided_otherwise(log, division, ratio):
    config = load_config(None, {**KEYS, "releases.division": division, "releases.count": 3})
    found = measure(config, seeds=1, source=log, notify=lambda event: None)
    mu2 = np.diff([0, *(mu_of(epsilon=spent, delta=1e-5) ** 2 for spent in found.spent)])
    assert mu2[1:] / mu2[:-1] == pytest.approx([ratio, ratio], rel=1e-4)


def test_the_picture_names_every_line(series):
    drawn = figure(series[0].facts())
    assert {trace.name for trace in drawn.data} == set(MODELS)
    labels = {note.text.replace("<br>", " ").replace("  ", " ") for note in drawn.layout.annotations}
    assert set(MODELS) <= labels
    assert "unit: user, adjacency: zero-out" in drawn.layout.xaxis.title.text


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"filters.user_core": 2}, "its future included"),
        ({"algorithm.name": "popularity"}, "go on from a release"),
        ({"warm_start": "runs/first"}, "start from each other"),
    ],
)
def test_what_cannot_be_measured_is_refused(log, keys, words):
    with pytest.raises(InputError, match=words):
        measure(load_config(None, {**KEYS, **keys}), seeds=1, source=log, notify=lambda event: None)


def test_the_command_prints_a_table_and_writes_figures(log, tmp_path, capsys):
    log.to_csv(tmp_path / "log.csv", index=False)
    out = tmp_path / "out"
    words = ["releases", str(tmp_path / "log.csv"), "--releases", "3", "--epsilon", "8", "--seeds", "1"]
    assert run([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "recall_capped@20 on log" in printed
    assert "adjacency: zero-out" in printed
    assert json.loads((out / "releases.json").read_text())["division"] == "equal"
    page = (out / "releases.html").read_text()
    assert "warm start" in page
    assert 'src="http' not in page  # nothing is loaded
    assert run([*words, "--out", str(out)]) == 2
    assert "new or empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [("--releases", "1"), ("--seeds", "0"), ("--epsilon", "nan"), ("--division", "other"), ("--delta", "0")]
)
def test_bad_numbers_are_one_line(log, tmp_path, capsys, options):
    log.to_csv(tmp_path / "log.csv", index=False)
    assert run(["releases", str(tmp_path / "log.csv"), *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
