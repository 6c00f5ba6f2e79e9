"""`sgd`: what a device sends is the slope of its loss, and the server's steps learn from it."""

from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, algorithm_class, make_algorithm
from palate_common.algorithms.parts.server_steps import newton_direction
from palate_common.algorithms.sgd.biases import item_biases
from palate_common.algorithms.sgd.losses import ImplicitLoss, LogisticLoss, RatingLoss, predict, sample_negatives
from palate_common.interactions import Interactions
from palate_common.mechanism.update import OuterBlock
from palate_core.errors import InputError

SMALL = {"embedding_size": 6}
LOSSES: dict[str, dict[str, Any]] = {
    "implicit": SMALL | {"rounds": 8},
    "logistic": SMALL | {"loss": "logistic", "rounds": 20},
}


def rated(n_users: int = 300, n_items: int = 40, seed: int = 0) -> tuple[Interactions, Interactions]:
    """Ratings 1 to 5 of rank 1 and item biases, half of each user's to learn from and half to predict."""
    rng = np.random.default_rng(seed)
    tastes, items = rng.choice([-1.0, 1.0], n_users), rng.choice([-1.0, 1.0], n_items)
    bias = rng.normal(size=n_items) * 0.5
    owners, rows = np.nonzero(rng.random((n_users, n_items)) < 0.6)
    values = 3 + tastes[owners] * items[rows] + bias[rows] + rng.normal(size=len(rows)) * 0.3
    values, half = np.clip(np.rint(values), 1, 5), rng.random(len(rows)) < 0.5
    first, second = (
        Interactions.from_pairs(owners[part], rows[part], values[part], n_users=n_users, n_items=n_items)
        for part in (half, ~half)
    )
    return first, second


def rmse(predicted: np.ndarray, target: Interactions) -> float:
    return float(np.sqrt(np.mean((predicted[target.owners(), target.indices] - target.weights) ** 2)))


@pytest.mark.parametrize("mu", [None, 1.5])
@pytest.mark.parametrize("loss", LOSSES)
def test_it_keeps_the_contract_of_an_algorithm(bench: Any, loss: str, mu: float | None) -> None:
    bench.check_contract("sgd", LOSSES[loss] | {"rounds": 4}, mu)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_noise_it_learns_tastes_that_popularity_does_not_know(bench: Any, loss: str) -> None:
    assert bench.learned_recall("sgd", LOSSES[loss]) > bench.learned_recall("popularity", {}) + 0.2


def test_ratings_are_predicted_better_than_item_and_user_means_can(bench: Any) -> None:
    train, target = rated()
    settings = {"loss": "ratings", "regularization": 3.0} | SMALL  # few users: a weaker ridge than the default
    algorithm = make_algorithm("sgd", settings, PublicFacts(n_users=300, n_items=40))
    states = bench.states(algorithm, train)
    biases, learned = (rmse(algorithm.expected_ratings(state, train), target) for state in (states[1], states[-1]))  # type: ignore[attr-defined]
    assert learned < 0.75 * biases
    assert learned < 0.65


def test_expected_ratings_lie_on_the_scale_and_others_expect_none(bench: Any) -> None:
    train, _ = rated(60)
    settings = {"loss": "ratings", "lowest": 1, "highest": 5} | SMALL
    algorithm = make_algorithm("sgd", settings, PublicFacts(n_users=60, n_items=40))
    state = bench.states(algorithm, train)[-1]
    expected = algorithm.expected_ratings(state, train)
    assert expected.min() >= 1
    assert expected.max() <= 5
    implicit, state, train = bench.trained("sgd", LOSSES["implicit"])
    assert implicit.expected_ratings(state, train) is None


def test_popularity_can_be_given_a_say_in_the_ranking_of_expected_ratings(bench: Any) -> None:
    train, _ = rated(60)
    ranks = []
    for weight in (0.0, 100.0):
        settings = {"loss": "ratings", "popularity_weight": weight} | SMALL
        algorithm = make_algorithm("sgd", settings, PublicFacts(n_users=60, n_items=40))
        state = bench.states(algorithm, train)[-1]
        ranks.append(np.argsort(algorithm.scores(state, train), axis=1, kind="stable"))
    assert (np.diff(state["counts"][ranks[1]], axis=1) >= 0).all()
    assert (np.diff(state["counts"][ranks[0]], axis=1) < 0).any()


