"""Feedback: impressions and outcomes are events; the blend and exploring follow what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate import Device, Event, Tracked
from palate_client.recommend.adaptation.blending import (
    MEMORY,
    SOURCES,
    Blend,
    RecommendationOutcome,
    exploration_of,
    weights_of,
)
from palate_client.recommend.exploration import RandomHistories, slots
from palate_client.recommend.recommender import Recommendation
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError

Open = Callable[..., Device]
Trained = Callable[..., GlobalModel]
ITEMS = tuple(f"i{n:02d}" for n in range(60))
Counts = st.fixed_dictionaries(
    {},
    optional={
        source: st.tuples(st.floats(0, 1e4), st.floats(0, 1)).map(lambda pair: (pair[0], pair[0] * pair[1]))
        for source in SOURCES
    },
)


def test_impressions_and_outcomes_are_events(device: Device, trained: Trained) -> None:
    device.use_model(trained(), ITEMS)
    shown = device.recommend(4, explore=0.0)
    liked, bad, gone, plain = (each.item for each in shown)
    outcomes = device.feedback(shown, {liked: "like", bad: Event("rate", bad, value=1), gone: "hide"})
    assert outcomes == [Tracked.STORED] * 7
    events = list(device.store.events())
    assert [(event.kind, event.item) for event in events] == [
        *(("impression", each.item) for each in shown),
        ("like", liked),
        ("rate", bad),
        ("hide", gone),
    ]
    assert events[2].props == {"position": 2, "source": shown[2].source}
    again = [each.item for each in device.recommend(60)]
    assert gone not in again
    assert liked not in again
    assert plain in again
    counts = Blend(device.store).counts()
    assert sum(liked for _, liked in counts.values()) == 2  # the plain preset counts a bad verdict, too
    seen = 1 + 1 + 1 / np.log2(4) + 1 / np.log2(5)
    assert sum(shown for shown, _ in counts.values()) == pytest.approx(seen)


def test_what_was_shown_too_often_comes_after_all_others(device: Device, trained: Trained, clock: Any) -> None:
    device.use_model(trained(), ITEMS)
    device.like_to_start(["i11", "i13"])
    first = [each.item for each in device.recommend(10, discovery=0.0)]
    for _ in range(6):
        clock.now += 60
        device.feedback(device.recommend(10, discovery=0.0), {first[0]: "click"} if _ == 5 else None)
    whole = [each.item for each in device.recommend(60, discovery=0.0, filter_already_liked_items=False)]
    assert set(whole) == set(ITEMS)
    assert set(whole[-9:]) == set(first[1:])
    assert whole.index(first[0]) < 10
    assert not {each.item for each in device.recommend(10, discovery=0.0)} & set(first)
    assert {each.item for each in device.recommend(items=first, discovery=0.0)} == {*first[1:]}
    for discovery in (0.2, 1.0):
        assert not {each.item for each in device.recommend(10, discovery=discovery)} & set(first)
        assert len({each.item for each in device.recommend(56, discovery=discovery)}) == 56


def test_what_is_not_stored_is_not_counted(open_device: Open) -> None:
    device = open_device(consent=False)
    shown = [Recommendation("i01", 1.0, "collaborative", "", 0)]
    assert device.feedback(shown, {"i01": "like"}) == [Tracked.NO_CONSENT] * 2
    Blend(device.store).add([RecommendationOutcome("content", 0, liked=True)])
    assert Blend(device.store).counts() == {}
    device.consent.grant("store")
    device.feedback(shown)
    device.feedback(shown)  # at once: the same impression
    assert Blend(device.store).counts() == {"collaborative": (1.0, 0.0)}


def test_a_source_that_is_liked_counts_more(open_device: Open, trained: Trained) -> None:
    device = open_device()
    device.use_model(trained(), ITEMS)
    device.like_to_start(["i11", "i13"])

    def weight() -> float:
        score = {each.item: each.score for each in device.recommend(60, explore=0.0, diversity=0.0)}
        return score["i21"] - score["i22"]  # a matter of taste, as both are about as popular

    before = weight()
    Blend(device.store).add(RecommendationOutcome("collaborative", 0, liked=True) for _ in range(60))
    Blend(device.store).add(RecommendationOutcome("popularity", 0, liked=False) for _ in range(60))
    assert weight() > 1.2 * before
    assert open_device().store is not device.store
    assert Blend(open_device().store).counts() == {"collaborative": (60.0, 60.0), "popularity": (60.0, 0.0)}
    lines = [json.loads(line) for line in device.export_lines()]
    assert {"type": "outcome", "source": "popularity", "shown": 60.0, "liked": 0.0} in lines


def test_an_export_with_outcomes_and_a_reset_can_be_imported(open_device: Open, folder: Path) -> None:
    device = open_device()
    device.track("like", "i01")
    device.reset_taste()
    Blend(device.store).add([RecommendationOutcome("content", 0, liked=True)])
    file = folder.parent / "mine.jsonl"
    device.export(file)
    assert '{"type": "reset", "events": 1}' in file.read_text()
    report = open_device(path=folder.parent / "other").import_jsonl(file)
    assert (report.stored, report.skipped, report.problems) == (1, 4, ())


def test_old_outcomes_fade(device: Device) -> None:
    blend = Blend(device.store)
    blend.add(RecommendationOutcome("content", 0, liked=place % 4 == 0) for place in range(int(MEMORY) + 8))
    shown, liked = blend.counts()["content"]
    assert (shown, liked) == ((MEMORY + 8) / 2, (MEMORY + 8) / 8)


@given(Counts, st.floats(0, 0.3))
def test_weights_and_share_stay_in_bounds(counts: dict[str, tuple[float, float]], share: float) -> None:
    weights = weights_of(counts)
    assert set(weights) == set(SOURCES) - {"exploration"}
    assert all(0.5 <= weight <= 2 for weight in weights.values())
    assert share / 4 - 1e-12 <= exploration_of(counts, share) <= min(4 * share, 0.5) + 1e-12


def test_nothing_shown_changes_nothing() -> None:
    assert set(weights_of({}).values()) == {1.0}
    assert exploration_of({}, 0.1) == 0.1
    assert exploration_of({"exploration": (300.0, 90.0), "content": (300.0, 30.0)}, 0.1) > 0.13
    assert exploration_of({"exploration": (300.0, 0.0), "content": (300.0, 30.0)}, 0.1) == 0.025


def test_outcomes_of_what_was_not_shown_are_refused(device: Device) -> None:
    shown = [Recommendation("i01", 1.0, "content", "", 0)]
    for outcomes in ({"i02": "like"}, {"i01": Event("like", "i03")}, {"i01": "impression"}):
        with pytest.raises(InputError, match=r"\A`outcomes` must be what the user did with items of `shown`, [^\n]*\Z"):
            device.feedback(shown, outcomes)
    assert list(device.store.events()) == []


@given(st.floats(0, 1), st.integers(1, 20), st.integers(0, 99))
def test_slots_are_in_the_lower_half(share: float, n: int, seed: int) -> None:
    found = slots(share, n, np.random.default_rng(seed)).tolist()
    assert found == sorted(set(found))
    assert all(n // 2 <= place < n for place in found)
    assert len(found) <= share * n + 1


def test_a_draw_is_near_a_long_history_and_follows_popularity_without_one() -> None:
    rng, crowd = np.random.default_rng(0), RandomHistories(np.array([-5.0, 0.0, 1.0, 3.0]))
    assert np.bincount(crowd.draw(4000, rng), minlength=4) == pytest.approx([0, 0, 1000, 3000], abs=120)
    assert set(RandomHistories(np.zeros(3)).draw(100, rng).tolist()) == {0, 1, 2}
    nobody = Interactions.from_pairs([], [], n_users=1, n_items=4)
    assert {tuple(crowd.history(nobody, rng).indices.tolist()) for _ in range(50)} == {(2,), (3,), (2, 3)}
    known = Interactions.from_pairs([0, 0], [0, 1], [1.0, 2.0], n_users=1, n_items=4)
    drawn = [crowd.history(known, rng) for _ in range(3000)]
    assert all({0, 1} <= set(each.indices.tolist()) for each in drawn)
    assert np.mean([each.weights[:2] for each in drawn], axis=0) == pytest.approx([1.0, 2.0], rel=0.1)


def test_ids_in_the_place_of_recommendations_and_one_in_the_place_of_many_are_refused(
    device: Device, trained: Trained
) -> None:
    device.use_model(trained(), ITEMS)
    shown: Any = device.recommend(2)
    mistakes: list[Callable[[], object]] = [
        lambda: device.feedback([shown[0].item]),  # type: ignore[list-item]
        lambda: device.feedback(shown[0].item),
        lambda: device.feedback(shown[0]),
        lambda: device.feedback(shown, [shown[0].item]),  # type: ignore[arg-type]
        lambda: device.feedback(shown, {shown[0].item: 5}),  # type: ignore[dict-item]
        lambda: device.recommend(items="i00"),
        lambda: device.recommend(filter_items="i00"),
        lambda: device.recommend(filter_items=7),  # type: ignore[arg-type]
        lambda: device.like_to_start("i00"),
    ]
    for mistake in mistakes:
        with pytest.raises(InputError, match=r"\A[^\n]* must [^\n]*, got [^\n]*\Z"):
            mistake()
    assert list(device.store.events()) == []
