"""Recency: a half-life is chosen on validation users, from their past alone, and only where it helps them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.data import read_log
from palate_sim.evaluation.recency import Dated, choose_recency, dated, judge_recency
from palate_sim.preparation.preparation import prepare
from palate_sim.progress.table import _in_time
from palate_sim.report import sentences, tables

DAY = 86_400.0
N_ITEMS, METRIC = 40, "recall_capped@5"
QUICK: dict[str, Any] = {"evaluation.ks": [5], "evaluation.baselines": [], "evaluation.projection": []}


def frame_of(*, turns: bool, seed: int = 0) -> pd.DataFrame:
    """150 users over 200 days who like half of the items: if it `turns`, the other half after a day of their own."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(150):
        side, turned = rng.integers(2), rng.uniform(40, 150)
        for day in np.sort(rng.uniform(0, 200, 22)):
            now = (side + (turns and day > turned)) % 2
            rows.append((f"u{user:03d}", f"i{2 * rng.integers(N_ITEMS // 2) + now:02d}", DAY * (day + 1)))
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"])


class Sides:
    """Scores items by the weight of their half in the history: what a model of these users knows."""

    def scores(self, foldin: Interactions) -> Any:
        half = np.stack([np.arange(N_ITEMS) % 2 == 0, np.arange(N_ITEMS) % 2 == 1]).astype(np.float64)
        likes = foldin.matmul(half.T, foldin.weights)
        return likes @ half


def cut_of(frame: pd.DataFrame, **settings: Any) -> Dated:
    return dated(read_log(frame), load_config(None, QUICK | settings))


def chosen_for(cut: Dated, half_lives: tuple[float, ...] = (5.0, 20.0, 80.0)) -> Any:
    return choose_recency(Sides(), cut, half_lives, metric=METRIC, ks=(5,), seed=0)


def test_tastes_that_turn_are_followed_and_others_left_alone() -> None:
    days, gains = chosen_for(cut_of(frame_of(turns=True)))
    assert days in (5.0, 20.0, 80.0)
    assert gains[f"{days:g}"]["gain"] > 2 * gains[f"{days:g}"]["error"] > 0
    assert chosen_for(cut_of(frame_of(turns=False)))[0] is None


def test_of_half_lives_that_are_as_good_the_longest_is_taken() -> None:
    days, gains = chosen_for(cut_of(frame_of(turns=True)), (4.0, 4.0001))
    assert gains["4"]["gain"] == pytest.approx(gains["4.0001"]["gain"], abs=1e-3)
    assert days == 4.0001


def test_neither_the_model_nor_a_history_knows_what_came_later() -> None:
    frame = frame_of(turns=True)
    cut = cut_of(frame)
    first, second = cut.cuts
    train, names = cut.split.train, cut.split.train_users
    trained = {(names[u], cut.split.items[i]) for u, i in zip(train.owners(), train.indices, strict=True)}
    assert trained == {(user, item) for user, item, time in frame.itertuples(index=False) if time < first}
    assert cut.split.validation is not None
    for end, heldout in ((first, cut.split.validation), (second, cut.split.test)):
        past = {(user, item) for user, item, time in frame.itertuples(index=False) if time < end}
        owners = heldout.foldin.owners()
        given = {(heldout.users[u], cut.split.items[i]) for u, i in zip(owners, heldout.foldin.indices, strict=True)}
        assert given == {pair for pair in past if pair[0] in heldout.users}
        asked = heldout.target.owners()
        new = {(heldout.users[u], cut.split.items[i]) for u, i in zip(asked, heldout.target.indices, strict=True)}
        assert not new & past


