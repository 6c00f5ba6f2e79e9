"""From a log to positives: weights, filters, figures, and folders as publishers unpack them."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

import palate_sim.data as package
from palate_core.errors import InputError
from palate_sim.data import InteractionLog, describe, positives, read_log
from palate_sim.preparation.filters import k_core


def log_of(rows: list[tuple[Any, ...]], columns: str = "user item") -> InteractionLog:
    return read_log(pd.DataFrame(rows, columns=columns.split()))


EVENTS = log_of(
    [
        ("u", "a", "VIEW", 1, 0),
        ("u", "a", "LIKE", 1, 86_400),
        ("u", "b", "VIEW", 5, 2 * 86_400),
        ("v", "b", "open", 3, 0),
        ("w", "c", None, 2, 0),
    ],
    "user item event value ts",
)


def weighed(**options: Any) -> dict[str, float]:
    pairs = positives(EVENTS, **options)
    names = [
        f"{pairs.users[user]}{pairs.items[item]}" for user, item in zip(pairs.user_rows, pairs.item_rows, strict=True)
    ]
    return dict(zip(names, pairs.weights.tolist(), strict=True))


def test_every_interaction_is_a_positive_by_default() -> None:
    pairs = positives(EVENTS)
    assert weighed() == {"ua": 1.0, "ub": 1.0, "vb": 1.0, "wc": 1.0}
    assert pairs.users == ("u", "v", "w")
    assert pairs.excluded == {"repeats_merged": 1}
    assert pairs.times.tolist() == [0.0, 2 * 86_400.0, 0.0, 0.0]


def test_a_threshold_drops_rows_and_users_and_keeps_the_catalogue() -> None:
    pairs = positives(EVENTS, threshold=3)
    assert pairs.users == ("u", "v")
    assert pairs.items == ("a", "b", "c")
    assert pairs.excluded == {"rows_below_threshold": 3, "users_without_positive": 1}


def test_weights_by_kind() -> None:
    assert weighed(weights={"view": 1, "like": 3}) == {"ua": 3.0, "ub": 1.0, "wc": 1.0}
    assert weighed(weights={"view": 1, "like": 3}, combine="sum")["ua"] == 4.0
    assert weighed(weights={"view": 1, "like": 3}, combine="sum", cap=2)["ua"] == 2.0
    assert weighed(weights={"*": 0.5, "like": 0})["vb"] == 0.5
    assert positives(EVENTS, weights={"view": 1}).excluded == {
        "rows_of_kinds_without_weight": 2,
        "users_without_positive": 1,
    }


def test_weights_by_value_are_steps() -> None:
    assert weighed(value_weights={2: 0.5, 5: 2}) == {"ub": 2.0, "vb": 0.5, "wc": 0.5}
    assert positives(EVENTS, value_weights={2: 0.5}).excluded["rows_of_values_without_weight"] == 2


def test_a_half_life_fades_against_the_users_own_latest_event() -> None:
    assert weighed(half_life_days=1) == {"ua": 0.5, "ub": 1.0, "vb": 1.0, "wc": 1.0}


def test_ancient_events_keep_a_positive_weight() -> None:
    log = log_of([("u", "a", 0), ("u", "b", 1.5e9)], "user item ts")
    assert (positives(log, half_life_days=1).weights > 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": float("nan")},
        {"threshold": 9},
        {"weights": {"view": -1}},
        {"weights": {"view": float("inf")}},
        {"weights": {"view": 0, "open": 0}, "value_weights": {99: 1}},
        {"value_weights": {}},
        {"value_weights": {float("nan"): 1}},
        {"value_weights": {1: float("nan")}},
        {"combine": "mean"},
        {"cap": 0},
        {"cap": float("nan")},
        {"half_life_days": 0},
        {"half_life_days": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must"):
        positives(EVENTS, **options)


def test_describe_is_json_with_the_size_of_the_log() -> None:
    facts = json.loads(json.dumps(describe(EVENTS)))
    assert (facts["users"], facts["items"], facts["rows"], facts["pairs"]) == (3, 3, 5, 4)
    assert facts["density"] == pytest.approx(4 / 9)
    assert facts["kinds"] == {"VIEW": 2, "LIKE": 1, "open": 1}
    assert facts["first_time"] == "1970-01-01T00:00:00+00:00"
    assert facts["events_per_user"]["max"] == 3.0
    assert facts["repairs"] == {"repeated_pairs": 1, "single_event_users": 2}


def test_describe_without_values_and_times() -> None:
    facts = describe(log_of([("u", "a")]))
    assert facts["values"] == {}
    assert facts["first_time"] is None
    assert facts["times_unknown"] == 1


def test_k_core_is_iterated_until_it_holds() -> None:
    chain = [("u", "a"), ("u", "b"), ("v", "b"), ("v", "a"), ("w", "b"), ("w", "c"), ("x", "c")]
    small, dropped = k_core(log_of(chain), 2, 2)
    assert sorted(set(small.frame["user_id"])) == ["u", "v"]
    assert dropped == {"users": 2, "items": 1, "rows": 3}
    again, nothing = k_core(small, 2, 2)
    assert nothing == {"users": 0, "items": 0, "rows": 0}
    pd.testing.assert_frame_equal(again.frame, small.frame)


def test_k_core_counts_distinct_pairs_and_keeps_repeats() -> None:
    log = log_of(
        [("u", "a", 1), ("u", "a", 2), ("u", "b", 3), ("v", "a", 4), ("v", "b", 5), ("w", "a", 6)], "user item ts"
    )
    small, dropped = k_core(log, 2, 2)
    assert len(small.frame) == 5
    assert dropped["rows"] == 1


def test_filters_that_leave_nothing_are_refused() -> None:
    log = log_of([("u", "a")])
    with pytest.raises(InputError, match="core"):
        k_core(log, 2, 1)
    with pytest.raises(InputError, match="negative"):
        k_core(log, -1, 1)


def test_the_package_exports_what_it_says() -> None:
    assert sorted(package.__all__) == package.__all__
    assert all(hasattr(package, name) for name in package.__all__)
