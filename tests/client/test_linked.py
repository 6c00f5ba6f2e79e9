"""Links on a device: the scores are the algorithm's, the search is exact, and what adds to a score adds up."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import Paired, PairedFactors, paired

from palate import Device, Event
from palate_client.recommend.adaptation.blending import RecommendationOutcome, weights_of
from palate_client.recommend.adaptation.fusion import NOTHING, fused_weights
from palate_client.recommend.diversity import diverse
from palate_client.recommend.explanation import Contribution, in_words
from palate_client.recommend.linked import Bonds, Linked
from palate_client.recommend.reasons import named_events
from palate_client.recommend.scoring import LESS, ByFactors, scorer_of
from palate_common.algorithms import lent
from palate_common.algorithms.parts.links import Links
from palate_common.interactions import Interactions
from palate_common.score_sources import COLLABORATIVE, PAIRS, PANEL, POPULARITY
from palate_sim.evaluation.on_device import OnDevice, weighs_sources

ITEMS = tuple(f"i{n:02d}" for n in range(60))
PLAIN = {"discovery": 0.0}
ROWS = np.arange(60)


@pytest.fixture(scope="module", autouse=True)
def _lent() -> Iterator[None]:
    """The algorithm can be found by its name."""
    with lent(Paired):
        yield


def history_of(rows: list[int], n_items: int = 60) -> Interactions:
    return Interactions.from_pairs([0] * len(rows), rows, n_users=1, n_items=n_items)


def some(n_items: int, seed: int, n: int) -> Interactions:
    """A user's history with weights in quarters."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(n_items)[:n]
    return Interactions.from_pairs([0] * n, rows, rng.integers(1, 9, n) / 4, n_users=1, n_items=n_items)


@given(
    n_items=st.integers(2, 90),
    n_linked=st.integers(0, 90),
    most=st.integers(0, 20),
    n=st.integers(0, 40),
    seed=st.integers(0, 999),
)
def test_scores_and_their_order_are_those_of_the_algorithm(
    n_items: int, n_linked: int, most: int, n: int, seed: int
) -> None:
    model = paired(n_items, seed, n_linked=min(n_linked, n_items), most=most)
    history, scorer = some(n_items, seed, min(n, n_items)), scorer_of(model)
    taste, expected = scorer.taste(history, NOTHING, {}), np.array(model.scores(history)[0])
    rows = np.arange(n_items)
    np.testing.assert_allclose(scorer.scores(taste, rows), expected, atol=1e-9)
    np.testing.assert_allclose(np.sum(list(scorer.by_part(taste, rows).values()), axis=0), expected, atol=1e-9)
    assert np.array_equal(scorer.top(taste, n=n_items, without=NOTHING), np.lexsort((rows, -expected)))
    added = scorer.contributions(taste, rows).all.sum(axis=0)
    rest = expected - np.array(model.scores(history_of([], n_items))[0])  # popularity is of no event
    np.testing.assert_allclose(added, rest, atol=1e-9)


@given(
    n_items=st.sampled_from([3, 40, 3000, 9000]),
    n_linked=st.sampled_from([0, 3, 40, 300]),
    n=st.integers(0, 60),
    k=st.integers(1, 50),
    hidden=st.sampled_from([0.0, 0.3, 1.0]),
    among=st.sampled_from([None, 0.05, 0.6]),
    weight=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    seed=st.integers(0, 99),
)
def test_the_top_is_exact_and_of_equals_the_lower_row_comes_first(
    n_items: int, n_linked: int, n: int, k: int, hidden: float, among: float | None, weight: float, seed: int
) -> None:
    """Numbers are whole or halves, so there are many ties, and no sum is rounded."""
    model = paired(n_items, seed, n_linked=min(n_linked, n_items), most=16, whole=True)
    rng, scorer = np.random.default_rng(seed), scorer_of(model)
    history = some(n_items, seed, 2 if n < 3 else min(6, n_items))  # a share of 1/2 or 3/4
    taste = scorer.taste(history, NOTHING, {COLLABORATIVE: weight, PANEL: 0.5})
    scores = scorer.scores(taste, np.arange(n_items))
    without = np.flatnonzero(rng.random(n_items) < hidden)
    only = None if among is None else np.flatnonzero(rng.random(n_items) < among)
    allowed = np.setdiff1d(np.arange(n_items) if only is None else only, without)
    found = scorer.top(taste, n=k, without=without, among=only)
    assert np.array_equal(found, allowed[np.lexsort((allowed, -scores[allowed]))][:k])


