"""The vote on a model: what a device sends, and how far it can move a sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, make_algorithm, verdict
from palate_common.algorithms.als.vote import LIST, hide
from palate_common.algorithms.verdict import (
    BLOCKS,
    CANDIDATE,
    DISCOUNTS,
    FOUND,
    IN_USE,
    ROWS,
    SHOWN,
    VOTES,
    arrays_of,
)
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.errors import InputError

USERS, ITEMS, GRID = 40, 90, 2**20
FACTS = PublicFacts(n_users=USERS, n_items=ITEMS, mu=1.0)


def judging(algorithm: str = "popularity", n_items: int = ITEMS) -> Any:
    """Both models are of this algorithm."""
    judged = {"algorithm": algorithm, "settings": {}, "facts": FACTS.model_dump(mode="json"), "model": "0" * 64}
    facts = FACTS.model_copy(update={"n_items": n_items})
    return make_algorithm("verdict", {"run": "a", "candidate": judged, "in_use": judged}, facts)


def popular(items: range) -> dict[str, Any]:
    """The state of a model that lists these items first."""
    counts = np.zeros(ITEMS)
    counts[items] = 10.0
    return {"counts": counts}


def asked(candidate: range, in_use: range) -> tuple[Any, Any]:
    algorithm = judging()
    inputs = arrays_of(CANDIDATE, popular(candidate)) | arrays_of(IN_USE, popular(in_use))
    return algorithm, algorithm.opening(inputs)


@pytest.fixture(scope="module")
def histories() -> Interactions:
    """People who have some of the first thirty items; the first of them has nothing, and the second one item."""
    rng = np.random.default_rng(3)
    lengths = [0, 1, *rng.integers(2, 20, USERS - 2)]
    rows = np.concatenate([rng.permutation(30)[:length] for length in lengths])
    return Interactions.from_pairs(np.repeat(np.arange(USERS), lengths), rows, n_users=USERS, n_items=ITEMS)


def vectors(algorithm: Any, state: Any, histories: Interactions) -> Any:
    return clip(algorithm.contribute(state, 0, histories), algorithm.layout(state, 0), clip_norm=1.0, grid=GRID)


def ranked(*first: int, own: bool = True) -> dict[str, Any]:
    """The state of a model that lists these items first, in this order, and then the others as the catalogue has them.

    `own`: it is one of `als` that can tell people apart, by a direction that happens to be 0.
    """
    counts = np.ones(ITEMS, np.float32)
    counts[list(first)] = np.arange(len(first) + 1, 1, -1)
    if not own:
        return {"counts": counts}
    zeros = {name: np.zeros((1, 1), np.float32) for name in ("table", "basis")}
    ones = {name: np.ones(size, np.float32) for name, size in (("floor", 1), ("strength", 1), ("accuracy", 1))}
    more = {"head": np.zeros(1, np.int32), "weight": np.ones(1, np.float32), "values": np.full(1, 8, np.float32)}
    return {"counts": counts, "noise": np.ones(2, np.float32)} | zeros | ones | more


def vote(
    candidate: dict[str, Any], in_use: dict[str, Any], histories: Interactions, algorithm_name: str = "als"
) -> list[list[float]]:
    algorithm = judging(algorithm_name)
    state = algorithm.opening(arrays_of(CANDIDATE, candidate) | arrays_of(IN_USE, in_use))
    votes = algorithm.contribute(state, 0, histories).blocks[0].values
    return [[float(each) for each in row] for row in votes]


def test_a_device_votes_for_the_list_that_finds_more(histories: Interactions) -> None:
    algorithm, state = asked(range(30), range(60, 90))
    clipped = vectors(algorithm, state, histories)
    sums = block_sums(clipped.total(), algorithm.layout(state, 0), 1.0 / GRID)
    assert np.rint(sums[VOTES]).tolist() == [USERS - 1, 0]
    exposed = sums[SHOWN] * np.sqrt(20)
    assert exposed.sum() == pytest.approx(20 * (USERS - 1), rel=1e-3), "who has no items shows none"
    assert (exposed[30:] < 0.01).sum() + (sums[FOUND][30:] == 0).sum() >= 60
    released = algorithm.release(state, 0, sums, dict.fromkeys(BLOCKS, 0.5))
    assert set(released) == {*BLOCKS, "noise"}, "the two models are no part of it"
    assert released["noise"].tolist() == pytest.approx([0.5, 0.5, 0.5 * np.sqrt(20)])


def test_discounts_are_those_of_the_formula_on_every_machine() -> None:
    """Järvelin and Kekäläinen: 1 / log2(rank + 1). None is so near to a half that rounding could choose."""
    exact = 1e6 / np.log2(np.arange(2, LIST + 2))
    assert np.rint(exact).astype(int).tolist() == list(DISCOUNTS)
    assert np.abs(exact % 1 - 0.5).min() > 0.01


def test_a_device_gains_by_the_rank_of_what_it_finds() -> None:
    """As much is found by both lists: the vote is for the one that has it further up. Equal gains are no vote."""
    two = Interactions.from_pairs([0, 0], [40, 41], n_users=1, n_items=ITEMS)
    others = tuple(range(50, 68))
    first, last, same = ranked(40, 41, *others), ranked(*others, 40, 41), ranked(40, 41, *others[::-1])
    assert vote(first, last, two) == [[1.0, 0.0]]
    assert vote(last, first, two) == [[0.0, 1.0]]
    assert vote(first, same, two) == vote(last, last, two) == [[0.0, 0.0]]


def test_where_everybodys_list_is_the_same_finds_are_counted_at_any_rank(histories: Interactions) -> None:
    """The noise swaps two items in all lists at once: by rank each who has one of them would vote."""
    two = Interactions.from_pairs([0, 0], [40, 41], n_users=1, n_items=ITEMS)
    others = tuple(range(50, 68))
    for first, last, name in (
        (ranked(40, 41, *others, own=False), ranked(*others, 40, 41, own=False), "popularity"),
        (ranked(40, 41, *others), ranked(*others, 40, 41, own=False), "als"),
        (ranked(40, 41, *others, own=False), ranked(*others, 40, 41), "als"),
    ):
        assert vote(first, last, two, name) == vote(last, first, two, name) == [[0.0, 0.0]]
    one = Interactions.from_pairs([0] * 2, [40, 60], n_users=1, n_items=ITEMS)
    assert vote(ranked(40, own=False), ranked(60, 40, own=False), one, "popularity") == [[0.0, 1.0]]


def test_one_item_at_the_top_is_worth_two_further_down() -> None:
    """1 / log2(2) is more than twice 1 / log2(19); twice 1 / log2(4) is as much: equal to the bit."""
    own = [40, 41, 42, 43, 44]
    one = Interactions.from_pairs([0] * 5, own, n_users=1, n_items=ITEMS)
    shown, hidden = (half.indices.tolist() for half in hide(one, FACTS.seed))
    assert (len(shown), len(hidden)) == (3, 2)
    fill = tuple(range(50, 90))
    # The half of three is found by nobody; of the two one is first, or both are at the end of the list, or both third.
    top = ranked(hidden[0], *fill)
    low = ranked(*fill[:18], *hidden, *fill[18:])
    assert vote(top, low, one) == [[1.0, 0.0]], "a count would say the contrary"
    assert DISCOUNTS[0] == 2 * DISCOUNTS[2]


def test_a_pushed_item_loses_the_votes_of_all_who_find_something_below_it(histories: Interactions) -> None:
    """It takes one place of twenty, and a count of finds says so of few."""
    order = (*range(30),)
    pushed = vote(ranked(89, *order), ranked(*order), histories)
    assert all(pushed[user] == [0.0, 1.0] for user in range(USERS) if histories.user(user).nnz > 1)
    assert pushed[0] == [0.0, 0.0], "who has nothing votes for neither"


def test_a_vote_is_one_devices_each_block_has_norm_one_at_most_and_is_sent_as_it_is(histories: Interactions) -> None:
    algorithm, state = asked(range(10, 40), range(60, 90))
    update = algorithm.contribute(state, 0, histories)
    for block in update.blocks:
        assert (block.square_norms() <= 1 + 1e-9).all()
    assert update.blocks[1].square_norms()[2:].max() == pytest.approx(1.0), "whatever it found"
    clipped = vectors(algorithm, state, histories)
    for user in range(USERS):
        vector = clipped.vector(user).astype(np.float64) / GRID
        assert np.linalg.norm(vector) <= 1
        found = vector[2 : 2 + ITEMS] / np.sqrt(BLOCKS[FOUND])
        assert np.linalg.norm(found) == pytest.approx(float((found > 0).any()), abs=1e-3)


def test_a_vote_is_the_users_own_whatever_else_is_in_the_batch(histories: Interactions) -> None:
    algorithm, state = asked(range(5, 35), range(20, 50))
    together = vectors(algorithm, state, histories)
    for user in (0, 1, 7, USERS - 1):
        assert (vectors(algorithm, state, histories.user(user)).vector(0) == together.vector(user)).all()


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_vote_is_the_users_own_in_whatever_part(
    histories: Interactions, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    algorithm, state = asked(range(5, 35), range(20, 50))
    order = np.roll(np.arange(USERS), 5)  # somebody who has nothing is in a later part
    expected = vectors(algorithm, state, histories.users(order)).total()
    monkeypatch.setattr(verdict, "AT_ONCE", at_once)
    assert (vectors(algorithm, state, histories.users(order)).total() == expected).all()


def test_a_list_has_nothing_that_is_shown_to_the_model_and_ties_are_by_the_catalogue() -> None:
    algorithm, state = asked(range(ITEMS), range(ITEMS))
    one = Interactions.from_pairs([0, 0, 0], [0, 5, 7], n_users=1, n_items=ITEMS)
    listed = algorithm.lists(CANDIDATE, state, one)
    assert listed.indices.tolist() == [1, 2, 3, 4, 6, *range(8, 23)]
    assert listed.weights.tolist() == list(range(1, LIST + 1)), "of equals the first in the catalogue stands first"


def test_a_list_is_in_the_order_of_scores() -> None:
    algorithm = judging("als")
    state = algorithm.opening(arrays_of(CANDIDATE, ranked(7, 3, 80)) | arrays_of(IN_USE, ranked(5)))
    two = Interactions.from_pairs([0, 1], [3, 1], n_users=2, n_items=ITEMS)
    listed = algorithm.lists(CANDIDATE, state, two)
    for user, expected in enumerate([[7, 80, 0, 1, 2, 4], [7, 3, 80, 0, 2, 4]]):
        own = listed.user(user)
        assert own.indices[np.argsort(own.weights)].tolist()[:6] == expected
        assert sorted(own.weights.tolist()) == list(range(1, LIST + 1))


def test_votes_are_on_the_two_models_that_the_plan_names() -> None:
    """What is signed is the hash of the state, which changes with either model."""
    hashes = set()
    for candidate, in_use in ((range(30), range(60, 90)), (range(31), range(60, 90)), (range(30), range(61, 90))):
        algorithm, state = asked(candidate, in_use)
        settings = algorithm.verdict.model_dump(mode="json")
        header = ModelHeader(algorithm="verdict", settings=settings, facts=FACTS, releases=0, catalogue="c")
        hashes.add(GlobalModel(header, state).hash)
    assert len(hashes) == 3


def test_only_models_that_recommend_this_catalogue_are_judged() -> None:
    with pytest.raises(InputError, match="must be one that recommends"):
        judging("analytics")
    with pytest.raises(InputError, match="must have the 89 items"):
        judging(n_items=89)


def test_after_new_items_votes_are_on_what_both_models_have(histories: Interactions) -> None:
    """The model in use has the items 10 to 69 of the run's, in another order, and one that has gone."""
    rows = np.array([*range(69, 9, -1), -1])
    former = {"algorithm": "popularity", "settings": {}, "facts": {"n_users": USERS, "n_items": 61}, "model": "1" * 64}
    settings = judging().verdict.model_dump(mode="json") | {"in_use": former}
    algorithm: Any = make_algorithm("verdict", settings, FACTS)
    counts = np.where(rows < 0, 99.0, np.arange(61.0))  # it lists the items 10, 11, 12 ... first
    inputs = arrays_of(CANDIDATE, popular(range(30))) | arrays_of(IN_USE, {"counts": counts}) | {ROWS: rows}
    state = algorithm.opening(inputs)
    assert not algorithm.lists(IN_USE, state, histories).dense()[:, [*range(10), *range(70, 90)]].any()
    listed = algorithm.lists(CANDIDATE, state, histories, shared=True).dense()
    assert not listed[:, [*range(10), *range(70, 90)]].any()
    assert listed.sum(axis=1).tolist() == [20] * USERS
    none = algorithm.lists(IN_USE, state, histories.user(0))
    assert none.indices.tolist() == list(range(10, 30))
    update = algorithm.contribute(state, 0, histories)
    assert not update.blocks[0].values.any(), "both list 10 to 29 first, of what both have, in the same order"
    alone = judging().contribute(
        judging().opening(arrays_of(CANDIDATE, popular(range(30))) | arrays_of(IN_USE, popular(range(30)))),
        0,
        histories,
    )
    assert (update.blocks[2].rows == alone.blocks[2].rows).all(), "what is shown is the whole list"
