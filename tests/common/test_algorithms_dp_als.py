"""`dp-als`: the statistics it sends, and what the server makes of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dp_als import DpAls, DpAlsSettings, _positive

from palate_common.algorithms import PublicFacts, lent, make_algorithm
from palate_common.algorithms.parts.reconstruction import matrices, outer_svec, rebuild, symmetric_size
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseBlock, OuterBlock
from palate_core.errors import InputError

SETTINGS = {"embedding_size": 6}


@pytest.fixture(autouse=True)
def known_here() -> Iterator[None]:
    with lent(DpAls):
        yield


@pytest.mark.parametrize("mu", [None, 1.5])
def test_it_keeps_the_contract_of_an_algorithm(bench: Any, mu: float | None) -> None:
    bench.check_contract("dp-als", SETTINGS, mu)


def test_without_noise_it_learns_tastes_that_popularity_does_not_know(bench: Any) -> None:
    assert bench.learned_recall("dp-als", SETTINGS) > bench.learned_recall("popularity", {}) + 0.2


def test_svec_keeps_norms_and_comes_back() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 4))
    packed = outer_svec(vectors)
    assert packed.shape == (5, symmetric_size(4))
    assert np.allclose(np.linalg.norm(packed, axis=1), np.sum(vectors**2, axis=1))
    assert np.allclose(matrices(packed, 4), vectors[:, :, None] * vectors[:, None, :])


def test_a_rebuilt_vector_solves_the_users_ridge_regression() -> None:
    table = np.random.default_rng(1).normal(size=(8, 3))
    history = Interactions.from_pairs([0, 0], [2, 5], [1.0, 3.0], n_users=2, n_items=8)
    vectors = rebuild(table, history, unobserved_weight=0.2, regularization=0.5)
    everything = 0.2 * table.T @ table
    own = np.outer(table[2], table[2]) + 3 * np.outer(table[5], table[5])
    ridge = 0.5 * np.trace(everything) / 3 * np.eye(3)
    assert np.allclose((own + everything + ridge) @ vectors[0], table[2] + 3 * table[5])
    assert not vectors[1].any()


def test_a_contribution_holds_both_statistics_of_every_head_item(bench: Any) -> None:
    algorithm, state, train = bench.trained("dp-als", SETTINGS)
    items, users = algorithm.contribute(state, 1, train.user(3)).blocks
    assert isinstance(items, OuterBlock)
    assert isinstance(users, DenseBlock)
    vector = items.columns[0, :6] / np.linalg.norm(items.columns[0, :6])
    gramian = items.columns[0, 6:] / np.linalg.norm(items.columns[0, 6:])
    assert np.allclose(gramian, outer_svec(vector[None])[0])
    assert np.allclose(users.values[0], gramian)
    assert np.isclose(np.linalg.norm(items.rows), 1)
    assert np.isclose(np.linalg.norm(items.columns), 1)


def test_the_statistics_shares_of_the_squared_norm_are_as_set() -> None:
    settings = DpAlsSettings(embedding_size=3, gramian_share=0.3, users_share=0.1)
    algorithm = DpAls(settings, PublicFacts(n_users=50, n_items=9))
    state = algorithm.release(algorithm.start(), 0, {"counts": np.arange(9.0)}, {"counts": 0.0})
    history = Interactions.from_pairs([0, 0], [1, 4], n_users=1, n_items=9)
    items, users = algorithm.contribute(state, 1, history).blocks
    assert isinstance(items, OuterBlock)
    assert isinstance(users, DenseBlock)
    weights = [spec.weight for spec in algorithm.layout(state, 1)]
    squares = [
        weights[0] ** 2 * np.sum(items.columns[:, :3] ** 2),
        weights[0] ** 2 * np.sum(items.columns[:, 3:] ** 2),
        weights[1] ** 2 * np.sum(users.values**2),
    ]
    assert np.allclose(squares, [0.6, 0.3, 0.1])


def test_a_gramian_full_of_noise_becomes_positive() -> None:
    noise = np.random.default_rng(2).normal(size=(4, 5, 5))
    symmetric = (noise + noise.transpose(0, 2, 1)) / 2
    projected = _positive(symmetric)
    assert np.linalg.eigvalsh(projected).min() > -1e-9
    assert np.allclose(_positive(projected), projected)


def test_norm_shares_that_leave_nothing_for_the_right_hand_sides_are_refused() -> None:
    with pytest.raises(InputError, match=r"`algorithm\.gramian_share`"):
        make_algorithm("dp-als", {"gramian_share": 0.6, "users_share": 0.3}, PublicFacts(n_users=1, n_items=1))
