import json
from typing import Any

import pytest
from pydantic import ValidationError

from palate_core.log.canonical import canonical_json
from palate_core.plan import RoundPlan

TEXT = (
    '{"algorithm":"popularity","attempt":0,"clip_norm":1.0,"cohort":null,"cohort_floor":1,"dp":"central","expires":2000000000,'
    '"facts":{"mu":1.0,"n_features":0,"n_items":3,"n_users":100,"seed":0},"grid":16384,'
    '"layout":[{"name":"counts","shape":[3],"weight":1.0}],'
    f'"model_hash":"{"cd" * 32}","mu2":0.25000000093132263,"noise":"secure","population":"readers","round":0,'
    '"run":"run-1","settings":{"exponent":0.5},"sigma":32768,"version":1}'
)
HASH = "d9ea48b7a7a2ebec7ca98ed2747f74e2dfb6d196f420fe15a0b4fc02e0d5f738"


def test_the_canonical_plan_does_not_change() -> None:
    """The hash is what ledgers hold: a change of spelling would orphan every plan that was ever charged."""
    plan = RoundPlan.model_validate_json(TEXT)
    assert canonical_json(plan.model_dump(mode="json")).decode() == TEXT
    assert plan.hash == HASH


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"round": -1},
        {"attempt": -1},
        {"clip_norm": 0.0},
        {"clip_norm": float("inf")},
        {"clip_norm": float("nan")},
        {"grid": 0},
        {"grid": 2**26 + 1},
        {"sigma": -1},
        {"mu2": -0.1},
        {"mu2": float("nan")},
        {"mu2": float("inf")},
        {"cohort_floor": 0},
        {"dp": "none"},
        {"noise": "free"},
        {"layout": ()},
        {"layout": ({"name": "x", "shape": (1,), "weight": 0.6}, {"name": "x", "shape": (1,), "weight": 0.8})},
        {"unknown": 1},
    ],
)
def test_a_plan_that_makes_no_sense_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RoundPlan.model_validate({**json.loads(TEXT), **changes})
