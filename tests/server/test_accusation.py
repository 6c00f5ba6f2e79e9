"""What puts an item into quarantine: more than false votes of a hundredth of those who judge can make."""

from __future__ import annotations

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts
from palate_common.algorithms.verdict import BLOCKS, FOUND, NOISE, SHOWN, VOTES
from palate_common.models.model import GlobalModel, ModelHeader
from palate_server.surveys.accusation import proven, seen
from palate_server.surveys.verdict import judgement

DEVICES, ITEMS, MU, ITEM = 10_000, 400, 0.5, 300
FACTS = PublicFacts(n_users=DEVICES, n_items=ITEMS, mu=MU)
JUDGED = {"algorithm": "popularity", "settings": {}, "facts": FACTS.model_dump(mode="json"), "model": "0" * 64}
DEVIATIONS = np.array([1 / (MU * np.sqrt(share)) for share in BLOCKS.values()]) * [1, 1, np.sqrt(20)]
ACCUSERS, PLACES = 0.01, 0.1


def verdict(*, exposure: float, found: float, rng: np.random.Generator | None = None) -> GlobalModel:
    """Two hundred items in a tenth of the lists each, found alike; and one that is found `found` times as often."""
    finds, shown = np.zeros(ITEMS), np.zeros(ITEMS)
    shown[:200], finds[:200] = 0.1 * DEVICES, 0.1 * PLACES * DEVICES
    shown[ITEM], finds[ITEM] = exposure * DEVICES, found * exposure * PLACES * DEVICES
    state = {VOTES: np.zeros(2), FOUND: finds, SHOWN: shown}
    if rng is not None:
        state = {
            name: values + rng.normal(0.0, deviation, len(values))
            for (name, values), deviation in zip(state.items(), DEVIATIONS, strict=True)
        }
    settings = {"run": "a", "candidate": JUDGED, "in_use": JUDGED}
    header = ModelHeader(algorithm="verdict", settings=settings, facts=FACTS, releases=1, catalogue="c")
    return GlobalModel(header, state | {NOISE: DEVIATIONS})


def read(model: GlobalModel, *, accusers: float = ACCUSERS) -> tuple[bool, bool]:
    """Whether the item is named, and whether it goes into quarantine."""
    said = judgement(model, devices=DEVICES)
    rows = [{each.row for each in found} for found in (said.pushed, proven(model, said, accusers=accusers))]
    assert rows[1] <= rows[0], "only what holds a model goes into quarantine"
    return ITEM in rows[0], ITEM in rows[1]


def accused(model: GlobalModel, share: float, angle: float) -> GlobalModel:
    """The same with false votes of a share of those who judge, all of their norm on the item."""
    model.state[FOUND][ITEM] -= share * DEVICES * np.sqrt(1 / BLOCKS[FOUND]) * np.sin(angle)
    model.state[SHOWN][ITEM] += share * DEVICES * np.sqrt(20 / BLOCKS[SHOWN]) * np.cos(angle)
    return model


@pytest.mark.parametrize("angle", np.linspace(0.0, np.pi / 2, 6))
@pytest.mark.parametrize("exposure", [0.06, 0.2, 0.5, 1.0])
def test_a_hundredth_of_false_votes_buries_no_item_at_its_limit(exposure: float, angle: float) -> None:
    """Found k(e) as often as others: what it takes to be called pushed is noise alone."""
    rng, limit = np.random.default_rng(8), min(0.5, 2 * exposure)
    for _ in range(20):
        model = accused(verdict(exposure=exposure, found=limit, rng=rng), ACCUSERS, float(angle))
        assert not read(model)[1]


def test_it_takes_more_to_bury_an_item_than_to_hold_a_model() -> None:
    named, buried = zip(
        *(
            read(accused(verdict(exposure=0.3, found=1.0), share, np.pi / 2))
            for share in (0.005, 0.01, 0.02, 0.03, 0.04, 0.05)
        ),
        strict=True,
    )
    assert 0 < sum(buried) < sum(named), "so many accusers hold a model, and more of them bury the item"
    assert read(accused(verdict(exposure=0.3, found=1.0), 0.02, np.pi / 2), accusers=0.0) == (True, True)


def test_what_a_model_really_shows_is_seen_whatever_a_hundredth_of_its_judges_said() -> None:
    rng, hidden = np.random.default_rng(10), ACCUSERS * DEVICES * np.sqrt(20 / BLOCKS[SHOWN])
    for exposure, hide, told in ((0.0, 0.0, False), (0.051, 0.0, True), (0.051 + 10 * ACCUSERS, hidden, True)):
        for _ in range(20):
            model = verdict(exposure=exposure, found=1.0, rng=rng)
            model.state[SHOWN][ITEM] -= hide
            assert (ITEM in seen(model, devices=DEVICES)) is told


def test_an_item_that_is_really_pushed_goes_there() -> None:
    rng = np.random.default_rng(9)
    found = [read(verdict(exposure=each, found=0.0, rng=rng)) for each in (0.2, 0.45, 0.7)]
    assert found == [(True, False), (True, True), (True, True)], "one that is pushed a little is named alone"


def test_a_hundredth_who_bear_their_item_leave_it_named_and_not_proved() -> None:
    """In two lists of three, found by them alone: what holds a model is enough only if nobody has seen that item."""
    model = verdict(exposure=0.66, found=0.0, rng=np.random.default_rng(11))
    model.state[FOUND][ITEM] += ACCUSERS * DEVICES * np.sqrt(1 / BLOCKS[FOUND])
    assert read(model) == (True, False)
