"""Weights: what an event counts by its kind, value and age."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common import weighting
from palate_common.weighting import Weighting


def _weighting(dice: Dice, answer: CaseAnswer) -> None:
    """Weights of events by kind, value and age, with any settings, and those of the presets."""
    kinds = ("view", "VIEW", "like", "hide", "other", "Straße")
    first, second = (dict(zip(dice.shuffled((-1.0, 0.0, 1.0, 3.0, 120.0))[: dice.whole(1, 4)], (0.5, 0.0, 2.0, 1.0),
                              strict=False)) for _ in range(2))  # fmt: skip
    told: dict[str, Any] = {
        "kinds": dice.one_of(
            (None, {}, {"View": 0.5, "*": 0.25}, {"like": 2.0, "hide": 0.0}, {"STRASSE": 3.0, "like": 1})
        ),
        "values": dice.one_of((None, first)),
        "kind_values": dice.one_of(({}, {"VIEW": second}, {"like": {0.0: 1.5}, "view": {0.0: 0.125}})),
        "combine": dice.one_of(("max", "sum")),
        "cap": dice.one_of((math.inf, 1.5, 0.25, 1e300)),
        "half_life_days": dice.one_of((None, 1, 30.0, 1e-4)),
    }
    odd = {
        "kinds": {"a": dice.one_of((-0.5, math.nan, math.inf))},
        "values": dice.one_of(({}, {math.nan: 1.0}, {1.0: -1.0})),
        "kind_values": dice.one_of(({"a": {}}, {"a": {math.inf: 1.0}}, {"a": {1.0: math.nan}})),
        "combine": "min",
        "cap": dice.one_of((0.0, -1.0, math.nan)),
        "half_life_days": dice.one_of((0, -1.0, math.nan, math.inf)),
    }
    for name, wrong in odd.items():
        answer.tell(isinstance(answer.tried(Weighting, **(told | {name: wrong})), Weighting))
    usual = Weighting(**told)
    n = dice.whole(0, 9)
    values = np.array([dice.one_of((math.nan, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 119.0, 120.0, 1e9)) for _ in range(n)])
    codes, latest = dice.wholes(-1, 5, n), 1.7e9
    times = latest - np.array([dice.one_of((math.nan, 0.0, 86_400.0, 3600.0, 1e9, 1e12)) for _ in range(n)])
    starts = np.array([0, *dice.some_of(range(1, max(n, 1)))], dtype=int)[: n or 0]
    preset = dice.one_of(weighting.weighting_names())
    answer.tell(weighting.weighting_names(), weighting.weighting_settings(preset))
    answer.of(weighting.weighting_settings, dice.one_of(("", "Shop", "../shop", "shop.toml", "shop")))
    asked = dice.shuffled((*kinds, "rate", "Play", "purchase"))
    kinds_twice = {kind: 2 * weight for kind, weight in (usual.kinds or {}).items()}
    steps_twice = {step: weight / 2 for step, weight in (usual.values or {0.0: 1.0}).items()}
    other = replace(usual, kinds=kinds_twice, values=steps_twice, cap=usual.cap / 2)  # of the same names and sizes
    for each in (usual, other, answer.of(weighting.weighting_of, preset)):
        factors = each.of_values(values, codes, kinds)
        answer.exact(each.of_kinds(asked), factors)
        answer.tell(each.decay(times, latest), each.decay(times, np.where(np.isnan(times), latest, times + 86_400.0)))
        answer.exact(each.combined(np.maximum(factors, 2.0**-130 if dice.chance(0.5) else 0.5), starts))
    answer.exact(usual.combined(np.array([1e-45, 1e39, 2.0]), np.array([0, 1, 2])))


SEAMS = (Seam("weights of events", _weighting, 18),)