@pytest.mark.parametrize(
    "loss",
    [
        RatingLoss(1, 5, regularization=2.0, offset_regularization=1.0),
        ImplicitLoss(0.3, regularization=0.5),
        LogisticLoss(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_errors_are_minus_the_slope_of_the_loss_in_each_prediction(loss: Any) -> None:
    train, _ = rated(20)
    table = np.random.default_rng(3).normal(size=(40, 4))
    user = train.user(7)
    users = loss.users(table, user)
    errors = loss.errors(table, user, users, key=5)
    predicted = predict(table, errors.indptr, errors.indices, users)
    own = np.isin(errors.indices, user.indices)
    weights = np.zeros(len(own))
    weights[own] = user.weights

    def total(predictions: np.ndarray) -> float:
        if isinstance(loss, RatingLoss):
            return float(np.sum(((weights - 3) / 2 - predictions) ** 2) / 2)
        if isinstance(loss, ImplicitLoss):
            return float(np.sum(weights * (1 - predictions) ** 2) + 0.3 * np.sum(predictions**2)) / 2
        likelihood = np.where(own, -weights * np.log1p(np.exp(-predictions)), -np.log1p(np.exp(predictions)))
        return -float(likelihood.sum())

    for place in range(0, len(own), 5):
        step = np.zeros(len(own))
        step[place] = 1e-5
        slope = (total(predicted + step) - total(predicted - step)) / 2e-5
        assert errors.rows[place] == pytest.approx(-slope, abs=1e-6)


@pytest.mark.parametrize("loss", [RatingLoss(1, 5, regularization=2.0, offset_regularization=1.0)])
def test_the_user_side_of_ratings_is_where_the_users_own_loss_is_least(loss: RatingLoss) -> None:
    train, _ = rated(20)
    table = np.random.default_rng(3).normal(size=(40, 4))
    user = train.user(7)
    best = loss.users(table, user)

    def total(users: np.ndarray) -> float:
        errors = loss.errors(table, user, users, key=0).rows
        return float(errors @ errors + 2.0 * users[0, :-1] @ users[0, :-1] + users[0, -1] ** 2)

    rng = np.random.default_rng(1)
    assert all(total(best) < total(best + 0.01 * rng.normal(size=best.shape)) for _ in range(20))


def test_sampled_negatives_are_repeatable_even_and_none_of_the_users_own() -> None:
    train, _ = rated(400)
    indptr, indices, own = sample_negatives(train, 1, 7)
    assert np.array_equal(indices[own], train.indices)
    again = sample_negatives(train.user(5), 1, 7)
    part = slice(indptr[5], indptr[6])
    assert np.array_equal(again[1], indices[part])
    assert not np.array_equal(sample_negatives(train, 1, 8)[1], indices)
    free = 400 - np.bincount(train.indices, minlength=40)
    odds = np.bincount(indices[~own], minlength=40) / free
    assert odds.max() < 1.5 * odds.min()


def test_a_large_change_is_clipped_with_the_moments(bench: Any) -> None:
    algorithm, state, train = bench.trained("sgd", LOSSES["implicit"] | {"clip_norm": 1e-3})
    sent = bench.clipped(algorithm, state, 1, train.user(7)).vector(0)
    assert 0.99 < np.linalg.norm(sent) / 2**20 <= 1


def test_a_change_is_an_outer_product_over_the_users_own_ratings_only() -> None:
    train, _ = rated(20)
    algorithm = make_algorithm("sgd", {"loss": "ratings"} | SMALL, PublicFacts(n_users=20, n_items=40))
    first = {"counts": np.ones(40), "ratings": np.zeros(40), "mean": np.zeros(1)}
    state = algorithm.release(algorithm.start(), 0, first, dict.fromkeys(first, 0.0))
    change, _ = algorithm.contribute(state, 1, train.user(3)).blocks
    assert isinstance(change, OuterBlock)
    assert np.array_equal(change.indices, train.user(3).indices)
    assert change.columns[0, -1] == 1


def test_newtons_direction_solves_each_rows_system_and_noise_damps_it() -> None:
    rng = np.random.default_rng(2)
    root = rng.normal(size=(5, 5))
    moments, counts, ridge = root @ root.T, np.array([0.5, 3.0]), np.arange(1.0, 6.0)
    change = rng.normal(size=(2, 5))
    found = newton_direction(change, moments=moments, counts=counts, ridge=ridge)
    for row in range(2):
        assert np.allclose((counts[row] * moments + np.diag(ridge)) @ found[row], change[row], atol=1e-4)
    noised = newton_direction(change, moments=moments, counts=counts, ridge=ridge, noise=1.0, prior=0.1)
    assert np.linalg.norm(noised) < 0.5 * np.linalg.norm(found)


def test_a_rare_items_bias_is_what_popularity_and_features_say_of_it() -> None:
    rng = np.random.default_rng(4)
    genre = rng.normal(size=(300, 1))
    events = np.full(300, 200.0)
    excess = events * 0.3 * genre[:, 0]
    events[0], excess[0] = 1.0, -0.5
    settings = {"counts_noise": 2.0, "noise": 2.0, "ridge": 0.3, "prior": 0.015}
    informed = item_biases(excess, events, features=genre, **settings)
    assert informed[0] == pytest.approx(0.3 * genre[0, 0], abs=0.1)
    assert np.corrcoef(informed, genre[:, 0])[0, 1] > 0.99


def test_vectors_start_from_the_public_features_where_there_are_any() -> None:
    features = np.random.default_rng(0).normal(size=(30, 3))
    algorithm = make_algorithm("sgd", {"loss": "ratings"} | SMALL, PublicFacts(n_users=20, n_items=30, n_features=3))
    sums = {"counts": np.arange(30.0), "ratings": np.zeros(30), "mean": np.array([5.0])}
    table = algorithm.release({"features": features}, 0, sums, dict.fromkeys(sums, 0.0))["table"]
    for column in range(3):
        assert abs(np.corrcoef(table[:, column], features[:, column])[0, 1]) > 0.999
    assert "features" in algorithm_class("sgd").public_inputs


def test_a_scale_upside_down_is_refused() -> None:
    with pytest.raises(InputError, match="`lowest` must be below `highest`"):
        make_algorithm("sgd", {"lowest": 5, "highest": 1}, PublicFacts(n_users=1, n_items=1))


def test_ratings_with_plain_steps_are_refused() -> None:
    with pytest.raises(InputError, match="`optimizer` must be newton for ratings"):
        make_algorithm("sgd", {"loss": "ratings", "optimizer": "momentum"}, PublicFacts(n_users=1, n_items=1))


def test_more_signal_buys_more_rounds_for_implicit_feedback() -> None:
    def rounds(n_users: int) -> int:
        return len(make_algorithm("sgd", {}, PublicFacts(n_users=n_users, n_items=5, mu=1.0)).shares)

    assert rounds(100) == 3 < rounds(10_000) < rounds(10**6) == 25


@pytest.mark.parametrize("mu", [None, 1.5])
def test_ratings_keep_the_bits_of_a_user_in_every_batch_and_within_the_norm(bench: Any, mu: float | None) -> None:
    train, _ = rated(60)
    facts = PublicFacts(n_users=60, n_items=40, mu=mu)
    algorithm = make_algorithm("sgd", {"loss": "ratings", "rounds": 4} | SMALL, facts)
    for round_, state in enumerate(bench.states(algorithm, train)[:-1]):
        together = bench.clipped(algorithm, state, round_, train)
        for user in (0, 17, 59):
            alone = bench.clipped(algorithm, state, round_, train.user(user)).vector(0)
            assert np.array_equal(alone, together.vector(user))
            assert np.linalg.norm(alone) <= bench.grid


def test_ratings_survive_an_all_noise_release() -> None:
    train, _ = rated(60)
    algorithm = make_algorithm("sgd", {"loss": "ratings"} | SMALL, PublicFacts(n_users=60, n_items=40, mu=0.5))
    rng, state = np.random.default_rng(0), algorithm.start()
    for round_ in range(len(algorithm.shares)):
        sums = {spec.name: rng.normal(size=spec.shape) * 100 for spec in algorithm.layout(state, round_)}
        state = algorithm.release(state, round_, sums, dict.fromkeys(sums, 100.0))
        assert all(np.isfinite(array).all() for array in state.values())
    assert np.isfinite(algorithm.scores(state, train)).all()
