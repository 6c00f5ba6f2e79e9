"""Judging: baselines that fail are left out, and quality does not depend on who is asked first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate_common.algorithms.als.algorithm import FEATURES
from palate_sim.baselines import ease
from palate_sim.baselines.popularity import PopularityBaseline
from palate_sim.config import load_config
from palate_sim.evaluation import model_evaluation
from palate_sim.evaluation.evaluation import mean_rank
from palate_sim.evaluation.model_evaluation import (
    Restricted,
    fitted_on,
    headline,
    judge,
    judge_baselines,
    judge_prepared,
    look,
    project,
    takes_threads,
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
    assert [event["name"] for event in told if event["event"] == "baseline"] == [*names, *names[::-1]]


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
    assert left_out["ease"].endswith("ease_sparse fits any catalogue")
    assert left_out["item_knn"] == "it needs more memory than there is"
    assert [event["name"] for event in told if event["event"] == "baseline"] == ["popularity"]


def test_noised_popularity_needs_a_budget(prepared: Prepared) -> None:
    config = load_config(None, {"evaluation.baselines": ["noised_popularity"]})
    assert judge_baselines(config, prepared, epsilon=None, delta=1e-5, notify=events()[1]) == ({}, {})


def test_more_users_of_the_same_kind_buy_quality(prepared: Prepared) -> None:
    config = load_config(None, {"evaluation.projection": "1,1000"})
    metric = headline(prepared.split, config.evaluation.ks)
    one, many = project(config, prepared, epsilon=0.1, delta=1e-5, metric=metric)
    assert (one["users"], many["users"]) == (72, 72_000)
    assert many[metric] >= one[metric]


def test_mean_rank_is_the_mean_place_of_what_was_held_out(prepared: Prepared) -> None:
    heldout = prepared.split.test

    class Oracle:
        def scores(self, foldin: Any) -> Any:
            return heldout.target.dense().astype(np.float64)

    class Reverse(Oracle):
        def scores(self, foldin: Any) -> Any:
            return -super().scores(foldin)

    assert mean_rank(Oracle(), heldout) < 0.03
    assert mean_rank(Reverse(), heldout) > 0.97


def test_a_log_without_validation_users_is_judged_on_its_test_users(frame: pd.DataFrame) -> None:
    tiny = prepare(load_config(None, {"split.name": "leave-last-out"}), frame.groupby("user_id").head(2))
    assert tiny.split.validation is None
    model = rehearse(tiny.split.train, algorithm="popularity", settings={}, epsilon=None, delta=1e-5)
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
    found = look(model, cold, config, cold.split.validation)
    assert found.mean(headline(cold.split, [5])) >= 0
    assert found.mean_rank == mean_rank(model, cold.split.validation)
    judge_prepared(model, cold, config)
    assert asked == [len(cold.split.validation.users), len(cold.split.test.users)]


def test_a_sample_of_training_users_is_fitted_on_where_a_baseline_holds_the_log(prepared: Prepared) -> None:
    config = load_config(None, {"evaluation.fit_users": 20})
    assert fitted_on(prepared.split, config, "ials").train.n_users == 20
    assert fitted_on(prepared.split, config, "popularity") is prepared.split
    everybody = load_config(None, {"evaluation.fit_users": 72})
    assert fitted_on(prepared.split, everybody, "ials").train is prepared.split.train


def test_a_projection_trains_some_users_and_speaks_of_all(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None, {"evaluation.projection": "1,100"})
    metric, told = headline(prepared.split, config.evaluation.ks), events()
    monkeypatch.setattr(model_evaluation, "REHEARSED_USERS", 50)
    points = project(config, prepared, epsilon=5, delta=1e-5, metric=metric, notify=told[1])
    assert [(point["users"], point["rehearsed"]) for point in points] == [(72, 50), (7200, 50)]
    assert "projecting to 7,200 users" in {event["step"] for event in told[0]}


def test_sums_of_some_users_are_multiplied_up_to_the_population(prepared: Prepared) -> None:
    train = prepared.split.train.users(slice(0, 50))
    whole, scaled = (
        rehearse(train, algorithm="popularity", settings={}, epsilon=None, delta=1e-5, **size).state["counts"]
        for size in ({}, {"users": 72})
    )
    assert np.allclose(scaled, whole * 72 / 50, rtol=1e-5)
    exact = rehearse(train, algorithm="popularity", settings={}, epsilon=None, delta=1e-5, users=100)
    twice = rehearse(train, algorithm="popularity", settings={}, epsilon=None, delta=1e-5, population=2)
    assert np.array_equal(exact.state["counts"], twice.state["counts"])


def test_sparse_ease_stands_in_where_ease_does_not_fit(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    both = load_config(None, {"evaluation.baselines": ["ease", "ease_sparse"]})
    alone = load_config(None, {"evaluation.baselines": ["ease_sparse"]})
    options: Any = {"epsilon": None, "delta": 1e-5, "notify": events()[1]}
    assert list(judge_baselines(both, prepared, **options)[0]) == ["ease"]
    assert list(judge_baselines(alone, prepared, **options)[0]) == ["ease_sparse"]
    monkeypatch.setattr(ease, "ITEM_LIMIT", 10)
    found, left_out = judge_baselines(both, prepared, **options)
    assert (list(found), list(left_out)) == (["ease_sparse"], ["ease"])


def test_only_what_is_known_to_take_threads_gets_several(prepared: Prepared) -> None:
    train = prepared.split.train
    numpy, torch = (
        rehearse(train, algorithm=name, settings=settings, epsilon=None, delta=1e-5)
        for name, settings in (("als", {"rounds": 1}), ("torch-mf", {}))
    )
    assert takes_threads(numpy)
    assert takes_threads(PopularityBaseline.fit(train))
    assert not takes_threads(torch)
    assert not takes_threads(Restricted(numpy, np.ones(60, np.bool_)))


def test_a_rehearsal_of_sub_cohorts_has_the_noise_of_all_of_them(prepared: Prepared) -> None:
    def counted(**budget: Any) -> Any:
        train, alike = prepared.split.train, {"algorithm": "popularity", "settings": {}, "delta": 1e-5}
        return rehearse(train, **alike, **budget).state["counts"].astype(np.float64)

    none, one, four = counted(epsilon=None), counted(epsilon=1.0), counted(epsilon=1.0, subcohorts=4)
    assert np.allclose(four - none, 2 * (one - none), atol=1e-3)  # of one seed
