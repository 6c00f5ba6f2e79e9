"""`dp-fedavg`: the change a device sends is that of its loss, and the server's steps learn."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dp_fedavg import DpFedAvg

from palate_common.algorithms import PublicFacts, lent, make_algorithm
from palate_common.mechanism.update import OuterBlock

SETTINGS = {"embedding_size": 6, "rounds": 11}


@pytest.fixture(autouse=True)
def known_here() -> Iterator[None]:
    with lent(DpFedAvg):
        yield


@pytest.mark.parametrize("mu", [None, 1.5])
def test_it_keeps_the_contract_of_an_algorithm(bench: Any, mu: float | None) -> None:
    bench.check_contract("dp-fedavg", SETTINGS, mu)


def test_without_noise_it_learns_tastes_that_popularity_does_not_know(bench: Any) -> None:
    assert bench.learned_recall("dp-fedavg", SETTINGS) > bench.learned_recall("popularity", {}) + 0.2


def test_the_change_is_half_the_negative_gradient_of_the_users_loss(bench: Any) -> None:
    algorithm, state, train = bench.trained("dp-fedavg", SETTINGS | {"clip_norm": 4.0, "unobserved_weight": 0.2})
    (block,) = algorithm.contribute(state, 1, train.user(7)).blocks
    assert isinstance(block, OuterBlock)
    table, user = state["table"].astype(np.float64), block.columns[0]
    own = train.user(7).dense()[0]

    def loss(moved: np.ndarray) -> float:
        fitted = moved @ user
        return float(np.sum((1 - fitted[own]) ** 2) + 0.2 * np.sum(fitted**2))

    for item, direction in ((0, 1), (13, 2), (int(np.flatnonzero(own)[0]), 3)):
        step = np.zeros_like(table)
        step[item, direction] = 1e-5
        slope = (loss(table + step) - loss(table - step)) / 2e-5
        assert block.rows[item] * user[direction] * 4.0 == pytest.approx(-slope / 2, abs=1e-6)


def test_a_large_change_is_clipped_and_every_item_takes_part_in_it(bench: Any) -> None:
    algorithm, state, train = bench.trained("dp-fedavg", SETTINGS | {"clip_norm": 1e-3})
    sent = bench.clipped(algorithm, state, 1, train.user(7)).vector(0).reshape(bench.n_items, 6)
    assert 0.99 < np.linalg.norm(sent) / 2**20 <= 1
    assert sent.any(axis=1).all()


def test_the_servers_steps_carry_momentum() -> None:
    facts = PublicFacts(n_users=10, n_items=6)
    algorithm = make_algorithm("dp-fedavg", {"embedding_size": 2, "server_rate": 5.0, "momentum": 0.5}, facts)
    state = algorithm.release(algorithm.start(), 0, {"counts": np.arange(6.0)}, {"counts": 0.0})
    ones = {"change": np.ones((6, 2))}
    first = algorithm.release(state, 1, ones, {"change": 0.0})
    second = algorithm.release(first, 2, ones, {"change": 0.0})
    assert np.allclose(first["table"] - state["table"], 0.5)
    assert np.allclose(second["table"] - first["table"], 0.75)


def test_more_signal_buys_more_rounds() -> None:
    def rounds(n_users: int) -> int:
        return len(make_algorithm("dp-fedavg", {}, PublicFacts(n_users=n_users, n_items=5, mu=1.0)).shares)

    assert rounds(100) == 3 < rounds(5000) < rounds(10**6) == 25


def test_the_table_moves_in_every_round(bench: Any) -> None:
    algorithm, _, _ = bench.trained("dp-fedavg", SETTINGS | {"rounds": 3})
    found = bench.states(algorithm, bench.made_tastes(50, seed=9))
    assert not np.array_equal(found[1]["table"], found[2]["table"])
    assert not np.array_equal(found[2]["table"], found[3]["table"])
