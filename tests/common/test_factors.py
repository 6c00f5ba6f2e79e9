"""Factors: their products are the algorithm's scores, and the events' vectors sum to the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pairs import Paired, paired

from palate_common.algorithms import Algorithm, algorithm_class, algorithm_names, lent
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel

Trained = Callable[..., GlobalModel]
CASES: dict[str, dict[str, Any]] = {
    "taste": {"settings": {"pair_items": 0}},
    "taste and links": {},
    "taste and content": {"features": True},
    "a small head": {"settings": {"head_items": 12}},
    "a small head and content": {"settings": {"head_items": 12}, "features": True},
    "content only": {"settings": {"rounds": 1}, "features": True},
    "popularity only": {"settings": {"rounds": 1}},
    "popularity": {"algorithm": "popularity"},
    "links": {"links": True},
}


@pytest.fixture
def trained(trained: Trained) -> Iterator[Trained]:
    """Models that were trained, and one with links, which can be found meanwhile."""
    with lent(Paired):
        yield lambda **case: paired(**case) if case.pop("links", False) else trained(**case)


@pytest.mark.parametrize("case", CASES)
def test_products_and_links_are_the_scores(trained: Trained, tastes: Interactions, case: str) -> None:
    model = trained(**CASES[case])
    factors = model.algorithm.factors(model.state)
    assert factors is not None
    scores, made = model.scores(tastes), factors.users(tastes) @ factors.items().T
    for source, links in factors.links.items():
        made += links.scores(tastes, factors.amounts(source, tastes))
    np.testing.assert_allclose(made, scores, rtol=1e-5, atol=1e-6 * scores.max())
    assert not {*factors.parts} & {*factors.links}
    ends = [(part.start, part.stop) for part in factors.parts.values()]
    assert [0, *(end for _, end in ends)] == [*(start for start, _ in ends), factors.items().shape[1]]


@pytest.mark.parametrize("case", CASES)
def test_the_events_sum_to_the_user(trained: Trained, tastes: Interactions, case: str) -> None:
    model = trained(**CASES[case])
    factors = model.algorithm.factors(model.state)
    assert factors is not None
    popularity = factors.parts["popularity"]
    for user in range(6):
        history = tastes.user(user)
        events, whole = factors.events(history), factors.users(history)[0]
        kept = np.random.default_rng(user).random((5, history.nnz)) < np.array([0.0, 0.2, 0.5, 0.9, 1.0])[:, None]
        parts = factors.fold(history).subsets(kept)
        np.testing.assert_allclose(parts, factors.users(history.subsets(kept)), rtol=1e-9, atol=1e-12)
        assert events.shape == (history.nnz, len(whole))
        rest = whole - events.sum(axis=0)
        counts = "basis" in model.state or "content" in model.state
        shows = model.state.get("head", np.arange(tastes.n_items))
        known = counts and bool(np.isin(history.indices, shows).any())
        np.testing.assert_allclose(rest[popularity], 0.0 if known else 1.0, atol=1e-12)
        np.testing.assert_allclose(np.delete(rest, popularity), 0.0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_user_and_an_event_have_the_same_bits_alone_and_among_others(
    trained: Trained, tastes: Interactions, case: str
) -> None:
    """A device looks rows up once that a simulation of many users shares between them."""
    model = trained(**CASES[case])
    factors = model.algorithm.factors(model.state)
    assert factors is not None
    together = factors.users(tastes)
    amounts = {source: factors.amounts(source, tastes) for source in factors.links}
    for user in range(12):
        assert np.array_equal(factors.users(tastes.user(user))[0], together[user])
        own = slice(tastes.indptr[user], tastes.indptr[user + 1])
        for source, each in amounts.items():
            assert np.array_equal(factors.amounts(source, tastes.user(user)), each[own])
    lonely = np.repeat(np.arange(tastes.n_users), tastes.counts() > 0)
    firsts = Interactions.from_pairs(
        np.arange(len(lonely)), tastes.indices[tastes.indptr[lonely]], tastes.weights[tastes.indptr[lonely]],
        n_users=len(lonely), n_items=tastes.n_items,
    )  # fmt: skip
    users = factors.users(firsts)
    for place in range(12):
        event, shown = factors.events(firsts.user(place))[0], factors.parts["popularity"]
        counts = event[shown] != 0  # without a level an event adds none, and the user has 1
        assert np.array_equal(event[shown], np.where(counts, users[place][shown], 0.0))
        assert np.array_equal(np.delete(event, shown), np.delete(users[place], shown))


def test_others_have_none(trained: Trained) -> None:
    names = set(algorithm_names()) - {"event-mf"}  # which learns by noised steps alone
    assert {name for name in names if algorithm_class(name).factors is not Algorithm.factors} == {"als", "popularity"}
    other = trained(algorithm="sgd")
    assert other.algorithm.factors(other.state) is None
