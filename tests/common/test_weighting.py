"""Weighting: one meaning of an event for simulator and device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from palate_common.weighting import Weighting, weighting_names, weighting_of, weighting_settings
from palate_core.errors import InputError

NAN = math.nan


def test_presets() -> None:
    assert weighting_names() == ("movies", "music", "news", "plain", "ratings", "shop")
    with pytest.raises(InputError, match=r"\Aa preset of weights must be one of movies, .*, got 'games'\Z"):
        weighting_settings("games")


@pytest.mark.parametrize("name", weighting_names())
def test_a_preset_is_read_whole(name: str) -> None:
    tree, weighting = weighting_settings(name), weighting_of(name)
    assert set(tree) <= {"data", "positives"}
    assert set(tree["data"]) <= {"weights", "value_weights", "kind_values"}
    assert set(tree.get("positives", {})) <= {"combine", "cap", "half_life_days"}
    for key, value in tree.get("positives", {}).items():
        assert getattr(weighting, key) == value


def test_kinds_are_compared_without_case_and_the_star_is_for_the_rest() -> None:
    assert Weighting().of_kinds(["a", "b"]).tolist() == [1.0, 1.0]
    assert Weighting({"View": 0.5}).of_kinds(["VIEW", "buy"]).tolist() == [0.5, 0.0]
    assert Weighting({"view": 0.5, "*": 2}).of_kinds(["view", "buy"]).tolist() == [0.5, 2.0]


def test_values_by_step_and_by_kind() -> None:
    weighting = Weighting(values={1: 0.5, 3: 2.0}, kind_values={"Play": {0: 0.1, 30: 1.0}})
    values = np.array([0.0, 1.0, 2.9, 3.0, NAN, 29.0, 30.0, NAN])
    codes = np.array([0, 0, -1, 0, 0, 1, 1, 1])
    assert weighting.of_values(values, codes, ["rate", "play"]).tolist() == [0.0, 0.5, 0.5, 2.0, 1.0, 0.1, 1.0, 1.0]


def test_decay_halves_and_spares_unknown_times() -> None:
    day = 86_400.0
    decayed = Weighting(half_life_days=10).decay(np.array([0.0, 10 * day, NAN]), 20 * day)
    assert decayed.tolist() == [0.25, 0.5, 1.0]
    assert (Weighting(half_life_days=1e-9).decay(np.array([0.0]), 1e9) > 0).all()


def test_pairs_combine_up_to_the_cap() -> None:
    factors, starts = np.array([1.0, 1.0, 1.0, 0.5]), np.array([0, 3])
    assert Weighting(combine="sum", cap=2.0).pair_weights(factors, starts).tolist() == [2.0, 0.5]
    assert Weighting().pair_weights(factors, starts).tolist() == [1.0, 0.5]
    assert Weighting().pair_weights(np.zeros(0), np.zeros(0, np.int64)).dtype == np.float32


@pytest.mark.parametrize(
    "settings",
    [
        {"kinds": {"*": -1.0}},
        {"kinds": {"view": NAN}},
        {"values": {}},
        {"values": {math.inf: 1.0}},
        {"kind_values": {"play": {0.0: math.inf}}},
        {"kind_values": {"play": {}}},
        {"combine": "mean"},
        {"cap": 0.0},
        {"half_life_days": 0.0},
        {"half_life_days": math.inf},
    ],
)
def test_settings_out_of_range_are_refused(settings: Mapping[str, Any]) -> None:
    with pytest.raises(InputError, match=r"\A`[a-z_.]+` must [^\n]*, got [^\n]*\Z"):
        Weighting(**settings)
