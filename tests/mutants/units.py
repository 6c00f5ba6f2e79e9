"""Mutants after the clip: rounding, scales, weights and defaults that increase the clipped norm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mutants.clipping import Float64, clipped, clips, correct
from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.algorithms.popularity import Popularity
from palate_common.interactions import Interactions
from palate_common.mechanism import clipping
from palate_common.mechanism.update import ClippedUpdate, DenseBlock, DenseSteps, Steps, Update
from palate_core.layout import BlockSpec

MANY = 300


@mutant(
    "rounding after the clip",
    bug="numbers are rounded to the nearest step after the clip, which can lift the norm above it",
    seen="quantisation for the wire behind the clip; Kairouz et al. (2021) bound what it adds",
    test="sensitivity",
)
def rounding_after() -> Iterator[None]:

    def nearest(block: DenseBlock, scale: Float64, grid: int) -> DenseSteps:
        steps = np.rint(block.values.reshape(len(scale), -1) * (scale * grid)[:, None])
        return DenseSteps(steps.astype(np.int64))

    with mock.patch.object(DenseBlock, "quantise", nearest), clips(clipped):
        yield


@mutant(
    "block scale after the clip",
    bug="blocks are clipped without their weights and scaled to their units afterwards",
    seen="loss scaling or unit conversion behind the clip",
    test="sensitivity",
)
def scale_after() -> Iterator[None]:

    def instead(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        squares = sum(block.square_norms() for block in update.blocks)
        norms = np.sqrt(np.asarray(squares, np.float64))
        return clipped(update, layout, clip_norm=clip_norm, grid=grid, norms=norms, after=lambda spec: 1 / spec.weight)

    with clips(instead):
        yield


@mutant(
    "grid step and clip unit mixed up",
    bug="contributions are clipped in their own units and put on a grid of steps per unit, not per clip norm",
    seen="right as long as the clip norm is 1, as in every test",
    test="sensitivity",
)
def step_for_unit() -> Iterator[None]:
    with clips(lambda *args, **kw: clipped(*args, **kw, scale=lambda norms, c: correct(norms, c) * c)):
        yield


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


@mutant(
    "adjacency mismatch",
    bug="who has no events sends a default in their place, so that emptying a history is a replacement",
    seen="a sensitivity for zero-out behind a mechanism that replaces; off by a factor of two",
    test="sensitivity",
)
def default_contribution() -> Iterator[None]:

    def instead(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        found = clipping.clip(update, layout, clip_norm=clip_norm, grid=grid)
        idle = np.array([not found.vector(user).any() for user in range(update.n_users)])
        first = found.steps[0]
        if isinstance(first, DenseSteps):
            first = DenseSteps(np.where(idle[:, None] & (np.arange(first.values.shape[1]) == 0), grid, first.values))
        return replace(found, steps=(first, *found.steps[1:]))

    with clips(instead):
        yield


@mutant(
    "a failure empties its batch",
    bug="in a node of hundreds an algorithm that fails on one user leaves all of them out of the sum",
    seen="to find out on whom it fails takes as many calls as there are users",
    test="sensitivity",
    at=(contribution.Contributor, "_train_or_fall_back"),
)
def emptied_batch(real: Any, self: Any, plan: Any, model: Any, histories: Any) -> Any:
    few = histories.n_users <= MANY
    if few or self._can_train(plan, model, histories):
        return real(self, plan, model, histories)
    return self._train_and_clip(plan, model, histories.only(np.zeros(histories.n_users, np.bool_)))


@mutant(
    "nobody's history has the first item",
    bug="who has no items contributes as if they had the first one, so that zero-out replaces one vector by another",
    seen="a norm of 1 for everybody, as nothing can't be scaled to it",
    test="separability",
    at=(Popularity, "contribute"),
)
def first_for_nothing(real: Any, self: Popularity, state: Any, round_: int, histories: Interactions) -> Update:
    nothing = np.flatnonzero(histories.counts() == 0)
    users = np.concatenate([histories.owners(), nothing])
    items = np.concatenate([histories.indices, np.zeros_like(nothing)])
    weights = np.append(histories.weights, np.ones(len(nothing), np.float32))
    sizes = {"n_users": histories.n_users, "n_items": histories.n_items}
    return real(self, state, round_, Interactions.from_pairs(users, items, weights, **sizes))