def test_links_add_the_same_bits_as_in_a_batch() -> None:
    model = paired()
    links, histories = PairedFactors(model.state).links, Interactions.from_pairs(
        np.repeat(np.arange(20), 9), np.concatenate([np.random.default_rng(n).permutation(60)[:9] for n in range(20)]),
        np.random.default_rng(0).random(180) + 0.1, n_users=20, n_items=60,
    )  # fmt: skip
    linked = Linked(links, 60)
    for source, each in links.items():
        amounts = np.random.default_rng(1).normal(size=histories.nnz)
        together = each.scores(histories, amounts)
        for user in range(20):
            own = slice(histories.indptr[user], histories.indptr[user + 1])
            alone = linked.sums(source, histories.indices[own], amounts[own])
            assert np.array_equal(linked.at(alone, ROWS), together[user])


def test_a_source_of_links_has_its_own_weight_or_that_of_its_family() -> None:
    scorer, history = scorer_of(paired()), some(60, 3, 12)
    assert scorer.sources == (POPULARITY, COLLABORATIVE, PAIRS, PANEL)
    plain = scorer.by_part(scorer.taste(history, NOTHING, {}), ROWS)
    weights = {POPULARITY: 0.5, COLLABORATIVE: 2.0, PANEL: 0.25}
    for given_, factor in ((weights, 2.0), (weights | {PAIRS: 0.0}, 0.0)):
        parts = scorer.by_part(scorer.taste(history, NOTHING, given_), ROWS)
        for name, expected in {POPULARITY: 0.5, COLLABORATIVE: 2.0, PAIRS: factor, PANEL: 0.25}.items():
            np.testing.assert_allclose(parts[name], expected * plain[name], atol=1e-12)
            assert np.abs(plain[name]).max() > 0
    assert weights_of({PANEL: (100.0, 90.0), COLLABORATIVE: (100.0, 10.0)})[PANEL] > 1


@pytest.mark.parametrize("weights", [{}, {COLLABORATIVE: 0.5, PANEL: 2.0}], ids=["plain", "weighed"])
def test_a_dismissed_item_takes_a_share_of_what_it_would_add(weights: dict[str, float]) -> None:
    scorer, model = scorer_of(paired()), paired()
    history, less = some(60, 5, 8), np.array([4, 21, 50], np.int32)
    less = less[~np.isin(less, history.indices)]
    taste, factors = scorer.taste(history, less, weights), PairedFactors(model.state)
    together = history.with_interactions(less, np.ones(len(less)))
    dismissed = np.isin(together.indices, less)
    for source in (PAIRS, PANEL):
        weight = weights.get(source, weights.get(source.partition(":")[0], 1.0))
        amounts = np.where(dismissed, -LESS * factors.amounts(source, together), 0.0)
        expected = factors.links[source].scores(together, amounts)[0]
        expected += factors.links[source].scores(history, factors.amounts(source, history))[0]
        np.testing.assert_allclose(scorer.by_part(taste, ROWS)[source], weight * expected, atol=1e-12)
    added = scorer.contributions(taste, ROWS)
    contributions, by_links = added.all, added.linked
    assert by_links is not None
    assert contributions.shape == by_links.shape == (history.nnz + len(less), 60)
    assert np.array_equal(taste.items, np.append(history.indices, less))
    default = scorer.scores(scorer.taste(history_of([]), NOTHING, weights), ROWS)
    np.testing.assert_allclose(contributions.sum(axis=0) + default, scorer.scores(taste, ROWS), atol=1e-9)
    linked = sum(scorer.by_part(taste, ROWS)[source] for source in (PAIRS, PANEL))
    np.testing.assert_allclose(by_links.sum(axis=0), linked, atol=1e-12)


