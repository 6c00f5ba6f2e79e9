"""Ratings: learned by a whole run, judged by RMSE and MAE first, beside what means alone predict."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from palate_common.interactions import Interactions
from palate_sim.baselines.rating_means import RatingMeans
from palate_sim.config import load_config
from palate_sim.evaluation.evaluation import judge_ratings, rating_errors
from palate_sim.preparation.preparation import prepare
from palate_sim.preparation.splits import Heldout
from palate_sim.progress import print_result
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
    found = judge_ratings(constant, heldout)
    assert found.table() == {"rmse": pytest.approx(2**0.5), "mae": pytest.approx(4 / 3)}
    assert found.over("mae", np.array([False, True])) == pytest.approx(2.0)
    low, high = found.interval("rmse", np.random.default_rng(0))
    assert (low, high) == (pytest.approx(1.0), pytest.approx(2.0))  # those of either user alone
    assert found.intervals(np.random.default_rng(0))["rmse"] == (low, high)
    nothing = SimpleNamespace(expected_ratings=lambda batch: None)
    assert rating_errors(nothing, heldout) == {} == rating_errors(SimpleNamespace(), heldout)


def test_means_of_ratings_find_the_biases_that_there_are() -> None:
    rng = np.random.default_rng(0)
    users, items = (each.ravel() for each in np.meshgrid(np.arange(200), np.arange(30), indexing="ij"))
    ratings = 10 + rng.normal(0, 0.5, 200)[users] + rng.normal(0, 0.7, 30)[items] + rng.normal(0, 0.4, len(users))
    known = rng.random(len(users)) < 0.3
    train, target = (
        Interactions.from_pairs(users[part], items[part], ratings[part], n_users=200, n_items=30)
        for part in (known, ~known)
    )
    heldout = Heldout(train, target, users=tuple(map(str, range(200))), groups={})
    errors = [
        judge_ratings(RatingMeans.fit(train, **biases), heldout).mean("rmse")
        for biases in ({}, {"users": True}, {"items": True}, {"users": True, "items": True})
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx((0.5**2 + 0.7**2 + 0.4**2) ** 0.5, rel=0.1)
    assert errors[3] < 1.15 * 0.4
    nobody = Interactions.from_pairs([], [], n_users=2, n_items=30)
    assert np.isfinite(RatingMeans.fit(nobody, users=True, items=True).expected_ratings(nobody)).all()


def test_a_run_on_ratings_has_rmse_and_its_baselines_first_and_no_false_warning(tmp_path: Path) -> None:
    names = ["popularity", "item_knn", "ease", "ials", "global_mean", "user_mean", "user_item_biases"]
    keys = {"algorithm.settings.lowest": 1, "evaluation.baselines": names, "data.name": "made", "privacy.epsilon": 19.0}
    keys |= {"evaluation.projection": [], "evaluation.recency": [], "privacy.noise": "seeded"}
    result = start(load_config("ratings", keys), source=log(), out=tmp_path / "run").run()
    assert set(result.baselines) == {"popularity", "global_mean", "user_mean", "user_item_biases"}
    metrics, summary = result.metrics, result.summary
    assert metrics["mae"] <= metrics["rmse"] < result.baselines["user_item_biases"]["rmse"]
    assert metrics["recall_capped@20"] > 0
    assert (summary["metric"], list(metrics)[:2], summary["warnings"]) == ("rmse", ["rmse", "mae"], [])
    assert summary["metrics"]["rmse"]["low"] < metrics["rmse"] < summary["metrics"]["rmse"]["high"]
    assert all("rmse" in point and point["low"] < point["rmse"] < point["high"] for point in summary["curve"])
    for view in ("activity", "taste"):
        found = summary["by_part"][view]
        assert {len(values) for values in found["models"].values()} == {len(found["parts"])}
    console = Console(file=StringIO(), width=80)
    print_result(console, summary)
    header, *rows = console.file.getvalue().splitlines()[1:]
    assert header.split()[:2] == ["model", "rmse"]
    order = [row.split("  ")[0] for row in rows[:4]]
    assert (order[0], set(order[1:])) == ("Palate", {"global mean", "user mean", "user and item biases"})
    page = result.report.read_text(encoding="utf-8")
    assert f"Palate predicts ratings with an RMSE of {metrics['rmse']:.3f}, " in page
    assert "below each user&#39;s own mean" in page
    assert f"Its rmse is {metrics['rmse']:.3f} (95 % interval" in page


def test_a_run_on_anything_else_has_no_rating_error(tmp_path: Path) -> None:
    keys = {"privacy.dp": "off", "evaluation.baselines": [], "algorithm.name": "popularity"}
    assert "rmse" not in start(load_config(None, keys), source=log(), out=tmp_path / "run").run().metrics


def test_the_preset_takes_values_as_they_are_and_leaves_out_what_is_below_the_scale() -> None:
    frame = log()
    frame.loc[0, "rating"] = 0.0
    prepared = prepare(load_config("ratings"), frame)
    assert set(np.unique(prepared.split.train.weights)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert prepared.dropped["rows_below_threshold"] == 1
