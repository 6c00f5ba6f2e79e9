"""What the tests of single algorithms share: made tastes, training without noise, the contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import Algorithm, PublicFacts, State, make_algorithm
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, split_vector

GRID = 2**20
TASTES, ITEMS = 4, 80


def made_tastes(n_users: int, seed: int) -> Interactions:
    """Users with one of four tastes (rank 4): 12 items, nine in ten from their own quarter of the catalogue.

    User 0 has nothing and user 1 a single item.
    """
    rng = np.random.default_rng(seed)
    quarter = np.arange(ITEMS) % TASTES
    chosen = []
    for user in range(n_users):
        odds = np.where(quarter == user % TASTES, 0.9, 0.1 / (TASTES - 1)) / (1 + np.arange(ITEMS) // TASTES)
        chosen.append(rng.choice(ITEMS, {0: 0, 1: 1}.get(user, 12), replace=False, p=odds / odds.sum()))
    owners = np.repeat(np.arange(n_users), [len(items) for items in chosen])
    return Interactions.from_pairs(owners, np.concatenate(chosen), n_users=n_users, n_items=ITEMS)


def clipped(algorithm: Algorithm, state: State, round_: int, histories: Interactions) -> ClippedUpdate:
    """What leaves the devices."""
    update = algorithm.contribute(state, round_, histories)
    return clip(update, algorithm.layout(state, round_), clip_norm=1.0, grid=GRID)


def states(algorithm: Algorithm, train: Interactions) -> list[State]:
    """The public state before each round and after the last, without noise in the sums."""
    found = [algorithm.start()]
    for round_ in range(len(algorithm.shares)):
        layout = algorithm.layout(found[-1], round_)
        blocks = split_vector(clipped(algorithm, found[-1], round_, train).total(), layout)
        sums = {spec.name: blocks[spec.name] / (GRID * spec.weight) for spec in layout}
        found.append(algorithm.release(found[-1], round_, sums, dict.fromkeys(sums, 0.0)))
    return found


def trained(name: str, settings: Mapping[str, Any]) -> tuple[Algorithm, State, Interactions]:
    """An algorithm, its last state and what it learned from."""
    train = made_tastes(400, seed=1)
    algorithm = make_algorithm(name, settings, PublicFacts(n_users=train.n_users, n_items=train.n_items))
    return algorithm, states(algorithm, train)[-1], train


def learned_recall(name: str, settings: Mapping[str, Any]) -> float:
    """Recall at 4 of new users' last four items, from their first eight."""
    algorithm, state, _ = trained(name, settings)
    users = made_tastes(202, seed=2).users(slice(2, 202))
    rng = np.random.default_rng(3)
    given = np.concatenate([rng.permutation(12) < 8 for _ in range(users.n_users)])
    owners = users.owners()
    foldin = Interactions.from_pairs(owners[given], users.indices[given], n_users=users.n_users, n_items=ITEMS)
    target = Interactions.from_pairs(owners[~given], users.indices[~given], n_users=users.n_users, n_items=ITEMS)
    scores = np.array(algorithm.scores(state, foldin), np.float64)
    scores[foldin.dense()] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    return float(np.take_along_axis(target.dense(), best, axis=1).mean())


def check_contract(name: str, settings: Mapping[str, Any], mu: float | None) -> None:
    """Everything that holds for each algorithm and round."""
    train, rng = made_tastes(60, seed=4), np.random.default_rng(5)
    algorithm = make_algorithm(name, settings, PublicFacts(n_users=100_000, n_items=ITEMS, mu=mu, seed=6))
    assert min(algorithm.shares) > 0
    assert math.isclose(sum(algorithm.shares), 1.0, abs_tol=1e-9)
    before = states(algorithm, train)
    for round_, state in enumerate(before[:-1]):
        layout = algorithm.layout(state, round_)
        assert math.isclose(sum(spec.weight**2 for spec in layout), 1.0, abs_tol=1e-9)
        together = clipped(algorithm, state, round_, train)
        assert together.accepted.all()
        assert not together.vector(0).any()
        for user in (0, 1, 2, 33, 59):
            alone = clipped(algorithm, state, round_, train.user(user)).vector(0)
            assert np.array_equal(alone, together.vector(user))
            assert math.hypot(*alone.tolist()) <= GRID
    for state in before[1:]:
        scores = algorithm.scores(state, train)
        assert scores.shape == (60, ITEMS)
        assert np.isfinite(scores).all()
        assert np.allclose(algorithm.scores(state, train.user(5))[0], scores[5])
        assert np.array_equal(np.argsort(scores[0]), np.argsort(state["counts"]))  # no history: popularity
    state = algorithm.start()
    for round_ in range(len(algorithm.shares)):
        sums = {spec.name: rng.normal(size=spec.shape) * 100 for spec in algorithm.layout(state, round_)}
        state = algorithm.release(state, round_, sums, dict.fromkeys(sums, 100.0))
        assert all(np.isfinite(array).all() for array in state.values())
    assert np.isfinite(algorithm.scores(state, train)).all()


class Bench:
    """The functions above, for the fixture."""

    n_items = ITEMS
    grid = GRID
    made_tastes = staticmethod(made_tastes)
    clipped = staticmethod(clipped)
    states = staticmethod(states)
    trained = staticmethod(trained)
    learned_recall = staticmethod(learned_recall)
    check_contract = staticmethod(check_contract)


@pytest.fixture
def bench() -> Bench:
    """Made data and a little machinery to try an algorithm on."""
    return Bench()
