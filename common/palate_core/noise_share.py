"""Noise shares: what a device adds to its contribution before anything leaves it.

With `--dp distributed` it adds its share of the noise, with `local` all of it:

    int64 [layout size] --checked against the grid--> --dummies--> --noise--> masks, or with `local` the wire

Whatever made the numbers, here they are checked: an algorithm, its clipping or a sum of blocks that is wrong costs
quality, and can't cost more privacy than the plan was charged for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate_core.errors import InputError
from palate_core.layout import DUMMIES, Int64
from palate_core.noise.bounded import bounded
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import Source
from palate_core.plan import Noise, RoundPlan


@dataclass(frozen=True)
class NoisedVector:
    """One device's contribution after the final check, with its share of the noise; made by `add_share` only.

    Attributes:
        steps: int64 [layout size + DUMMIES], in grid steps.
    """

    steps: Int64


def add_share(vector: Int64, plan: RoundPlan, source: Source) -> NoisedVector:
    """One device's contribution with its share of the noise.

    **Guarantees:** what is noised is within the grid: its L2 norm is at most the plan's grid, or it becomes zero.
    **Guarantees:** every coordinate gets noise: also where the device contributes nothing, and the dummies.
    **Guarantees:** secure noise is secure: a plan that asks for it gets no other.

    Args:
        vector: one device's steps, int64 [layout size].
        plan: with dp distributed or local.
        source: random words for this call alone.

    Raises:
        InputError: another dp mode, or seeded noise where the plan asks for secure.
    """
    if not plan.mode.noised_by_devices:
        raise InputError(f"devices add noise with dp distributed or local, got {plan.dp}")
    if plan.noise is Noise.SECURE and not source.secure:
        raise InputError("a plan for secure noise must get it from a secure source, got a seeded one")
    steps = np.concatenate([bounded(vector, grid=plan.grid), np.zeros(DUMMIES, np.int64)])
    return NoisedVector(steps + sample_discrete_gaussian(len(steps), sigma=plan.share_sigma, source=source))
