"""Items in quarantine: nothing is learned about them, by no algorithm, and no list shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dp_als import DpAls
from dp_ease import DpEase

from palate_client.recommend.selection import Selection
from palate_common.algorithms import (
    Algorithm,
    BlockSpec,
    Interactions,
    ItemRows,
    Layout,
    PublicFacts,
    State,
    first_state,
    lent,
    make_algorithm,
    next_state,
)
from palate_common.algorithms.parts.quarantine import QUARANTINED, inputs_of, learned_from, rows_of, unheard
from palate_common.algorithms.popularity import Popularity, PopularitySettings
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums
from palate_common.models.compact import compact, expand
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.errors import InputError, IntegrityError

USERS, ITEMS, OUT, GRID = 300, 60, 7, 2**20
FACTS = PublicFacts(n_users=USERS, n_items=ITEMS, mu=40.0, seed=3)
ALGORITHMS: dict[str, dict[str, Any]] = {
    "als": {"embedding_size": 4},
    "als with pairs": {"pair_items": 20},
    "popularity": {},
    "sgd": {"embedding_size": 4, "rounds": 3},
}
WHOLE = ALGORITHMS | {
    "als of few items": {"embedding_size": 4, "head_items": 20},
    "dp-als": {"embedding_size": 4, "rounds": 2},
    "dp-ease": {},
}


@pytest.fixture(autouse=True)
def known_here() -> Iterator[None]:
    with lent(DpEase), lent(DpAls):
        yield


def people() -> Interactions:
    """Everybody has ten items, and the one that is out."""
    rng, others = np.random.default_rng(5), np.delete(np.arange(ITEMS), OUT)
    rows = np.concatenate([np.append(rng.permutation(others)[:10], OUT) for _ in range(USERS)])
    return Interactions.from_pairs(np.repeat(np.arange(USERS), 11), rows, n_users=USERS, n_items=ITEMS)


def played(
    name: str, histories: Interactions, inputs: State, *, push: float = 0.0, facts: PublicFacts = FACTS
) -> GlobalModel:
    """A run, whose attackers push the item's row of each sum that has one for each item."""
    algorithm = make_algorithm(name.partition(" ")[0], WHOLE[name], facts)
    state = first_state(algorithm, inputs)
    for round_ in range(len(algorithm.shares)):
        layout = algorithm.layout(state, round_)
        update = algorithm.contribute(state, round_, learned_from(histories, state))
        sums = block_sums(clip(update, layout, clip_norm=1.0, grid=GRID).total(), layout, 1 / GRID)
        if push:
            rows = algorithm.item_rows(state, round_)
            assert rows.keys() >= {spec.name for spec in layout}
            for spec in layout:
                for axis, places in enumerate(rows[spec.name]):
                    of_it = (places == OUT).reshape(len(places), -1).any(axis=1)
                    np.moveaxis(sums[spec.name], axis, 0)[of_it] += push
        state = next_state(algorithm, state, round_, sums, {spec.name: 0.01 for spec in layout}, inputs)
    header = ModelHeader(algorithm=algorithm.name, settings=WHOLE[name], facts=facts, releases=1, catalogue="")
    return GlobalModel(header, state)


@pytest.mark.parametrize("name", WHOLE)
def test_whatever_is_sent_for_it_no_algorithm_learns_about_it_and_no_list_shows_it(name: str) -> None:
    without = people().entries(people().indices != OUT)
    usual = played(name, without, {})
    inputs = inputs_of([OUT], ITEMS, usual.item_arrays)
    found, pushed = (played(name, people(), inputs, push=each) for each in (0.0, 1000.0))
    for array in (each for each in found.state if each != QUARANTINED):
        np.testing.assert_array_equal(found.state[array], pushed.state[array], err_msg=array)
    for array in found.item_arrays:
        np.testing.assert_array_equal(found.state[array][OUT], usual.state[array][OUT], err_msg=array)
    scores = found.scores(without.users(slice(0, 20)))
    assert (scores.argmin(axis=1) == OUT).all()
    assert np.isfinite(scores).all()
    assert expand(compact(found), most=2**22).quarantined.tolist() == [OUT]


@pytest.mark.parametrize("out", [[0], list(range(8))])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_one_that_was_never_published_breaks_no_algorithm(name: str, out: list[int]) -> None:
    rng, facts = np.random.default_rng(1), PublicFacts(n_users=200, n_items=8, mu=40.0, seed=3)
    rows = np.concatenate([rng.permutation(8)[:5] for _ in range(200)])
    histories = Interactions.from_pairs(np.repeat(np.arange(200), 5), rows, n_users=200, n_items=8)
    model = played(name, histories, inputs_of(out, 8, {}), facts=facts)
    assert np.isfinite(model.algorithm.scores(model.state, histories.users(slice(0, 20)))).all()


