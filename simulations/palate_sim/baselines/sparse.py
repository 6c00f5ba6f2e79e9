"""Sparse matrices for the baselines: interactions as scipy's CSR, and how often items occur together.

Only baselines use scipy; code that runs on devices has a few lines of CSR of its own.

    >>> train = Interactions.from_pairs([0, 0, 1], [0, 1, 1], n_users=2, n_items=2)
    >>> cooccurrence(train, slice(0, 2)).tolist()
    [[1.0, 1.0], [1.0, 2.0]]
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.interactions import Interactions

DENSE_GAIN = 60  # a dense multiply-add costs about 1/60 of a sparse one
BLOCK_ENTRIES = 1 << 23  # dense entries held at once: 32 MiB


def matrix(interactions: Interactions, *, weighted: bool = False) -> Any:
    """The interactions as a scipy CSR matrix, float32 [n_users, n_items], of ones unless `weighted`."""
    data = interactions.weights if weighted else np.ones(interactions.nnz, np.float32)
    parts = (data, interactions.indices, interactions.indptr.astype(np.int32))
    return scipy.sparse.csr_matrix(parts, shape=(interactions.n_users, interactions.n_items))


def cooccurrence(train: Interactions, items: slice) -> npt.NDArray[np.float32]:
    """How many users have both items, float32 [n_items, items in the slice].

    Takes dense blocks of users where their products cost less than the sparse ones, as in MovieLens.
    """
    width = len(range(*items.indices(train.n_items)))
    sparse_cost = float(np.square(train.counts(), dtype=np.float64).sum()) * width / train.n_items
    dense_cost = float(train.n_users) * train.n_items * width
    if sparse_cost * DENSE_GAIN < dense_cost:
        whole = matrix(train)
        return np.asarray((whole.T @ whole[:, items]).toarray(), np.float32)
    found = np.zeros((train.n_items, width), np.float32)
    rows = max(1, BLOCK_ENTRIES // train.n_items)
    for start in range(0, train.n_users, rows):
        block = train.users(slice(start, start + rows)).dense().astype(np.float32)
        found += block.T @ block[:, items]
    return found
