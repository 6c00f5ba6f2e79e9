import ast
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import plans
import pytest

from palate_common.algorithms import PublicFacts
from palate_core.errors import IntegrityError
from palate_core.layout import DUMMIES, BlockSpec
from palate_core.noise.randomness import SecureSource, SeededSource
from palate_core.plan import RoundPlan
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.noise import noised, source_for

PACKAGES = Path(__file__).parents[2]
GRID, SIGMA = 2**14, 2**16
FACTS = PublicFacts(n_users=9, n_items=3, mu=1.0, seed=4)
make_plan = partial(plans.make_plan, facts=FACTS, noise="seeded", grid=GRID, sigma=SIGMA)


def summed(total: list[int] | np.ndarray[Any, Any], users: int = 5) -> Aggregate:
    return Aggregate(np.asarray(total, np.int64), ParticipationCounts(users, 0, 0, 0))


def noise_of(plan: RoundPlan, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return noised(summed(np.zeros(size)), plan).steps


def test_every_coordinate_gets_its_own_draw_whether_anybody_touched_it_or_not() -> None:
    size = 400_000
    total = np.zeros(size, np.int64)
    total[:100] = 10**12  # touched
    noise = noised(summed(total), make_plan(size)).steps - np.concatenate([total, np.zeros(DUMMIES, np.int64)])
    assert noise.dtype == np.int64
    # The standard error of the deviation is 0.11 %: sigma times 0.995, or its square, would show.
    assert abs(noise.std() / SIGMA - 1) < 0.003
    assert abs(noise.mean()) < 5 * SIGMA / np.sqrt(size)
    assert abs(noise[:100].std() / SIGMA - 1) < 0.25
    # Neither tiled nor antithetic nor mirrored: no lag and no reflection correlates, of 400,000 each.
    spectrum = np.fft.rfft(noise - noise.mean())
    lags = np.fft.irfft(np.abs(spectrum) ** 2, len(noise))[1:]
    reflections = np.fft.irfft(spectrum**2, len(noise))
    assert max(np.abs(lags).max(), np.abs(reflections).max()) < 7 * np.sqrt(len(noise)) * noise.var()
    # As kurtic as a Gaussian (uniform: 1.8, Laplace: 6).
    assert abs((noise / SIGMA) ** 4 @ np.ones(len(noise)) / len(noise) - 3) < 0.1


def test_the_dummies_of_releases_have_the_variance_that_was_charged() -> None:
    """What an auditor can check on released files: coordinates that no user can touch."""
    dummies = np.concatenate([noise_of(make_plan(attempt=attempt), 3)[-DUMMIES:] for attempt in range(400)])
    assert len(dummies) == 400 * DUMMIES
    assert abs(dummies.std() / SIGMA - 1) < 0.02
    assert len(np.unique(dummies)) > 0.8 * len(dummies)


def test_seeded_noise_repeats_and_depends_on_seed_round_and_attempt() -> None:
    first = noise_of(make_plan(), 3)
    assert np.array_equal(noise_of(make_plan(), 3), first)
    for changes in ({"round": 1}, {"attempt": 1}, {"facts": PublicFacts(n_users=9, n_items=3, mu=1.0, seed=5)}):
        assert not np.array_equal(noise_of(make_plan(**changes), 3), first)
    assert isinstance(source_for(make_plan()), SeededSource)


def test_secure_noise_never_repeats() -> None:
    plan = make_plan(noise="secure")
    draws = [noise_of(plan, 3).tolist() for _ in range(3)]
    assert draws[0] != draws[1] != draws[2] != draws[0]
    sources = [source_for(plan) for _ in range(2)]
    assert all(isinstance(source, SecureSource) and source.secure for source in sources)
    assert sources[0].words(4).tolist() != sources[1].words(4).tolist()


def test_too_small_a_cohort_releases_nothing() -> None:
    plan = make_plan(cohort_floor=6)
    with pytest.raises(IntegrityError, match="at least 6 installations, got 5: nothing is released, and the attempt"):
        noised(summed([1, 2, 3], users=5), plan)
    assert noised(summed([1, 2, 3], users=6), plan).users == 6
    with pytest.raises(IntegrityError, match="at least 1 installations, got 0"):
        noised(summed([0, 0, 0], users=0), make_plan())


def test_off_adds_nothing() -> None:
    noisy = noised(summed([1, -2, 3]), make_plan(dp="off", sigma=0, mu2=0.0))
    assert noisy.steps.tolist() == [1, -2, 3] + [0] * DUMMIES
    assert noisy.noise() == {"counts": 0.0}


def test_privacy_without_noise_is_refused() -> None:
    with pytest.raises(IntegrityError, match="`sigma` must be positive with dp central, got 0"):
        noised(summed([1, 2, 3]), make_plan(sigma=0))


def test_sums_and_noise_are_in_each_blocks_own_units() -> None:
    layout = (BlockSpec(name="a", shape=(2,), weight=0.6), BlockSpec(name="b", shape=(1, 2), weight=0.8))
    plan = make_plan(layout=layout, clip_norm=2.0, dp="off", sigma=0, mu2=0.0)
    noisy = noised(summed([GRID, 0, 0, -GRID // 2]), plan)
    sums = noisy.sums()
    assert sums["a"].tolist() == pytest.approx([2 / 0.6, 0])
    assert sums["b"].shape == (1, 2)
    assert sums["b"][0].tolist() == pytest.approx([0, -1 / 0.8])
    noise = noised(summed([0] * 4), make_plan(layout=layout, clip_norm=2.0)).noise()
    assert noise == pytest.approx({"a": SIGMA * 2 / GRID / 0.6, "b": SIGMA * 2 / GRID / 0.8})


def test_only_add_noise_and_the_registry_make_a_noisy_aggregate() -> None:
    makers = set()
    for folder in ("common", "client", "server", "simulations"):
        for file in (PACKAGES / folder).rglob("*.py"):
            if "answers" in file.parts:  # made-up aggregates of the audit's cases, of which nothing is published
                continue
            if "NoisyAggregate" not in (text := file.read_text()):
                continue
            calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
            if "NoisyAggregate" in {getattr(called, "id", getattr(called, "attr", "")) for called in calls}:
                makers.add(file.relative_to(PACKAGES).as_posix())
    assert makers == {"server/palate_server/rounds/noise.py", "server/palate_server/rounds/registry.py"}
