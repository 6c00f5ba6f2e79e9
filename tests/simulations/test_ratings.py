"""Ratings: learned by a whole run, judged by RMSE and MAE beside the ranking metrics."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from palate_common.interactions import Interactions
from palate_sim.config import load_config
from palate_sim.evaluation.evaluation import rating_errors
from palate_sim.preparation.preparation import prepare
from palate_sim.preparation.splits import Heldout
from palate_sim.run.experiment import start


def log() -> pd.DataFrame:
    """150 users of two tastes, and items that one of them rates high and the other low; 24 ratings each."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(150):
        for item in rng.permutation(40)[:24]:
            rating = 3 + (1.5 if user % 2 == item % 2 else -1.5) + rng.normal() * 0.3
            rows.append((f"u{user}", f"i{item:02d}", float(np.clip(round(rating), 1, 5))))
    return pd.DataFrame(rows, columns=["user", "item", "rating"])


def test_errors_are_those_of_the_held_out_ratings() -> None:
    foldin = Interactions.from_pairs([0, 1], [0, 0], [1.0, 5.0], n_users=2, n_items=3)
    target = Interactions.from_pairs([0, 0, 1], [1, 2, 1], [4.0, 2.0, 5.0], n_users=2, n_items=3)
    heldout = Heldout(foldin, target, users=("ann", "bob"), groups={})
    constant = SimpleNamespace(expected_ratings=lambda batch: np.full((batch.n_users, 3), 3.0))
    assert rating_errors(constant, heldout, batch=1) == {"rmse": pytest.approx(2**0.5), "mae": pytest.approx(4 / 3)}
    nothing = SimpleNamespace(expected_ratings=lambda batch: None)
    assert rating_errors(nothing, heldout) == {} == rating_errors(SimpleNamespace(), heldout)


def test_a_run_on_ratings_reports_rmse_and_mae_and_learns_tastes(tmp_path: Path) -> None:
    keys = {"privacy.dp": "off", "algorithm.settings.lowest": 1, "evaluation.baselines": [], "data.name": "made"}
    result = start(load_config("ratings", keys), source=log(), out=tmp_path / "run").run()
    metrics = result.metrics
    assert metrics["mae"] <= metrics["rmse"] < 0.7  # everybody's mean of an item is 1.5 off
    assert metrics["recall_capped@20"] > 0


def test_a_run_on_anything_else_has_no_rating_error(tmp_path: Path) -> None:
    keys = {"privacy.dp": "off", "evaluation.baselines": [], "algorithm.name": "popularity"}
    assert "rmse" not in start(load_config(None, keys), source=log(), out=tmp_path / "run").run().metrics


def test_the_preset_takes_values_as_they_are_and_leaves_out_what_is_below_the_scale() -> None:
    frame = log()
    frame.loc[0, "rating"] = 0.0
    prepared = prepare(load_config("ratings"), frame)
    assert set(np.unique(prepared.split.train.weights)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert prepared.dropped["rows_below_threshold"] == 1
