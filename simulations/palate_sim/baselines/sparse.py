"""Sparse matrices for the baselines: interactions as scipy's CSR, and how often items occur together.

Only baselines use scipy; code that runs on devices has a few lines of CSR of its own.

    >>> train = Interactions.from_pairs([0, 0, 1], [0, 1, 1], n_users=2, n_items=2)
    >>> cooccurrence(train, slice(0, 2)).tolist()
    [[1.0, 1.0], [1.0, 2.0]]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.interactions import Interactions

DENSE_GAIN = 60  # a dense multiply-add costs about 1/60 of a sparse one
BLOCK_ITEMS = 1024  # items compared with the whole catalogue at once
BLOCK_ENTRIES = 1 << 23  # dense entries held at once: 32 MiB


def matrix(interactions: Interactions, *, weighted: bool = False) -> Any:
    """The interactions as a scipy CSR matrix, float32 [n_users, n_items], of ones unless `weighted`."""
    data = interactions.weights if weighted else np.ones(interactions.nnz, np.float32)
    parts = (data, interactions.indices, interactions.indptr.astype(np.int32))
    return scipy.sparse.csr_matrix(parts, shape=(interactions.n_users, interactions.n_items))


def cooccurrences(train: Interactions, *, at_once: int = BLOCK_ITEMS) -> Iterator[tuple[slice, Any]]:
    """How many users have both items, block by block: a slice of items, and float32 [items in it, n_items].

    Args:
        train: the interactions.
        at_once: items in a block.
    """
    whole: Any = None if dense_is_cheaper(train) else matrix(train)
    flipped: Any = None if whole is None else whole.T.tocsr()
    for start in range(0, train.n_items, at_once):
        items = slice(start, min(start + at_once, train.n_items))
        if whole is None:
            yield items, np.ascontiguousarray(cooccurrence(train, items).T)
        else:
            yield items, np.asarray((flipped[items] @ whole).toarray(), np.float32)


def dense_is_cheaper(train: Interactions) -> bool:
    """Whether dense products of all users' items cost less than the sparse ones, as in MovieLens."""
    sparse_cost = float(np.square(train.counts(), dtype=np.float64).sum())
    return sparse_cost * DENSE_GAIN >= float(train.n_users) * train.n_items**2


def cooccurrence(train: Interactions, items: slice) -> npt.NDArray[np.float32]:
    """How many users have both items, float32 [n_items, items in the slice].

    Takes dense blocks of users where their products cost less than the sparse ones, as in MovieLens.
    """
    width = len(range(*items.indices(train.n_items)))
    if not dense_is_cheaper(train):
        whole = matrix(train)
        return np.asarray((whole.T @ whole[:, items]).toarray(), np.float32)
    found = np.zeros((train.n_items, width), np.float32)
    rows = max(1, BLOCK_ENTRIES // train.n_items)
    for start in range(0, train.n_users, rows):
        block = train.users(slice(start, start + rows)).dense().astype(np.float32)
        found += block.T @ block[:, items]
    return found
