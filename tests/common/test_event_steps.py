"""Event-level DP-SGD on a device: gradients, what one event moves, coins, and noise in every step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from plans import make_plan
from pydantic import ValidationError

from palate_client.rounds.contribution import Contributor
from palate_common.accounting.sampled import attempt_mu2
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.algorithms.event_mf import EventMf, EventMfSettings
from palate_common.interactions import Interactions, row_squares
from palate_common.mechanism.update import ClippedUpdate, DenseSteps, OuterBlock, Update
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.rounds import event_steps as steps_module
from palate_common.rounds.event_steps import event_steps, sample_events
from palate_core.device.floors import Floors
from palate_core.errors import InputError, RefusedError
from palate_core.layout import BlockSpec, layout_size
from palate_core.noise.randomness import SecureSource, SeededSource
from palate_core.plan import ChargedPlan, Noise, RoundPlan, Sampling
from palate_core.privacy_mode import DpMode
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

ITEMS, SIZE, GRID, SIGMA = 30, 5, 2**14, 2**15


def facts(n_users: int = 50) -> PublicFacts:
    return PublicFacts(n_users=n_users, n_items=ITEMS, mu=1.0, seed=2, local=True)


def made(steps: int = 3, inclusion: float = 1.0, **changes: Any) -> tuple[EventMf, Any, RoundPlan]:
    settings = EventMfSettings(embedding_size=SIZE, user_steps=max(1, steps - 1), inclusion=inclusion)
    algorithm = EventMf(settings, facts())
    state = algorithm.release(algorithm.start(), 0, {"counts": np.linspace(40, 1, ITEMS)}, {"counts": 0.5})
    events = Sampling(inclusion=inclusion, steps=steps)
    fields: dict[str, Any] = {
        "population": "p", "run": "r", "round": 1, "attempt": 0, "model_hash": "0" * 64, "algorithm": "event-mf",
        "settings": settings.model_dump(), "facts": facts(), "layout": algorithm.layout(state, 1), "clip_norm": 1.0,
        "grid": GRID, "sigma": SIGMA, "dp": DpMode.LOCAL, "noise": Noise.SECURE, "cohort_floor": 1, "events": events,
        "mu2": attempt_mu2(GRID, SIGMA, events), "expires": 2**31,
    }  # fmt: skip
    return algorithm, state, RoundPlan.model_validate({**fields, **changes})


def histories(n_users: int = 20, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 12, n_users)
    items = [rng.choice(ITEMS, size, replace=False) for size in sizes]
    return Interactions.from_pairs(
        np.repeat(np.arange(n_users), sizes), np.concatenate(items), n_users=n_users, n_items=ITEMS
    )


@pytest.mark.filterwarnings("ignore:Full backward hook")  # an embedding's input has no gradient
def test_gradients_are_those_of_opacus() -> None:
    """Per-sample gradients of 2 log(1 + e^-s) for one user's events, in both parameters, by Opacus' hooks."""
    torch = pytest.importorskip("torch")
    grad_sample = pytest.importorskip("opacus.grad_sample")
    algorithm, state, _ = made()
    one = Interactions.from_pairs([0] * 8, [0, 3, 4, 9, 15, 20, 22, 29], n_users=1, n_items=ITEMS)
    users = np.random.default_rng(1).normal(size=(1, SIZE)) / 2
    rows = algorithm._rows(state, whole=False)
    place = np.searchsorted(state["head"], one.indices)

    class Factorisation(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is optional
        def __init__(self, p: Any) -> None:
            super().__init__()
            self.user = torch.nn.Embedding.from_pretrained(torch.tensor(p), freeze=False)
            self.item = torch.nn.Embedding.from_pretrained(torch.tensor(rows), freeze=False)

        def forward(self, items: Any) -> Any:
            return (self.user(torch.zeros_like(items)) * self.item(items)).sum(dim=1)

    def opacus(p: Any) -> tuple[Any, Any]:
        model = grad_sample.GradSampleModule(Factorisation(p), loss_reduction="sum")
        (-2 * torch.nn.functional.logsigmoid(model(torch.tensor(place)))).sum().backward()
        return model._module.user.weight.grad_sample[:, 0].numpy(), model._module.item.weight.grad_sample.numpy()

    expected, _ = opacus(users)
    assert algorithm.user_gradients(state, users, one) == pytest.approx(-expected, abs=1e-12)
    # The item step is made at the user's direction.
    _, expected = opacus(users / np.linalg.norm(users))
    (block,) = algorithm.item_gradients(state, 1, users, one).blocks
    assert isinstance(block, OuterBlock)
    found = np.zeros((one.nnz, *rows.shape))
    found[np.arange(one.nnz), block.indices] = block.rows[:, None] * block.columns
    assert found == pytest.approx(-expected, abs=1e-12)


@pytest.mark.parametrize("round_", [0, 1])
def test_each_event_is_clipped_by_itself_and_moves_a_sum_by_no_more_than_the_grid(round_: int) -> None:
    """Exactly, in integers: with one step and the same noise, the event taken out is all that differs."""
    algorithm, state, plan = made(1)
    algorithm.user_start = lambda state, n: np.full((n, SIZE), 0.4)  # type: ignore[method-assign]  # a given vector
    plan = plan.model_copy(update={"round": round_, "layout": algorithm.layout(state, round_)})
    base_of, worst = histories(1, seed=5), 0
    base = event_steps(algorithm, state, plan, base_of, SeededSource(b"x")).steps
    for event in range(base_of.nnz):
        rest = base_of.entries(np.arange(base_of.nnz) != event)
        moved = base - event_steps(algorithm, state, plan, rest, SeededSource(b"x")).steps
        worst = max(worst, sum(int(step) ** 2 for step in moved.tolist()))
        assert len(np.flatnonzero(moved)) <= (1 if round_ == 0 else SIZE)
    assert 0 < worst <= GRID**2
    # No count of events divides anything: twice the events, twice the sum.
    assert base_of.nnz > 1


def test_the_final_norm_check_of_each_event_holds_whatever_clipping_lets_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the steps of the user's vector and in the item step: what is too long counts as no event."""
    algorithm, state, plan = made(3)
    has, clean = histories(1, seed=5), steps_module.clip

    def lengthened(update: Update, layout: Any, *, clip_norm: float, grid: int) -> ClippedUpdate:
        found = clean(update, layout, clip_norm=clip_norm, grid=grid)
        rows = [found.vector(event) * 650 for event in range(found.users)]
        wide = np.array(rows, np.int64).reshape(-1, layout_size(layout))
        return ClippedUpdate((DenseSteps(wide),), found.accepted, found.grid)

    honest = event_steps(algorithm, state, plan, has, SeededSource(b"x")).steps.tolist()
    monkeypatch.setattr(steps_module, "clip", lengthened)
    found = event_steps(algorithm, state, plan, has, SeededSource(b"x")).steps.tolist()
    nobody = has.entries(np.zeros(has.nnz, np.bool_))
    assert found == event_steps(algorithm, state, plan, nobody, SeededSource(b"x")).steps.tolist() != honest


