"""One hostile device, whatever it sends at whatever step: one charged attempt in its life at most, and its name."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

from palate_audit.secagg.hostile import ANYWHERE, HOSTILE, PLANS, POISON, Life, live
from palate_common.secagg import cohort as cohorts
from palate_common.secagg.graph_terms import GraphTerms, graph_terms
from palate_common.secagg.messages import Step

EVERYWHERE = {f"{name} at {step.name.lower()}" for name in ANYWHERE for step in Step if step > Step.COMMIT}
UNCOMMITTED = {f"{name} at commit" for name in ANYWHERE}
RING = {"neighbours": 8, "threshold": 6, "window_corrupt": 1, "complete": False}


def small_ring(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
    return replace(graph_terms(n, corrupt=corrupt, dropped=dropped), **RING)


def judge(life: Life) -> None:
    """At most one attempt lost, the hostile device named for it, and nobody else for anything."""
    assert life.lost <= 1
    assert life.named <= {HOSTILE}
    assert not life.lost or life.named == {HOSTILE}
    assert all(HOSTILE in pair for pair in life.disputes)


@pytest.mark.parametrize("plan", sorted(PLANS.keys() - EVERYWHERE - UNCOMMITTED))
def test_a_hostile_device_costs_one_attempt_of_eight_devices_at_most(plan: str) -> None:
    life = live(plan, devices=8, n_min=7)
    judge(life)
    assert life.released, "the other rounds go on"


def test_what_can_be_sent_at_every_step_costs_one_attempt_at_most() -> None:
    for plan in sorted(EVERYWHERE):
        judge(live(plan, devices=5, n_min=4, attempts=2 if "before" in plan else 1))


@pytest.mark.parametrize(
    "plan",
    ["deals rubbish to two", "deals wrong shares to all", "gives wrong shares of one", "complains of all",
     "commits to another nonce", "is silent at advertise", "sends random bytes at commit"],
)  # fmt: skip
def test_a_hostile_device_in_a_ring_costs_one_attempt_at_most(plan: str) -> None:
    with mock.patch.object(cohorts, "graph_terms", small_ring):
        life = live(plan, devices=16, n_min=12, n_max=251)
    judge(life)
    assert life.tosses == (2 if plan in ("commits to another nonce", "is silent at advertise") else 0)


def test_a_device_with_other_masks_than_it_advertised_poisons_the_sum_and_is_not_seen() -> None:
    """What nothing here mends: a vector can be anything, and so can the masks on it."""
    assert POISON
    for plan in POISON:
        assert not live(plan, devices=5, n_min=4, attempts=1).named
