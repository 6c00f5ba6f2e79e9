"""Noise shares: with `--dp distributed` each device adds its share of the noise, with `local` all of it.

    ClippedUpdate --add_shares--> ClearSum --> the wire: with `local`, and in a simulation without masks

A node that hosts many simulated devices adds all their shares at once. The sum of m shares N_Z(0, s^2) has the law
N_Z(0, m s^2), up to the distance that the accounting charges anyway (`palate_core.cohort_terms.shares_slack`). m
is written as at most four squares, so that each draw has a whole number for its sigma:

    >>> squares(2048), squares(7), squares(1)
    ((32, 32), (2, 1, 1, 1), (1,))

A node with one device makes a single draw: the same code gives the same numbers for the same seed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from palate_common.algorithms.base import facts_of
from palate_common.mechanism.update import ClippedSum, ClippedUpdate
from palate_core.errors import InputError
from palate_core.layout import DUMMIES, Int64
from palate_core.log.canonical import canonical_json
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource, SeededSource, Source
from palate_core.noise_share import ClearSum, in_the_clear
from palate_core.plan import ChargedPlan, Noise, RoundPlan


def add_shares(clipped: ClippedUpdate | ClippedSum, charged: ChargedPlan, source: Source) -> ClearSum:
    """What a node sends without masks: its devices' contributions, with every device's share of the noise.

    **Guarantees:** every coordinate gets noise: also where nobody contributed to it, and for a contribution of zero.
    **Guarantees:** the released variance is what the survivors add: the plan's charge alone gives each share.
    **Guarantees:** local noise is the charged one: each device's own has it, whoever else takes part.

    Args:
        clipped: the contributions of the devices of one node.
        charged: the plan, in any mode: where the server adds the noise, nothing is added here.
        source: random words for this call alone.

    Raises:
        InputError: no device.
        RefusedError: as `in_the_clear`.
    """
    if clipped.users == 1:
        return in_the_clear(clipped.total(), charged, source)
    if not charged.plan.mode.noised_by_devices:
        return ClearSum(clipped.total(), clipped.users)
    return with_noise(clipped.total(), clipped.users, charged.plan, source)


def with_noise(total: Int64, users: int, plan: RoundPlan, source: Source) -> ClearSum:
    """Every device's share of the noise on a sum: `total`, int64 [layout size], over `users` devices."""
    if not plan.mode.noised_by_devices or users < 1:
        raise InputError(f"devices add noise with dp distributed or local, one or more, got {plan.dp} and {users}")
    steps = np.concatenate([total, np.zeros(DUMMIES, np.int64)])
    for root in squares(users):
        steps += sample_discrete_gaussian(len(steps), sigma=root * plan.share_sigma, source=source)
    return ClearSum(steps, users)


def share_source(plan: RoundPlan, devices: Sequence[int]) -> Source:
    """A fresh secure source, or, for a plan with seeded noise, one that repeats for these devices."""
    if plan.noise is Noise.SECURE:
        return SecureSource()
    scope = {"seed": facts_of(plan).seed, "round": plan.round, "attempt": plan.attempt, "devices": [*map(int, devices)]}
    return SeededSource(hashlib.sha256(b"palate/seeded-share/1" + canonical_json(scope)).digest())


@lru_cache(maxsize=4096)
def squares(number: int) -> tuple[int, ...]:
    """Whole numbers from 1 whose squares sum to `number`: as few as possible, and never more than four (Lagrange)."""
    for count in (1, 2, 3, 4):
        if found := _squares(number, count):
            return found
    raise InputError(f"`number` must be a whole number from 1, got {number}")


def _squares(number: int, count: int) -> tuple[int, ...]:
    """Exactly `count` such numbers, falling; empty if there are none."""
    top = math.isqrt(max(number, 0))
    if count == 1:
        return (top,) if top > 0 and top * top == number else ()
    if count == 3 and _needs_four(number):
        return ()
    for first in range(top, 0, -1):
        if first * first * count < number:
            return ()
        if (rest := _squares(number - first * first, count - 1)) and rest[0] <= first:
            return (first, *rest)
    return ()


def _needs_four(number: int) -> bool:
    """Legendre: a number is no sum of three squares exactly if it is 4^a (8 b + 7)."""
    while number and number % 4 == 0:
        number //= 4
    return number % 8 == 7
