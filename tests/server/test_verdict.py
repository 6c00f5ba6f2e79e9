"""What a released verdict says: worse, pushed, neither; how seldom by chance, and how far votes can bend it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts
from palate_common.algorithms.verdict import BLOCKS, FOUND, NOISE, SHOWN, VOTES
from palate_common.errors import InputError
from palate_common.models.model import GlobalModel, ModelHeader
from palate_server.surveys.verdict import DOUBT, EXPOSED, TOLERATED, Judgement, judgement, least_loss

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


def said(exact: dict[str, Any], rng: np.random.Generator | None = None, **moved: float) -> Judgement:
    state = {name: values.copy() for name, values in exact.items()}
    for name, deviation in zip(BLOCKS, DEVIATIONS, strict=True):
        if rng is not None:
            state[name] += rng.normal(0.0, deviation, len(state[name]))
    state[FOUND][300] += moved.get("found", 0.0)
    state[VOTES][0] += moved.get("won", 0.0)
    settings = {"run": "a", "candidate": JUDGED, "in_use": JUDGED}
    header = ModelHeader(algorithm="verdict", settings=settings, facts=FACTS, releases=1, catalogue="c")
    return judgement(GlobalModel(header, state | {NOISE: DEVIATIONS}), devices=DEVICES)


def test_an_item_that_nobody_has_is_named_and_a_model_that_loses_is_worse() -> None:
    items = tuple(f"item-{row}" for row in range(ITEMS))
    pushed = said(sums(pushed=0.3))
    assert [each.row for each in pushed.pushed] == [300]
    assert (pushed.worse, pushed.pushed[0].exposure, pushed.pushed[0].found) == (False, pytest.approx(0.3), 0.0)
    assert pushed.reasons(items) == ["devices have 'item-300' in 30% of their lists and hardly among what they hid"]
    worse = said(sums(lost=3000.0))
    assert (worse.worse, worse.pushed, worse.lost) == (True, (), pytest.approx(0.1))
    assert worse.reasons(items)[0].startswith("devices judge it worse than the model in use: 10.0% more of them")
    assert said(sums()).reasons(items) == []


def test_noise_alone_holds_nothing() -> None:
    """A thousand verdicts on a good model; each could be held by chance once in eight thousand at its very limit."""
    rng = np.random.default_rng(5)
    assert not any(each.worse or each.pushed for each in (said(sums(), rng) for _ in range(1000)))


def test_an_item_at_the_limit_is_named_once_in_millions() -> None:
    rng, exact = np.random.default_rng(6), sums(pushed=0.3)
    exact[FOUND][300] = 0.5 * 0.1 * 0.3 * DEVICES
    assert not any(said(exact, rng).pushed for _ in range(500))
    exact[FOUND][300] = 0.0
    assert all(said(exact, rng).pushed for _ in range(100))


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
def test_votes_of_modified_devices_hide_an_item_only_as_far_as_is_stated(share: float) -> None:
    """Up to the exposure e with k(e) p e = 1.4 a, and no further."""
    most, p = share * DEVICES / np.sqrt(BLOCKS[FOUND]), 0.1
    for exposure in np.linspace(EXPOSED, 1.0, 20):
        borne = min(0.5, 2 * exposure) * p * exposure * DEVICES
        hidden = not said(sums(pushed=float(exposure)), found=most).pushed
        if borne > most + 2 * DOUBT * SIGMA[FOUND]:
            assert not hidden
        if borne < most:
            assert hidden


def test_votes_of_modified_devices_move_the_loss_by_their_norm() -> None:
    share, lost = 0.01, 0.1
    bent = said(sums(lost=2000.0 + lost * DEVICES), won=share * DEVICES / np.sqrt(BLOCKS[VOTES]))
    assert bent.lost == pytest.approx(lost - share / np.sqrt(BLOCKS[VOTES]))
    assert bent.worse


def test_what_is_seen_follows_from_mu_and_devices() -> None:
    found = [least_loss(mu=MU, devices=devices) for devices in (100, 1000, 10_000, 100_000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.7 > 0.25 > found[1]
    assert found[3] < TOLERATED + 0.02
    assert said(sums()).least == pytest.approx(0.12, abs=0.03)


def test_what_is_no_verdict_says_nothing() -> None:
    header = ModelHeader(algorithm="popularity", settings={}, facts=FACTS, releases=1, catalogue="c")
    with pytest.raises(InputError, match="released verdict"):
        judgement(GlobalModel(header, {}), devices=1)
