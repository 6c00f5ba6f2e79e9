"""Mutants after the clip: rounding, scales, weights and defaults that increase the clipped norm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.mechanism.update import ClippedUpdate, DenseSteps, Steps


@mutant(
    "data-dependent weight",
    bug="a contribution is weighted by its user's number of events, behind the clip",
    seen="FedAvg weights clients by `num_examples`",
    test="sensitivity",
    at=(contribution.Contributor, "_train_and_clip"),
)
def weighted_by_events(real: Any, self: Any, plan: Any, model: Any, histories: Any) -> ClippedUpdate:
    found = real(self, plan, model, histories)
    return replace(found, steps=tuple(_times(block, np.maximum(histories.counts(), 1)) for block in found.steps))


def _times(steps: Steps, factor: npt.NDArray[np.int64]) -> Steps:
    """Multiply each user's integers by an integer."""
    if isinstance(steps, DenseSteps):
        return DenseSteps(steps.values * factor[:, None])
    return replace(steps, rows=steps.rows * np.repeat(factor, np.diff(steps.indptr)))
