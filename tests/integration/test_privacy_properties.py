"""What the privacy claim rests on and no module shows alone; each test kills a mutant that the others let live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import Algorithm, PublicFacts, State, algorithm_names, make_algorithm
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseBlock, DenseSteps, OuterBlock, OuterSteps, Update
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import REFUSED, decode
from palate_core.device.floors import Floors
from palate_core.errors import RefusedError
from palate_core.layout import BlockSpec
from palate_core.plan import RoundPlan, SignedPlan
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.noise import noised
from palate_server.rounds.run import first_answers
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MakeRun = Callable[..., Any]
SHAPES = ((40_000,), (200, 200), (40_000,))
SAID = (b"first", b"second")
ALS = {"algorithm": "als", "settings": {"rounds": 3, "popularity_only_below": 0, "embedding_size": 6}}
HASHES = {"plan_hash", "release_hash", "model_hash", "expires", "run", "seq"}
LEDGER = {**dict.fromkeys(HASHES, True), "facts": {"spent"}}
"""What all runs have spent follows from the runs before."""
"""What differs from run to run: hashes of noised numbers, the clock, names and places."""


def without(histories: Interactions, user: int) -> Interactions:
    """The neighbour: one user's events are emptied."""
    return histories.only(np.arange(histories.n_users) != user)


def weighted(n_users: int = 50, n_items: int = 40) -> Interactions:
    """Users with weights of many sizes, one without events and one whose weights are all 1."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 12, n_users)
    sizes[0] = 0
    items = np.concatenate([rng.choice(n_items, size, replace=False) for size in sizes])
    owners = np.repeat(np.arange(n_users), sizes)
    weights = np.where(owners == 1, 1.0, np.exp(rng.normal(size=len(items))))
    return Interactions.from_pairs(owners, items, weights, n_users=n_users, n_items=n_items)


def noised_states(algorithm: Algorithm) -> list[State]:
    """Public states before each round, after releases of nothing but noise."""
    rng, found = np.random.default_rng(3), [algorithm.start()]
    for round_ in range(min(3, len(algorithm.shares)) - 1):
        sums = {spec.name: 30 + rng.normal(size=spec.shape) for spec in algorithm.layout(found[-1], round_)}
        found.append(algorithm.release(found[-1], round_, sums, dict.fromkeys(sums, 1.0)))
    return found


def raw_vectors(update: Update, user: int) -> list[bytes]:
    """The bits of one user's raw contribution, block by block."""
    bits = []
    for block in update.blocks:
        if isinstance(block, DenseBlock):
            bits.append(block.values[user].tobytes())
        else:
            part = slice(block.indptr[user], block.indptr[user + 1])
            bits += [block.indices[part].tobytes(), block.rows[part].tobytes()]
        if isinstance(block, OuterBlock):
            bits += [block.columns[user].tobytes()]
            bits += [] if block.shift is None else [block.along.tobytes(), block.shift[user].tobytes()]
    return bits


@pytest.mark.parametrize("name", sorted({*algorithm_names()} - {"event-mf"}))  # whose steps have a test of their own
def test_a_users_raw_contribution_has_the_same_bits_whoever_else_is_in_the_batch(name: str) -> None:
    """Clipping bounds what a user sends; it can't bound what they do to what others send."""
    histories = weighted()
    algorithm = make_algorithm(name, {}, PublicFacts(n_users=90_000, n_items=histories.n_items, mu=1.0, seed=1))
    for round_, state in enumerate(noised_states(algorithm)):
        together = algorithm.contribute(state, round_, histories)
        for user in range(histories.n_users):
            alone = algorithm.contribute(state, round_, histories.user(user))
            assert raw_vectors(alone, 0) == raw_vectors(together, user)