def test_no_signal_is_so_strong_that_pairs_are_asked_for() -> None:
    """A pair belongs to a user: with the unit event there would be no such block to send."""
    known = PublicFacts(n_users=100_000_000, n_items=ITEMS, mu=20.0, local=True)
    assert EventMf(EventMfSettings(), known).plan.pair_items == 0
    with pytest.raises(ValueError, match="pair_items"):
        EventMfSettings(pair_items=5)


def test_a_users_vector_knows_of_events_through_noise_alone() -> None:
    """With noise that hides everything, what a device sends no longer follows its vector's true direction."""
    algorithm, state, plan = made(2)
    one = Interactions.from_pairs([0] * 6, range(6), n_users=1, n_items=ITEMS)
    loud = plan.model_copy(update={"sigma": 2**28, "mu2": attempt_mu2(GRID, 2**28, plan.events)})
    told: list[Any] = []

    class Kept(EventMf):
        def user_step(self, users: Any, sums: Any) -> Any:
            moved = super().user_step(users, sums)
            told.append(moved)
            return moved

    kept = Kept(algorithm.settings, facts())
    for sigma_plan in (plan, loud):
        for number in range(200):
            event_steps(kept, state, sigma_plan, one, SeededSource(b"%d" % number))
    exact = algorithm.user_gradients(state, algorithm.user_start(state, 1), one).sum(axis=0)
    directions = np.concatenate(told) / np.linalg.norm(np.concatenate(told), axis=1)[:, None]
    agreement = directions @ exact / np.linalg.norm(exact)
    assert agreement[:200].mean() > 0.15
    assert abs(agreement[200:].mean()) < 5.5 / math.sqrt(200 * SIZE)


