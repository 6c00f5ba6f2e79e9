"""An app that embeds Palate, as its type checker sees it: nothing here may be an error, and nothing `Any`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt

import palate
from palate_client.consent import Decision
from palate_client.explanation import Explanation
from palate_client.interests import Interests
from palate_client.portability import ImportReport
from palate_client.recommender import Recommendation, Similar
from palate_common.interactions import Interactions
from palate_common.model import GlobalModel


def on_read(device: palate.Device, book: str, seconds: float) -> bool:
    outcome = device.track("view", book, value=seconds, props={"chapter": 3})
    assert_type(outcome, palate.Tracked)
    return bool(outcome)


def on_receipt(device: palate.Device, lines: list[tuple[str, datetime]]) -> int:
    events = [palate.Event("purchase", item, time=at, source="offline") for item, at in lines]
    outcomes = device.track_many(events)
    assert_type(outcomes, list[palate.Tracked])
    return outcomes.count(palate.Tracked.STORED)


def settings(device: palate.Device, *, agreed: bool) -> str:
    decision = device.consent.grant("train", version="2") if agreed else device.consent.revoke("train", version="2")
    assert_type(decision, Decision)
    assert_type(device.consent.get("store"), bool)
    assert_type(device.consent.history(), tuple[Decision, ...])
    return decision.remains


def main(home: Path, key: bytes | None) -> None:
    limits = palate.Limits(keep_days=365, max_events=50_000)
    with palate.open(home / "palate", app="shelf", key=key, preset="shop", limits=limits) as device:
        assert_type(device, palate.Device)
        on_read(device, "book-7", 40.5)
        on_receipt(device, [("book-8", datetime.now(UTC))])
        interests = device.interests(["book-7", "book-8"])
        assert_type(interests, Interests)
        assert_type(interests.interactions(), Interactions)
        assert_type(interests.unwanted(), npt.NDArray[np.int32])
        assert_type(device.import_jsonl(home / "receipts.jsonl"), ImportReport)
        assert_type(device.export("mine.jsonl"), int)
        assert_type(device.problem, str)
        device.flush()
        device.erase()


def on_home(device: palate.Device, model: GlobalModel, items: list[str]) -> list[str]:
    device.use_model(model, items, domains=["books"] * len(items))
    shown = device.recommend(n=5, domain="books", filter_items={"book-7"}, discovery=0.4, explore=0.2)
    assert_type(shown, list[Recommendation])
    assert_type(device.feedback(shown, {shown[0].item: "click"}), list[palate.Tracked])
    device.feedback(shown, {shown[0].item: palate.Event("rate", shown[0].item, value=5)})
    assert_type(device.explain("book-7", discovery=0.4), Explanation)
    assert_type(device.similar_items("book-7", 3), list[Similar])
    assert_type(device.less_of("book-8"), palate.Tracked)
    assert_type(device.like_to_start(["book-7"]), list[palate.Tracked])
    device.reset_taste()
    return [f"{each.item}: {each.reason}" for each in shown]


def own_weights() -> palate.Weighting:
    return palate.Weighting(kinds={"view": 0.1, "purchase": 1.0}, combine="sum", cap=3.0)


def opened(path: str) -> palate.Device | None:
    try:
        return palate.open(path, app="shelf", key=palate.new_key())
    except palate.WrongKeyError as error:
        print(error)
        return None
