"""Contributions: the clipped contributions of chosen users as sparse vectors; all white-box attacks use them.

The production functions make them (`Algorithm.contribute`, `clip`); this module only converts their format.

    >>> from palate_common.mechanism.update import DenseSteps
    >>> block = DenseSteps(np.array([[0, 3], [4, 0]]))
    >>> sent = spread(ClippedUpdate((block,), np.ones(2, np.bool_), 8))
    >>> sent.norms2().tolist(), sent.dot(np.array([10, 100])).tolist()
    ([9.0, 16.0], [300.0, 40.0])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import Algorithm, State
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, OuterSteps
from palate_core.plan import RoundPlan

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Sparse vectors in grid steps, one a user: `coords` ascend within a user, `values` are integers."""

    indptr: Ints
    coords: Ints
    values: Floats

    @property
    def users(self) -> int:
        """Number of vectors."""
        return len(self.indptr) - 1

    def owners(self) -> Ints:
        """The user of each entry."""
        return np.repeat(np.arange(self.users), np.diff(self.indptr))

    def norms2(self) -> Floats:
        """Squared norm of each vector."""
        return self.sums(self.values)

    def sums(self, noise: npt.NDArray[np.number]) -> Floats:
        """For each vector, the sum of its entries times `noise` [entries], one number for each entry."""
        summed: Floats = segment_sum(self.values * noise, self.indptr)
        return summed

    def dot(self, vector: npt.NDArray[np.number]) -> Floats:
        """Each vector's dot product with one dense vector."""
        return self.sums(vector[self.coords])

    def minus(self, other: Spread) -> Spread:
        """The difference, user by user."""
        span = int(max(self.coords.max(initial=0), other.coords.max(initial=0))) + 1
        keys = np.concatenate([part.owners() * span + part.coords for part in (self, other)])
        union, place = np.unique(keys, return_inverse=True)
        values = np.bincount(place, np.concatenate([self.values, -other.values]), len(union))
        kept = values != 0
        counts = np.bincount(union[kept] // span, minlength=self.users)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Spread(indptr, (union % span)[kept], values[kept])


def spread(clipped: ClippedUpdate) -> Spread:
    """The batch's vectors, without the coordinates that no user can change."""
    owners, coords, values, offset = list[Ints](), list[Ints](), list[Floats](), 0
    for steps in clipped.steps:
        if isinstance(steps, OuterSteps) and steps.along is None:
            width = steps.columns.shape[1]
            rows = np.repeat(np.arange(len(steps.columns)), np.diff(steps.indptr))
            owner = np.repeat(rows, width)
            coord = (steps.indices[:, None].astype(np.int64) * width + np.arange(width)).ravel()
            value = (steps.rows[:, None] * steps.columns[rows]).ravel().astype(np.float64)
        else:
            found = [_sparse(steps.vector(user)) for user in range(clipped.users)]
            owner = np.repeat(np.arange(clipped.users), [len(places) for places, _ in found])
            coord = np.concatenate([np.zeros(0, np.int64), *(places for places, _ in found)])
            value = np.concatenate([np.zeros(0), *(numbers for _, numbers in found)])
        kept = value != 0
        owners.append(owner[kept])
        coords.append(coord[kept] + offset)
        values.append(value[kept])
        offset += steps.size
    whose = np.concatenate(owners)
    order = np.argsort(whose, kind="stable")
    counts = np.bincount(whose, minlength=len(clipped.accepted))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Spread(indptr, np.concatenate(coords)[order], np.concatenate(values)[order])


def _sparse(vector: Ints) -> tuple[Ints, Floats]:
    """Places and values of what isn't zero."""
    places = np.flatnonzero(vector)
    return places, vector[places].astype(np.float64)


def clipped_of(algorithm: Algorithm, state: State, plan: RoundPlan, histories: Interactions) -> ClippedUpdate:
    """What these users send in the plan's round, computed as on their devices."""
    update = algorithm.contribute(state, plan.round, histories)
    return clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