def test_every_step_has_its_noise_and_so_has_a_device_without_events() -> None:
    algorithm, state, plan = made(3)
    nothing = Interactions.from_pairs([], [], n_users=3000, n_items=ITEMS)
    sent = event_steps(algorithm, state, plan, nothing, SecureSource())
    assert sent.users == 3000
    deviation = SIGMA * math.sqrt(3000)
    noise = sent.steps.astype(np.float64)
    assert noise.std() / deviation == pytest.approx(1.0, abs=5.4 / math.sqrt(2 * len(noise)))


def test_coins_are_secret_fair_and_drawn_anew_in_each_step() -> None:
    made_of = histories(400, seed=3)
    source = SecureSource()
    draws = [sample_events(made_of, 0.25, source) for _ in range(40)]
    share = np.mean([each.nnz for each in draws]) / made_of.nnz
    assert share == pytest.approx(0.25, abs=5.4 * math.sqrt(0.25 * 0.75 / (40 * made_of.nnz)))
    assert len({each.indices.tobytes() for each in draws}) == 40
    assert sample_events(made_of, 1.0, source) is made_of
    with_none = sample_events(made_of, 0.001, SeededSource(b"x"))
    assert with_none.n_users == 400


def test_weights_of_events_do_not_count() -> None:
    """A half-life would let one event change others' weights."""
    algorithm, state, plan = made(2)
    plain = histories(5)
    heavy = Interactions(plain.indptr, plain.indices, plain.weights * 7, ITEMS)
    one, other = (event_steps(algorithm, state, plan, each, SeededSource(b"x")).steps for each in (plain, heavy))
    assert one.tolist() == other.tolist()


def test_a_vector_never_grows_beyond_what_errors_can_tell() -> None:
    algorithm, _, _ = made()
    moved = algorithm.user_step(np.zeros((3, SIZE)), np.full((3, SIZE), 1e9))
    assert np.sqrt(row_squares(moved)) == pytest.approx(1.0)


@pytest.mark.parametrize("changes", [{"dp": "central"}, {"dp": "off", "sigma": 0, "mu2": 0.0}])
def test_only_local_plans_have_events(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="dp local only"):
        made(**changes)


def test_what_is_no_event_step_is_refused() -> None:
    algorithm, state, plan = made()
    with pytest.raises(InputError, match="unit is one event"):
        event_steps(algorithm, state, plan.model_copy(update={"events": None}), histories(), SeededSource(b"x"))
    with pytest.raises(InputError, match="unit is one event"):
        event_steps(algorithm, state, plan, histories().users(slice(0, 0)), SeededSource(b"x"))
    with pytest.raises(InputError, match=r"needs `privacy\.unit` event"):
        algorithm.contribute(state, 1, histories())
    with pytest.raises(InputError, match="can't be started from"):
        algorithm.hand_over(state, np.arange(ITEMS), ITEMS)
    with pytest.raises(InputError, match="vote_share"):
        make_algorithm("event-mf", {"vote_share": 0.1}, facts())
    assert layout_size(plan.layout) == len(state["head"]) * SIZE


def test_a_whole_users_part_never_leaves_under_a_plan_that_charges_for_single_events() -> None:
    """A sampled event costs less than a user: whoever contributes users has no place in such a plan."""
    plan, known = make_plan(ITEMS, dp="local", events=Sampling(inclusion=0.1, steps=1), facts=facts()), facts()
    algorithm = make_algorithm("popularity", {}, known)
    header = ModelHeader(algorithm="popularity", settings={}, facts=known, catalogue="ab" * 32, releases=0)
    model = GlobalModel(header, algorithm.start())
    with SimulatedLedger(":memory:") as ledger:
        node = Contributor(histories(), range(20), ledger, "ab" * 32, Floors(), pinned=None)
        with pytest.raises(RefusedError, match="must derive from EventAlgorithm, and does not"):
            node._add_noise(ChargedPlan(plan), model, histories(), SeededSource(b"x"))


