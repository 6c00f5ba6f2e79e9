"""`dp-ease`: a contribution is a Gram matrix of norm 1, and without noise the map is that of EASE."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dp_ease import DpEase, _shrunk

from palate_common.algorithms import lent
from palate_common.mechanism.update import OuterBlock


@pytest.fixture(autouse=True)
def known_here() -> Iterator[None]:
    with lent(DpEase):
        yield


@pytest.mark.parametrize("mu", [None, 1.5])
def test_it_keeps_the_contract_of_an_algorithm(bench: Any, mu: float | None) -> None:
    bench.check_contract("dp-ease", {}, mu)


def test_without_noise_it_learns_tastes_that_popularity_does_not_know(bench: Any) -> None:
    assert bench.learned_recall("dp-ease", {}) > bench.learned_recall("popularity", {}) + 0.2


def test_a_contribution_is_a_gram_matrix_of_norm_one(bench: Any) -> None:
    algorithm, state, train = bench.trained("dp-ease", {"weight_exponent": 0.0})
    (block,) = algorithm.contribute(state, 1, train.user(7)).blocks
    assert isinstance(block, OuterBlock)
    sent = np.zeros((bench.n_items, bench.n_items))
    sent[block.indices] = block.rows[:, None] * block.columns[0]
    has = train.user(7).dense()[0].astype(np.float64)
    assert np.allclose(sent, np.outer(has, has) / has.sum())
    assert np.linalg.norm(sent) == pytest.approx(1)
    assert 0.99 < np.linalg.norm(bench.clipped(algorithm, state, 1, train.user(7)).vector(0)) / 2**20 <= 1


@pytest.mark.parametrize("exponent", [0.0, -0.5])
def test_without_noise_the_map_is_that_of_ease_on_weighted_histories(bench: Any, exponent: float) -> None:
    _, state, train = bench.trained("dp-ease", {"weight_exponent": exponent, "regularization": 0.5})
    weights = state["weight"].astype(np.float64) ** exponent
    x = train.dense() * weights
    x /= np.maximum(np.linalg.norm(x, axis=1), 1e-12)[:, None]
    gram = x.T @ x
    # The ridge regression of each item on all others, one at a time: what EASE's closed form stands for.
    ridge = 0.5 * np.trace(gram) / bench.n_items
    for item in (0, 17, 60):
        others = np.delete(np.arange(bench.n_items), item)
        solved = np.linalg.solve(gram[np.ix_(others, others)] + ridge * np.eye(bench.n_items - 1), gram[others, item])
        assert np.allclose(state["map"][others, item], solved * weights[others] / weights[item], atol=5e-3)
    assert not np.diagonal(state["map"]).any()


def test_eigenvalues_in_the_noise_are_dropped_and_others_shrunk() -> None:
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    shrunk = _shrunk((vectors * [10.0, 5.0, 1.0, -6.0]) @ vectors.T, edge=1.5)
    expected = (vectors * [np.sqrt(91), 4.0, 0, 0]) @ vectors.T
    assert np.allclose(shrunk, expected)