def test_a_history_that_an_algorithm_cannot_work_on_costs_its_user_alone(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the shard's answer a refusal, one user's events would decide over everybody's."""
    run = make_run(**ALS)
    plan, model = run.first()
    fail_on = int(run.histories.user(1).indices[0])
    kind = type(GlobalModel.from_bytes(model).algorithm)
    honest = kind.contribute

    def touchy(self: Any, state: State, round_: int, histories: Interactions) -> Update:
        if any(histories.user(row).indices.tolist() == [fail_on] for row in range(histories.n_users)):
            raise ZeroDivisionError("a history of one item")
        return honest(self, state, round_, histories)

    ledgers = [SimulatedLedger(":memory:", durable=False) for _ in range(2)]
    neighbours = (run.histories, without(run.histories, 1))
    found = []
    monkeypatch.setattr(kind, "contribute", touchy)
    for ledger, histories in zip(ledgers, neighbours, strict=True):
        with ledger:
            found.append(Contributor(histories, range(40), ledger, run.key.public, run.floors).answer(plan, model))
    assert found[0] == found[1] != REFUSED
    assert decode(found[0], grid=2**14).header.users == 40
    assert decode(found[0], grid=2**14).total.any()


def test_a_singular_system_of_one_user_costs_that_user_alone() -> None:
    """A weight as large as float32 holds: a real algorithm raises for it, or, on some machines, has no number."""
    n_items = 30
    rows, items, weights = [0, 1, 1, 2], [0, 3, 5, 4], [1, 3e38, 3e38, 1]
    histories = Interactions.from_pairs(rows, items, weights, n_users=3, n_items=n_items)
    facts = PublicFacts(n_users=1000, n_items=n_items, mu=1.0)
    algorithm = make_algorithm("dp-fedavg", {}, facts)
    state = algorithm.release(algorithm.start(), 0, {"counts": np.linspace(100, 1, n_items)}, {"counts": 0.1})
    model, plan = _Served(algorithm, state), _Asked(algorithm.layout(state, 1))
    node = Contributor(histories, range(3), None, "", Floors())  # type: ignore[arg-type] # no ledger: below it
    with np.errstate(all="ignore"):
        clipped = node._clip_joined(plan, model, histories)  # type: ignore[arg-type] # what the method uses of both
    alone = node._clip_joined(plan, model, histories.users(np.array([0, 2])))  # type: ignore[arg-type] # as above
    for user, row in ((0, 0), (2, 1)):
        assert clipped.vector(user).any()
        assert np.array_equal(clipped.vector(user), alone.vector(row))


class _Served:
    """What training uses of a model."""

    def __init__(self, algorithm: Algorithm, state: State) -> None:
        self.algorithm, self.state = algorithm, state


class _Asked:
    """What training uses of a plan."""

    round, clip_norm, grid = 1, 1.0, 2**20

    def __init__(self, layout: tuple[BlockSpec, ...]) -> None:
        self.layout = layout


def test_an_algorithm_that_fails_whatever_anybody_did_is_still_a_refusal(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    plan, model = run.first()

    def broken(*_: Any) -> Update:
        raise RefusedError("always")

    monkeypatch.setattr(type(GlobalModel.from_bytes(model).algorithm), "contribute", broken)
    (node, *_) = run.nodes()
    assert (node.answer(plan, model), node.refusal) == (REFUSED, "always")


def test_without_one_users_events_everything_but_the_noised_numbers_is_the_same(make_run: MakeRun) -> None:
    """Plans, charges, sizes, counts: what is not noised must not depend on what anybody did."""
    run = make_run(**ALS)
    histories, home = run.histories, run.folder
    seen = []
    for name in ("with", "gone"):
        run.again(name)
        run.histories = histories if name == "with" else without(histories, 5)
        said: list[Any] = []
        coordinator = run.coordinator()
        while not coordinator.finished:
            plan, model = coordinator.open_attempt(), coordinator.model.data
            with SimulatedLedger(":memory:", durable=False) as devices:
                replies = {number: node.answer(plan, model) for number, node in enumerate(run.nodes(ledger=devices))}
            said += [decode(reply, grid=run.terms.grid).header.model_dump(exclude=HASHES) for reply in replies.values()]
            said.append(SignedPlan.model_validate_json(plan).plan.model_dump(exclude=HASHES))
            release = coordinator.close_attempt(replies)
            said += [release.participation, len(model), [len(reply) for reply in replies.values()]]
            said.append({key: array.shape for key, array in release.model.state.items()})
        said += [entry.model_dump(exclude=LEDGER) for entry in run.ledger.entries(name) if entry.kind != "open"]
        said.append(sorted(path.name for path in (run.folder / "releases").iterdir()))
        seen.append(said)
        run.folder = home
    assert seen[0] == seen[1]


def test_every_block_of_a_release_is_noised_as_charged() -> None:
    layout = [{"name": name, "shape": shape, "weight": 3**-0.5} for name, shape in zip("abc", SHAPES, strict=True)]
    plan = RoundPlan.model_validate({
        "population": "p", "run": "r", "round": 0, "attempt": 0, "model_hash": "", "algorithm": "als", "settings": {},
        "facts": PublicFacts(n_users=1, n_items=1, mu=1.0), "layout": layout, "clip_norm": 1.0, "grid": 2**14,
        "sigma": 2**14, "dp": "central", "noise": "secure", "cohort_floor": 1, "mu2": 1.1, "expires": 1,
    })  # fmt: skip
    released = noised(Aggregate(np.zeros(120_000, np.int64), ParticipationCounts(1, 0, 0, 0)), plan)
    for name, block in released.sums().items():
        assert abs(block.std() / released.noise()[name] - 1) < 0.03  # the standard error is 0.35 %


def test_the_norm_check_is_exact_for_the_largest_integers() -> None:
    """The last line of defence: with whatever arithmetic the scaling went wrong, int32 would wrap to a small norm."""
    most = 2**26
    ends = np.array([0, 2], np.int64)
    outer = OuterSteps(ends, np.array([0, 1], np.int32), np.array([most, most]), np.array([[1]]), 2)
    assert outer.square_norms().tolist() == [2 * most**2]
    dense = DenseSteps(np.array([[most, 0, most]]))
    assert (dense.square_norms() + outer.square_norms()).tolist() == [4 * most**2]


def test_the_first_answer_of_a_node_is_the_one_that_counts() -> None:
    """A node that is sent a message again can't replace what it said, nor be summed twice."""
    assert dict(first_answers((7, text) for text in SAID)) == {7: SAID[0]}


def test_a_device_answers_its_own_population_alone(make_run: MakeRun) -> None:
    """Under another name a server could begin a ledger anew, and no device would see that it was rolled back."""
    run = make_run()
    plan, model = run.first()
    (stranger, *_) = run.nodes(floors=Floors(allow_seeded=True, allow_central=True, population="others"))
    assert stranger.answer(plan, model) == REFUSED
    assert stranger.refusal == "this device is of the population 'others', got 'readers'"
    (own, *_) = run.nodes(floors=Floors(allow_seeded=True, allow_central=True, population="readers"))
    assert own.answer(plan, model) != REFUSED