def test_an_event_that_the_algorithm_fails_on_counts_as_none_whatever_the_state() -> None:
    """A server may send a table with fewer rows than its head: a device that then refused would tell who has what."""
    algorithm, state, plan = made(2)
    short = {**state, "head": np.array([3, 7], np.int32)} | {name: state[name][:1] for name in ("table", "weight")}
    plan = plan.model_copy(update={"layout": (BlockSpec(name="products", shape=(2, SIZE), weight=1.0),)})
    has = [Interactions.from_pairs([0] * len(items), items, n_users=1, n_items=ITEMS) for items in ([3], [3, 7], [7])]
    with pytest.raises(IndexError):
        algorithm.item_gradients(short, 1, np.ones((1, SIZE)), has[1])
    once = plan.model_copy(update={"events": Sampling(inclusion=1.0, steps=1)})
    algorithm.user_start = lambda state, n: np.full((n, SIZE), 0.4)  # type: ignore[method-assign]  # a given vector
    one, both, other = (event_steps(algorithm, short, once, each, SeededSource(b"x")).steps for each in has)
    assert one.tolist() == both.tolist() != other.tolist()
    for each in has:
        assert event_steps(algorithm, short, plan, each, SecureSource()).users == 1


def test_what_fails_without_events_fails_for_everybody() -> None:
    algorithm, state, plan = made(2)
    broken = {name: array for name, array in state.items() if name != "weight"}
    nobody = Interactions.from_pairs([], [], n_users=1, n_items=ITEMS)
    for each in (nobody, histories(1, seed=5)):
        with pytest.raises(KeyError):
            event_steps(algorithm, broken, plan, each, SeededSource(b"x"))


def test_an_algorithm_with_fewer_rows_than_events_is_not_believed() -> None:
    """A row of two events moves a sum by more than the price of one, where one of them is taken away."""
    algorithm, state, plan = made(1)
    two = Interactions.from_pairs([0, 0], [0, 1], n_users=1, n_items=ITEMS)

    class Merged(EventMf):
        def item_gradients(self, state: Any, round_: int, users: Any, events: Interactions) -> Update:
            (block,) = super().item_gradients(state, round_, users, events).blocks
            assert isinstance(block, OuterBlock)
            n = min(events.nnz, 1)
            return Update((replace(block, indptr=block.indptr[[0, -1]][: n + 1], columns=block.columns[:n]),), n)

    merged = Merged(algorithm.settings, facts())
    alone = EventMf(algorithm.settings, facts())
    sent = [event_steps(each, state, plan, two, SeededSource(b"x")).steps.tolist() for each in (merged, alone)]
    assert sent[0] == sent[1], "each event is asked by itself"


def test_an_algorithm_with_more_rows_than_events_is_not_believed() -> None:
    """Each row is clipped by itself: two of one event would move a sum by twice the grid."""
    algorithm, state, plan = made(1)
    one = Interactions.from_pairs([0], [0], n_users=1, n_items=ITEMS)

    class Twice(EventMf):
        def item_gradients(self, state: Any, round_: int, users: Any, events: Interactions) -> Update:
            (block,) = super().item_gradients(state, round_, users, events).blocks
            assert isinstance(block, OuterBlock)
            rows, columns = np.tile(block.rows, 2), np.tile(block.columns, (2, 1))
            twice = OuterBlock(np.arange(len(rows) + 1), np.tile(block.indices, 2), rows, columns, block.n_rows)
            return Update((twice,), len(rows))

    twice = Twice(algorithm.settings, facts())
    twice.user_start = lambda state, n: np.full((n, SIZE), 0.4)  # type: ignore[method-assign]  # a given vector
    nobody = one.entries(np.zeros(1, np.bool_))
    sent = [event_steps(twice, state, plan, each, SeededSource(b"x")).steps for each in (one, nobody)]
    moved = sum(int(step) ** 2 for step in (sent[0] - sent[1]).tolist())
    assert moved <= GRID**2
