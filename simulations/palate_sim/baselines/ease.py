"""EASE: a linear item-item model in which no item predicts itself.

One ridge regression in closed form; the strongest simple baseline where the catalogue is small enough to invert.

    >>> train = Interactions.from_pairs([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], n_users=3, n_items=3)
    >>> [f"{score:.3f}" for score in Ease.fit(train, regularization=1.0).scores(train.user(0))[0]]
    ['0.667', '0.667', '0.000']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines.sparse import BLOCK_ENTRIES, cooccurrence, matrix

Ridge = np.float32 | npt.NDArray[np.float32]
ITEM_LIMIT = 20_000  # 1.6 GB of float32, and 8e12 multiply-adds to invert


@dataclass(frozen=True)
class Ease:
    """Scores by an item-item map with a zero diagonal. Weights aren't used.

    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data (WWW 2019), equations 7 and 8.

    Attributes:
        item_map: float32 [n_items, n_items]; row i holds what a user's item i adds to every score.
        settings: regularization.
    """

    item_map: npt.NDArray[np.float32]
    settings: Mapping[str, float]

    @classmethod
    def fit(cls, train: Interactions, *, regularization: float | None = None) -> Ease:
        """Solve for the item-item map in closed form.

        Args:
            train: the training interactions.
            regularization: the L2 penalty of every coefficient, in users. Default: 35 sqrt(users per item): 500 on
                MovieLens 1M and near the best on the validation users of four logs of 900 to 4,800 users.

        Raises:
            InputError: more items than can be inverted, or a setting is out of range.
        """
        if train.n_items > ITEM_LIMIT:
            needs = f"{4e-9 * train.n_items**2:.1f} GB and {float(train.n_items) ** 3:.0e} multiply-adds"
            raise InputError(
                f"`n_items` must be at most {ITEM_LIMIT} for EASE, which inverts a matrix, got {train.n_items}: "
                f"that needs {needs}; ease_sparse fits any catalogue"
            )
        if regularization is None:
            regularization = default_ridge(train.nnz, train.n_items)
        if not 0 < regularization < np.inf:
            raise InputError(f"`regularization` must be positive, got {regularization}")
        ridge = np.float32(regularization)
        if by_users(train):
            item_map = np.empty((train.n_items, train.n_items), np.float32)
            for rows, found in blocks_by_users(train, ridge):
                item_map[rows] = found
        else:
            item_map = by_items(train, ridge)
        item_map[np.diag_indices(train.n_items)] = 0
        return cls(item_map, {"regularization": regularization})

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """Sum the map's rows of each user's items, float32 [n_users, n_items]."""
        return np.asarray(matrix(foldin) @ self.item_map, np.float32)


def default_ridge(interactions: int, n_items: int) -> float:
    """The ridge without tuning, in users: 35 sqrt(users per item)."""
    return 35 * float(np.sqrt(max(interactions, 1) / n_items))


def by_users(train: Interactions) -> bool:
    """Whether the users are so few that their Gramian is the one to invert."""
    return train.n_users * 4 < train.n_items


def by_items(train: Interactions, ridge: Ridge) -> npt.NDArray[np.float32]:
    """The map from the inverse P of the items' Gramian: -P[i, j] / P[j, j]; its diagonal says nothing.

    Args:
        train: the training interactions.
        ridge: what is added to the diagonal, of all items or of each.

    Raises:
        InputError: the ridge is too small to invert.
    """
    gram = cooccurrence(train, slice(0, train.n_items))
    gram[np.diag_indices(train.n_items)] += ridge
    inverse = _inverse(gram, ridge)
    inverse /= -inverse.diagonal().copy()
    return inverse


def blocks_by_users(train: Interactions, ridge: Ridge) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """The same map, some rows at a time: a slice of items, and float32 [items in it, n_items].

    It inverts the users' Gramian, which is smaller with few users: P = D - DX'KXD with D = ridge^-1 and
    K = (XDX' + I)^-1. The whole map is never in memory.

    Source: the identity of Woodbury.

    Raises:
        InputError: the ridge is too small to invert.
    """
    has, each = matrix(train), np.broadcast_to(1 / ridge, train.n_items).astype(np.float32)[:, None]
    flipped = has.T.tocsr()
    gram = np.asarray((has @ flipped.multiply(each)).toarray(), np.float32)
    gram[np.diag_indices(train.n_users)] += 1
    inverse = _inverse(gram, ridge)
    size = max(1, BLOCK_ENTRIES // max(train.n_items, train.n_users))
    slices = [slice(first, min(first + size, train.n_items)) for first in range(0, train.n_items, size)]
    left = np.empty(train.n_items, np.float32)
    for items in slices:
        columns = np.asarray((flipped[items] @ inverse), np.float32)
        left[items] = 1 - each[items, 0] * np.asarray(flipped[items].multiply(columns).sum(axis=1)).ravel()
    if not (left > 0).all():
        raise _singular(ridge)
    for items in slices:
        explained = np.asarray((flipped @ (flipped[items] @ inverse).T).T, np.float32)
        explained *= each[items] / left
        yield items, explained


def _inverse(gram: npt.NDArray[np.float32], ridge: Ridge) -> npt.NDArray[np.float32]:
    """The inverse of a symmetric positive matrix, in its place."""
    # The matrix is symmetric: its transpose is the column order LAPACK works in, without a copy.
    factor = _cholesky(gram.T, ridge)
    found, failed = lapack.spotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise _singular(ridge)
    inverse: npt.NDArray[np.float32] = found.T  # its upper triangle is filled
    for row in range(1, len(inverse)):
        inverse[row, :row] = inverse[:row, row]
    return inverse


def _cholesky(gram: npt.NDArray[np.float32], ridge: Ridge) -> npt.NDArray[np.float32]:
    """The lower Cholesky factor; the values above its diagonal are undefined."""
    factor, failed = lapack.spotrf(gram, lower=True, overwrite_a=True, clean=False)
    if failed:
        raise _singular(ridge)
    return np.asarray(factor)


def _singular(ridge: Ridge) -> InputError:
    """The error for a ridge so small that rounding removes it."""
    return InputError(f"`regularization` must be large enough to invert in float32, got {np.min(ridge):g}")
