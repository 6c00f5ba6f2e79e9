"""Edge: unclipped devices that send as much as the server's look at the sum lets through, and no more.

Where only a sum is seen, a device isn't held to the clip norm, but the sum is held to what n contributions and the
noise can make (`palate_server.rounds.possible`). Its limits are public, as they follow from the plan. So attackers
stretch their vector until the sum that they expect would reach a limit, and stay a few deviations of the noise below.
Where a negative number would show, they send none: how many honest devices would hide it they can't know.

The furthest that a release can be moved so is from where honest devices put it to the other side of what is possible:
`Opposite` is the vector for that, minus the direction of the honest sum, where numbers may be negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from palate_audit.poisoning.attacked_run import AttackersView, PoisoningAttack
from palate_audit.poisoning.knowledge import Knowledge
from palate_audit.poisoning.world import Bits, Goal

from palate_common.algorithms.base import facts_of
from palate_common.mechanism.update import Int64
from palate_core.layout import DUMMIES
from palate_server.rounds.possible import Limit, limits_of

BELOW, UNSURE = 5.0, 0.05
"""Deviations of the noise that a sum is kept away from each limit, and the part of the limit: what honest devices send
is estimated."""
HALVINGS = 40
"""Steps in which the longest vector is searched."""


@dataclass(frozen=True)
class Edge:
    """Another attack's direction, as long as the sum allows; all but the first attacker behave as if they sent nothing.

    Attributes:
        attack: whose direction it is.
        goal: what is wanted.
        seed: of what is drawn.
    """

    attack: PoisoningAttack
    goal: Goal
    seed: int = 0

    @property
    def name(self) -> str:
        """As findings and tables call it."""
        return f"{self.attack.name}, to the edge"

    def sent(self, view: AttackersView) -> Int64:
        """One row that all attackers send."""
        direction = self.attack.sent(view).sum(axis=0)
        direction = np.where(_positive(view), np.maximum(direction, 0), direction)
        return longest(direction, view, self.goal, seed=self.seed)[None]


@dataclass(frozen=True)
class Opposite:
    """The vector that moves a release furthest: minus the direction of the sum that honest devices make.

    Blocks that are never negative are left alone.

    Attributes:
        goal: what is wanted; only where it looks at people does it matter.
        seed: of what is drawn.
    """

    goal: Goal
    seed: int = 0
    name: str = "opposite"

    def sent(self, view: AttackersView) -> Int64:
        """One row, of one clip norm."""
        honest = Knowledge(view, self.goal, np.random.default_rng([self.seed, view.plan.round, 47])).honest
        honest = np.where(_positive(view), 0, honest)
        length = max(float(np.linalg.norm(honest.astype(np.float64))), 1.0)
        return np.asarray(np.trunc(honest * (-view.plan.grid / length)), np.int64)[None]


def longest(direction: Int64, view: AttackersView, goal: Goal, *, seed: int = 0) -> Int64:
    """The longest multiple of a direction with which the sum is still possible, shared by the attackers.

    Args:
        direction: int64 [size], of any length but zero.
        view: what they were sent.
        goal: what is wanted.
        seed: of the people that they imagine, by whom they estimate the honest sum.
    """
    knowledge = Knowledge(view, goal, np.random.default_rng([seed, view.plan.round, 53]))
    plan, users = view.plan, facts_of(view.plan).n_users
    limits = limits_of(plan, users=users, sigma=knowledge.sigma, reach=knowledge.algorithm.reach)
    honest = np.concatenate([knowledge.honest, np.zeros(DUMMIES, np.int64)]).astype(np.float64)
    ahead = np.concatenate([direction, np.zeros(DUMMIES, np.int64)]).astype(np.float64)
    if not direction.any():
        return direction
    room = 0.45 * 2.0 ** plan.bits(1) if plan.mode.cohort else float(users * plan.grid)
    low, high = 0.0, room / max(float(np.abs(ahead).max()), 1.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _passes(honest + middle * ahead, limits, knowledge.sigma):
            low = middle
        else:
            high = middle
    return np.asarray(np.trunc(direction * (max(low, 1.0) / view.devices)), np.int64)


def most_moved(length: float, limits: tuple[Limit, ...], *, positive: bool) -> float:
    """The furthest that a possible sum is from one of this length, in steps: what an unclipped device can move at most.

    Args:
        length: norm of the noised sum without the device, steps.
        limits: of the sum; the last is that of the whole.
        positive: whether no contribution has a number below 0 anywhere.
    """
    whole = limits[-1].norm
    if not positive:
        return length + whole
    noise = float(np.sqrt(sum(limit.below**2 for limit in limits[:-1])))
    return float(np.sqrt(length**2 + whole**2 + 2 * noise * (length + whole)))


def _positive(view: AttackersView) -> Bits:
    """Which coordinates no honest device makes negative, bool [size]."""
    reach = view.model.algorithm.reach
    return np.concatenate([np.full(spec.size, reach(spec.name).positive) for spec in view.plan.layout])


def _passes(total: np.ndarray[tuple[int], np.dtype[np.float64]], limits: tuple[Limit, ...], sigma: float) -> bool:
    """Whether a sum without its noise is below every limit, with room for the noise."""
    for limit in limits:
        part = total[limit.first : limit.last]
        noise, known, away = sigma * np.sqrt(len(part)), 1 - UNSURE, BELOW * sigma
        if part.max(initial=0.0) > known * limit.highest - away or part.min(initial=0.0) < known * limit.lowest + away:
            return False
        if np.sqrt(part @ part + noise**2) > max(known * limit.norm, 1.1 * noise):
            return False
    return True