def test_a_round_of_votes_alone_has_no_products_to_leave_it_out_of() -> None:
    facts = PublicFacts(n_users=200, n_items=30, mu=1.0, n_features=2)
    als = make_algorithm("als", {}, facts)
    inputs = {"features": np.random.default_rng(0).normal(size=(30, 2)), **inputs_of([3], 30, {})}
    state = next_state(als, first_state(als, inputs), 0, {"counts": np.arange(30.0)}, {"counts": 1.0}, inputs)
    assert [block.name for block in als.layout(state, 1)] == ["vote"]
    state = next_state(als, state, 1, {"vote": np.ones(3)}, {"vote": 1.0}, inputs)
    assert state[QUARANTINED].tolist()[3]


def test_arrays_that_are_as_long_as_the_catalogue_by_chance_are_of_no_items() -> None:
    """Eight directions of eight items: what was published of the directions is no row of an item."""
    rng, facts = np.random.default_rng(1), PublicFacts(n_users=200, n_items=8, mu=40.0, seed=3)
    rows = np.concatenate([rng.permutation(8)[:5] for _ in range(200)])
    histories = Interactions.from_pairs(np.repeat(np.arange(200), 5), rows, n_users=200, n_items=8)
    WHOLE["als of eight"] = {"embedding_size": 8}
    former = played("als of eight", histories, {}, facts=facts)
    assert {name for name, array in former.state.items() if array.shape == (8,)} > {"counts", "values", "strength"}
    other = replace(former, state={**former.state, "values": np.full(8, 9.0, np.float32)})
    found = [
        played("als of eight", histories, inputs_of([OUT], 8, each.item_arrays), facts=facts)
        for each in (former, other)
    ]
    assert found[0].data == found[1].data
    assert found[0].state["counts"][OUT] == former.state["counts"][OUT]


class _Silent(Popularity):
    """It has a block of as many numbers as there are items, and says of none whose they are."""

    name, item_rows = "silent", Algorithm.item_rows

    def layout(self, state: State, round_: int) -> Layout:
        weight = 0.5**0.5
        return tuple(BlockSpec(name=name, shape=(self.facts.n_items,), weight=weight) for name in ("counts", "hours"))


class _Said(_Silent):
    """It says of both."""

    def item_rows(self, state: State, round_: int) -> ItemRows:
        return {"counts": (np.arange(self.facts.n_items),), "hours": ()}


def test_a_block_that_is_of_no_items_is_heard_and_one_that_says_nothing_is_refused_before_a_round() -> None:
    sums = {name: np.full(ITEMS, 5.0) for name in ("counts", "hours")}
    inputs, silent, said = (
        inputs_of([OUT], ITEMS, {}),
        *(each(PopularitySettings(), FACTS) for each in (_Silent, _Said)),
    )
    heard = unheard(sums, inputs, said.item_rows({}, 0))
    assert [each[OUT] for each in heard.values()] == [0.0, 5.0]
    assert heard["counts"].sum() == 5.0 * (ITEMS - 1)
    assert said.leaves_items_out() > silent.leaves_items_out()
    assert first_state(silent, {}).keys() == {"counts"}
    with pytest.raises(InputError, match="must say of each block whose places it has, got nothing of 'counts'"):
        first_state(silent, inputs)
    with pytest.raises(InputError, match=f"must have {ITEMS} places of 'counts', got 3"):
        unheard(sums, inputs, {"counts": (np.arange(3),), "hours": ()})


def test_a_contribution_has_nothing_of_it_and_without_any_all_is_as_it_was() -> None:
    state: State = dict(inputs_of([OUT, 9], ITEMS, {}))
    kept = learned_from(people(), state)
    assert not np.isin(kept.indices, [OUT, 9]).any()
    assert kept.n_items == ITEMS
    assert learned_from(people(), {}).indices.tolist() == people().indices.tolist()
    assert inputs_of([], ITEMS, {}) == {}


@pytest.mark.parametrize("wrong", [np.ones(ITEMS - 1, np.uint8), np.ones(ITEMS), np.full(ITEMS, 2, np.uint8)])
def test_what_marks_no_items_of_the_catalogue_is_refused(wrong: Any) -> None:
    with pytest.raises(IntegrityError, match=f"must mark some of {ITEMS} items"):
        rows_of({QUARANTINED: wrong}, ITEMS)


def test_a_selection_has_none_of_it_in_whatever_it_is_asked_for() -> None:
    rows = {f"item-{row}": row for row in range(6)}
    chosen = Selection(rows, ["a", "b"] * 3, np.array([2]))
    for items, domain, expected in (
        (None, None, [0, 1, 3, 4, 5]),
        (None, "a", [0, 4]),
        (["item-2", "item-3"], None, [3]),
        (["item-2"], "a", []),
    ):
        found = chosen.allowed_rows(items, domain)
        assert found is not None
        assert found.tolist() == expected
