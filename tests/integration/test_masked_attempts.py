"""Masked attempts from the first byte to the sum: exact, or cleanly ended, whoever drops out when."""

from __future__ import annotations

import numpy as np
import pytest

from mechanism.secagg.cohort import MaskedCohort
from palate_core.errors import IntegrityError
from palate_core.masks.messages import Step


@pytest.mark.parametrize("bits", [1, 7, 31, 32, 33, 63, 64])
def test_every_modulus_gives_the_exact_sum_as_signed_numbers(bits: int) -> None:
    world = MaskedCohort(4, n_min=4, bits=max(bits, 4), size=9)
    total = world.run().total
    assert total.dtype == np.int64
    assert total.tolist() == world.vectors.sum(axis=0).tolist()


@pytest.mark.parametrize(("n", "lost"), [(60, 10), pytest.param(260, 24, marks=pytest.mark.soak)])
def test_a_ring_tosses_again_for_a_missing_nonce_and_gives_the_survivors_sum(n: int, lost: int) -> None:
    world = MaskedCohort(n, n_min=n - lost, n_max=260, c_max=n // 20, size=3)
    missing = {
        Step.COMMIT: [1],
        Step.ADVERTISE: [2, 3],
        Step.SHARE: [50, 55],
        Step.INPUT: [5, 27, 30],
        Step.CONSISTENCY: [40],
        Step.UNMASK: [7],
    }
    server = world.begin()
    steps = []
    while not server.finished:
        steps.append(server.step)
        # The two show no nonce at first, and nobody who is lost comes back for the second toss.
        world.exchange(server, missing)
    assert steps == [Step.COMMIT, Step.ADVERTISE, *(step for step in Step if step is not Step.OPEN)]
    assert server.survivors == tuple(sorted(set(range(n)) - {1, 2, 3, 50, 55, 5, 27, 30}))
    assert server.total.tolist() == world.sum_of(server.survivors).tolist()
    assert world.refusals == []


def test_a_ring_ends_when_its_tosses_are_spent() -> None:
    world = MaskedCohort(12, n_min=6, n_max=251, max_tosses=2)
    server = world.begin()
    world.exchange(server, {})
    world.exchange(server, {Step.ADVERTISE: [3]})
    world.exchange(server, {})
    with pytest.raises(IntegrityError, match="within 2 tosses"):
        world.exchange(server, {Step.ADVERTISE: [3, 4]})
    with pytest.raises(IntegrityError, match="takes no further step"):
        server.requests()


def test_a_cohort_below_the_floor_ends_at_the_step_where_it_falls_below() -> None:
    for step in (Step.ADVERTISE, Step.SHARE, Step.INPUT):
        world = MaskedCohort(12, n_min=10)
        with pytest.raises(IntegrityError, match=f"at least 10 devices must be left after {step.name.lower()}, got 9"):
            world.run({step: [1, 2, 3]})


def test_an_attempt_ends_where_a_secret_has_too_few_shares() -> None:
    for step, what, fewest in ((Step.CONSISTENCY, "signatures", 0), (Step.UNMASK, "opened shares", 6)):
        world = MaskedCohort(12, n_min=9)
        with pytest.raises(IntegrityError, match=f"7 neighbours with {what}, got one with {fewest}"):
            world.run({step: range(7, 12)})


@pytest.mark.parametrize("attempts", [16, pytest.param(80, marks=pytest.mark.soak)])
def test_seeded_dropouts_give_the_exact_sum_or_a_clean_end(attempts: int) -> None:
    rng = np.random.default_rng(11)
    finished = 0
    for attempt in range(attempts):
        ring = attempt % 4 == 0
        n = int(rng.integers(8, 25))
        world = MaskedCohort(n, n_min=max(6, int(0.6 * n) + 2), n_max=251 if ring else n, seed=attempt)
        rate = float(rng.uniform(0, 0.3)) / 5
        missing = {step: np.flatnonzero(rng.random(n) < rate).tolist() for step in Step}
        try:
            server = world.run(missing)
        except IntegrityError:
            continue
        finished += 1
        assert server.total.tolist() == world.sum_of(server.survivors).tolist()
        assert world.refusals == []
    assert finished > attempts / 2