def test_a_history_ages_by_its_events_and_keeps_its_sum() -> None:
    frame = pd.DataFrame(
        [("a", f"i{n}", DAY * 10 * (n + 1)) for n in range(10)]
        + [("b", f"i{n}", DAY * 10 * (n + 1)) for n in range(10)],
        columns=["user", "item", "timestamp"],
    )
    cut = cut_of(frame)
    aged = cut.aged(cut.split.test, cut.cuts[1], 10.0)
    weights = aged.foldin.user(0).weights
    np.testing.assert_allclose(weights[1:] / weights[:-1], 2.0, rtol=1e-6)
    assert weights.sum() == pytest.approx(len(weights))
    halved = replace(cut, config=load_config(None, QUICK | {"positives.half_life_days": 10.0}))
    steeper = halved.aged(cut.split.test, cut.cuts[1], 10.0).foldin.user(0).weights
    np.testing.assert_allclose(steeper[1:] / steeper[:-1], 4.0, rtol=1e-6)


def test_users_without_a_past_are_not_judged() -> None:
    frame = pd.concat(
        [frame_of(turns=False), pd.DataFrame([("new", "i00", DAY * 200.9)], columns=["user", "item", "timestamp"])]
    )
    assert "new" not in cut_of(frame).split.test.users


@pytest.mark.parametrize("times", [None, 5.0])
def test_a_log_that_cannot_be_cut_says_why(times: float | None) -> None:
    frame = frame_of(turns=False).assign(timestamp=times)
    if times is None:
        assert prepare(load_config(None, QUICK), frame.drop(columns="timestamp")).log is None
    with pytest.raises(InputError, match="times"):
        cut_of(frame if times else frame.drop(columns="timestamp"))


def test_a_run_says_both_splits_in_plain_words() -> None:
    frame, config = frame_of(turns=True), load_config(None, QUICK | {"evaluation.recency": [5, 20, 80]})
    prepared = prepare(config, frame)
    found = judge_recency(config, prepared, epsilon=None, delta=1e-5)
    assert found is not None
    assert set(found["tried"]) == {"5", "20", "80"}
    result = {"recency": found, "metric": METRIC, "metrics": {METRIC: {"mean": 0.5, "low": 0.4, "high": 0.6}}}
    for days in (None, 20.0):
        found["half_life_days"] = days
        judged = {"palate": found["metrics"]["palate"]} | (
            {"palate_recent": found["metrics"]["palate"]} if days else {}
        )
        told = " ".join(sentences.recency(result | {"recency": found | {"metrics": judged}}))
        assert "Half-lives of 5, 20 and 80 days were tried on validation users" in told
        assert ("None helped beyond its error" in told) == (days is None)
        assert ("recent_half_life_days = 20 under [release]" in told) == (days is not None)
        printed = _in_time(result | {"recency": found | {"metrics": judged}})
        assert printed.startswith(f"under a temporal split: {METRIC} 0.")
        rows = tables.recency(result | {"recency": found | {"metrics": judged}})[1]
        assert len(rows) == (2 if days is None else 3)
    assert "a model of the same settings, trained" in told
    opened = " ".join(sentences.recency(result | {"panel": {"users": 3}}))
    assert "a model of the same settings, without the panel, trained" in opened
    assert sentences.recency({"recency": None}) == []
    assert sentences.recency({"recency": {"reason": "no times"}}) == ["Times were not looked at: no times."]
    assert tables.recency({})[1] == []


def test_ratings_are_left_alone() -> None:
    frame = frame_of(turns=False).assign(rating=4.0)
    keys = {"algorithm.name": "sgd", "algorithm.settings.loss": "ratings", "data.value_weights": {"0": 1.0, "4": 4.0}}
    config = load_config(None, QUICK | keys | {"algorithm.settings.rounds": 2})
    assert judge_recency(config, prepare(config, frame), epsilon=None, delta=1e-5) == {
        "reason": "the model learns ratings, which don't fade with time"
    }


def test_it_can_be_turned_off() -> None:
    config = load_config(None, QUICK | {"evaluation.recency": "none"})
    prepared = prepare(config, frame_of(turns=False))
    assert prepared.log is None
    assert judge_recency(config, prepared, epsilon=None, delta=1e-5) is None
