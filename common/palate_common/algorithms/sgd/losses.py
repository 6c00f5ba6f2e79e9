"""Losses of `sgd`: the private user side that a device fits, and the errors of its predictions.

All three share the model

    r_ui = b_i . a_u + sigma_i + c_u

with the item side (b_i, sigma_i) public and the user side (a_u, c_u) rebuilt on the device. `table` is the item side,
[h, d + 1], sigma in its last column; `users` is the user side, [n_users, d + 1], c in its last column.

    >>> table = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)  # d = 1: b = (1, 0), sigma = (0, 1)
    >>> rated = Interactions.from_pairs([0], [0], [5.0], n_users=1, n_items=2)
    >>> loss = RatingLoss(lowest=1, highest=5, regularization=1.0, offset_regularization=1.0)
    >>> users = loss.users(table, rated)
    >>> users.round(3).tolist(), loss.errors(table, rated, users, key=0).rows.round(3).tolist()
    ([[0.333, 0.333]], [0.333])

Everything here is computed user by user: a user's numbers have the same bits whoever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.parts.hashing import below, mix
from palate_common.algorithms.parts.reconstruction import TINY, solve_users
from palate_common.interactions import Interactions, row_chunks, segment_sum
from palate_common.mechanism.update import DENSE_AT_ONCE, Float64, Int64

Table = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Errors:
    """Minus the loss's derivative in each prediction that a user trains on: positive where it is too low.

    Attributes:
        indptr: int64 [n_users + 1], CSR over the items each user trains on.
        indices: int32 [nnz], their rows in the table, rising within a user.
        rows: float64 [nnz].
    """

    indptr: Int64
    indices: npt.NDArray[np.int32]
    rows: Float64


class Loss(Protocol):
    """What a device minimises."""

    @property
    def curvature(self) -> float:
        """The loss's second derivative in a prediction, or a bound of it."""

    @property
    def unobserved(self) -> float:
        """The weight of every item as a negative; 0 where only own items count."""

    @property
    def negatives(self) -> int:
        """Sampled items for each own one."""

    def users(self, table: Table, seen: Interactions) -> Float64:
        """The private user side under a public table: float64 [n_users, d + 1]."""

    def errors(self, table: Table, seen: Interactions, users: Float64, *, key: int) -> Errors:
        """Each user's errors. `key` is the public seed of sampled negatives, for losses that sample."""


@dataclass(frozen=True)
class RatingLoss:
    """Squared error on the ratings a user gave, which are the interactions' weights.

    The user side is the ridge solution on the user's own ratings: probabilistic matrix factorisation (Salakhutdinov and
    Mnih, NeurIPS 2007, equation 4) with the item side held fixed.
    """

    lowest: float
    highest: float
    regularization: float
    offset_regularization: float
    curvature: float = 1.0
    unobserved: float = 0.0
    negatives: int = 0

    def internal(self, ratings: npt.NDArray[Any]) -> Float64:
        """Ratings on [-1, 1]; what lies outside the scale counts as its end."""
        half = (self.highest - self.lowest) / 2
        return np.asarray(np.clip((ratings.astype(np.float64) - self.lowest) / half - 1, -1, 1), np.float64)

    def rating(self, internal: Float64) -> Float64:
        """The inverse of `internal`, clipped to the scale."""
        half = (self.highest - self.lowest) / 2
        return np.asarray(self.lowest + (np.clip(internal, -1, 1) + 1) * half, np.float64)

    def users(self, table: Table, seen: Interactions) -> Float64:
        """The ridge solution; zeros without ratings."""
        size = table.shape[1] - 1
        design = table.astype(np.float64)
        targets = self.internal(seen.weights) - design[seen.indices, size]
        design[:, size] = 1
        ridge = np.diag([self.regularization] * size + [self.offset_regularization])
        return solve_users(design, seen, weights=None, targets=targets, common=ridge, shift=np.zeros(size + 1))

    def errors(self, table: Table, seen: Interactions, users: Float64, *, key: int) -> Errors:
        """Rating minus prediction."""
        predicted = predict(table, seen.indptr, seen.indices, users)
        return Errors(seen.indptr, seen.indices, self.internal(seen.weights) - predicted)


