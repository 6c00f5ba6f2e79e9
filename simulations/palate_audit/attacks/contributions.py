"""Contributions: the clipped contributions of chosen users as sparse vectors; all white-box attacks use them.

The production functions make them (`Algorithm.contribute`, `clip`); this module only converts their format, to scipy's
sparse matrices of grid steps, one row a user.

    >>> from palate_common.mechanism.update import DenseSteps
    >>> block = DenseSteps(np.array([[0, 3], [4, 0]]))
    >>> sent = spread(ClippedUpdate((block,), np.ones(2, np.bool_), 8))
    >>> sent.toarray().tolist(), norms2(sent).tolist()
    ([[0.0, 3.0], [4.0, 0.0]], [9.0, 16.0])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.algorithms import Algorithm, State
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedUpdate, OuterSteps
from palate_core.plan import RoundPlan

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Spread = Any
"""A `scipy.sparse.csr_array`, [users, coordinates]."""


def norms2(sent: Spread) -> Floats:
    """Squared norm of each vector."""
    return sums(sent, sent.data)


def sums(sent: Spread, noise: npt.NDArray[np.number]) -> Floats:
    """For each vector, the sum of its entries times `noise` [entries], one number for each entry."""
    summed: Floats = segment_sum(sent.data * noise, sent.indptr)
    return summed


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
    entries = np.concatenate(values), (np.concatenate(owners), np.concatenate(coords))
    return sparse.coo_array(entries, shape=(len(clipped.accepted), offset)).tocsr()


def _sparse(vector: Ints) -> tuple[Ints, Floats]:
    """Places and values of what isn't zero."""
    places = np.flatnonzero(vector)
    return places, vector[places].astype(np.float64)


def clipped_of(algorithm: Algorithm, state: State, plan: RoundPlan, histories: Interactions) -> ClippedUpdate:
    """What these users send in the plan's round, computed as on their devices."""
    update = algorithm.contribute(state, plan.round, histories)
    return clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
