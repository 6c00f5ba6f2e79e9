"""`compression`: fewer numbers from public facts, and learning that goes on."""

from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.algorithms.parts.compression import Sizes
from palate_core.errors import InputError
from palate_core.layout import layout_size

CASES: list[tuple[str, dict[str, Any]]] = [
    ("als", {}),
    ("sgd", {"rounds": 6}),
    ("sgd", {"loss": "logistic", "optimizer": "adam", "rounds": 6}),
    ("sgd", {"loss": "ratings", "rounds": 5}),
]


def numbers(name: str, settings: dict[str, Any], facts: PublicFacts) -> int:
    """What a device sends over the run: the layouts of round 0, and of later rounds as sized."""
    algorithm: Any = make_algorithm(name, settings, facts)
    first = layout_size(algorithm.layout(algorithm.start(), 0))
    rows = np.zeros((algorithm.plan.head_items, algorithm.plan.embedding_size)) if name == "als" else np.zeros(0)
    if name == "als":
        return int(first + (len(algorithm.shares) - 1) * layout_size(algorithm.layout({"table": rows}, 1)))
    head = np.arange(algorithm.head_items)
    return int(first + (len(algorithm.shares) - 1) * layout_size(algorithm.layout({"head": head}, 1)))


@pytest.mark.parametrize("factor", [2, 8, 32])
@pytest.mark.parametrize("mu", [None, 1.2])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_run_sends_so_many_times_fewer_numbers(
    name: str, settings: dict[str, Any], mu: float | None, factor: int
) -> None:
    facts = PublicFacts(n_users=50_000, n_items=200_000, mu=mu)
    plain, small = (numbers(name, settings | {"compression": each}, facts) for each in (1, factor))
    assert plain == numbers(name, settings, facts)
    assert factor <= plain / (small - 1) < 1.3 * factor  # a mean rating is one number more


def test_a_small_catalogues_counts_stay_whole() -> None:
    plain = Sizes(counts=3706, rounds=4, rows=3706, width=96)
    assert plain.compress(8, fewest=2).counts == 3706
    assert plain.compress(1, fewest=2) is plain


def test_too_few_numbers_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="`compression` must leave a round 16 numbers or more, got 1000: "):
        make_algorithm("als", {"compression": 1000}, PublicFacts(n_users=500, n_items=1000, mu=1.0))
    with pytest.raises(InputError, match=r"`compression` must leave a round 16 numbers or more, got 2: 0\Z"):
        make_algorithm("als", {"compression": 2, "rounds": 2}, PublicFacts(n_users=500, n_items=1, mu=1.0))
    with pytest.raises(InputError, match=r"`algorithm\.compression`: "):
        make_algorithm("als", {"compression": 0.5}, PublicFacts(n_users=500, n_items=1000))


@pytest.mark.parametrize("mu", [None, 1.5])
@pytest.mark.parametrize(("name", "settings"), [CASES[0], ("sgd", {"optimizer": "momentum"}), CASES[2]])
def test_norms_bits_and_noise_hold_with_sketched_counts(
    bench: Any, name: str, settings: dict[str, Any], mu: float | None
) -> None:
    facts = PublicFacts(n_users=100_000, n_items=bench.n_items, mu=mu, seed=6)
    sizes = {"embedding_size": 4, "head_items": 40, "compression": 3.1}
    algorithm: Any = make_algorithm(name, settings | sizes | {"rounds": 3}, facts)
    assert not algorithm.sketch.whole
    train = bench.made_tastes(60, seed=4)
    before = bench.states(algorithm, train)
    for round_, state in enumerate(before[:-1]):
        together = bench.clipped(algorithm, state, round_, train)
        for user in (0, 1, 33, 59):
            alone = bench.clipped(algorithm, state, round_, train.user(user)).vector(0)
            assert np.array_equal(alone, together.vector(user))
            assert np.linalg.norm(alone) <= bench.grid
    assert np.isfinite(algorithm.scores(before[-1], train)).all()
    rng, state = np.random.default_rng(0), algorithm.start()
    for round_ in range(len(algorithm.shares)):
        sums = {spec.name: rng.normal(size=spec.shape) * 100 for spec in algorithm.layout(state, round_)}
        state = algorithm.release(state, round_, sums, dict.fromkeys(sums, 100.0))
        assert all(np.isfinite(array).all() for array in state.values())


def test_tastes_are_learned_from_a_third_of_the_numbers(bench: Any) -> None:
    settings = {"embedding_size": 8, "rounds": 4}
    small = bench.learned_recall("als", settings | {"compression": 3})
    assert small > bench.learned_recall("popularity", {}) + 0.1
