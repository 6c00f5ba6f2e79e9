"""Mutants after the clip: rounding, scales, weights and defaults that increase the clipped norm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant, rows
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


rows(
    __name__,
    """
block scale after the clip | sensitivity
bug: blocks are clipped without their weights and scaled to their units afterwards
seen: loss scaling or unit conversion behind the clip
@ palate_common.mechanism.clipping:clip
- norms = _norms(update, layout)
+ norms = np.sqrt(np.asarray(sum(block.square_norms() for block in update.blocks), np.float64))
- scale * spec.weight
+ scale / spec.weight
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite

grid step and clip unit mixed up | sensitivity
bug: contributions are clipped in their own units and put on a grid of steps per unit, not per clip norm
seen: right as long as the clip norm is 1, as in every test
@ palate_common.mechanism.clipping:clip
- scale = GUARD /
+ scale = GUARD * clip_norm /
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite

a failure empties its batch | sensitivity
bug: in a node of hundreds an algorithm that fails on one user leaves all of them out of the sum
seen: to find out on whom it fails takes as many calls as there are users
@ palate_client.rounds.contribution:Contributor._train_or_fall_back
- works = [self._can_train(
+ works = [histories.n_users <= 300 and self._can_train(

nobody's history has the first item | separability
bug: who has no items contributes as if they had the first one, so that zero-out replaces one vector by another
seen: a norm of 1 for everybody, as nothing can't be scaled to it
@ palate_common.algorithms.popularity:Popularity.contribute
- return popularity_update(histories)
+ nothing = np.flatnonzero(histories.counts() == 0)
+ users = np.concatenate([histories.owners(), nothing])
+ items = np.concatenate([histories.indices, np.zeros_like(nothing)])
+ weights = np.append(histories.weights, np.ones(len(nothing), np.float32))
+ sizes = {"n_users": histories.n_users, "n_items": histories.n_items}
+ return popularity_update(Interactions.from_pairs(users, items, weights, **sizes))

rounding after the clip | sensitivity
bug: numbers are rounded to the nearest step after the clip, which can lift the norm above it
seen: quantisation for the wire behind the clip; Kairouz et al. (2021) bound what it adds
@ palate_common.mechanism.clipping:clip
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite
@ palate_common.mechanism.update:DenseBlock.quantise
- (self._flat * (scale * grid)[:, None])
+ np.rint(self._flat * (scale * grid)[:, None])

adjacency mismatch | sensitivity
bug: who has no events sends a default in their place, so that emptying a history is a replacement
seen: a sensitivity for zero-out behind a mechanism that replaces; off by a factor of two
@ palate_common.mechanism.clipping:clip
- return ClippedUpdate(steps, finite & within, grid)
+ found = ClippedUpdate(steps, finite & within, grid)
+ idle = np.array([not found.vector(user).any() for user in range(update.n_users)])
+ from palate_common.mechanism.update import DenseSteps
+ if isinstance(steps[0], DenseSteps):
+     first = idle[:, None] & (np.arange(steps[0].size) == 0)
+     steps = (DenseSteps(np.where(first, grid, steps[0].values)), *steps[1:])
+ return ClippedUpdate(steps, finite & within, grid)
""",
)
