"""What a released verdict says: worse, pushed, neither; how seldom by chance, and how far votes can bend it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts
from palate_common.algorithms.verdict import BLOCKS, FOUND, NOISE, SHOWN, VOTES
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.errors import InputError
from palate_server.surveys.verdict import (
    ALIKE,
    DOUBT,
    EXPOSED,
    TOLERATED,
    USUAL,
    Judgement,
    hidden,
    judgement,
    least_loss,
)

DEVICES, ITEMS, MU = 10_000, 400, 0.25
FACTS = PublicFacts(n_users=DEVICES, n_items=ITEMS, mu=MU)
JUDGED = {"algorithm": "popularity", "settings": {}, "facts": FACTS.model_dump(mode="json"), "model": "0" * 64}
SIGMA = {name: 1 / (MU * np.sqrt(share)) for name, share in BLOCKS.items()}
DEVIATIONS = np.array([SIGMA[VOTES], SIGMA[FOUND], SIGMA[SHOWN] * np.sqrt(20)])


def sums(*, won: float = 2000.0, lost: float = 2000.0, pushed: float = 0.0) -> dict[str, Any]:
    """Two hundred items in a tenth of the lists each, found alike; and one that is pushed into a share of them."""
    found, shown = np.zeros(ITEMS), np.zeros(ITEMS)
    shown[:200], found[:200] = 0.1 * DEVICES, 0.1 * 0.1 * DEVICES
    shown[300] = pushed * DEVICES
    return {VOTES: np.array([won, lost]), FOUND: found, SHOWN: shown}


def said(
    exact: dict[str, Any], rng: np.random.Generator | None = None, devices: int = DEVICES, **moved: float
) -> Judgement:
    state = {name: values.copy() for name, values in exact.items()}
    for name, deviation in zip(BLOCKS, DEVIATIONS, strict=True):
        if rng is not None:
            state[name] += rng.normal(0.0, deviation, len(state[name]))
    state[FOUND][300] += moved.get("found", 0.0)
    state[SHOWN][300] += moved.get("shown", 0.0)
    state[VOTES] += moved.get("won", 0.0), moved.get("lost", 0.0)
    settings = {"run": "a", "candidate": JUDGED, "in_use": JUDGED}
    header = ModelHeader(algorithm="verdict", settings=settings, facts=FACTS, releases=1, catalogue="c")
    return judgement(GlobalModel(header, state | {NOISE: DEVIATIONS}), devices=devices)


def test_an_item_that_nobody_has_is_named_and_a_model_that_loses_is_worse() -> None:
    items = tuple(f"item-{row}" for row in range(ITEMS))
    pushed = said(sums(pushed=0.3))
    assert [each.row for each in pushed.pushed] == [300]
    assert (pushed.worse, pushed.pushed[0].exposure, pushed.pushed[0].found) == (False, pytest.approx(0.3), 0.0)
    assert pushed.reasons(items) == ["devices have 'item-300' in 30% of their lists and hardly among what they hid"]
    worse = said(sums(lost=4000.0))
    assert (worse.worse, worse.pushed, worse.lost) == (True, (), pytest.approx(0.2))
    assert worse.reasons(items)[0].startswith("devices judge it worse than the model in use: 20.0% more of them")
    assert said(sums()).reasons(items) == []


def test_noise_alone_holds_nothing() -> None:
    """A thousand verdicts on a good model; each could be held by chance once in eight thousand at its very limit."""
    rng = np.random.default_rng(5)
    assert not any(each.worse or each.pushed for each in (said(sums(), rng) for _ in range(1000)))


def test_an_item_at_the_limit_is_named_once_in_millions() -> None:
    rng, exact = np.random.default_rng(6), sums(pushed=0.3)
    exact[FOUND][300] = 0.45 * 0.1 * 0.3 * DEVICES
    assert not any(said(exact, rng).pushed for _ in range(500))
    exact[FOUND][300] = 0.0
    assert all(said(exact, rng).pushed for _ in range(100))


@pytest.mark.parametrize("share", [0.001, 0.01, 0.03])
def test_votes_of_modified_devices_hide_an_item_only_as_far_as_is_stated(share: float) -> None:
    """Up to the exposure e with k(e') p e' = 1.4 sqrt(x) a, e' = e - 10 sqrt(1 - x) a for the best x; no further."""
    p = 0.1
    splits = np.linspace(0.0, 1.0, 11)
    finds = share * np.sqrt(2 * splits)
    unseen = share * 10 * np.sqrt(1 - splits)
    for exposure in np.linspace(EXPOSED, 1.0, 20):
        missed = [
            not said(sums(pushed=float(exposure)), found=found * DEVICES, shown=-less * DEVICES).pushed
            for found, less in zip(finds, unseen, strict=True)
        ]
        seen = np.maximum(exposure - unseen, 0.0)
        borne = np.minimum(0.45, 0.2 + seen) * p * seen
        if (borne > finds + 2 * DOUBT * SIGMA[FOUND] / DEVICES).all():
            assert not any(missed)
        if (borne < finds).any():
            assert any(missed)


def test_less_shown_hides_more_than_finds_alone() -> None:
    exact, share = sums(pushed=0.18), 0.01
    exact[FOUND][:200] *= 3.0
    exact |= {NOISE: DEVIATIONS}
    spend = {"found": share * DEVICES * np.sqrt(2), "shown": 0.0}, {"found": share * DEVICES, "shown": -707.0}
    alone, both = (bool(said(exact, **each).pushed) for each in spend)
    assert (alone, both) == (True, False)


def test_votes_of_modified_devices_move_the_loss_by_their_norm() -> None:
    """By 2.6 a, whatever they send: their whole norm in both numbers, against each other."""
    share, lost = 0.01, 0.2
    for angle in np.linspace(0.0, 2 * np.pi, 41):
        votes = share * DEVICES / np.sqrt(BLOCKS[VOTES]) * np.array([np.cos(angle), np.sin(angle)])
        bent = said(sums(lost=2000.0 + lost * DEVICES), won=votes[0], lost=votes[1])
        assert abs(bent.lost - lost) <= 2.6 * share
    most = share * DEVICES / np.sqrt(2 * BLOCKS[VOTES])
    bent = said(sums(lost=2000.0 + lost * DEVICES), won=most, lost=-most)
    assert bent.lost == pytest.approx(lost - 2.582 * share, abs=1e-5)
    assert bent.worse


def test_what_is_seen_follows_from_mu_and_devices() -> None:
    found = [least_loss(mu=MU, devices=devices) for devices in (100, 1000, 10_000, 100_000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.7 > 0.3 > found[1]
    assert found[3] < TOLERATED + 0.02
    assert said(sums()).least == pytest.approx(0.12, abs=0.03)


def test_a_model_of_which_hardly_anything_is_found_is_held_and_not_published_unseen() -> None:
    """Where finds are gone no item can be missed: before, such a verdict found nothing against a model."""
    exact = sums(pushed=0.5)
    exact[FOUND][:] = 0.0
    barren = said(exact, np.random.default_rng(7))
    assert (barren.barren, barren.pushed, barren.worse, barren.held) == (True, (), False, True)
    assert barren.reasons(())[0].startswith("devices find hardly anything of what they hid in their lists")
    nothing = {name: np.zeros_like(values) for name, values in exact.items()}
    assert not said(nothing).barren, "nobody's lists have an item in common: there is nothing to look at"


def stolen(exact: dict[str, Any], share: float) -> dict[str, Any]:
    """The sums after modified devices took finds from the half of the items that are found most rarely."""
    bent = {name: values.copy() for name, values in exact.items()}
    bent[FOUND][:101] -= share * DEVICES / np.sqrt(BLOCKS[FOUND] * 101)
    return bent


def test_attackers_who_lower_what_is_usual_hide_little_and_who_take_all_of_it_have_the_model_held() -> None:
    exact, rng = sums(pushed=0.3), np.random.default_rng(8)
    for share in (0.001, 0.003, 0.005, 0.01):  # p falls by a sqrt(m) / 10 = 0.014 of 0.1 at most
        assert [each.row for each in said(stolen(exact, share), rng).pushed] == [300]
    for share in (0.08, 0.1, 0.3):
        assert said(stolen(exact, share), rng).held
    assert said(stolen(exact, 0.3), rng).barren
    for share in np.linspace(0.0, 0.3, 31):
        found = said(stolen(exact, float(share)), rng)
        assert found.held or found.least > 0.3, "it says from where on it would have seen an item"


def test_the_end_of_a_list_that_is_everybodys_is_not_pushed_and_an_item_that_nobody_has_is() -> None:
    """Interest falls as one by rank: the last items are found a third as often as the mean, and half as the median."""
    devices, found, shown = 100_000, np.zeros(ITEMS), np.zeros(ITEMS)
    ranks = np.arange(1, 31)
    shown[:30] = devices * np.clip((31 - ranks) / 12, 0, 1) * np.clip(0.4 + ranks / 20, 0, 1)
    found[:30] = shown[:30] * 0.5 / (ranks + 2)
    exact = {VOTES: np.array([2000.0, 2000.0]), FOUND: found, SHOWN: shown}
    looked_at = shown > EXPOSED * devices
    ratios = found[looked_at] / shown[looked_at]
    assert ratios.min() < 0.45 * found[looked_at].sum() / shown[looked_at].sum(), "by the mean one would be pushed"
    assert not said(exact, devices=devices).held
    shown[300], found[300] = devices, 0.0
    assert [each.row for each in said(exact, devices=devices).pushed] == [300]


def test_verdicts_whose_noise_hides_what_is_found_are_refused_and_others_call_no_honest_model_barren() -> None:
    words = [hidden(mu=float(mu), devices=1000, n_items=ITEMS) for mu in np.geomspace(0.001, 1.0, 40)]
    assert [each for each, _ in itertools.groupby(words)] == [
        "the noise would hide even that all of them lose",
        "the noise would hide whether what is in their lists is found there",
        "",
    ]
    least = next(each for each in range(100, 10_000, 10) if not hidden(mu=MU, devices=each, n_items=ITEMS))
    assert least == pytest.approx(990, abs=30)
    alike = {VOTES: np.zeros(2), FOUND: np.zeros(ITEMS), SHOWN: np.zeros(ITEMS)}
    alike[SHOWN][:ALIKE] = np.linspace(0.3, 1.7, ALIKE) * 20 * least / ALIKE
    alike[FOUND][:] = USUAL * alike[SHOWN]
    rng = np.random.default_rng(9)
    assert not any(said(alike, rng, devices=least).barren for _ in range(300))
    assert said({**alike, FOUND: alike[FOUND] / 2}, rng, devices=least // 2).barren


def test_what_is_no_verdict_says_nothing() -> None:
    header = ModelHeader(algorithm="popularity", settings={}, facts=FACTS, releases=1, catalogue="c")
    with pytest.raises(InputError, match="released verdict"):
        judgement(GlobalModel(header, {}), devices=1)
