from collections.abc import Callable
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from palate_common.algorithms import PublicFacts
from palate_common.algorithms.popularity import Popularity
from palate_core.accounting import mu_of
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import BudgetError, InputError, IntegrityError
from palate_core.layout import DUMMIES, BlockSpec
from palate_core.log.signing import SigningKey
from palate_core.plan import RoundPlan, SignedPlan
from palate_server.ledger import history
from palate_server.ledger.ledger import Ledger
from palate_server.rounds import coordinator as coordinator_module
from palate_server.rounds import replay
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.coordinator import Coordinator
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import Registry
from palate_server.rounds.terms import RunTerms
from palate_sim.accounting import GaussianEvent, account

MakeRun = Callable[..., Any]

KEY = SigningKey.generate()


@pytest.fixture
def run(make_run: MakeRun) -> Any:
    return make_run()


def plan_of(signed: bytes) -> RoundPlan:
    return SignedPlan.model_validate_json(signed).plan


def zero_sum(plan: RoundPlan) -> Aggregate:
    return Aggregate(np.zeros(sum(spec.size for spec in plan.layout), np.int64), ParticipationCounts(9, 0, 0, 0))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
    st.sampled_from((0.1, 1.0, 5.0, 50.0)),
    st.sampled_from((2**8, 2**14, 2**20)),
)
def test_charges_never_exceed_the_budget_whatever_is_void(
    shared_popularity: Callable[..., Any], parts: list[float], voids: list[int], epsilon: float, grid: int
) -> None:
    shares = [part / sum(parts) for part in parts]
    mu = mu_of(epsilon=epsilon, delta=1e-6)
    facts = PublicFacts(n_users=9, n_items=3, mu=mu)
    terms = RunTerms(
        population="readers", run="r", algorithm="popularity", settings={}, facts=facts, catalogue="ab" * 32,
        epsilon=epsilon, delta=1e-6, grid=grid, noise="seeded",
    )  # fmt: skip
    folder, lock = mock.MagicMock(spec=Registry), mock.MagicMock(spec=RunLock)
    folder.persist.return_value = "ab" * 32
    with (
        mock.patch.object(replay, "make_algorithm", shared_popularity(*shares)),
        Ledger(":memory:", population="readers") as ledger,
    ):
        try:
            coordinator = Coordinator(terms, ledger=ledger, registry=folder, key=KEY, lock=lock)
        except InputError:  # a share so small that its noise does not fit the grid
            reject()
        attempts: list[RoundPlan] = []
        left = list(voids)
        refusal = ""
        while not (coordinator.finished or refusal):
            try:
                attempts.append(plan_of(coordinator.open_attempt()))
            except BudgetError as error:
                refusal = str(error)
                continue
            if left[coordinator.round]:
                left[coordinator.round] -= 1
                continue
            with mock.patch.object(coordinator_module, "aggregate", lambda _, plan: zero_sum(plan)):
                coordinator.close_attempt({})
        assert not refusal or (coordinator.round == 0 and "start a new run" in refusal)
        charges = [entry for entry in ledger.entries("r") if entry.kind == "charge"]
        assert [entry.plan_hash for entry in charges] == [plan.hash for plan in attempts]
        assert len({(plan.round, plan.attempt) for plan in attempts}) == len(attempts)
        assert sum(Fraction(plan.mu2) for plan in attempts) <= Fraction(mu) ** 2
        events = [GaussianEvent(sensitivity=plan.grid, sigma=plan.sigma, dimension=3 + DUMMIES) for plan in attempts]
        assert account(events, delta=1e-6).epsilon <= epsilon * (1 + 1e-9)
        if not any(voids):
            assert coordinator.round == len(shares)
            if grid == 2**20:
                assert coordinator.spent > 0.999 * mu**2


def test_a_void_attempt_stays_charged_and_the_next_one_has_less(run: Any, set_shares: Callable[..., None]) -> None:
    set_shares(0.5, 0.5)
    coordinator, nodes = run.coordinator(), run.nodes()
    first = plan_of(coordinator.open_attempt())
    with pytest.raises(IntegrityError, match="nothing is released, and the attempt stays charged"):
        coordinator.close_attempt({})
    assert coordinator.spent == first.mu2
    assert run.kinds() == ["open", "charge"]
    assert not (run.folder / "releases").exists()
    release = run.one_round(coordinator, nodes)
    assert (release.plan.round, release.plan.attempt) == (0, 1)
    assert release.plan.mu2 < 0.51 * first.mu2
    assert release.plan.sigma > first.sigma
    assert run.kinds() == ["open", "charge", "charge", "seal"]
    last = run.one_round(coordinator, nodes)
    assert coordinator.finished
    assert coordinator.spent == pytest.approx(first.mu2 + release.plan.mu2 + last.plan.mu2)
    assert coordinator.spent <= run.terms.facts.mu**2


