"""Baskets: what goes with them has them nowhere in it, a session weighs without being recorded, lists are ranked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palate import Device
from palate_client.recommend.baskets import in_session
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError

Trained = Callable[..., GlobalModel]
ITEMS = tuple(f"i{n:02d}" for n in range(60))


@pytest.fixture
def ready(device: Device, trained: Trained) -> Device:
    device.use_model(trained(), ITEMS, rng=np.random.default_rng(0))
    return device


def test_what_goes_with_a_basket_is_of_the_model_alone(ready: Device) -> None:
    found = ready.goes_with(["i03", "i05", "unknown"], 8)
    ready.track("like", "i40")
    assert ready.goes_with(["i05", "i03"], 8) == found  # whoever has them, in any order
    assert len(found) == 8
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    ready.track("hide", found[0].item)
    left = [each.item for each in ready.goes_with(["i03", "i05"], 8)]
    assert not {"i03", "i05", found[0].item} & {*left}
    assert not ready.goes_with(["unknown"])
    assert not ready.goes_with([])


def test_a_session_changes_the_list_and_leaves_nothing(ready: Device) -> None:
    ready.track("like", "i40")
    plain: dict[str, Any] = {"explore": 0.0}
    ranker = ready.recommendations.recommender()
    before, history = ready.recommend(10, **plain), ranker.liked_items()
    there = ready.recommend(10, context=["i41", "i03", "unknown"], **plain)
    assert [each.item for each in there] != [each.item for each in before]
    assert not {"i41", "i03"} & {each.item for each in there}
    named = {one.item: one.kind for each in there for one in each.because}
    assert "view" in {named.get("i41"), named.get("i03")}
    assert named.get("i40", "like") == "like"
    assert ready.recommend(10, **plain) == before
    assert ranker.liked_items() == history
    told = ready.explain(there[0].item, context=["i41", "i03"])
    assert told.score == pytest.approx(sum(each.score for each in told.contributions) + told.rest)


def test_the_last_item_of_a_session_weighs_most() -> None:
    history = Interactions.from_pairs([0, 0], [1, 4], [1.0, 3.0], n_users=1, n_items=9)
    found = in_session(history, [4, 7, 4, 2])
    assert found.indices.tolist() == [1, 2, 4, 7]
    assert found.weights.tolist() == [1.0, 4.0, 5.0, 1.0]
    assert in_session(history, []) is history
    alone = in_session(Interactions.from_pairs([], [], n_users=1, n_items=9), [3])
    assert (alone.indices.tolist(), alone.weights.tolist()) == ([3], [2.0])


def test_lists_are_ranked_by_what_their_items_are_worth(ready: Device) -> None:
    ready.track("like", "i03")
    best = [each.item for each in ready.recommend(60, discovery=0.0)]
    lists = {"good": best[:5], "bad": best[-5:], "none": ["unknown"], "hidden": [best[0], "i50"]}
    ready.track("hide", "i50")
    assert [each.item for each in ready.rank_lists(lists)] == ["good", "bad"]
    assert [each.item for each in ready.rank_lists(lists, 1, context=["i05"])] == ["good"]
    assert not ready.rank_lists({})


@pytest.mark.parametrize(
    "call",
    [
        lambda device: device.goes_with("i03"),
        lambda device: device.goes_with(["i03"], 0),
        lambda device: device.recommend(context="i03"),
        lambda device: device.rank_lists(["i03"]),
        lambda device: device.rank_lists({"one": "i03"}),
    ],
)
def test_what_is_no_list_of_items_is_refused(ready: Device, call: Callable[[Device], Any]) -> None:
    with pytest.raises(InputError, match="must"):
        call(ready)
