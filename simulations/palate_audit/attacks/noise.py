"""Noise: fresh secure noise of the run's mechanism, drawn by the functions that a release goes through.

An attacker who knows all other users subtracts them; one user's contribution and the noise remain. So a game on one
user needs only the noise, on the coordinates that the user touches, because coordinates are independent. `with_noise`
and `noised` draw it, for a cohort of the run's size whose contributions are all zero.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from palate_common.mechanism.update import ClippedUpdate, DenseSteps, Int64
from palate_common.rounds.shares import with_noise
from palate_core.noise.randomness import SecureSource
from palate_core.plan import Noise, RoundPlan
from palate_server.rounds.aggregation import Aggregate, ParticipationCounts
from palate_server.rounds.noise import NoisyAggregate, noised


class View(StrEnum):
    """The attacker's view of one user's contribution."""

    CLEAR = "clipped update (server, central)"
    SHARE = "noised share (server, no masks)"
    """With dp local, everything that a device sends; the claim is about it."""
    RELEASE = "releases (anybody)"


TOLD = {View.RELEASE: "releases", View.SHARE: "a device's message"}
"""What a finding is about, in its name."""


def fresh_noise(view: View, plan: RoundPlan, users: int, size: int) -> Int64:
    """Noise on `size` coordinates, int64 [size], as this view sees it added to one user's contribution.

    Args:
        view: the attacker's view.
        plan: of the round.
        users: devices in the cohort.
        size: how many coordinates.
    """
    if view is View.CLEAR or not plan.mode.private:
        return np.zeros(size, np.int64)
    several = 1 if view is View.SHARE else users
    nothing = ClippedUpdate((DenseSteps(np.zeros((1, size), np.int64)),), np.ones(several, np.bool_), plan.grid)
    if plan.mode.noised_by_devices:
        return with_noise(nothing.total(), several, plan, SecureSource()).steps[:size]
    plan = plan.model_copy(update={"noise": Noise.SECURE})
    return noised(Aggregate(nothing.total(), ParticipationCounts(users, 0, 0, 0)), plan).steps[:size]


def sigma_of(view: View, noisy: NoisyAggregate) -> float:
    """Standard deviation of that noise, in steps, as the attacker knows it; the grid where there is no noise."""
    if not noisy.plan.mode.private:
        return float(noisy.plan.grid)
    return float(noisy.plan.share_sigma) if view is View.SHARE else float(noisy.sigma)


def views_of(plan: RoundPlan) -> tuple[View, ...]:
    """The possible views: there is a share only where devices add noise."""
    return tuple(view for view in View if view is not View.SHARE or plan.mode.noised_by_devices)


def claimed(view: View, plan: RoundPlan) -> bool:
    """Whether the claim is about this view: the releases, and with dp local also what a device sends."""
    return view is View.RELEASE or (view is View.SHARE and plan.mode.alone)
