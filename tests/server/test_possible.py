"""Sums that no clipped contributions and the known noise can make are void; honest ones never are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import plans
import pytest

from palate_common.algorithms import PublicFacts, Reach, make_algorithm, next_state
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums, split_vector
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import IntegrityError
from palate_core.layout import DUMMIES, BlockSpec
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource
from palate_core.plan import RoundPlan, SignedPlan
from palate_server.rounds import coordinator as coordinator_module
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.possible import FALSE_VOID, limits_of, require_possible

USERS, GRID = 12, 2**14
LAYOUT = (
    BlockSpec(name="one", shape=(20,), weight=0.8),
    BlockSpec(name="two", shape=(10, 3), weight=0.6),
)
REACHES: dict[str, Reach] = {"one": Reach(unit=True, positive=True), "two": Reach()}
SIZE = 50
MODES: dict[str, dict[str, Any]] = {
    "central": {},
    "distributed": {"cohort": CohortTerms(n_max=USERS, n_min=10, c_max=2, masks=False)},
    "local": {"facts": PublicFacts(n_users=100, n_items=3, mu=1.0, local=True)},
}


def reach(name: str) -> Reach:
    return REACHES[name]


def plan_with(dp: str, *, sigma: int = 2**15) -> RoundPlan:
    return plans.make_plan(layout=LAYOUT, grid=GRID, sigma=sigma, dp=dp, **MODES[dp])


def noisy(plan: RoundPlan, total: np.ndarray[Any, Any]) -> NoisyAggregate:
    return NoisyAggregate(np.asarray(total, np.int64), USERS, plan)


def honest(plan: RoundPlan, contribution: np.ndarray[Any, Any], sums: int) -> Iterator[NoisyAggregate]:
    """Noised sums of devices that all send the same."""
    total, source = np.concatenate([USERS * contribution, np.zeros(DUMMIES, np.int64)]).astype(np.int64), SecureSource()
    each, devices = (plan.share_sigma, USERS) if plan.mode.noised_by_devices else (plan.sigma, 1)
    noise = np.zeros(sums * len(total), np.int64)
    for _ in range(devices):
        noise += sample_discrete_gaussian(len(noise), sigma=each, source=source)
    for drawn in noise.reshape(sums, len(total)):
        yield noisy(plan, total + drawn)


def extremes() -> list[np.ndarray[Any, Any]]:
    """The contributions that are nearest to a limit: all on one number, spread over a block, over everything."""
    found = []
    for block, norm in ((slice(0, 20), 0.8 * GRID), (slice(20, 50), 1.0 * GRID)):
        for spread in (1, block.stop - block.start):
            one = np.zeros(SIZE, np.int64)
            one[block.start : block.start + spread] = math.floor(norm / math.sqrt(spread))
            found.append(one)
    both = np.full(SIZE, math.floor(GRID / math.sqrt(SIZE)))
    down = -both * (np.arange(SIZE) >= 20)
    return [*found, both, down, np.zeros(SIZE, np.int64)]


@pytest.mark.parametrize("dp", MODES)
def test_an_honest_sum_is_called_impossible_with_probability_below_2_40_whatever_users_did(dp: str) -> None:
    plan = plan_with(dp)
    for contribution in extremes():  # 1,050 sums in all modes, each as near to a limit as contributions can bring it
        for summed in honest(plan, contribution, 50):
            require_possible(summed, reach)


def test_the_tails_are_those_of_the_discrete_gaussian_summed_term_by_term() -> None:
    """The exact law of one draw, and of the sum of four, beyond the limit of a coordinate, times all coordinates."""
    for sigma, shares in ((3, 1), (2, 4)):
        values = np.arange(-60 * sigma, 60 * sigma + 1)
        law = np.exp(-(values**2) / (2 * sigma**2))
        law /= law.sum()
        summed = law
        for _ in range(shares - 1):
            summed = np.convolve(summed, law)
        places = np.arange(len(summed)) - len(summed) // 2
        plan = plan_with("central")
        dummies = limits_of(plan, users=USERS, sigma=math.sqrt(shares) * sigma, reach=reach)[-2]
        beyond = float(summed[np.abs(places) > dummies.highest].sum())
        assert 0 < beyond * (SIZE + DUMMIES) < 2.0 ** (FALSE_VOID - 2)


@pytest.mark.parametrize("dp", MODES)
def test_an_impossible_sum_is_named_by_the_part_that_nobody_can_have_made(dp: str) -> None:
    plan = plan_with(dp)
    limits = limits_of(plan, users=USERS, sigma=noisy(plan, np.zeros(SIZE + DUMMIES)).sigma, reach=reach)
    assert [limit.name for limit in limits] == ["one", "two", "dummies", "the whole"]
    for limit in limits[:3]:
        for end in (limit.lowest, limit.highest):
            for step, held in ((0, True), (2, False)):
                total = np.zeros(SIZE + DUMMIES, np.int64)
                total[limit.first] = int(end) + (step if end > 0 else -step)
                if held and abs(end) <= limit.norm:
                    require_possible(noisy(plan, total), reach)
                elif not held:
                    with pytest.raises(IntegrityError, match=f"impossible sum: {limit.name} of 12 installations"):
                        require_possible(noisy(plan, total), reach)
    # Spread so thin that no number is too large: the norm shows it.
    for limit in limits:
        for factor, held in ((0.999, True), (1.001, False)):
            total = np.zeros(SIZE + DUMMIES, np.int64)
            numbers = limit.last - limit.first
            total[limit.first : limit.last] = math.floor(factor * limit.norm / math.sqrt(numbers))
            if held and limit.name != "the whole":
                assert not limit.excess(total)
            elif not held:
                assert "norm" in limit.excess(total) or limit.name == "dummies"


def test_many_small_numbers_below_zero_are_impossible_where_contributions_have_none() -> None:
    plan = plan_with("central")
    one, two = limits_of(plan, users=USERS, sigma=plan.sigma, reach=reach)[:2]
    total = np.zeros(SIZE + DUMMIES, np.int64)
    total[one.first : one.first + 3] = math.floor(0.95 * one.lowest)
    with pytest.raises(IntegrityError, match=r"impossible sum: one of 12 installations has a norm of .* steps below 0"):
        require_possible(noisy(plan, total), reach)
    assert two.below == two.norm


def test_without_noise_the_limits_are_exact() -> None:
    plan = plans.make_plan(layout=LAYOUT, grid=GRID, sigma=0, dp="off", mu2=0.0)
    one = np.zeros(SIZE + DUMMIES, np.int64)
    one[30] = USERS * GRID
    require_possible(noisy(plan, one), reach)
    for place, number in ((30, USERS * (GRID + 1) + 1), (3, -1), (SIZE, 1)):
        one = np.zeros(SIZE + DUMMIES, np.int64)
        one[place] = number
        with pytest.raises(IntegrityError, match="impossible"):
            require_possible(noisy(plan, one), reach)


def test_a_coarser_or_finer_clip_norm_moves_what_a_unit_block_can_reach() -> None:
    plan = plan_with("central")
    highest = {
        clip_norm: limits_of(replace_clip(plan, clip_norm), users=1, sigma=0.0, reach=reach)[0].highest
        for clip_norm in (0.5, 1.0, 2.0)
    }
    assert highest[1.0] == math.floor(0.8 * GRID) + 1
    assert highest[2.0] == math.floor(0.4 * GRID) + 1
    assert highest[0.5] == GRID


def replace_clip(plan: RoundPlan, clip_norm: float) -> RoundPlan:
    return plan.model_copy(update={"clip_norm": clip_norm})


def test_an_impossible_sum_is_never_applied_nothing_of_it_is_stored_sealed_or_learned_from(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(algorithm="als", settings={"rounds": 3})
    coordinator = run.coordinator()
    node, real = run.nodes(users_per_node=40)[0], coordinator_module.aggregate

    def poisoned(replies: Any, plan: RoundPlan) -> Aggregate:
        found = real(replies, plan)
        return replace(found, total=found.total + 10**12 * (np.arange(len(found.total)) == 1))

    with monkeypatch.context() as patched:
        patched.setattr(coordinator_module, "aggregate", poisoned)
        asked, before = coordinator.open_attempt(), coordinator.model.hash
        with pytest.raises(IntegrityError, match=r"impossible sum: .* stays charged"):
            coordinator.close_attempt({0: node.answer(asked, coordinator.model.data)})
    kinds = [entry.kind for entry in coordinator.ledger.entries()]
    assert kinds.count("charge") == 1
    assert "seal" not in kinds
    assert coordinator.registry.is_empty()
    assert (coordinator.round, coordinator.model.hash) == (0, before)
    assert coordinator.spent == SignedPlan.model_validate_json(asked).plan.mu2
    asked = coordinator.open_attempt()
    release = coordinator.close_attempt({0: node.answer(asked, coordinator.model.data)})
    assert release.plan.attempt == 1
    assert coordinator.round == 1


def test_what_it_says_follows_from_the_noised_sum_alone() -> None:
    """Where the server knows the exact sum, a look at that would tell what was never charged."""
    plan = plan_with("central", sigma=2**20)
    raw = np.zeros(SIZE + DUMMIES, np.int64)
    raw[0] = -1  # the exact sum breaks a promise; under the noise nobody can see that
    require_possible(noisy(plan, raw), reach)
    assert not ParticipationCounts(USERS, 0, 0, 0).malformed_nodes


def histories(rng: np.random.Generator, *, weighted: bool, n_items: int = 60) -> Interactions:
    counts = np.array([0, 1, 1, 2, 5, 30, 59, *rng.integers(0, 20, 40)])
    users = np.repeat(np.arange(len(counts)), counts)
    items = np.concatenate([rng.permutation(n_items)[:count] for count in counts])
    weights = np.exp(rng.normal(0, 3, len(items))) if weighted else np.ones(len(items))
    return Interactions.from_pairs(users, items, weights, n_users=len(counts), n_items=n_items)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("als", {"rounds": 4, "pair_items": 12}),
        ("sgd", {"rounds": 3}),
        ("popularity", {}),
    ],
)
def test_algorithms_keep_what_they_promise_of_each_block(name: str, settings: dict[str, Any], weighted: bool) -> None:
    rng = np.random.default_rng(5)
    batch = histories(rng, weighted=weighted)
    facts = PublicFacts(n_users=batch.n_users, n_items=batch.n_items, mu=30.0)
    algorithm = make_algorithm(name, settings, facts)
    state, promised = algorithm.start(), set[str]()
    for round_ in range(len(algorithm.shares)):
        layout = algorithm.layout(state, round_)
        clipped = clip(algorithm.contribute(state, round_, batch), layout, clip_norm=1.0, grid=GRID)
        for user in range(batch.n_users):
            for spec in layout:
                block = split_vector(clipped.vector(user), layout)[spec.name]
                said = algorithm.reach(spec.name)
                if said.unit:
                    assert np.linalg.norm(block) <= GRID * spec.weight + 1, (spec.name, user)
                if said.positive:
                    assert block.min() >= 0, (spec.name, user)
                promised |= {spec.name} if said != Reach() else set()
        sums = block_sums(clipped.total() + rng.integers(-99, 99, clipped.total().size), layout, 1 / GRID)
        state = next_state(algorithm, state, round_, sums, {spec.name: 99.0 / GRID for spec in layout}, {})
    assert promised


def test_an_algorithm_of_ones_own_that_sends_other_numbers_promises_nothing() -> None:
    from palate_common.algorithms.popularity import Popularity

    class Signed(Popularity):
        name = "signed"

        def contribute(self, state: Any, round_: int, histories: Interactions) -> Any:
            raise NotImplementedError

    facts = PublicFacts(n_users=5, n_items=5, mu=1.0)
    assert Signed(Popularity.Settings(), facts).reach("counts") == Reach()
    assert Popularity(Popularity.Settings(), facts).reach("counts") == Reach(unit=True, positive=True)