def test_a_model_without_links_has_none(trained: Callable[..., object]) -> None:
    for model in (trained(settings={"pair_items": 0}), trained(algorithm="sgd")):
        scorer = scorer_of(model)  # type: ignore[arg-type]  # a fixture's
        taste = scorer.taste(some(60, 0, 4), NOTHING, {})
        assert scorer.contributions(taste, ROWS[:3]).linked is None
        assert scorer.bonds(ROWS[:3]) is None


def alike(scorer: ByFactors, row: int) -> np.ndarray:
    """All similarities to an item, the long way."""
    vectors = scorer.likeness(ROWS)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    bonds = scorer.bonds(ROWS)
    assert bonds is not None
    return bonds.closer(units @ units[row], row)


@given(seed=st.integers(0, 99), n_linked=st.integers(0, 60), row=st.integers(0, 59), n=st.integers(1, 70))
def test_the_most_similar_are_those_of_all_cosines_and_bonds(seed: int, n_linked: int, row: int, n: int) -> None:
    scorer = scorer_of(paired(60, seed, n_linked=n_linked, most=8))
    assert isinstance(scorer, ByFactors)
    among = None if seed % 2 else np.flatnonzero(np.random.default_rng(seed).random(60) < 0.5)
    found, likeness = scorer.similar(row, n=n, among=among)
    allowed = np.setdiff1d(ROWS if among is None else among, [row])
    expected = np.sort(alike(scorer, row)[allowed])[::-1][:n]
    np.testing.assert_allclose(likeness, expected, atol=1e-9)
    assert np.isin(found, allowed).all()
    assert len(np.unique(found)) == len(found)
    assert (np.abs(likeness) <= 1 + 1e-12).all()


def test_bonds_are_between_two_and_follow_what_links_say() -> None:
    zeros = np.zeros((60, 7), np.float32)
    to, scale = np.array([[1], [0], [3]], np.int32), np.full(3, 9, np.float32)
    shape = np.array([[1.0], [1], [-1]], np.float32)
    links = Links(np.array([0, 1, 2], np.int32), to, shape, scale)
    model = paired(60, **{"vectors": zeros, **links.state("pairs"), **links.state("panel")})
    bonds = scorer_of(model).bonds(ROWS[:5])
    assert bonds is not None
    pairs = {(one, two): bonds.closer(np.zeros(5), one)[two] for one in range(5) for two in range(5)}
    assert {pair: each for pair, each in pairs.items() if each} == pytest.approx(
        {(0, 1): 1.0, (1, 0): 1.0, (2, 3): -0.5, (3, 2): -0.5}  # without vectors a link is all that is said
    )
    found, likeness = scorer_of(model).similar(0, n=2)
    assert found.tolist() == [1, 2]
    assert likeness.tolist() == [1.0, 0.0]


def test_diversity_keeps_apart_what_links_bring_together() -> None:
    scores, vectors = np.array([1.0, 0.9, 0.8]), np.eye(3)
    bonds = Bonds.of(np.array([0, 1]), np.array([1, 0]), np.array([1.0, 1.0]), 4)
    assert diverse(scores, vectors, n=2, diversity=0.4).tolist() == [0, 1]
    assert diverse(scores, vectors, n=2, diversity=0.4, bonds=bonds).tolist() == [0, 2]
    other = Bonds.of(np.array([3, 0]), np.array([0, 3]), np.array([1.0, 1.0]), 4)
    assert diverse(scores, vectors, n=1, diversity=0.4, beside=np.zeros((1, 3)), bonds=other).tolist() == [1]
    none = Bonds.of(*(np.zeros(0, np.int64),) * 2, np.zeros(0), 4)
    rng = np.random.default_rng(0)
    vectors, beside = rng.normal(size=(3, 5)), rng.normal(size=(1, 5))
    assert np.array_equal(
        diverse(scores, vectors, n=3, diversity=0.5, beside=beside),
        diverse(scores, vectors, n=3, diversity=0.5, beside=beside, bonds=none),
    )


def test_devices_weigh_links_among_the_sources_only_where_features_have_several() -> None:
    model, history = paired(), some(60, 7, 20)
    assert not weighs_sources(model)
    scorer = scorer_of(model)
    weights = fused_weights(scorer, history)
    assert set(weights) == {POPULARITY, COLLABORATIVE, PAIRS, PANEL}
    taste = scorer.taste(history, NOTHING, weights)
    assert np.array_equal(OnDevice(model).scores(history)[0], scorer.scores(taste, ROWS))


