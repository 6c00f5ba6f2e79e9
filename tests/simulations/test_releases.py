"""A series of releases under one budget."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.releases.series import LATE, MODELS, OFF, ONCE, ONCE_LATE, OWN, measure
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_sim.config import load_config

KEYS = {"privacy.epsilon": 8.0, "privacy.delta": 1e-5, "evaluation.ks": [5]}


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
    return measure(load_config(None, KEYS), releases=4, seeds=2, source=log, notify=events.append), events


def test_every_model_is_measured_on_every_release(series):
    found, events = series
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert tuple(facts["values"]) == MODELS
    measured = [event for event in events if event["event"] == "measured"]
    assert len(measured) == 1 + 2 * (len(MODELS) - 1)
    for name, (values, _) in facts["values"].items():
        missing = LATE - 1 if name == ONCE_LATE else 0
        assert [value is None for value in values] == [True] * missing + [False] * (4 - missing)
    assert facts["values"][OWN][0][0] == facts["values"]["from nothing"][0][0]


def test_the_releases_together_cost_the_budget(series):
    found, _ = series
    whole = mu_of(epsilon=8.0, delta=1e-5)
    assert found.spent[-1] <= 8.0
    assert found.spent[-1] == pytest.approx(8.0, rel=1e-6)
    for number, spent in enumerate(found.spent, 1):
        assert mu_of(epsilon=spent, delta=1e-5) == pytest.approx(whole * math.sqrt(number / 4), rel=1e-6)


def test_tastes_are_found_and_a_later_release_beats_the_first(series):
    last = {name: np.mean([seed[-1] for seed in values]) for name, values in series[0].facts()["values"].items()}
    assert last[OWN] > last["noised popularity"]
    assert last[OWN] > last[ONCE]
    assert last[OFF] >= last[OWN] - 0.03


def test_equal_seeds_give_equal_figures(series, log):
    again = measure(load_config(None, KEYS), releases=4, seeds=2, source=log, notify=lambda event: None)
    assert again.facts() == series[0].facts()


def test_validation_users_can_be_left_out(series, log):
    left = measure(
        load_config(None, KEYS), releases=4, seeds=1, source=log, notify=lambda event: None, validation=False
    )
    assert np.isnan(left.values[OWN, "validation"]).all()
    alone = left.facts()
    assert alone["sizes"] == series[0].facts()["sizes"]
    assert alone["values"][OWN][0] == series[0].facts()["values"][OWN][0]


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
        measure(load_config(None, {**KEYS, **keys}), releases=4, seeds=1, source=log, notify=lambda event: None)
