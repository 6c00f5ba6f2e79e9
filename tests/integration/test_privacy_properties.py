"""What the privacy claim rests on and no module shows alone; each test kills a mutant that the others let live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dp_fedavg import DpFedAvg

from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import Algorithm, PublicFacts, State, algorithm_names, make_algorithm
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseBlock, DenseSteps, OuterBlock, OuterSteps, Update
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import REFUSED
from palate_core.device.floors import Floors
from palate_core.errors import RefusedError
from palate_core.layout import BlockSpec
from palate_server.rounds.run import first_answers

MakeRun = Callable[..., Any]
SAID = (b"first", b"second")


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


def test_a_singular_system_of_one_user_costs_that_user_alone() -> None:
    """A weight as large as float32 holds: a real algorithm raises for it, or, on some machines, has no number."""
    n_items = 30
    rows, items, weights = [0, 1, 1, 2], [0, 3, 5, 4], [1, 3e38, 3e38, 1]
    histories = Interactions.from_pairs(rows, items, weights, n_users=3, n_items=n_items)
    facts = PublicFacts(n_users=1000, n_items=n_items, mu=1.0)
    algorithm = DpFedAvg(DpFedAvg.Settings(), facts)
    state = algorithm.release(algorithm.start(), 0, {"counts": np.linspace(100, 1, n_items)}, {"counts": 0.1})
    model, plan = _Served(algorithm, state), _Asked(algorithm.layout(state, 1))
    node = Contributor(histories, range(3), None, "", Floors(), pinned=None)  # type: ignore[arg-type] # no ledger: below it
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