@dataclass(frozen=True)
class ImplicitLoss:
    """sum over own items x (1 - r)^2 + a0 sum over all items r^2: every item is a negative of small weight.

    Hu, Koren and Volinsky (ICDM 2008), equation 3, in the form of Rendle et al. (RecSys 2022), with an item bias.
    """

    unobserved: float
    regularization: float
    curvature: float = 1.0
    negatives: int = 0

    def users(self, table: Table, seen: Interactions) -> Float64:
        """The ridge solution, relative to the scale of the table; c = 0, which no ranking depends on."""
        size = table.shape[1] - 1
        design, bias = table[:, :size].astype(np.float64), table[:, size].astype(np.float64)
        common = self.unobserved * (design.T @ design)
        common += (self.regularization * np.trace(common) / size + TINY) * np.eye(size)
        shift = -self.unobserved * (bias @ design)
        known = np.flatnonzero(seen.counts())
        weights = None if (seen.weights == 1).all() else seen.weights.astype(np.float64)
        solved = solve_users(design, seen, weights=weights, targets=1 - bias[seen.indices], common=common, shift=shift)
        users = np.zeros((seen.n_users, size + 1))
        users[known, :size] = solved[known]  # users without items keep zeros
        return users

    def errors(self, table: Table, seen: Interactions, users: Float64, *, key: int) -> Errors:
        """Errors x (1 - r) of own items plus -a0 r of all items; none for users without items."""
        known = seen.counts() > 0
        exact, size = table.astype(np.float64), table.shape[1] - 1
        # Each user's predictions by themselves: a matrix product's rounding depends on how many users share it.
        predicted = np.zeros((seen.n_users, seen.n_items))
        for user in np.flatnonzero(known):
            predicted[user] = exact[:, :size] @ users[user, :size] + exact[:, size] + users[user, size]
        rows = -self.unobserved * predicted
        owners = seen.owners()
        rows[owners, seen.indices] += seen.weights * (1 - predicted[owners, seen.indices])
        ends = np.concatenate(([0], np.cumsum(np.where(known, seen.n_items, 0)))).astype(np.int64)
        items = np.tile(np.arange(seen.n_items, dtype=np.int32), int(known.sum()))
        return Errors(ends, items, rows[known].ravel())


@dataclass(frozen=True)
class LogisticLoss:
    """Cross-entropy on own items and as many sampled others, with a user vector that is the mean of own items' vectors.

    Its cost does not grow with the catalogue. A hash of the user's own items and the public key draws the sampled
    items: the draw is repeatable, uniform, and differs between users.
    """

    negatives: int = 1
    curvature: float = 0.25
    unobserved: float = 0.0

    def users(self, table: Table, seen: Interactions) -> Float64:
        """The mean of the user's item vectors; c = 0."""
        size = table.shape[1] - 1
        users = np.asarray(seen.matmul(table), np.float64) / np.maximum(seen.counts(), 1)[:, None]
        users[:, size] = 0
        return users

    def errors(self, table: Table, seen: Interactions, users: Float64, *, key: int) -> Errors:
        """Label minus probability, times the interaction's weight."""
        indptr, indices, own = sample_negatives(seen, self.negatives, key)
        rows = predict(table, indptr, indices, users)
        np.negative(rows, out=rows)
        rows = -1 / (1 + np.exp(np.clip(rows, -50, 50)))
        rows[own] = (1 + rows[own]) * seen.weights
        return Errors(indptr, indices, rows)


def predict(table: Table, indptr: Int64, indices: npt.NDArray[np.int32], users: Float64) -> Float64:
    """b_i . a_u + sigma_i + c_u of each entry, float64 [nnz]."""
    size = table.shape[1] - 1
    vectors = users.astype(table.dtype)
    vectors[:, size] = 1
    out = np.empty(len(indices))
    for first, last in row_chunks(indptr):
        part = slice(indptr[first], indptr[last])
        owners = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        out[part] = np.einsum("ij,ij->i", table[indices[part]], vectors[owners])
        out[part] += users[owners, size]
    return out


def sample_negatives(
    seen: Interactions, negatives: int, key: int
) -> tuple[Int64, npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Own items and `negatives` draws for each, as CSR; a draw that hits an own item, or an earlier draw, is dropped.

    Returns:
        indptr, indices, and which entries are own items.
    """
    ends, indices, own = [np.zeros(1, np.int64)], [], []
    for first, last in _user_chunks(seen):
        part = seen.users(slice(first, last))
        owners = part.owners().astype(np.int64) * part.n_items
        marks = np.zeros((part.n_users, part.n_items), np.uint8)
        flat = marks.ravel()
        seeds = segment_sum(mix(part.indices.astype(np.uint64) + np.uint64(1)), part.indptr) ^ np.uint64(key)
        place = np.arange(part.nnz, dtype=np.uint64) - np.repeat(part.indptr[:-1], part.counts()).astype(np.uint64)
        for draw in range(negatives):
            drawn = mix(np.repeat(seeds, part.counts()) + place * np.uint64(negatives) + np.uint64(draw))
            flat[owners + below(drawn, part.n_items)] = 1
        flat[owners + part.indices] = 2
        found = np.flatnonzero(flat)
        ends.append(ends[-1][-1] + np.searchsorted(found, np.arange(1, part.n_users + 1) * part.n_items))
        indices.append((found % part.n_items).astype(np.int32))
        own.append(flat[found] == 2)
    nothing = np.zeros(0, np.int32)
    return np.concatenate(ends), np.concatenate([nothing, *indices]), np.concatenate([nothing == 1, *own])


def _user_chunks(seen: Interactions) -> Iterator[tuple[int, int]]:
    """Ranges of users whose marks fit the processor's cache."""
    at_once = max(1, DENSE_AT_ONCE // max(seen.n_items, 1))
    for first in range(0, seen.n_users, at_once):
        yield first, min(first + at_once, seen.n_users)
