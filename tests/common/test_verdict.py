"""The vote on a model: what a device sends, and how far it can move a sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts, make_algorithm, verdict
from palate_common.algorithms.verdict import BLOCKS, CANDIDATE, FOUND, IN_USE, ROWS, SHOWN, VOTES, arrays_of
from palate_common.errors import InputError
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums
from palate_common.models.model import GlobalModel, ModelHeader

USERS, ITEMS, GRID = 40, 90, 2**20
FACTS = PublicFacts(n_users=USERS, n_items=ITEMS, mu=1.0)


def judging(algorithm: str = "popularity", n_items: int = ITEMS) -> Any:
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
    (listed,) = algorithm.lists(CANDIDATE, state, one)
    assert np.flatnonzero(listed).tolist() == [1, 2, 3, 4, 6, *range(8, 23)]


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
    assert not algorithm.lists(IN_USE, state, histories)[:, [*range(10), *range(70, 90)]].any()
    listed = algorithm.lists(CANDIDATE, state, histories, shared=True)
    assert not listed[:, [*range(10), *range(70, 90)]].any()
    assert listed.sum(axis=1).tolist() == [20] * USERS
    (none,) = algorithm.lists(IN_USE, state, histories.user(0))
    assert np.flatnonzero(none).tolist() == list(range(10, 30))
    update = algorithm.contribute(state, 0, histories)
    assert not update.blocks[0].values.any(), "both list 10 to 29 first, of what both have"
    alone = judging().contribute(
        judging().opening(arrays_of(CANDIDATE, popular(range(30))) | arrays_of(IN_USE, popular(range(30)))),
        0,
        histories,
    )
    assert (update.blocks[2].rows == alone.blocks[2].rows).all(), "what is shown is the whole list"
