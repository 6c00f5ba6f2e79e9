"""Projection: exact where the loss falls as one over the users, and never changed where nobody is new."""

from __future__ import annotations

import numpy as np
import pytest

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.evaluation.projection import halves, with_new_users
from palate_sim.evaluation.rehearsal import rehearse


@pytest.mark.parametrize("users", [1000, 1500, 10_000, 800_000])
def test_a_loss_that_falls_as_one_over_the_users_is_found_exactly(users: int) -> None:
    def quality(trained: int) -> float:
        return 0.3 - 40.0 / trained

    found = with_new_users(quality(1000), [quality(500)] * 2, trained=1000, users=users)
    assert found == pytest.approx(quality(users), abs=1e-12)


def test_halves_share_no_user_and_follow_from_the_seed() -> None:
    batch = Interactions.from_pairs(range(101), range(101), n_users=101, n_items=101)
    one, two = halves(batch, seed=3)
    assert (one.n_users, two.n_users) == (50, 50)
    assert len({*one.indices.tolist(), *two.indices.tolist()}) == 100
    assert (np.diff(one.indices) > 0).all()
    again, other = halves(batch, seed=3)[0], halves(batch, seed=4)[0]
    assert np.array_equal(one.indices, again.indices)
    assert not np.array_equal(one.indices, other.indices)


def test_half_of_the_users_can_speak_of_the_same_population() -> None:
    rng = np.random.default_rng(1)
    batch = Interactions.from_pairs(np.repeat(np.arange(80), 5), rng.integers(0, 20, 400), n_users=80, n_items=20)
    half, _ = halves(batch, seed=0)
    model = rehearse(half, algorithm="popularity", settings={}, epsilon=5.0, delta=1e-5, users=800)
    assert model.header.facts.n_users == 800


@pytest.mark.parametrize(("halved", "trained", "users"), [([], 5, 10), ([0.1], 0, 10), ([0.1], 11, 10)])
def test_a_projection_to_fewer_users_or_without_halves_is_refused(
    halved: list[float], trained: int, users: int
) -> None:
    with pytest.raises(InputError, match="needs halves and more users"):
        with_new_users(0.2, halved, trained=trained, users=users)
