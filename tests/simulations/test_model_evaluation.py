"""Judging: baselines that fail are left out, and quality does not depend on who is asked first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate_common.algorithms.als.algorithm import FEATURES
from palate_sim.baselines import ease
from palate_sim.config import load_config
from palate_sim.evaluation import model_evaluation
from palate_sim.evaluation.model_evaluation import (
    headline,
    judge,
    judge_baselines,
    judge_prepared,
    percentile_rank,
    project,
    validation_quality,
)
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.preparation import Prepared, prepare


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    odds = 1 / np.arange(1, 61)
    odds /= odds.sum()
    rows = [(user, item) for user in range(90) for item in rng.choice(60, 8, replace=False, p=odds)]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


@pytest.fixture(scope="module")
def prepared(frame: pd.DataFrame) -> Prepared:
    return prepare(load_config(None), frame)


def events() -> tuple[list[Any], Any]:
    told: list[Any] = []
    return told, told.append


def test_baselines_are_judged_alike_in_any_order(prepared: Prepared) -> None:
    names = ["popularity", "item_knn", "noised_popularity"]
    told, notify = events()
    one, left_out = judge_baselines(
        load_config(None, {"evaluation.baselines": names}), prepared, epsilon=5, delta=1e-5, notify=notify
    )
    other, _ = judge_baselines(
        load_config(None, {"evaluation.baselines": names[::-1]}), prepared, epsilon=5, delta=1e-5, notify=notify
    )
    assert list(one) == names
    assert left_out == {}
    assert {name: e.table() for name, e in one.items()} == {name: e.table() for name, e in other.items()}
    assert [event["name"] for event in told] == [*names, *names[::-1]]


def test_a_baseline_that_refuses_or_needs_too_much_memory_is_left_out(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "ITEM_LIMIT", 10)
    real = model_evaluation.fit_baselines

    def fit(names: Any, *rest: Any, **named: Any) -> Any:
        if names == ["item_knn"]:
            raise MemoryError
        return real(names, *rest, **named)

    monkeypatch.setattr(model_evaluation, "fit_baselines", fit)
    told, notify = events()
    config = load_config(None, {"evaluation.baselines": ["ease", "item_knn", "popularity"]})
    found, left_out = judge_baselines(config, prepared, epsilon=None, delta=1e-5, notify=notify)
    assert list(found) == ["popularity"]
    assert "`n_items` must be at most 10 for EASE" in left_out["ease"]
    assert left_out["item_knn"] == "it needs more memory than there is"
    assert [event["name"] for event in told] == ["popularity"]


def test_noised_popularity_needs_a_budget(prepared: Prepared) -> None:
    config = load_config(None, {"evaluation.baselines": ["noised_popularity"]})
    assert judge_baselines(config, prepared, epsilon=None, delta=1e-5, notify=events()[1]) == ({}, {})


def test_more_users_of_the_same_kind_buy_quality(prepared: Prepared) -> None:
    config = load_config(None, {"evaluation.projection": "1,1000"})
    metric = headline(prepared.split, config.evaluation.ks)
    one, many = project(config, prepared, epsilon=0.1, delta=1e-5, metric=metric)
    assert (one["users"], many["users"]) == (72, 72_000)
    assert many[metric] >= one[metric]


def test_the_loss_is_the_mean_place_of_what_was_held_out(prepared: Prepared) -> None:
    heldout = prepared.split.test

    class Oracle:
        def scores(self, foldin: Any) -> Any:
            return heldout.target.dense().astype(np.float64)

    class Reverse(Oracle):
        def scores(self, foldin: Any) -> Any:
            return -super().scores(foldin)

    assert percentile_rank(Oracle(), heldout) < 0.03
    assert percentile_rank(Reverse(), heldout) > 0.97


def test_without_validation_users_there_is_no_validation_quality(frame: pd.DataFrame) -> None:
    tiny = prepare(load_config(None, {"split.name": "leave-last-out"}), frame.groupby("user_id").head(2))
    assert tiny.split.validation is None
    model = rehearse(tiny.split.train, algorithm="popularity", settings={}, epsilon=None, delta=1e-5)
    assert validation_quality(model, tiny, load_config(None), "recall@10") is None
    assert judge(model, tiny.split.test, tiny.split, ks=(5,), seed=0).mean("hr@5") >= 0


def test_new_items_are_judged_by_their_features_on_validation_users_too(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, {"split.name": "item-cold", "evaluation.ks": [5]})
    cold = prepare(config, frame)
    features = np.random.default_rng(1).normal(size=(len(cold.split.items), 4)).astype(np.float32)
    cold = replace(cold, inputs={FEATURES: features})
    train = cold.split.train
    model = rehearse(train, algorithm="als", settings={}, epsilon=None, delta=1e-5, inputs=cold.inputs)
    asked = []
    real = type(model.algorithm).new_item_scores

    def spied(self: Any, state: Any, histories: Any, new: Any) -> Any:
        asked.append(histories.n_users)
        return real(self, state, histories, new)

    monkeypatch.setattr(type(model.algorithm), "new_item_scores", spied)
    assert cold.split.validation is not None
    assert validation_quality(model, cold, config, headline(cold.split, [5])) is not None
    judge_prepared(model, cold, config)
    assert asked == [len(cold.split.validation.users), len(cold.split.test.users)]
