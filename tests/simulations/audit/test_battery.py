"""Each counted test: silent on what is right, and an alarm on what it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from palate_audit.counted import seeds
from palate_audit.counted.claims import claim_tests, lower_bounds
from palate_audit.counted.correlation import _crossed, _faces, _own
from palate_audit.counted.noise import noise_shape, repeated_numbers
from palate_audit.counted.seeds import birthdays, plan_seed
from palate_audit.evidence.evidence import Finding, Rung, Verdict, judge
from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.production import Production
from palate_audit.harness.target import Contributions, Released
from palate_audit.harness.trials import Presence, Trials, conduct
from palate_audit.run.mechanism import QUICK, statistical

USERS, HALF, DUMMIES, GRID = 4096, 16384, 64, 2.0**20
SIGMAS = (2.0 * GRID, 3.0 * GRID)

Draw = Callable[["Toy", int, int], Any]


class Toy:
    """Clip, sum, round, add integer Gaussian noise, two releases; `noise` draws it, `clip` bounds a user."""

    name, repeatable = "a toy", False
    users, blocks, dimension = USERS, (HALF, HALF), 2 * HALF

    def __init__(self, noise: Draw | None = None, *, clip: float = 1.0, factor: float = 1.0, seed: int = 0) -> None:
        self.noise, self.clip, self.factor = noise or gaussian, clip, factor
        self.rng = np.random.default_rng([seed, 77])
        self.runs = 0
        releases = tuple(ReleaseClaim(sensitivity=GRID, sigma=sigma, spacing=1.0, stated=sigma) for sigma in SIGMAS)
        self.claim = Claim(
            epsilon=Claim.gaussian(sensitivity=GRID, sigmas=SIGMAS, delta=1e-6).epsilon,
            delta=1e-6,
            releases=releases,
            mu=float(np.sqrt(sum(each.mu**2 for each in releases))),
        )

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        squares = np.zeros(self.users)
        np.add.at(squares, contributions.owners(), contributions.values**2)
        scale = np.minimum(1.0, self.clip / np.sqrt(np.maximum(squares, 1e-300)))
        sums = np.zeros(self.dimension + DUMMIES)
        np.add.at(sums, contributions.indices, contributions.values * scale[contributions.owners()] * GRID)
        touched = np.zeros(len(sums), np.bool_)
        touched[contributions.indices] = True
        self.touched = touched
        vectors = [np.rint(sums) + self.noise(self, round_, len(sums)) for round_ in range(len(SIGMAS))]
        self.runs += 1
        return Released(tuple(np.asarray(each, np.float64) for each in vectors), DUMMIES)

    def fresh(self, count: int) -> Iterator[Any]:
        for _ in range(count):
            yield self.noise(self, 0, 80)


def gaussian(toy: Toy, round_: int, size: int) -> Any:
    return np.rint(toy.rng.normal(0.0, toy.factor * SIGMAS[round_], size))


def silent_block(toy: Toy, round_: int, size: int) -> Any:
    noise = gaussian(toy, round_, size)
    noise[HALF : HALF + 500] = 0
    return noise


def only_touched(toy: Toy, round_: int, size: int) -> Any:
    return np.where(toy.touched, gaussian(toy, round_, size), 0)


def uniform(toy: Toy, round_: int, size: int) -> Any:
    return np.rint(toy.rng.uniform(-1, 1, size) * np.sqrt(3) * SIGMAS[round_])


def laplace(toy: Toy, round_: int, size: int) -> Any:
    return np.rint(toy.rng.laplace(0, SIGMAS[round_] / np.sqrt(2), size))


def cut(toy: Toy, round_: int, size: int) -> Any:
    noise = toy.rng.normal(0, 1, 2 * size)
    return np.rint(noise[np.abs(noise) < 4][:size] * SIGMAS[round_])


def again_each_round(toy: Toy, round_: int, size: int) -> Any:
    return np.rint(np.random.default_rng([9, toy.runs]).normal(0, SIGMAS[round_], size))


def antithetic(toy: Toy, round_: int, size: int) -> Any:
    return again_each_round(toy, round_, size) * (-1) ** round_


def again_each_run(toy: Toy, round_: int, size: int) -> Any:
    return np.rint(np.random.default_rng([9, round_]).normal(0, SIGMAS[round_], size))


def moved(toy: Toy, round_: int, size: int) -> Any:
    return np.roll(again_each_round(toy, round_, size), 100 * round_)


def other_signs(toy: Toy, round_: int, size: int) -> Any:
    return again_each_round(toy, round_, size) * toy.rng.choice([-1, 1], size)


def tiled(toy: Toy, round_: int, size: int) -> Any:
    return np.resize(gaussian(toy, round_, 512), size)


def reflected(toy: Toy, round_: int, size: int) -> Any:
    half = gaussian(toy, round_, size // 2)
    return np.concatenate([half, np.zeros(size % 2), half[::-1]])


def reflected_with_other_signs(toy: Toy, round_: int, size: int) -> Any:
    return reflected(toy, round_, size) * toy.rng.choice([-1, 1], size)


def one_without_noise(toy: Toy, round_: int, size: int) -> Any:
    noise = gaussian(toy, round_, size)
    noise[HALF - 1] = 0
    return noise


def floats(toy: Toy, round_: int, size: int) -> Any:
    return toy.rng.normal(0, SIGMAS[round_], size)


def coarse(toy: Toy, round_: int, size: int) -> Any:
    return 4 * np.rint(toy.rng.normal(0, SIGMAS[round_] / 4, size))


def small_seed(toy: Toy, round_: int, size: int) -> Any:
    seed = int(toy.rng.integers(seeds.SEEDS))
    return np.rint(np.random.default_rng(seed).normal(0, SIGMAS[round_], size))


def small_seed_of_its_own(toy: Toy, round_: int, size: int) -> Any:
    """A generator that no table has."""
    seed = int(toy.rng.integers(2**16))
    return np.rint(np.random.default_rng([seed, 123]).normal(0, SIGMAS[round_], size))


def legacy_seed(toy: Toy, round_: int, size: int) -> Any:
    return np.rint(np.random.RandomState(17 + round_).normal(0, SIGMAS[round_], size))


def shared(toy: Toy, round_: int, size: int) -> Any:
    """Two devices that draw the same share: their sum has twice the variance of two shares."""
    return np.rint(toy.rng.normal(0, SIGMAS[round_] * np.sqrt(2), size))


def trials_of(toy: Toy) -> Trials:
    return conduct(toy, runs=QUICK, seed=5)


def alarms(findings: list[Finding]) -> set[str]:
    return {found.test for found in judge(findings) if found.verdict is Verdict.ALARM}


def test_a_right_mechanism_raises_nothing() -> None:
    for seed in range(6):
        trials = trials_of(Toy(seed=seed))
        assert alarms(statistical(trials) + birthdays(trials, count=200)) == set()


@pytest.mark.parametrize(
    ("noise", "test"),
    [
        (silent_block, "noise in every part"),
        (only_touched, "noise in every part"),
        (uniform, "kurtosis"),
        (laplace, "kurtosis"),
        (again_each_round, "correlation across releases"),
        (antithetic, "correlation across releases"),
        (moved, "correlation across releases"),
        (other_signs, "correlation across releases"),
        (again_each_run, "correlation across runs"),
        (tiled, "correlation within a vector"),
        (reflected, "correlation within a vector"),
        (reflected_with_other_signs, "correlation within a vector"),
        (one_without_noise, "noise on every coordinate"),
        (floats, "output on the grid"),
        (coarse, "remainders"),
        (small_seed, "small and public seeds"),
        (legacy_seed, "small and public seeds"),
        (shared, "noise as stated"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_broken_is_found_by_its_test(noise: Draw, test: str) -> None:
    assert test in alarms(statistical(trials_of(Toy(noise))))


@pytest.mark.parametrize("size", [63, 64])
def test_correlations_of_a_vector_with_itself_are_in_standard_errors(size: int) -> None:
    rng = np.random.default_rng(3)
    drawn = [list(_own(_faces(rng.normal(size=size)))) for _ in range(2000)]
    for look in range(len(drawn[0])):
        deviations = np.std([found[look] for found in drawn], axis=0)
        assert deviations.min() > 0.5
        assert deviations.max() < 1.1


def test_sizes_that_meet_are_no_more_surprising_than_they_are() -> None:
    rng = np.random.default_rng(4)
    numbers = rng.normal(size=(2, 1000))
    numbers[:, 7] = 4.2  # once in 30,000 vectors each, which are then not lost in a sum of 1,000
    looks = _crossed(*(_faces(each) for each in numbers))
    assert all(abs(scores[0]) < 4 for scores in looks)


def test_moments_of_few_numbers_are_not_judged() -> None:
    few = type("Few", (Toy,), {"blocks": (1024, 1024), "dimension": 2048, "users": 256})
    found = {each.test: each for each in noise_shape(conduct(few(), runs=QUICK, seed=1))}
    assert {name for name, each in found.items() if each.p_value is None} == {"skewness", "kurtosis"}


def test_a_tail_that_is_cut_is_found() -> None:
    long = type("Long", (Toy,), {"blocks": (2**19, 2**19), "dimension": 2**20})
    (few,) = [found for found in noise_shape(conduct(long(cut), runs=QUICK[2:], seed=1)) if found.test == "tails"]
    assert few.p_value is not None
    assert few.p_value < 1e-20


@pytest.mark.parametrize("factor", [0.0, 0.9, 0.98])
def test_too_little_noise_is_found(factor: float) -> None:
    found = alarms(statistical(trials_of(Toy(factor=factor))))
    assert "noise variance" in found


def test_a_clip_that_lets_more_through_is_found_on_every_rung() -> None:
    found = alarms(claim_tests(trials_of(Toy(clip=2.0, factor=0.4))))
    assert {name[:2] for name in found} == {"L0", "L1", "L2"}


def test_a_seed_of_16_bits_repeats_whatever_the_generator() -> None:
    assert "repeated noise" in alarms(birthdays(trials_of(Toy(small_seed_of_its_own))))


def test_noise_of_the_plans_seed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from palate_core.plan import Noise
    from palate_server.rounds import noise

    target = Production(users=64, counts=512, products=512)
    real = noise.source_for
    assert alarms(plan_seed(conduct(target, runs=QUICK[:1], seed=1))) == set()
    monkeypatch.setattr(noise, "source_for", lambda plan: real(plan.model_copy(update={"noise": Noise.SEEDED})))
    assert alarms(plan_seed(conduct(target, runs=QUICK[:1], seed=1))) == {"the plan's seed"}


def test_what_a_target_lacks_is_not_passed() -> None:
    trials = trials_of(Toy())
    assert [found.verdict for found in plan_seed(trials)] == [Verdict.UNCHECKABLE]
    bare = type("Bare", (Toy,), {"fresh": None})()
    assert [found.verdict for found in birthdays(trials_of(bare))] == [Verdict.UNCHECKABLE]


def test_every_rung_has_its_bounds_in_their_order() -> None:
    bounds = lower_bounds(trials_of(Toy()))
    assert [bound.rung for bound in bounds] == [Rung.L0, Rung.L1, Rung.L0, Rung.L2, Rung.L2]
    assert all(0 < bound.ratio < 1.2 for bound in bounds)
    assert bounds[-1].ratio > 0.85


@pytest.mark.parametrize("test", [statistical, claim_tests])
def test_a_tiny_target_is_told_what_it_lacks(test: Callable[[Trials], list[Finding]]) -> None:
    trials = conduct(Production(users=8, counts=32, products=32), runs=QUICK[:1], seed=1)
    found = test(trials)
    assert alarms(found) == set()
    assert any(each.verdict is Verdict.UNCHECKABLE and "at least" in each.said for each in found)


def test_noise_of_one_value_has_no_shape_and_is_no_pass() -> None:
    """Moments of equal numbers are no numbers, which must not read as a p-value of 1."""
    trials = conduct(Toy(lambda toy, round_, size: np.zeros(size)), runs=(Presence.NONE,), seed=5)
    assert "noise shape" in alarms(noise_shape(trials))


def test_a_search_for_equal_numbers_that_has_too_few_says_so() -> None:
    few = conduct(Production(users=64, counts=256, products=256), runs=QUICK, seed=1)
    [found] = repeated_numbers(few)
    assert found.verdict is Verdict.UNCHECKABLE
    assert "100 equal pairs must be expected" in found.said
