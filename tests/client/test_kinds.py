"""Kinds: lists follow what is said of an item: bought, given back, praised, called dreadful, a kind of one's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import palate
from palate_common.kinds import is_answer

Did = tuple[str, float | None]
WEIGHTING = palate.Weighting({"*": 1.0, "unboxed": 1.0, "sold on": -1.0})
NEIGHBOUR, ITEM = "book-47", "book-7"  # the sample's model has them as the most similar of all


@pytest.fixture
def lists(open_device: Callable[..., palate.Device]) -> Callable[..., tuple[float, bool]]:
    """By how much what is done with an item raises its neighbour, and whether it is still recommended."""
    sample = palate.sample()
    device = open_device(service=sample.service, preset=WEIGHTING)
    device.consent.grant("store")
    device.update_model(sample.folder)
    device.track("like", "book-2")

    def after(*did: Did) -> tuple[float, bool]:
        before = device.explain(NEIGHBOUR, discovery=0).score
        for kind, value in did:
            assert device.track(palate.OwnKind(kind), ITEM, value=value)
        shown = device.recommend(160, discovery=0, filter_already_liked_items=False)
        return device.explain(NEIGHBOUR, discovery=0).score - before, ITEM in {each.item for each in shown}

    return after


@pytest.mark.parametrize(
    ("did", "raises", "shown"),
    [
        ([("purchase", 1)], 1, True),
        ([("purchase", 1), ("return", 1)], 0, False),
        ([("purchase", 1), ("return", None), ("wishlist", None)], 1, True),
        ([("comment", 0.9)], 1, True),
        ([("comment", None)], 0, True),
        ([("comment", -0.9)], -1, False),
        ([("purchase", 1), ("comment", -1)], -1, False),
        ([("cart", 2)], 1, True),
        ([("search", None)], 0, True),
        ([("unboxed", -7)], 1, True),
        ([("sold on", None)], -1, False),
    ],
    ids=lambda each: " then ".join(str(kind) for kind, _ in each) if isinstance(each, list) else str(each),
)
def test_lists_follow_what_is_said(
    lists: Callable[..., tuple[float, bool]], did: list[Did], raises: int, *, shown: bool
) -> None:
    change, there = lists(*did)
    assert (change > 1e-9) - (change < -1e-9) == raises
    assert there is shown


def test_a_comment_answers_a_recommendation_only_with_praise() -> None:
    assert [is_answer("comment", value) for value in (None, -1.0, 0.0, 0.1)] == [False, False, False, True]
    assert is_answer("cart", None)
    assert not is_answer("sold on", None)
