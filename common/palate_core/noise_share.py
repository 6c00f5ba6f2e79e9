"""Noise shares: what a device adds to its contribution before anything leaves it.

With `--dp distributed` it adds its share of the noise, with `local` all of it:

    int64 [layout size] --checked against the grid--> --dummies--> --noise--> NoisedVector: masks
                                                                          --> ClearSum: the wire

Whatever made the numbers, here they are checked: an algorithm, its clipping or a sum of blocks that is wrong costs
quality, and can't cost more privacy than the plan was charged for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate_core.errors import InputError, RefusedError
from palate_core.layout import DUMMIES, Int64
from palate_core.noise.bounded import bounded
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import Source
from palate_core.plan import ChargedPlan, Noise


@dataclass(frozen=True)
class NoisedVector:
    """One device's contribution after the final check, with its share of the noise; made by `add_share` only.

    Attributes:
        steps: int64 [layout size + DUMMIES], in grid steps.
    """

    steps: Int64


@dataclass(frozen=True)
class ClearSum:
    """What a node sends without masks. One device's is made by `in_the_clear`.

    A sum over simulated devices, or over single events, is made by `palate_common.rounds.shares`.

    Attributes:
        steps: int64 [layout size], with DUMMIES more where devices add noise, in grid steps.
        users: how many devices are in it.
    """

    steps: Int64
    users: int


def add_share(vector: Int64, charged: ChargedPlan, source: Source) -> NoisedVector:
    """One device's contribution with its share of the noise.

    **Guarantees:** what is noised is within the grid: its L2 norm is at most the plan's grid, or it becomes zero.
    **Guarantees:** every coordinate gets noise: also where the device contributes nothing, and the dummies.
    **Guarantees:** secure noise is secure: a plan that asks for it gets no other.

    Args:
        vector: one device's steps, int64 [layout size].
        charged: the plan, with dp distributed or local.
        source: random words for this call alone.

    Raises:
        InputError: another dp mode, or seeded noise where the plan asks for secure.
    """
    plan = charged.plan
    if not plan.mode.noised_by_devices:
        raise InputError(f"devices add noise with dp distributed or local, got {plan.dp}")
    if plan.noise is Noise.SECURE and not source.secure:
        raise InputError("a plan for secure noise must get it from a secure source, got a seeded one")
    steps = np.concatenate([bounded(vector, grid=plan.grid), np.zeros(DUMMIES, np.int64)])
    return NoisedVector(steps + sample_discrete_gaussian(len(steps), sigma=plan.share_sigma, source=source))


def in_the_clear(vector: Int64, charged: ChargedPlan, source: Source) -> ClearSum:
    """One device's contribution as it leaves without masks.

    **Guarantees:** without masks a device sends what its plan demands: its noise, or none where the server adds it.
    **Guarantees:** nothing under a plan with masks: it is refused, whatever it was charged.

    Args:
        vector: as of `add_share`, whatever the mode.
        charged: the plan.
        source: as of `add_share`; not asked where the server adds the noise.

    Raises:
        RefusedError: the plan has masks.
        InputError: as `add_share`.
    """
    plan = charged.plan
    if plan.cohort is not None and plan.cohort.masks:
        raise RefusedError("a plan with masks must be answered under masks")
    if plan.mode.noised_by_devices:
        return ClearSum(add_share(vector, charged, source).steps, 1)
    return ClearSum(bounded(vector, grid=plan.grid), 1)
