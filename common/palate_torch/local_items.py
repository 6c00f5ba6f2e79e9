"""Local items: the items that a device trains on, and batches of users in shapes that don't depend on other users.

    histories -> own items and sampled others, as CSR -> batches [users, length] of equal padded length

The last bits of a number can depend on the array shapes of its computation. So a user's padded length follows from
their own items alone, and a batch of that length always has the same number of places, some of them empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.sgd.losses import sample_negatives
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Int64

AT_ONCE = 2**13
"""About how many items of all users are computed at once."""
PLACES = (4, 32)
"""Users in a batch, at least and at most."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LocalItems:
    """The items that each user trains on.

    Attributes:
        indptr: int64 [n_users + 1], CSR; nothing for users without own items.
        indices: int32 [nnz], rows of the head, rising within a user.
        weights: float32 [nnz], the user's interactions, 0 for items that aren't theirs.
        n_items: items of the head.
    """

    indptr: Int64
    indices: npt.NDArray[np.int32]
    weights: Floats
    n_items: int


@dataclass(frozen=True)
class Batch:
    """Users of one padded length; places without a user, and items beyond a user's own number, are not counted.

    Attributes:
        users: their rows, int64 [at most places].
        counts: how many items each has.
        items: int64 [places, length], rows of the head, 0 where none is counted.
        weights: float32 [places, length].
        counted: float32 [places, length].
    """

    users: Int64
    counts: Int64
    items: Int64
    weights: Floats
    counted: Floats


def local_items(seen: Interactions, *, negatives: int | None, most: int, key: int) -> LocalItems:
    """Own items, `most` of them at most, with `negatives` sampled ones for each; None: with every item.

    A hash of the user's own items and the public key draws the samples, so the draw is repeatable.
    """
    own = fewer(seen, most, key)
    if negatives is None:
        known = own.counts() > 0
        ends = np.concatenate(([0], np.cumsum(np.where(known, own.n_items, 0)))).astype(np.int64)
        items = np.tile(np.arange(own.n_items, dtype=np.int32), int(known.sum()))
        weights = np.zeros(len(items), np.float32)
        weights[np.repeat(ends[:-1], own.counts()) + own.indices] = own.weights
        return LocalItems(ends, items, weights, own.n_items)
    ends, items, is_own = sample_negatives(own, negatives, key)
    weights = np.zeros(len(items), np.float32)
    weights[is_own] = own.weights
    if own is seen:
        return LocalItems(ends, items, weights, own.n_items)
    # A draw may have hit an item that the user has but doesn't train on in this round: it must not be a negative.
    owners = np.repeat(np.arange(seen.n_users, dtype=np.int64), np.diff(ends)) * seen.n_items
    theirs = np.isin(owners + items, seen.owners().astype(np.int64) * seen.n_items + seen.indices)
    kept = is_own | ~theirs
    ends = np.concatenate(([0], np.cumsum(kept)))[ends].astype(np.int64)
    return LocalItems(ends, items[kept], weights[kept], own.n_items)


def fewer(seen: Interactions, most: int, key: int) -> Interactions:
    """At most `most` events of each user, drawn in a random order of the items; the same object if nobody has more."""
    if seen.counts().max(initial=0) <= most:
        return seen
    order = np.random.default_rng(key).permutation(seen.n_items)[seen.indices]
    owners = seen.owners()
    ranked = np.argsort(owners.astype(np.int64) * seen.n_items + order)
    place = np.empty(seen.nnz, np.int64)
    place[ranked] = np.arange(seen.nnz) - seen.indptr[owners[ranked]]
    return seen.entries(place < most)


def padded_lengths(counts: Int64, n_items: int) -> Int64:
    """Padded lengths: the least of 16, 24, 32, 48, 64 and so on that holds `counts` items, at most `n_items`."""
    lengths = [16]
    while lengths[-1] < counts.max(initial=0):
        lengths.append(lengths[-1] * 3 // 2 if len(lengths) % 2 else lengths[-2] * 2)
    steps = np.array(lengths, np.int64)
    return np.minimum(steps[np.searchsorted(steps, counts)], n_items)


def places(length: int) -> int:
    """Users in a batch of that padded length."""
    return int(np.clip(AT_ONCE // length, *PLACES))


def batches(local: LocalItems) -> Iterator[Batch]:
    """Every user with items, in batches."""
    counts = np.diff(local.indptr)
    lengths = padded_lengths(counts, local.n_items)
    for length in np.unique(lengths[counts > 0]).tolist():
        users = np.flatnonzero((lengths == length) & (counts > 0))
        for first in range(0, len(users), places(length)):
            yield _batch(local, users[first : first + places(length)], length)


def _batch(local: LocalItems, users: Int64, length: int) -> Batch:
    """One batch, empty places included."""
    counts = np.diff(local.indptr)[users]
    inside = np.arange(length) < counts[:, None]
    entries = (local.indptr[:-1][users][:, None] + np.arange(length))[inside]
    shape = (places(length), length)

    def spread(values: npt.NDArray[Any], kind: Any) -> npt.NDArray[Any]:
        out = np.zeros(shape, kind)
        out[: len(users)][inside] = values
        return out

    return Batch(
        users,
        counts,
        spread(local.indices[entries], np.int64),
        spread(local.weights[entries], np.float32),
        spread(np.ones(len(entries)), np.float32),
    )
