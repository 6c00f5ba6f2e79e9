"""The data side of the presets: they parse, use documented keys only, and do to a log what their comments say."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from palate_common.weighting import weighting_of
from palate_sim.config import preset_settings
from palate_sim.data import list_datasets, positives, read_log

NAMES = ("movies", "shop", "news", "music")
KEYS = {
    "data": {"name", "path", "weights", "value_weights", "kind_values"},
    "positives": {"threshold", "combine", "cap", "half_life_days"},
    "split": {"name"},
    "filters": {"user_core", "item_core"},
}


def settings(name: str) -> dict[str, Any]:
    preset = preset_settings(name)
    steps = preset.get("data", {}).get("value_weights")
    return preset.get("positives", {}) | {
        "weights": preset.get("data", {}).get("weights"),
        "value_weights": steps and {float(step): weight for step, weight in steps.items()},
        "kind_values": weighting_of(name).kind_values,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_uses_documented_keys_and_names_a_known_set(name: str) -> None:
    preset = preset_settings(name)
    for section, keys in KEYS.items():
        assert set(preset.get(section, {})) <= keys
    named = preset.get("data", {}).get("name")
    assert named is None or named in {dataset.name for dataset in list_datasets()}
    assert all(core >= 0 for core in preset["filters"].values())


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_takes_a_log_without_kinds_values_or_times(name: str) -> None:
    log = read_log(pd.DataFrame({"user": ["u", "u", "v"], "item": ["a", "b", "a"]}))
    assert positives(log, **settings(name)).weights.tolist() == [1.0, 1.0, 1.0]


def test_movies_weighs_a_good_rating_more_and_keeps_a_bad_one() -> None:
    log = read_log(pd.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "rating": [0.5, 3.5, 5.0]}))
    assert positives(log, **settings("movies")).weights.tolist() == pytest.approx([0.7, 1.0, 1.2])


def test_shop_weighs_habits_more_than_bulk() -> None:
    rows = [("u", "milk", 1, day) for day in range(9)] + [("u", "screws", 1000, 1)]
    log = read_log(pd.DataFrame(rows, columns=["user", "item", "quantity", "timestamp"]))
    assert positives(log, **settings("shop")).weights.tolist() == pytest.approx([2.0, 1.0])


def test_news_weighs_answers_more_and_fades() -> None:
    events = [("u", "a", "VIEW", 0), ("u", "b", "COMMENT CREATED", 30 * 86_400), ("u", "c", "VIEW", 30 * 86_400)]
    log = read_log(pd.DataFrame(events, columns=["user", "item", "event", "timestamp"]))
    assert positives(log, **settings("news")).weights.tolist() == pytest.approx([0.5, 2.5, 1.0])


def test_music_leaves_skips_out_and_flattens_play_counts() -> None:
    plays = pd.DataFrame({"user": ["u"] * 2, "item": ["a", "b"], "weight": [3, 13_000]})
    assert positives(read_log(plays), **settings("music")).weights.tolist() == pytest.approx([0.7, 1.3])
    events = pd.DataFrame({"user": ["u"] * 2, "item": ["a", "b"], "event": ["play", "skip"]})
    pairs = positives(read_log(events), **settings("music"))
    assert pairs.item_rows.tolist() == [0]
    assert pairs.excluded["rows_of_kinds_without_weight"] == 1
