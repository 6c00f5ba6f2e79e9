"""Hostile devices, whatever they send at whatever step: at most one charged attempt each, and named with evidence."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from palate_audit.secagg.hostile import ANYWHERE, HOSTILE, NAMED, PLANS, POISON, Life, live, play

from palate_core.masks import ring_cohort as cohorts
from palate_core.masks.graph_terms import GraphTerms, graph_terms
from palate_core.masks.messages import Step
from palate_server.secagg import sum as sums
from palate_server.secagg.recovery import Wanted

KINDS = {plan: kind for kind, plans in NAMED.items() for plan in plans}
EVERYWHERE = {f"{name} at {step.name.lower()}" for name in ANYWHERE for step in Step if step > Step.COMMIT}
UNCOMMITTED = {f"{name} at commit" for name in ANYWHERE} | {"commits to another nonce"}
RING = {"neighbours": 8, "threshold": 6, "window_corrupt": 1, "complete": False}
BOXES = [plan for plan in PLANS if KINDS.get(plan) in ("box", "opening")]
MENDED = {"deals wrong shares to one", "deals wrong shares to one and is lost"}


def small_ring(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
    return replace(graph_terms(n, corrupt=corrupt, dropped=dropped), **RING)


def judge(life: Life, plan: str) -> None:
    """The hostile device is named for what it has signed, at the cost of an attempt at most, and nobody else ever."""
    assert life.named == ({HOSTILE: KINDS[plan]} if plan in KINDS else {})
    dealt = KINDS.get(plan) == "dealt" and plan not in MENDED
    assert life.lost == dealt, "only a secret that isn't there any more loses an attempt"


@pytest.mark.parametrize("plan", sorted(PLANS.keys() - EVERYWHERE - UNCOMMITTED))
def test_a_hostile_device_among_eight_is_named_and_costs_an_attempt_at_most(plan: str) -> None:
    life = live(plan, devices=8, n_min=7)
    judge(life, plan)
    assert life.released, "the other rounds go on"


def test_what_can_be_sent_at_every_step_costs_nothing() -> None:
    for plan in sorted(EVERYWHERE):
        judge(live(plan, devices=5, n_min=4, attempts=2 if "before" in plan else 1), plan)


@pytest.mark.parametrize(
    "plan",
    ["deals rubbish to two", "deals wrong shares to all", "gives wrong shares of one", "complains of all",
     "deals rubbish to two and opens otherwise", "commits to another nonce", "is silent at advertise",
     "sends random bytes at commit"],
)  # fmt: skip
def test_a_hostile_device_in_a_ring_is_named_and_costs_an_attempt_at_most(plan: str) -> None:
    with mock.patch.object(cohorts, "graph_terms", small_ring):
        life = live(plan, devices=16, n_min=12, n_max=251)
    judge(life, plan)
    # Who is named isn't there any more the second time.
    assert life.tosses == {"commits to another nonce": 1, "is silent at advertise": 2}.get(plan, 0)


def test_a_device_with_other_masks_than_it_advertised_poisons_the_sum_and_is_not_seen() -> None:
    """What nothing here mends: a vector can be anything, and so can the masks on it."""
    assert POISON
    for plan in POISON:
        assert not live(plan, devices=5, n_min=4, attempts=1).named


FALSE = {
    "boxes": BOXES,
    "complaints": ["complains of one", "complains of half", "complains of all"],
    "shares": [f"gives wrong shares of {how}" for how in ("one", "half", "all")],
    "mixed": [
        *BOXES,
        "complains of half",
        "gives wrong shares of all",
        "deals wrong shares to one",
        "advertises one key twice",
        "commits to another nonce",
    ],
    "reveals": ["commits to another nonce"],
}


@pytest.mark.parametrize(
    "what", [*(pytest.param(each, marks=pytest.mark.soak) for each in FALSE if each != "mixed"), "mixed"]
)
def test_ten_of_a_hundred_that_lie_are_all_named_and_nobody_else_in_an_attempt_that_is_released(
    what: str,
) -> None:
    rng = np.random.default_rng(len(what))
    liars = {int(device): str(rng.choice(FALSE[what])) for device in rng.choice(100, 10, replace=False)}
    life = play(liars, devices=100, n_min=90, c_max=10, n_max=251, attempts=1, seed=1)
    assert (life.released, life.lost) == (1, 0)
    assert life.named == {device: KINDS[plan] for device, plan in liars.items()}


@pytest.mark.parametrize(("most", "tries", "lost"), [(sums.MOST_DECODED, 3, 0), (16**2, 1, 1), (0, 0, 1)])
def test_what_is_decoded_is_bounded_and_all_who_dealt_wrong_shares_are_named(
    most: int, tries: int, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound the attempt is void, and nobody gets away."""
    tried, decoded = list[int](), Wanted.decoded
    monkeypatch.setattr(sums, "MOST_DECODED", most)
    monkeypatch.setattr(Wanted, "decoded", lambda wanted, *of: tried.append(1) or decoded(wanted, *of))
    liars = dict.fromkeys((3, 7, 11), "deals wrong shares to one")
    life = play(liars, devices=16, n_min=12, c_max=3, attempts=1, seed=1)
    assert (life.released, life.lost) == (1 - lost, lost)
    assert life.named == dict.fromkeys(liars, "dealt")
    assert len(tried) == tries


@pytest.mark.soak
def test_ten_of_a_hundred_that_deal_other_secrets_are_all_named_by_one_attempt_and_the_next_is_released() -> None:
    liars = dict.fromkeys(range(5, 95, 9), "deals another secret")
    life = play(liars, devices=100, n_min=90, c_max=10, attempts=2, seed=1)
    assert (life.released, life.lost) == (1, 1)
    assert life.named == dict.fromkeys(liars, "dealt")


@pytest.mark.parametrize("seed", range(2))
def test_no_honest_device_is_named_among_liars_up_to_c_max_while_others_are_lost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plans = sorted(PLANS.keys() - UNCOMMITTED - POISON)
    liars = {int(device): str(rng.choice(plans)) for device in rng.choice(30, 3, replace=False)}
    life = play(liars, devices=30, n_min=22, c_max=3, attempts=3, lost=0.1, seed=seed)
    assert life.named.keys() <= liars.keys()
    assert all(KINDS.get(liars[device]) for device in life.named)


@pytest.mark.soak
def test_no_honest_device_is_named_in_ten_thousand_device_rounds() -> None:
    honest = 0
    for seed in range(125):
        rng, ring = np.random.default_rng(1000 + seed), seed % 2
        plans = sorted(PLANS.keys() - POISON - (set() if ring else UNCOMMITTED))
        liars = {int(device): str(rng.choice(plans)) for device in rng.choice(30, 3, replace=False)}
        n_max = 251 if ring else None
        life = play(liars, devices=30, n_min=22, c_max=3, n_max=n_max, attempts=3, lost=0.1, seed=seed)
        assert life.named.keys() <= liars.keys()
        honest += 27 * (life.released + life.lost)
    assert honest > 10_000
