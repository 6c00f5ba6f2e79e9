"""Items in quarantine: nothing is learned about them, by no algorithm, and no list shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate_client.recommend.selection import Selection
from palate_common.algorithms import Interactions, PublicFacts, State, first_state, make_algorithm, next_state
from palate_common.algorithms.parts.quarantine import QUARANTINED, inputs_of, learned_from, rows_of
from palate_common.algorithms.verdict import CANDIDATE, JudgedModel, JudgedPair, Judging
from palate_common.errors import IntegrityError
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import block_sums
from palate_common.models.compact import compact, expand
from palate_common.models.model import GlobalModel, ModelHeader

USERS, ITEMS, OUT, GRID = 300, 60, 7, 2**20
FACTS = PublicFacts(n_users=USERS, n_items=ITEMS, mu=40.0, seed=3)
ALGORITHMS: dict[str, dict[str, Any]] = {
    "als": {"embedding_size": 4},
    "als in a sketch": {"embedding_size": 4, "compression": 2.0},
    "als with pairs": {"pair_items": 20},
    "popularity": {},
    "sgd": {"embedding_size": 4, "rounds": 3},
}


def people() -> Interactions:
    """Everybody has ten items, and the one that is out."""
    rng, others = np.random.default_rng(5), np.delete(np.arange(ITEMS), OUT)
    rows = np.concatenate([np.append(rng.permutation(others)[:10], OUT) for _ in range(USERS)])
    return Interactions.from_pairs(np.repeat(np.arange(USERS), 11), rows, n_users=USERS, n_items=ITEMS)


def played(
    name: str, histories: Interactions, inputs: State, *, push: float = 0.0, facts: PublicFacts = FACTS
) -> GlobalModel:
    """A run, whose attackers push the item's row of each sum that has one for each item."""
    algorithm = make_algorithm(name.partition(" ")[0], ALGORITHMS[name], facts)
    state = first_state(algorithm, inputs)
    for round_ in range(len(algorithm.shares)):
        layout = algorithm.layout(state, round_)
        update = algorithm.contribute(state, round_, learned_from(histories, state))
        sums = block_sums(clip(update, layout, clip_norm=1.0, grid=GRID).total(), layout, 1 / GRID)
        for spec in layout:
            if push and spec.shape[0] == ITEMS:
                sums[spec.name][OUT] += push
        state = next_state(algorithm, state, round_, sums, {spec.name: 0.01 for spec in layout}, inputs)
    header = ModelHeader(algorithm=algorithm.name, settings=ALGORITHMS[name], facts=facts, releases=1, catalogue="")
    return GlobalModel(header, state)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_whatever_is_sent_for_it_no_algorithm_learns_about_it_and_no_list_shows_it(name: str) -> None:
    without = people().entries(people().indices != OUT)
    usual = played(name, without, {})
    inputs = inputs_of([OUT], ITEMS, usual.state)
    found, pushed = (played(name, people(), inputs, push=each) for each in (0.0, 1000.0))
    for array in (each for each in found.state if each != QUARANTINED):
        np.testing.assert_array_equal(found.state[array], pushed.state[array], err_msg=array)
    wide = [each for each, array in found.state.items() if array.dtype.kind == "f" and array.shape[:1] == (ITEMS,)]
    assert wide
    for array in wide:
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
        found = chosen.allowed(items, domain)
        assert found is not None
        assert found.tolist() == expected


def test_neither_model_loses_by_it_in_a_verdict_and_nobody_pushes_it_there() -> None:
    popular = JudgedModel(algorithm="popularity", settings={}, facts=FACTS, model="0" * 64)
    judging = Judging(JudgedPair(run="a", candidate=popular, in_use=popular), FACTS)
    counts = np.linspace(1, 2, ITEMS).astype(np.float32)
    shown = counts.copy()
    shown[OUT] = 9.0  # by the model in use it is the first of all lists, and everybody has it
    inputs = {f"{CANDIDATE}/counts": counts, "in_use/counts": shown, **inputs_of([OUT], ITEMS, {})}
    state = first_state(judging, inputs)
    votes, found, listed = judging.contribute(state, 0, learned_from(people(), state)).blocks
    assert not votes.values.any(), "they find the same"  # type: ignore[union-attr]
    assert OUT not in found.indices  # type: ignore[union-attr]
    assert OUT not in listed.indices  # type: ignore[union-attr]
    sums = {"votes": np.zeros(2), "found": np.zeros(ITEMS), "shown": np.full(ITEMS, 50.0)}
    made = next_state(judging, state, 0, sums, dict.fromkeys(sums, 1.0), inputs)
    assert made["shown"][OUT] == 0.0
