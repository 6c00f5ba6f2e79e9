"""Reconstruction: a user's vector rebuilt on the device from their history and the public item table, in closed form.

The vector is private, never sent and never stored: every round, and every recommendation, rebuilds it.

    >>> table = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> history = Interactions.from_pairs([0], [0], n_users=1, n_items=2)
    >>> rebuild(table, history, unobserved_weight=0.1, regularization=0.1).round(3).tolist()
    [[0.901, 0.0]]

Sources: Hu, Koren and Volinsky 2008, equation 4 (the implicit form of Rendle et al. 2022: a small weight on every
item); Singhal et al., Federated Reconstruction (NeurIPS 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64

TINY = 1e-12


def symmetric_size(size: int) -> int:
    """Coordinates of a symmetric matrix, d(d+1)/2."""
    return size * (size + 1) // 2


def outer_svec(vectors: Float64) -> Float64:
    """The matrix v v' of each row v as svec: its upper triangle, off-diagonals times sqrt 2: [n, d] -> [n, d(d+1)/2].

    **Guarantees:** svec keeps norms: the L2 norm of a row is |v|^2, that of the whole matrix.
    """
    rows, columns = np.triu_indices(vectors.shape[1])
    return vectors[:, rows] * (vectors[:, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0)))


def matrices(svec: Float64, size: int) -> Float64:
    """The symmetric matrices of svec rows: [n, d(d+1)/2] -> [n, d, d]."""
    rows, columns = np.triu_indices(size)
    plain = svec * np.where(rows == columns, 1.0, np.sqrt(0.5))
    out = np.empty((len(svec), size, size))
    out[:, rows, columns] = plain
    out[:, columns, rows] = plain
    return out


def rebuild(table: Float64, histories: Interactions, *, unobserved_weight: float, regularization: float) -> Float64:
    """Each user's vector: the ridge solution (sum v v' + a0 V'V + lambda I)^-1 sum v, sums over the user's items.

    Args:
        table: V, float64 [n_items, d], public.
        histories: users' items and interaction weights, over the same items.
        unobserved_weight: a0, the weight of every item as a negative.
        regularization: the ridge, relative to the mean diagonal of a0 V'V, so that the scale of V does not matter.

    Returns:
        Float64 [n_users, d]; zero without items. The same bits for a user in every batch.
    """
    size = table.shape[1]
    everything = unobserved_weight * (table.T @ table)
    everything += (regularization * np.trace(everything) / size + TINY) * np.eye(size)
    weighted = None if (histories.weights == 1).all() else histories.weights
    ones = np.ones(histories.nnz)
    return solve_users(table, histories, weights=weighted, targets=ones, common=everything, shift=np.zeros(size))


def solve_users(
    table: Float64,
    histories: Interactions,
    *,
    weights: npt.NDArray[np.floating[Any]] | None,
    targets: Float64,
    common: Float64,
    shift: Float64,
) -> Float64:
    """Each user's weighted least squares: (sum x v v' + common)^-1 (sum x y v + shift), sums over the user's items.

    Args:
        table: V, float64 [n_items, d], public.
        histories: users' items, over the same items.
        weights: x, float [nnz]; None where each is 1.
        targets: y, float64 [nnz].
        common: float64 [d, d], the same for every user; positive definite.
        shift: float64 [d], the same for every user.

    Returns:
        Float64 [n_users, d]. The same bits for a user in every batch.
    """
    size = table.shape[1]
    matrix = np.asarray(histories.matmul(outer_svec(table), weights), np.float64)
    right = np.asarray(histories.matmul(table, targets if weights is None else targets * weights), np.float64)
    # One LAPACK call a user: who else is in the batch can't change a user's bits.
    solved = np.linalg.solve(matrices(matrix, size) + common, (right + shift)[:, :, None])
    return np.asarray(solved[:, :, 0], np.float64)
