"""Warm start: what a former release says is weighed by its known noise, and nothing else enters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, State, make_algorithm, next_state
from palate_common.algorithms.als.warm import FORMER, combined_counts, combined_products, hand_over, signal_of
from palate_core.accounting import mu_of
from palate_core.errors import InputError

DELTA = 1e-5


def handed(counts: np.ndarray, noise: float, *, users: int = 100, rows: np.ndarray | None = None, n: int = 0) -> State:
    """A former release of counts alone."""
    state = {"counts": counts.astype(np.float32), "noise": np.array([noise, 0.0], np.float32)}
    rows = np.arange(len(counts)) if rows is None else rows
    return hand_over(state, n_users=users, fold_exponent=-0.3, rows=rows, n_items=n or len(counts))


def test_two_looks_at_one_thing_have_the_noise_of_both() -> None:
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 40, 20_000)
    old, new = truth + rng.normal(0, 3, len(truth)), truth + rng.normal(0, 4, len(truth))
    counts, noise = combined_counts(new, 4.0, handed(old, 3.0), 100)
    assert noise == pytest.approx(1 / math.sqrt(1 / 9 + 1 / 16))
    assert np.std(counts - truth) == pytest.approx(noise, rel=0.03)


def test_what_has_drifted_counts_less() -> None:
    rng = np.random.default_rng(4)
    truth = rng.uniform(20, 400, 5_000)
    before = truth * rng.uniform(0.2, 1.8, len(truth))
    old, new = before + rng.normal(0, 3, len(truth)), truth + rng.normal(0, 3, len(truth))
    counts, _ = combined_counts(new, 3.0, handed(old, 3.0), 100)
    assert np.std(counts - truth) < 1.2 * 3.0
    assert np.std((new + old) / 2 - truth) > 10


def test_former_counts_are_scaled_to_as_many_users() -> None:
    old = np.full(50, 10.0)
    counts, noise = combined_counts(np.full(50, 20.0), 1.0, handed(old, 1.0, users=100), 200)
    np.testing.assert_allclose(counts, 20.0)
    assert noise == pytest.approx(1 / math.sqrt(1 + 1 / 4))


def test_a_new_item_has_this_releases_count() -> None:
    former = handed(np.array([5.0, 7.0]), 1.0, rows=np.array([2, 0]), n=3)
    assert former["former_counts"].tolist() == [7, 0, 5]
    counts, _ = combined_counts(np.array([9.0, 4.0, 5.0]), 1.0, former, 100)
    assert counts[1] == 4.0
    assert 7 < counts[0] < 9


def als(*, users: int, items: int, mu: float = 1.0, former_signal: float = 0.0):
    return make_algorithm("als", {}, PublicFacts(n_users=users, n_items=items, mu=mu, former_signal=former_signal))


def released(algorithm, inputs: State, *, n_items: int, seed: int) -> State:
    """Every release of two planted tastes, noise included."""
    rng, state = np.random.default_rng(seed), algorithm.start()
    taste = np.sign(np.random.default_rng(1).normal(size=(n_items, 2)))
    for round_, share in enumerate(algorithm.shares):
        sigma = 1 / (algorithm.facts.mu * math.sqrt(share))
        if round_ == 0:
            name, exact = "counts", np.linspace(900, 100, n_items)
        else:
            name, exact = "products", 400 * taste @ np.linalg.qr(rng.normal(size=(state["table"].shape[1], 2)))[0].T
            exact = exact[state["head"]]
        noised = {name: exact + rng.normal(0, sigma, exact.shape)}
        state = next_state(algorithm, state, round_, noised, {name: sigma}, inputs)
    return state


def test_a_release_that_starts_from_one_needs_one_round_and_knows_more() -> None:
    first = als(users=4000, items=80)
    state = released(first, {}, n_items=80, seed=2)
    inputs = first.hand_over(state, np.arange(80), 80)
    assert set(inputs) == set(FORMER)
    second = als(users=4000, items=80, former_signal=signal_of(inputs))
    assert (len(first.shares), len(second.shares)) == (4, 2)
    later = released(second, inputs, n_items=80, seed=3)
    alone = released(als(users=4000, items=80, former_signal=1.0), {}, n_items=80, seed=3)
    assert not set(later) & set(FORMER)
    assert (later["noise"] < alone["noise"]).all()
    assert later["accuracy"][:2].mean() > alone["accuracy"][:2].mean()


def test_what_is_handed_over_makes_the_former_directions_again() -> None:
    first = als(users=4000, items=80)
    state = released(first, {}, n_items=80, seed=2)
    rows = np.random.default_rng(5).permutation(90)[:80]
    inputs = first.hand_over(state, rows, 90)
    assert (np.diff(inputs["former_head"]) > 0).all()
    order = np.argsort(rows[state["head"]])
    weight = state["weight"].astype(float)[order]
    again = np.linalg.svd((weight**-0.3)[:, None] * inputs["former_products"], full_matrices=False)
    np.testing.assert_allclose(again[1], state["values"], rtol=1e-4)
    np.testing.assert_allclose(abs(again[0].T @ state["basis"][order]), np.eye(len(again[1])), atol=1e-3)


def test_an_item_that_the_former_head_lacks_has_the_new_part_only() -> None:
    state = {
        "head": np.array([0, 1, 2]), "counts": np.full(3, 10.0), "floor": np.ones(1), "former_counts": np.full(3, 10.0),
        "former_head": np.array([0, 2]), "former_products": np.ones((2, 2)), "former_noise": np.array([1.0, 2.0]),
        "former_users": np.array([50.0]),
    }  # fmt: skip
    joined, noise = combined_products(np.ones((3, 2)), 2.0, state, 50, 1.0)
    assert noise == pytest.approx(math.sqrt(2))
    np.testing.assert_allclose(joined[1], [1, 1, 0, 0])
    np.testing.assert_allclose(joined[0], np.full(4, math.sqrt(0.5)))


def test_a_release_without_known_noise_is_refused() -> None:
    with pytest.raises(InputError, match="must say how much noise"):
        handed(np.ones(3), 0.0)


def test_without_a_former_release_nothing_is_written_about_one() -> None:
    facts = PublicFacts(n_users=10, n_items=3, mu=mu_of(epsilon=1, delta=DELTA))
    assert "former_signal" not in facts.model_dump(mode="json")
    assert facts.model_copy(update={"former_signal": 2.0}).model_dump()["former_signal"] == 2.0