@pytest.mark.parametrize("n", [1, 12, 60])
def test_scores_without_an_event_are_those_of_all_others(n: int) -> None:
    history, weights = some(60, 7, n), {POPULARITY: 0.9, PANEL: 1.3}
    scorer, rows = scorer_of(paired()), np.arange(60)
    taste = scorer.taste(history, NOTHING, weights)
    cases = [*np.arange(n)[:, None], np.arange(0, n, 2)]
    added = scorer.contributions(taste, rows)
    for left, found in zip(cases, scorer.without(taste, added, cases), strict=True):
        others = scorer.taste(history.entries(~np.isin(np.arange(n), left)), NOTHING, weights)
        np.testing.assert_allclose(found, scorer.scores(others, rows), atol=1e-9)


def test_reasons_of_a_long_history_take_memory_by_its_length_and_not_its_square() -> None:
    scorer, history, rows = scorer_of(paired(4000)), some(4000, 7, 3000), np.arange(40)
    taste = scorer.taste(history, NOTHING, {})
    tracemalloc.start()
    added = scorer.contributions(taste, rows)
    named_events(scorer, taste, added, range(10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * added.all.nbytes
    found = scorer.without(taste, added, np.arange(3000)[:, None])
    np.testing.assert_allclose(found, scorer.scores(taste, rows) - added.all, atol=1e-9)


def lived(device: Device, history: Interactions) -> Device:
    """The device with the model and a user's events, of weight 1."""
    device.use_model(paired(), ITEMS, rng=np.random.default_rng(0))
    device.track_many([Event("like", ITEMS[row]) for row in history.indices.tolist()])
    return device


@pytest.mark.parametrize("n", [0, 1, 12])
def test_a_device_recommends_by_the_algorithms_scores(device: Device, n: int) -> None:
    history = history_of(np.random.default_rng(n).permutation(60)[:n].tolist())
    shown = lived(device, history).recommend(60, **PLAIN)
    scores = np.array(paired().scores(history)[0])
    rows = [ITEMS.index(each.item) for each in shown]
    np.testing.assert_allclose([each.score for each in shown], scores[rows], atol=1e-9)
    scores[history.indices] = -np.inf
    assert rows == np.lexsort((ROWS, -scores))[: len(shown)].tolist()
    assert len(shown) == 60 - n


def test_recommendations_that_links_lift_say_so(device: Device) -> None:
    lived(device, history_of([1, 5, 9, 13, 17, 21, 25, 29]))
    device.less_of("i40")
    shown = device.recommend(40, **PLAIN)
    assert {each.source for each in shown} >= {PAIRS, PANEL}
    together = [each for each in shown if each.reason.endswith("often have this too")]
    assert together
    assert all(each.reason.startswith("because you ") for each in together)
    for each in shown:
        told = device.explain(each.item, **PLAIN)
        assert sum(one.score for one in told.contributions) + told.rest == pytest.approx(each.score, abs=1e-9)
        assert {one.item for one in each.because} <= {one.item for one in told.contributions if one.score > 0}
    weights = device.recommendations.recommender()._scorer
    assert isinstance(weights, ByFactors)
    device.feedback(shown, {shown[0].item: "click"})
    counts = device.recommendations.recommender()._blend
    assert counts is not None
    counts.add([RecommendationOutcome(PANEL, 0, liked=True)])
    assert {COLLABORATIVE, PANEL} <= set(counts.counts())
    assert len(device.recommend(10, discovery=1.0)) == 10
    assert len(device.similar_items("i05", 59)) == 59
    assert all(each.source != "exploration" for each in device.recommend(10, **PLAIN))


def test_a_reason_names_links_where_they_say_most() -> None:
    one, two = Contribution("a", "like", 1.0, None, 0.8), Contribution("b", "view", 0.5, None, 0.0)
    assert in_words((one,)) == "because you liked a: people who have it often have this too"
    assert in_words((one, two)) == "because you liked a and looked at b: people who have them often have this too"
    assert in_words((two,)) == "because you looked at b"
    assert in_words((Contribution("a", "like", 1.0, "films", 0.5),), "songs") == "because you liked a (films)"
