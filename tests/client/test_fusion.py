"""Fusion: weights follow the user's own events, stay at the model's without any, and never leave their bounds."""

from __future__ import annotations

import numpy as np
import pytest

from palate_client.recommend.adaptation import fusion
from palate_client.recommend.adaptation.fusion import LEAST, NOTHING, fused_weights
from palate_client.recommend.recommender import ModelRecommender
from palate_client.recommend.scoring import ByFactors, scorer_of
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError
from palate_sim.evaluation.on_device import OnDevice, weighs_sources
from palate_sim.evaluation.rehearsal import rehearse

N_USERS, N_ITEMS = 300, 240
RNG = np.random.default_rng(3)
GENRE, NOISE = np.arange(N_ITEMS) % 4, RNG.integers(0, 4, N_ITEMS)


def genre_lovers(seed: int, n_users: int) -> Interactions:
    """Everybody likes the items of one genre."""
    rng = np.random.default_rng(seed)
    pairs = [
        (user, item)
        for user in range(n_users)
        for item in np.flatnonzero(rng.random(N_ITEMS) < np.where(user % 4 == GENRE, 0.4, 0.04))
    ]
    return Interactions.from_pairs(*np.array(pairs).T, n_users=n_users, n_items=N_ITEMS)


@pytest.fixture(scope="module")
def model() -> GlobalModel:
    """A model with a source that says everything, and one that says nothing."""
    features = np.concatenate([np.eye(4)[GENRE], np.eye(4)[NOISE]], axis=1).astype(np.float32)
    settings = {"feature_sources": {"genres": 4, "noise": 4}, "rounds": 2, "embedding_size": 2}
    return rehearse(
        genre_lovers(0, N_USERS),
        algorithm="als",
        settings=settings,
        epsilon=20.0,
        delta=1e-5,
        inputs={FEATURES: features},
    )


def test_a_score_is_the_sum_of_its_sources(model: GlobalModel) -> None:
    scorer, history = scorer_of(model), genre_lovers(1, 8)
    assert scorer.sources == ("popularity", "collaborative", "content:genres", "content:noise")
    rows = np.arange(N_ITEMS)
    for user in range(8):
        taste = scorer.taste(history.user(user), NOTHING, {})
        together = np.sum(list(scorer.by_part(taste, rows).values()), axis=0)
        np.testing.assert_allclose(together, model.scores(history.user(user))[0], rtol=1e-4, atol=1e-7)


def test_weights_move_to_what_finds_the_users_own_events(model: GlobalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "SPREAD", 1.0)
    monkeypatch.setattr(fusion, "FIRST", 100)
    scorer, histories = scorer_of(model), genre_lovers(2, 40)
    found = [fused_weights(scorer, histories.user(user)) for user in range(40)]
    mean = {source: np.mean([each[source] for each in found]) for source in scorer.sources}
    assert mean["content:genres"] > mean["content:noise"]
    assert all(0 <= weight <= 2 for each in found for weight in each.values())


def test_few_events_leave_the_models_own_weights(model: GlobalModel) -> None:
    scorer = scorer_of(model)
    few = Interactions.from_pairs([0] * (LEAST - 1), [4, 8, 12], n_users=1, n_items=N_ITEMS)
    assert fused_weights(scorer, few) == {}
    some = genre_lovers(3, 1)
    assert all(abs(weight - 1) < 0.5 for weight in fused_weights(scorer, some).values())
    assert fused_weights(scorer, some) == fused_weights(scorer, some)


def test_the_slopes_are_those_of_the_likelihood() -> None:
    rng = np.random.default_rng(0)
    lists = [(rng.normal(size=(3, 2)), rng.normal(size=(20, 2))) for _ in range(2)]

    def likelihood(weights: np.ndarray) -> float:
        total = 0.0
        for hidden, others in lists:
            for own in hidden @ weights:
                total += own - np.log(np.exp(others @ weights).sum() + np.exp(own))
        return float(total)

    at = np.array([0.7, 1.2])
    slope, curvature = fusion._slopes(lists, at)
    steps = 1e-5 * np.eye(2)
    numeric = [(likelihood(at + step) - likelihood(at - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(slope, numeric, rtol=1e-5)
    bent = [(fusion._slopes(lists, at - step)[0] - fusion._slopes(lists, at + step)[0]) / 2e-5 for step in steps]
    np.testing.assert_allclose(curvature, bent, rtol=1e-4)


def test_the_simulator_scores_as_a_device_does(model: GlobalModel) -> None:
    assert weighs_sources(model)
    histories = genre_lovers(4, 3)
    scores, scorer = OnDevice(model).scores(histories), scorer_of(model)
    assert isinstance(scorer, ByFactors)
    for user in range(3):
        history = histories.user(user)
        taste = scorer.taste(history, NOTHING, fused_weights(scorer, history))
        np.testing.assert_array_equal(scores[user], scorer.scores(taste, np.arange(N_ITEMS)))
    assert not np.allclose(scores, model.scores(histories), rtol=1e-3)


def test_a_device_fuses_where_the_model_has_several_sources(device, model: GlobalModel) -> None:
    items = [f"i{n:03d}" for n in range(N_ITEMS)]
    history = genre_lovers(5, 1)
    device.like_to_start([items[row] for row in history.indices.tolist()])
    expected = {True: OnDevice(model).scores(history)[0], False: np.array(model.scores(history)[0])}
    for fuse, fused in ((None, True), (True, True), (False, False)):
        device.use_model(model, items, fuse=fuse)
        shown = device.recommend(20, discovery=0.0)
        rows = [items.index(each.item) for each in shown]
        np.testing.assert_allclose([each.score for each in shown], expected[fused][rows], rtol=1e-4)
    assert isinstance(device.recommendations.recommender(), ModelRecommender)
    assert {each.source.partition(":")[0] for each in shown} <= {"popularity", "collaborative", "content"}
    device.feedback(shown, {shown[0].item: "click"})  # the sources of content are one arm of the blend


@pytest.mark.parametrize("widths", [{}, {"a": 3}, {"a": 8, "b": 1}, {"a": 8, "b": 0}])
def test_widths_that_do_not_fit_are_refused(widths: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"\A`feature_sources` must have widths that sum to 8[^\n]*\Z"):
        rehearse(
            genre_lovers(0, 9),
            algorithm="als",
            settings={"feature_sources": widths},
            epsilon=None,
            delta=1e-5,
            inputs={FEATURES: np.ones((N_ITEMS, 8), np.float32)},
        )
