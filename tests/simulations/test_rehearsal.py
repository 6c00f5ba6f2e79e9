"""Rehearsal: repeatable, in memory, and the same learning as a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import palate
from palate_common.interactions import Interactions
from palate_sim.config import load_config
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.preparation import prepare


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = [(f"u{user}", f"i{item}") for user in range(90) for item in rng.choice(30, 8, replace=False)]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


@pytest.fixture(scope="module")
def train(frame: pd.DataFrame) -> Interactions:
    return prepare(load_config(None), frame).split.train


def counts(train: Interactions, **changes: Any) -> Any:
    options: dict[str, Any] = {"algorithm": "popularity", "settings": {}, "epsilon": 5.0, "delta": 1e-5, **changes}
    return rehearse(train, **options).state["counts"]


def test_equal_arguments_give_equal_models(train: Interactions) -> None:
    assert np.array_equal(counts(train), counts(train))
    for change in ({"seed": 1}, {"epsilon": 4.0}, {"epsilon": None}):
        assert not np.array_equal(counts(train), counts(train, **change))


def test_more_users_multiply_the_sums_and_not_the_noise(train: Interactions) -> None:
    exact = counts(train, epsilon=None)
    assert np.allclose(counts(train, epsilon=None, population=50), 50 * exact, rtol=1e-5)
    small, large = counts(train) - exact, counts(train, population=50) - 50 * exact
    assert 0.2 < np.std(large) / np.std(small) < 5


def test_without_noise_a_rehearsal_is_the_run(frame: pd.DataFrame, train: Interactions, tmp_path: Path) -> None:
    quiet = {"evaluation.baselines": [], "evaluation.projection": [], "algorithm.settings.rounds": 3}
    for algorithm, settings in (("als", {"rounds": 3}), ("popularity", {})):
        chosen = {key: value for key, value in quiet.items() if algorithm == "als" or "rounds" not in key}
        made = palate.simulate(frame, dp="off", algorithm=algorithm, out=tmp_path / algorithm, settings=chosen)
        again = rehearse(train, algorithm=algorithm, settings=settings, epsilon=None, delta=1e-5)
        for name, array in made.model.state.items():
            assert np.allclose(array, again.state[name], rtol=1e-4, atol=1e-5), name
