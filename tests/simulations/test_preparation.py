"""Preparation: what is dropped is written down, and other data is told apart from the same data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.preparation.preparation import Prepared, describe_split, prepare


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = [(f"u{user}", f"i{item}", 5) for user in range(60) for item in rng.choice(200, 8, replace=False)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])


def prepared(frame: pd.DataFrame, **settings: Any) -> Prepared:
    return prepare(load_config(None, {name.replace("__", "."): value for name, value in settings.items()}), frame)


def test_the_order_of_rows_is_not_data(frame: pd.DataFrame) -> None:
    assert prepared(frame).fingerprint == prepared(frame.sample(frac=1, random_state=1)).fingerprint


def test_any_other_interaction_is(frame: pd.DataFrame) -> None:
    one = prepared(frame)
    roles = {
        "training": one.split.train_users[0],
        "validation": one.split.validation.users[0] if one.split.validation else "",
        "test": one.split.test.users[0],
    }
    for user in roles.values():
        row = frame.index[frame["user_id"] == user][0]
        assert prepared(frame.drop(index=row)).fingerprint != one.fingerprint
        changed = frame.assign(item_id=frame["item_id"].mask(frame.index == row, "new"))
        assert prepared(changed).fingerprint != one.fingerprint
    assert prepared(frame, seed=1).fingerprint != one.fingerprint
    weights = {"4": 1.0, "5": 2.0}
    assert prepared(frame, data__value_weights=weights).fingerprint != one.fingerprint


def test_filters_are_exclusions_on_the_card(frame: pd.DataFrame) -> None:
    (said,) = prepared(frame, filters__item_core=3).exclusions()
    assert "outside the (0,3)-core" in said["what"]
    assert said["reason"] == "made on raw data before the experiment, not charged"
    assert prepared(frame).exclusions() == []


def test_a_column_may_be_named_or_left_out(frame: pd.DataFrame) -> None:
    renamed = frame.rename(columns={"user_id": "who"}).assign(rating="good")
    with pytest.raises(InputError, match="`columns` must give user_id"):
        prepared(renamed)
    with pytest.raises(InputError, match="`value` must be a finite number"):
        prepared(renamed, data__columns={"user_id": "who"})
    assert prepared(renamed, data__columns={"user_id": "who", "value": ""}).split.train.n_users == 48


def test_a_catalogue_too_small_for_its_sampled_negatives_is_refused_early(frame: pd.DataFrame) -> None:
    assert prepared(frame, split__name="loo-heldout-excluded").split.sampled_negatives == 99
    few = frame[frame["item_id"].isin(sorted(set(frame["item_id"]))[:100])]
    with pytest.raises(InputError, match="must have 99 items that a user doesn't have, got 9"):
        prepared(few, split__name="loo-heldout-excluded")


def test_items_that_nobody_trained_on_are_counted(frame: pd.DataFrame) -> None:
    cut = prepared(frame).split
    unseen = set(cut.items) - {cut.items[item] for item in cut.train.indices}
    asked = [cut.items[item] for item in cut.test.target.indices]
    said = describe_split(cut)
    assert said["items_of_no_training_user"] == len(unseen) > 0
    assert said["test_targets_of_no_training_user"] == sum(item in unseen for item in asked)
