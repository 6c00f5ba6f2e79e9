"""The reference: it is right by hand, it agrees with production on whatever is made up, and a difference is told."""

from __future__ import annotations

from fractions import Fraction
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanism.checks import differential
from palate_audit.evidence.evidence import Verdict
from palate_client.rounds import contribution as path
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, DenseBlock, Update
from palate_common.rounds.shares import squares
from palate_core.accounting import charged_mu2, delta_of, epsilon_of
from palate_core.errors import IntegrityError
from palate_core.layout import BlockSpec
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SeededSource
from palate_sim.accounting import account
from reference import cost
from reference.cases import KINDS, cases, named_twice
from reference.contribution import contribution, total
from reference.ledgers import DeviceBook, PopulationBook
from reference.noise import discrete_gaussian, roots, shares


class Kept:
    """A seeded source that keeps what it gave."""

    secure = False

    def __init__(self, seed: bytes) -> None:
        self.source, self.words_given = SeededSource(seed), list[int]()

    def words(self, n: int) -> npt.NDArray[np.uint64]:
        found = self.source.words(n)
        self.words_given += found.tolist()
        return found


@given(st.integers(0, 2**32))
def test_sums_are_productions(seed: int) -> None:
    (case,) = cases(1, seed=seed)
    batch = clip(case.update, case.layout, clip_norm=case.clip_norm, grid=case.grid)
    assert batch.total().tolist() == total(case.update, case.layout, clip_norm=case.clip_norm, grid=case.grid)
    for user in range(case.update.n_users):
        mine = contribution(case.update, case.layout, user, clip_norm=case.clip_norm, grid=case.grid)
        assert batch.vector(user).tolist() == mine
        assert sum(step**2 for step in mine) <= case.grid**2


@given(st.integers(0, 300), st.sampled_from([1, 2, 3, 64, 1001, 2**14 + 1, 2**30]), st.binary(min_size=1, max_size=4))
def test_noise_is_productions_and_takes_the_same_words(n: int, sigma: int, seed: bytes) -> None:
    source = Kept(seed)
    made = sample_discrete_gaussian(n, sigma=sigma, source=source)
    words = iter(source.words_given)
    assert discrete_gaussian(words, n, sigma) == made.tolist()
    assert next(words, None) is None


def test_noise_needs_its_words() -> None:
    with pytest.raises(IntegrityError, match="more words than there are"):
        shares(iter(range(100)), 50, 64, 3)


@given(st.integers(1, 30_000))
def test_roots_are_productions(number: int) -> None:
    assert roots(number) == list(squares(number))
    assert sum(root**2 for root in roots(number)) == number


@given(st.floats(0.01, 12.0), st.sampled_from([1e-5, 1e-6, 1e-9]))
def test_epsilon_is_productions(mu: float, delta: float) -> None:
    expected = epsilon_of(mu=mu, delta=delta)
    assert cost.epsilon(mu2=mu * mu, delta=delta) == pytest.approx(expected, rel=1e-7, abs=1e-9)
    if expected > 0.01:
        assert cost.delta(mu2=mu * mu, epsilon=expected) == pytest.approx(delta_of(epsilon=expected, mu=mu), rel=1e-6)


def test_charges_are_exact() -> None:
    assert cost.charge(grid=2**14, sigma=100) == Fraction(2**28, 9996)
    assert cost.charge(grid=2**14, sigma=100) <= Fraction(charged_mu2(sensitivity=2**14, sigma=100))
    assert account([], delta=1e-6).mu2 == cost.composed([]) == 0


@pytest.mark.parametrize("mu2", [0.01, 1.0, 9.0])
@pytest.mark.parametrize("removed", [True, False])
def test_a_coin_that_always_says_yes_is_no_sampling(mu2: float, removed: bool) -> None:
    found = cost.sampled_delta(mu2=mu2, inclusion=1.0, epsilon=0.5, removed=removed)
    assert found == pytest.approx(cost.delta(mu2=mu2, epsilon=0.5), rel=1e-8)


def test_every_kind_of_block_is_made() -> None:
    said = " ".join(case.name for case in cases(60, seed=1))
    assert all(kind in said for kind in KINDS)
    assert len(list(named_twice())) == 4


def test_a_clip_that_is_a_little_off_is_told() -> None:
    def another(update: Update, layout: tuple[BlockSpec, ...], *, clip_norm: float, grid: int) -> ClippedUpdate:
        return clip(update, layout, clip_norm=clip_norm * 1.0001, grid=grid)

    with mock.patch.object(path, "clip", another):
        found = list(differential._made(40))
    assert [each.verdict for each in found] == [Verdict.ALARM, Verdict.ALARM, Verdict.PASS]
    assert "is right" in found[0].said


def test_a_number_that_is_not_finite_is_nothing() -> None:
    layout = (BlockSpec(name="x", shape=(2,), weight=1.0),)
    update = Update((DenseBlock(np.array([[1.0, np.nan], [0.5, 0.0]])),), 2)
    assert total(update, layout, clip_norm=1.0, grid=1000) == [499, 0]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.floats(0.01, 0.5)), min_size=1, max_size=5))
def test_a_round_of_sub_cohorts_costs_the_population_what_its_dearest_device_has_paid(
    rounds: list[tuple[int, int, float]],
) -> None:
    """Attempts, sub-cohorts and price of each round: who is in one of k sums pays once, and is in no second one."""
    people, devices, always = PopulationBook(), DeviceBook(), 0
    people.open("run")
    for round_, (attempts, parts, price) in enumerate(rounds):
        for attempt in range(attempts):
            assert people.charge("run", round_, attempt, price, 100.0, reserves=True)
            invited = [always, *range(1 + attempt, 20)]  # others come and go
            for part in range(parts):
                members = invited[part::parts]
                assert devices.charge(members, "run", round_, attempt, price) == [True] * len(members)
            assert devices.charge([invited[-1]], "run", round_, attempt, price) is None
    assert max(map(devices.spent, range(20))) == devices.spent(always) == people.of_run("run")
    assert people.attempts() == sum(attempts for attempts, _, _ in rounds)
