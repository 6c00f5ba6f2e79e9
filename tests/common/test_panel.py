"""A panel as public inputs: what a file must hold before a run may start from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate_common.algorithms.parts.links import MOST_LINKS, Links
from palate_common.algorithms.parts.panel import (
    PANEL_INPUTS,
    check_panel,
    has_panel,
    panel_inputs,
    takes_panel,
    without_panel,
)
from palate_core.errors import InputError

MAP = np.array([[0.0, 0.5, 0.1], [0.5, 0.0, 0.2], [0.1, -0.4, 0.0]])
INPUTS = panel_inputs(Links.strongest(np.array([1, 3, 4]), MAP, most=2), users=7)


def test_a_panel_is_known_by_its_arrays() -> None:
    assert tuple(INPUTS) == PANEL_INPUTS
    check_panel(INPUTS, n_items=5)
    assert has_panel(INPUTS)
    assert not has_panel({})
    assert without_panel(INPUTS | {"features": MAP}).keys() == {"features"}
    assert takes_panel(("features", *PANEL_INPUTS))
    assert not takes_panel(PANEL_INPUTS[1:])


def test_blocks_of_a_map_have_the_links_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    items, item_map = np.arange(0, 40, 2), rng.normal(size=(20, 20))
    whole = Links.strongest(items, item_map.copy(), most=6)
    parts = [Links.strongest(items, item_map[at : at + 7], most=6, first=at) for at in range(0, 20, 7)]
    joined = Links.concatenate(parts)
    for one, other in zip(whole.state("panel").values(), joined.state("panel").values(), strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype
    assert not (whole.to == whole.items[:, None]).any(), "no item leads to itself"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"panel_users": np.array([0])}, "`panel_users` must be one whole number from 1"),
        ({"panel_users": np.array([3, 4])}, "`panel_users` must be one whole number"),
        ({"panel_users": np.array([3], np.int32)}, "one whole number from 1"),
        ({"panel_links": INPUTS["panel_links"].astype(np.float64)}, "arrays that fit together"),
        ({"panel_links": INPUTS["panel_links"] * 2}, "from -1 to 1 times a scale"),
        ({"panel_links": INPUTS["panel_links"] * np.float32(np.nan)}, "from -1 to 1 times a scale"),
        ({"panel_scale": -INPUTS["panel_scale"]}, "from -1 to 1 times a scale"),
        ({"panel_scale": INPUTS["panel_scale"] * np.float32(np.inf)}, "from -1 to 1 times a scale"),
        ({"panel_scale": INPUTS["panel_scale"][:2]}, "arrays that fit together"),
        ({"panel_items": INPUTS["panel_items"][::-1].copy()}, "of 5 items, in lists without repeats"),
        ({"panel_items": np.array([1, 3, 5], np.int32)}, "of 5 items, in lists without repeats"),
        ({"panel_items": np.array([-1, 3, 4], np.int32)}, "of 5 items, in lists without repeats"),
        ({"panel_to": INPUTS["panel_to"] * 0}, "lists without repeats"),
        ({"panel_to": np.array([[1, 5], [1, 4], [1, 3]], np.int32)}, "of 5 items"),
        ({"panel_to": INPUTS["panel_to"][:, :1]}, "arrays that fit together"),
        ({"features": MAP}, "must have the arrays"),
    ],
)
def test_an_odd_panel_is_refused_in_one_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        check_panel({**INPUTS, **changed}, n_items=5)
    assert "\n" not in str(refused.value)


def test_lists_and_catalogue_are_bounded() -> None:
    wide = Links.strongest(np.arange(MOST_LINKS + 2), np.ones((MOST_LINKS + 2, MOST_LINKS + 2)), most=MOST_LINKS + 1)
    with pytest.raises(InputError, match="of 128 links at most"):
        check_panel(panel_inputs(wide, users=1), n_items=MOST_LINKS + 2)
    with pytest.raises(InputError, match="1 to 2 items"):
        check_panel(INPUTS, n_items=2)
    with pytest.raises(InputError, match="1 to 5 items"):
        check_panel(panel_inputs(Links.strongest(np.arange(0), np.zeros((0, 0)), most=2), users=1), n_items=5)
