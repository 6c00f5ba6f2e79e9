"""Recommender: scores are the algorithm's, nothing unwanted comes back, explanations add up, nothing leaves."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate import Device, Event
from palate_client.recommend import recommender
from palate_client.recommend.discovery import DISCOVERY, Mix, mix_of
from palate_client.recommend.exploration import RandomHistories
from palate_client.recommend.recommender import ModelRecommender
from palate_common.algorithms import algorithm_names
from palate_common.algorithms.base import Fold
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError

Open = Callable[..., Device]
Trained = Callable[..., GlobalModel]
ITEMS = tuple(f"i{n:02d}" for n in range(60))
PLAIN = {"discovery": 0.0}
NAMES = [name for name in algorithm_names() if name != "event-mf"]  # which learns by noised steps alone
VECTORS = {"pair_items": 0}
"""Settings of `als` with which scores are products of vectors alone."""
CASES: dict[str, dict[str, Any]] = {name: {"algorithm": name} for name in NAMES} | {
    **{name: {"algorithm": name, "settings": {"rounds": 3}} for name in NAMES if name.startswith("torch-")},
    "content": {"features": True},
    "a small head": {"settings": {"head_items": 12}},
}


def ready(device: Device, model: GlobalModel, **more: Any) -> Device:
    """The device with a model and a generator that tests can rely on."""
    device.use_model(model, ITEMS, rng=np.random.default_rng(0), **more)
    return device


def lived(device: Device, history: Interactions) -> None:
    """The device with the events of a simulated user, whose weights are those of the plain preset."""
    device.track_many([Event("like", ITEMS[row]) for row in history.indices.tolist()])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("user", [0, 1, 2, 7])
def test_the_ranking_is_that_of_the_algorithms_scores(
    device: Device, trained: Trained, tastes: Interactions, case: str, user: int
) -> None:
    model, history = trained(**CASES[case]), tastes.user(user)
    lived(ready(device, model), history)
    alone = Interactions(history.indptr, history.indices, np.ones(history.nnz, np.float32), history.n_items)
    scores = np.array(model.scores(alone)[0])
    shown = device.recommend(60, **PLAIN)
    assert [each.position for each in shown] == list(range(60 - history.nnz))
    np.testing.assert_allclose([each.score for each in shown], scores[[ITEMS.index(each.item) for each in shown]], 1e-5)
    scores[history.indices] = -np.inf
    np.testing.assert_allclose([each.score for each in shown], np.sort(scores)[::-1][: len(shown)], 1e-5)
    again = device.recommend(60, **PLAIN, filter_already_liked_items=False)
    assert {each.item for each in again} == set(ITEMS)


@pytest.mark.parametrize("case", CASES)
def test_contributions_and_the_rest_sum_to_the_score(
    device: Device, trained: Trained, tastes: Interactions, case: str
) -> None:
    ready(device, trained(**CASES[case]))
    lived(device, tastes.user(7))
    device.less_of("i20")
    ranked = {each.item: each.score for each in device.recommend(60, **PLAIN)}
    for item in list(ranked)[:5]:
        told = device.explain(item, discovery=0.0)
        assert told.item == item
        assert told.score == pytest.approx(ranked[item], rel=1e-6)
        assert sum(each.score for each in told.contributions) + told.rest == pytest.approx(told.score, rel=1e-6)
        added = [each.score for each in told.contributions]
        assert added == sorted(added, reverse=True)
    if case == "als":
        assert told.rest == pytest.approx(0.0, abs=1e-6 * abs(told.score))
        assert {each.kind for each in told.contributions} == {"like", "dismiss"}
    assert told.text.startswith("because you liked i") or case == "popularity"


def test_one_event_already_counts(device: Device, trained: Trained) -> None:
    ready(device, trained())
    nobody = [each.item for each in device.recommend(20, **PLAIN)]
    assert [each.reason for each in device.recommend(3, **PLAIN)] == ["popular with others"] * 3
    assert nobody[:3] == ["i00", "i01", "i02"]
    device.track("like", "i11")
    one = [each.item for each in device.recommend(20, **PLAIN)]
    assert sum(int(item[1:]) % 2 for item in one) > sum(int(item[1:]) % 2 for item in nobody)
    shown = device.recommend(20, **PLAIN)
    why = {"collaborative": "because you liked i11", "popularity": "popular with others"}
    linked = "because you liked i11: people who have it often have this too"
    told = {each.source: each.reason.removesuffix(linked.removeprefix(why["collaborative"])) for each in shown}
    assert told == why | ({"collaborative:pairs": why["collaborative"]} if "collaborative:pairs" in told else {})
    assert linked in {each.reason for each in shown}


def test_without_events_nothing_is_said_to_come_from_them(device: Device, trained: Trained) -> None:
    ready(device, trained(features=True))
    assert {each.source for each in device.recommend(10, **PLAIN)} == {"popularity"}
    assert {each.source for each in device.recommend(10)} == {"popularity", "exploration"}


def test_picks_to_start_with_count_as_likes(device: Device, trained: Trained) -> None:
    ready(device, trained())
    nobody = device.recommend(10, **PLAIN)
    assert all(device.like_to_start(["i11", "i13", "i15"]))
    odd = [sum(int(each.item[1:]) % 2 for each in shown) for shown in (nobody, device.recommend(10, **PLAIN))]
    assert odd[1] > odd[0]


@pytest.mark.parametrize("case", ["als", "sgd"])
def test_what_is_not_wanted_never_comes_back(device: Device, trained: Trained, case: str) -> None:
    ready(device, trained(**CASES[case]))
    device.like_to_start(["i11", "i13"])
    gone = {device.recommend(1, **PLAIN)[0].item}
    assert device.hide(*gone)
    less = device.recommend(1, **PLAIN)[0].item
    assert device.less_of(less)
    gone |= {less, "i11", "i13", "i40"}
    for explore in (0.0, 0.5, 1.0):
        for _ in range(20):
            shown = device.recommend(60, explore=explore, filter_items=["i40", "of another app"])
            assert {each.item for each in shown} == set(ITEMS) - gone
    device.reset_taste()
    assert not {*gone} - {"i11", "i13", "i40"} & {each.item for each in device.recommend(60)}
    device.more_of(less)
    assert less in {each.item for each in device.recommend(60, filter_already_liked_items=False)}


def test_less_of_moves_what_is_like_it_down_and_more_of_up(device: Device, trained: Trained) -> None:
    ready(device, trained())
    device.like_to_start(["i11", "i12", "i14", "i15"])

    def odd() -> float:
        return float(np.mean([each.position for each in device.recommend(50, **PLAIN) if int(each.item[1:]) % 2]))

    before = odd()
    device.less_of("i13")
    assert (less := odd()) > before
    device.more_of("i17")
    assert odd() < less


def test_a_reset_taste_starts_anew_and_keeps_the_events(open_device: Open, trained: Trained) -> None:
    device, other = ready(open_device(), trained()), open_device()
    other.use_model(trained(), ITEMS)
    nobody = [each.item for each in device.recommend(5, **PLAIN)]
    device.like_to_start(["i31", "i33", "i35"])
    device.feedback(device.recommend(5), {})
    assert [each.item for each in device.recommend(5, **PLAIN)] != nobody
    assert [each.item for each in other.recommend(5, **PLAIN)] != nobody
    stored = len(list(device.store.events()))
    device.reset_taste()
    assert [each.item for each in device.recommend(5, **PLAIN)] == nobody
    assert [each.item for each in other.recommend(5, **PLAIN)] == nobody
    assert len(list(device.store.events())) == stored
    assert device.interests(ITEMS).interactions().nnz == 0
    device.track("view", "i31")
    assert open_device().interests(ITEMS).interactions().indices.tolist() == [31]


@pytest.mark.parametrize("few", [0, recommender.FEW])
@pytest.mark.parametrize("case", ["als", "sgd"])
def test_items_and_domains_restrict(
    device: Device, trained: Trained, monkeypatch: pytest.MonkeyPatch, case: str, few: int
) -> None:
    monkeypatch.setattr(recommender, "FEW", few)
    ready(device, trained(**CASES[case]), domains=["books" if n < 50 else "films" for n in range(60)])
    device.track("like", "i51")
    assert [each.item for each in device.recommend(5, domain="films", explore=0.5)] != []
    assert all(each.item >= "i50" for each in device.recommend(60, domain="films", explore=0.5))
    assert len(device.recommend(60, domain="films")) == 9
    assert {each.item for each in device.recommend(items=["i03", "i55", "unknown"])} == {"i03", "i55"}
    assert [each.item for each in device.recommend(items=["i03", "i55"], domain="films")] == ["i55"]
    assert device.recommend(items=[]) == []
    with pytest.raises(InputError, match=r"\A`domain` must be one that items have, got 'songs'\Z"):
        device.recommend(domain="songs")


def test_exploring_finds_other_items_in_the_lower_half(device: Device, trained: Trained) -> None:
    ready(device, trained())
    device.like_to_start(["i11", "i13", "i15", "i17"])
    best = {each.item for each in device.recommend(10, **PLAIN)}
    seen: set[str] = set()
    for _ in range(30):
        shown = device.recommend(10, explore=0.3, diversity=0.0)
        explored = [each for each in shown if each.source == "exploration"]
        assert len(explored) == 3
        assert all(each.position >= 5 and each.reason == "something new" for each in explored)
        assert len({each.item for each in shown}) == 10
        seen |= {each.item for each in shown}
    assert len(seen) > len(best) + 5


def test_diversity_and_debiasing_do_what_they_say(device: Device, trained: Trained) -> None:
    ready(device, trained(features=True, settings=VECTORS))
    device.like_to_start(["i11", "i13"])

    def likeness(diversity: float) -> float:
        rows = [ITEMS.index(each.item) for each in device.recommend(10, explore=0.0, diversity=diversity)]
        vectors = device.recommendations.recommender()._scorer.likeness(np.array(rows))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((vectors @ vectors.T).mean())

    assert max(likeness(0.9), likeness(0.5)) < likeness(0.2) < likeness(0.0)
    rare = [np.mean([int(e.item[1:]) for e in device.recommend(10, **PLAIN, debias=d)]) for d in (0.0, 1.0)]
    assert rare[0] < rare[1]


@pytest.mark.parametrize("case", ["als", "content"])
def test_one_knob_moves_all_three(device: Device, trained: Trained, tastes: Interactions, case: str) -> None:
    ready(device, trained(**CASES[case], settings=VECTORS))
    lived(device, tastes.user(22))
    scorer = device.recommendations.recommender()._scorer

    def measures(discovery: float) -> tuple[float, float]:
        shown, alike = set(), []
        for _ in range(60):
            rows = np.array([ITEMS.index(each.item) for each in device.recommend(10, discovery=discovery)])
            vectors = scorer.likeness(rows)
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            alike.append(float((vectors @ vectors.T).mean()))
            shown |= set(rows.tolist())
        return len(shown), -float(np.mean(alike))

    shown, apart = zip(*(measures(discovery) for discovery in (0.0, 0.3, 0.6, 1.0)), strict=True)
    assert apart[0] < apart[1] < apart[2] < apart[3]
    assert shown[0] == 10
    assert shown[0] < shown[1] < shown[2]  # of 60 items, 40 of which are in the pool, more can't be shown


def test_the_finer_options_follow_the_knob_unless_they_are_given(device: Device, trained: Trained) -> None:
    assert mix_of() == mix_of(DISCOVERY)
    assert mix_of(0.0) == Mix(0.0, 0.0, 0.0)
    assert mix_of(0.5) == Mix(0.25, 0.4, 0.125)
    assert mix_of(1.0, debias=0.0) == Mix(0.5, 0.8, 0.0)
    ready(device, trained())
    alone = device.recommend(10, discovery=0.0)  # nobody's events are known, and still nothing explores
    assert alone == device.recommend(10, discovery=0.0)
    assert alone == device.recommend(10, explore=0.0, diversity=0.0, debias=0.0)
    assert alone == device.recommend(10, discovery=1.0, explore=0.0, diversity=0.0, debias=0.0)
    new = [sum(each.source == "exploration" for each in device.recommend(10)) for _ in range(50)]
    assert np.mean(new) == pytest.approx(3.0, abs=0.3)
    device.like_to_start(["i11", "i13"])
    known = [sum(each.source == "exploration" for each in device.recommend(10)) for _ in range(50)]
    assert np.mean(known) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("discovery", [None, 0.0, 1.0])
def test_an_explanation_is_of_the_score_that_was_shown(
    device: Device, trained: Trained, tastes: Interactions, discovery: float | None
) -> None:
    ready(device, trained(features=True))
    lived(device, tastes.user(7))
    for shown in device.recommend(10, discovery=discovery):
        assert device.explain(shown.item, discovery=discovery).score == pytest.approx(shown.score, rel=1e-9)


def test_similar_items_share_a_taste(device: Device, trained: Trained) -> None:
    ready(device, trained())
    found = device.similar_items("i03", 5)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert sum(int(each.item[1:]) % 2 for each in found) >= 4
    assert all(each.item != "i03" and each.score <= 1 + 1e-6 for each in device.similar_items("i03", 500))
    assert len(device.similar_items("i03", 500)) == 59


def test_the_taste_stays_in_the_process(device: Device, trained: Trained, tastes: Interactions) -> None:
    ready(device, trained())
    lived(device, tastes.user(7))
    device.recommend()
    ranker = device.recommendations.recommender()
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"\Aa recommender holds its user's taste, which stays in this process\Z"):
            leave(ranker)
    assert "0." not in repr(ranker._taste).partition("vector")[2]
    device.erase()
    assert device.recommendations._used is None


def test_mistakes_are_told_in_one_line(device: Device, trained: Trained) -> None:
    with pytest.raises(InputError, match=r"\Aa device must have a model to recommend by, got none: [^\n]*\Z"):
        device.recommend()
    model = trained()
    with pytest.raises(InputError, match=r"\A`items` must be the model's 60 items, got 2\Z"):
        device.use_model(model, ["a", "b"])
    with pytest.raises(InputError, match=r"\A`domains` must have one for each of 60 items, got 1\Z"):
        device.use_model(model, ITEMS, domains=["books"])
    ready(device, model)
    for name, value in {"n": 0, "discovery": 2, "explore": 1.5, "diversity": -0.1, "debias": float("nan")}.items():
        with pytest.raises(InputError, match=rf"\A`{name}` must be [^\n]*\Z"):
            device.recommend(**{name: value})
    for call in (device.explain, device.similar_items):
        with pytest.raises(InputError, match=r"\A`item` must be one of the model's, got 'unknown'\Z"):
            call("unknown")
        with pytest.raises(InputError, match=r"\A`item` must be one of the model's, got \['i03', 'i04'\]\Z"):
            call(["i03", "i04"])


def test_another_catalogue_than_the_models_is_refused(device: Device, trained: Trained) -> None:
    model = trained()
    from palate_common.models.model import catalogue_hash

    header = model.header.model_copy(update={"catalogue": catalogue_hash(ITEMS)})
    named = GlobalModel(header, model.state)
    assert isinstance(ModelRecommender(named, ITEMS, device.interests(ITEMS)), ModelRecommender)
    turned = ITEMS[::-1]
    with pytest.raises(InputError, match=r"\A`items` must be the model's, in its order, got others\Z"):
        ModelRecommender(named, turned, device.interests(turned))


HALVES = ["films" if n < 30 else "songs" for n in range(60)]


def test_events_of_one_domain_count_in_another_and_are_explained(device: Device, trained: Trained) -> None:
    ready(device, trained(settings=VECTORS), domains=HALVES)
    nobody = [each.item for each in device.recommend(10, domain="songs", **PLAIN)]
    device.like_to_start(["i11", "i13", "i15"])
    shown = device.recommend(10, domain="songs", **PLAIN)
    odd = [sum(int(item[1:]) % 2 for item in items) for items in (nobody, [each.item for each in shown])]
    assert odd[1] > odd[0]
    told = device.explain(shown[0].item, domain="songs", discovery=0.0)
    assert told.score == pytest.approx(shown[0].score, rel=1e-6)
    assert told.domain == "songs"
    assert {each.domain for each in told.contributions} == {"films"}
    assert told.elsewhere == pytest.approx(sum(each.score for each in told.contributions))
    assert told.text.startswith("because you liked i1")
    assert told.text.endswith("(films)")
    device.track("like", "i41")
    here = device.explain("i43", domain="songs", discovery=0.0)
    own = {each.item: each.score for each in here.contributions}
    rows, model = [11, 13, 15, 41], device.recommendations.recommender()._scorer._factors
    history = Interactions.from_pairs([0] * 4, rows, [1, 1, 1, 2], n_users=1, n_items=60)  # few there count twice
    added = model.events(history) @ model.items()[43].astype(np.float64)
    assert [own[ITEMS[row]] for row in rows] == pytest.approx(added.tolist(), rel=1e-6)
    assert here.elsewhere == pytest.approx(sum(score for item, score in own.items() if item != "i41"))


def test_exploring_a_domain_imagines_events_there_alone() -> None:
    crowd = RandomHistories(np.arange(60.0))
    nobody = Interactions.from_pairs([], [], n_users=1, n_items=60)
    rng, within = np.random.default_rng(0), np.arange(5, 9)
    drawn = np.concatenate([crowd.history(nobody, rng, within).indices for _ in range(200)])
    assert set(drawn.tolist()) == {5, 6, 7, 8}


def test_similar_items_and_reach_stay_within_a_domain(device: Device, trained: Trained) -> None:
    ready(device, trained(), domains=HALVES)
    assert all(each.item >= "i30" for each in device.similar_items("i03", 60, domain="songs"))
    assert len(device.similar_items("i03", 60, domain="songs")) == 30
    assert len(device.similar_items("i03", 60, domain="films")) == 29
    with pytest.raises(InputError, match=r"\A`domain` must be one that items have, got 'news'\Z"):
        device.similar_items("i03", domain="news")
    ranker, first = device.recommendations.recommender(), device.recommend(1, domain="songs", **PLAIN)[0].item
    assert first not in {each.item for each in device.recommend(3, **PLAIN)}
    assert ranker.fits(first, 0.05)  # the first of 30 songs, not among the first 3 of all
    assert not ranker.fits(device.recommend(30, domain="songs", **PLAIN)[-1].item, 0.05)


@pytest.mark.parametrize("case", CASES)
def test_without_what_a_reason_names_its_place_is_lower(
    device: Device, clock: Any, trained: Trained, tastes: Interactions, case: str
) -> None:
    ready(device, trained(**CASES[case]))
    history = [ITEMS[row] for row in tastes.user(7).indices.tolist()]
    device.like_to_start(history)
    before = [each.item for each in device.recommend(60, **PLAIN)]
    shown = device.recommend(10, **PLAIN)
    for each in shown:
        named = {one.item for one in each.because}
        alone = "popular with others" if each.source == "popularity" else "goes with your taste as a whole"
        assert all(f"liked {item}" in each.reason for item in named) if named else each.reason == alone
        if named:
            clock.now += 60  # or they were too many in a minute
            device.reset_taste()
            device.like_to_start([item for item in history if item not in named])
            after = [each.item for each in device.recommend(60, **PLAIN, filter_items=named)]
            assert after.index(each.item) > before.index(each.item)
    assert case == "popularity" or any(each.because for each in shown)


def test_what_each_event_adds_is_worked_out_once_an_event(
    device: Device, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(device, trained())
    factors, calls = device.recommendations.recommender()._scorer._factors, list[int]()
    real = factors.fold

    def fold(_: object, history: Interactions) -> Fold:
        folded = real(history)
        return replace(folded, events=lambda: (calls.append(history.nnz), folded.events())[1])

    monkeypatch.setattr(type(factors), "fold", fold)
    for item in ("i03", "i05"):
        device.track("like", item)
        for _ in range(3):
            device.recommend(10, explore=0.5)
    assert calls == [1, 2]
