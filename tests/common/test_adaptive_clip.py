"""The adaptive clip: one shared piece, paid from the same norm, that finds the quantile it was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, State, make_algorithm
from palate_common.algorithms.parts.adaptive_clip import RANGE, SHARE, WITHIN, AdaptiveClip
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import DenseBlock, Update
from palate_core.layout import BlockSpec

LAYOUT = (BlockSpec(name="change", shape=(8,), weight=1.0),)
EVERYBODY = np.ones(400, np.bool_)


def changes(n_users: int = 400, seed: int = 0) -> np.ndarray:
    """Changes whose norms are lognormal around 0.02."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(n_users, 8))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * np.exp(rng.normal(size=(n_users, 1))) * 0.02


def known(norms: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: norms


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_the_clip_norm_finds_the_quantile_through_noise(quantile: float) -> None:
    adaptive, rng = AdaptiveClip(quantile, first=3.0), np.random.default_rng(1)
    state = adaptive.start()
    norms = np.linalg.norm(changes(), axis=1)
    for _ in range(60):
        _, (verdict,) = adaptive.factors_and_signs(state, known(norms), EVERYBODY)
        total = float(verdict.values.sum()) + rng.normal() * 10
        state = adaptive.follow(state, total=total, n_users=400)
    assert np.mean(norms <= adaptive.norm(state)) == pytest.approx(quantile, abs=0.1)


def test_a_contribution_has_norm_one_and_its_verdict_arrives_whole() -> None:
    adaptive, raw = AdaptiveClip(0.5, first=0.02), changes()
    layout = adaptive.layout(LAYOUT)
    assert sum(spec.weight**2 for spec in layout) == pytest.approx(1.0, abs=1e-12)
    assert layout[-1].weight == pytest.approx(math.sqrt(SHARE))
    norms = np.linalg.norm(raw, axis=1)
    factors, said = adaptive.factors_and_signs(adaptive.start(), known(norms), EVERYBODY)
    update = Update((DenseBlock(raw * factors[:, None]), *said), len(raw))
    clipped = clip(update, layout, clip_norm=1.0, grid=2**20)
    for user in range(len(raw)):
        vector = clipped.vector(user)
        assert np.linalg.norm(vector) <= 2**20
        expected = math.sqrt(SHARE) * (1 if norms[user] <= 0.02 else -1)
        assert vector[-1] / 2**20 == pytest.approx(expected, abs=1e-5)


def test_it_stays_within_bounds_whatever_the_noise_says() -> None:
    adaptive = AdaptiveClip(0.5, first=1.0)
    for total, bound in ((1e300, RANGE[0]), (-1e300, RANGE[1])):
        state = adaptive.start()
        for _ in range(100):
            state = adaptive.follow(state, total=total, n_users=10)
        assert adaptive.norm(state) == bound


def test_without_a_quantile_nothing_is_sent_and_nothing_moves() -> None:
    fixed = AdaptiveClip(None, first=0.25)
    assert fixed.layout(LAYOUT) == LAYOUT
    assert fixed.start() == {}
    factors, said = fixed.factors_and_signs({}, known(np.full(400, np.nan)), EVERYBODY)
    assert said == ()
    assert (factors == 4.0).all()
    assert fixed.follow({}, total=1.0, n_users=1) == {}


def test_those_who_have_nothing_to_send_say_nothing_and_no_number_is_no_verdict_of_others() -> None:
    adaptive = AdaptiveClip(0.5, first=0.25)
    norms = np.array([0.1, 1.0, 0.0, np.nan])
    factors, (said,) = adaptive.factors_and_signs(adaptive.start(), known(norms), np.array([True, True, False, True]))
    assert said.values[:3, 0].tolist() == [1, -1, 0]
    assert factors[:3].tolist() == [4, 1, 4]
    assert np.isnan(factors[3])  # so that clipping rejects this user's contribution, and no other


ALGORITHMS: dict[str, dict[str, Any]] = {
    "sgd": {"embedding_size": 4, "rounds": 5},
    "torch-mf": {"embedding_size": 4, "rounds": 5},
}


@pytest.mark.parametrize("mu", [None, 1.5])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_both_learners_keep_their_contract_with_it(bench: Any, name: str, mu: float | None) -> None:
    bench.check_contract(name, ALGORITHMS[name] | {"clip_quantile": 0.5}, mu)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_both_learners_charge_it_in_the_layout_and_follow_it(bench: Any, name: str) -> None:
    train = bench.made_tastes(300, seed=3)
    settings = ALGORITHMS[name] | {"clip_quantile": 0.5, "clip_norm": 900.0, "rounds": 20}
    algorithm = make_algorithm(name, settings, PublicFacts(n_users=300, n_items=train.n_items))
    states: list[State] = bench.states(algorithm, train)
    assert algorithm.layout(states[1], 1)[-1].name == WITHIN
    norms = [float(state["clip_norm"][0]) for state in states[1:]]
    assert norms[0] == 900.0
    assert norms[-1] < norms[0] / 50
    assert "clip_norm" in algorithm.training_only  # type: ignore[attr-defined]
