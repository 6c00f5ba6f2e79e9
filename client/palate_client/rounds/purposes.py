"""Purposes: what the user must have agreed to before this device answers a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate_common.algorithms.analytics import NAME as ANALYTICS

if TYPE_CHECKING:  # so that a device without a store needs none
    from palate_client.consent import Purpose
    from palate_core.plan import RoundPlan


def purpose_of(plan: RoundPlan) -> Purpose:
    """What the user must have agreed to before this device answers a plan."""
    return "analytics" if plan.algorithm == ANALYTICS else "train"