def test_a_run_ends_early_where_no_further_round_is_worth_its_noise(run: Any, set_shares: Callable[..., None]) -> None:
    set_shares(0.9, 0.1)
    coordinator, nodes = run.coordinator(), run.nodes()
    run.one_round(coordinator, nodes)
    attempts = 0
    while not coordinator.finished:
        coordinator.open_attempt()
        attempts += 1
    assert (coordinator.round, attempts) == (1, 1)
    with pytest.raises(BudgetError, match="round 1 can't be tried again: 2 charges used up the run's budget"):
        coordinator.open_attempt()


def test_a_second_run_pays_from_what_the_population_has_left(run: Any) -> None:
    mu2 = run.terms.facts.mu**2
    run.ledger.set_budget(mu2=1.5 * mu2, epsilon=7.0, delta=1e-5)
    run.one_round(run.coordinator())
    run.again("run-2")
    second = run.coordinator()
    with pytest.raises(BudgetError, match="population's budget must cover the charge"):
        second.open_attempt()
    assert run.kinds() == ["open"]
    assert BudgetError.exit_code == 3


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.5, -0.5), (0.0, 1.0), (float("nan"),), (float("inf"),)])
def test_shares_that_are_none_are_refused(run: Any, set_shares: Callable[..., None], shares: tuple[float, ...]) -> None:
    set_shares(*shares)
    with pytest.raises(InputError, match="shares must be positive and sum to 1"):
        run.coordinator()
    assert run.kinds() == []


@pytest.mark.parametrize("layout", [(), (BlockSpec(name="x", shape=(1,), weight=0.6),) * 2])
def test_a_layout_that_is_none_is_refused_before_a_charge(
    run: Any, monkeypatch: pytest.MonkeyPatch, layout: Any
) -> None:
    monkeypatch.setattr(Popularity, "layout", lambda *_: layout)
    coordinator = run.coordinator()
    with pytest.raises(InputError, match="the algorithm must fit a plan"):
        coordinator.open_attempt()
    assert run.kinds() == ["open"]


def test_a_grid_too_fine_for_the_budget_is_refused_before_the_run_opens(
    make_run: MakeRun, set_shares: Callable[..., None]
) -> None:
    set_shares(0.999, 0.001)
    mu = mu_of(epsilon=0.05, delta=1e-9)
    facts = PublicFacts(n_users=40, n_items=30, mu=mu)
    run = make_run(facts=facts, epsilon=0.05, delta=1e-9, grid=2**20)
    with pytest.raises(InputError, match="use a coarser grid or more budget"):
        run.coordinator()
    assert run.kinds() == []


def test_a_retry_whose_noise_does_not_fit_the_grid_is_over_budget(
    make_run: MakeRun, set_shares: Callable[..., None]
) -> None:
    set_shares(0.5, 0.5)
    mu = mu_of(epsilon=0.0025, delta=1e-6)
    facts = PublicFacts(n_users=40, n_items=30, mu=mu)
    run = make_run(facts=facts, epsilon=0.0025, delta=1e-6, grid=2**19)
    coordinator = run.coordinator()
    coordinator.open_attempt()
    with pytest.raises(BudgetError, match="can't be tried again: 1 charges"):
        coordinator.open_attempt()


SHARED = CohortTerms(n_max=40, n_min=40, c_max=1, masks=False)


def test_no_attempt_is_made_that_no_delta_is_reserved_for(
    make_run: MakeRun, set_shares: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt's graph may fail with a probability that is in delta: for so many in all runs, and no more."""
    set_shares(*[0.01] * 100)
    monkeypatch.setattr(history, "MAX_ATTEMPTS", 3)
    run = make_run(dp="distributed", cohort=SHARED, epsilon=5.01)
    for attempts in (1, 2):
        coordinator = run.coordinator()
        for _ in range(attempts):
            coordinator.open_attempt()
        run.again(f"run {attempts}")
    with pytest.raises(BudgetError, match="fewer than 3 attempts"):
        run.coordinator().open_attempt()
    assert sum(entry.kind == "charge" for entry in run.ledger.entries()) == 3


def test_no_run_has_more_rounds_than_delta_is_reserved_for(make_run: MakeRun, set_shares: Callable[..., None]) -> None:
    set_shares(*[1 / 1025] * 1025)
    with pytest.raises(InputError, match="at most 1024 rounds, got 1025"):
        make_run(dp="distributed", cohort=SHARED, epsilon=5.01).coordinator()
