"""Interactions: what a batch of users did, as compressed sparse rows (CSR) in plain numpy.

The path of the data starts with it. A device holds a batch of one user, the simulator a shard of thousands; everything
that a device computes takes this type, so that both run the same code.

    >>> batch = Interactions.from_pairs([0, 0, 1], [2, 0, 2], n_users=2, n_items=3)
    >>> batch.counts().tolist(), batch.user(0).indices.tolist()
    ([2, 1], [0, 2])

Every sum here adds a user's rows in the same order in every batch, so a batch of one user gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
COUNTED_AT_ONCE = 1 << 22  # entries counted at once, 32 MiB as numpy counts them


@dataclass(frozen=True)
class Interactions:
    """Weighted user-item interactions, one row a user.

    Attributes:
        indptr: int64 [n_users + 1]; user u owns entries `indptr[u]:indptr[u + 1]`.
        indices: int32 [nnz]; item rows, strictly increasing within a user.
        weights: float32 [nnz]; positive and finite, 1 where a log has no weights.
        n_items: number of items in the catalogue.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    n_items: int

    @property
    def n_users(self) -> int:
        """Number of users in the batch."""
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of interactions in the batch."""
        return len(self.indices)

    def counts(self) -> npt.NDArray[np.int64]:
        """Number of items per user, int64 [n_users]."""
        return np.diff(self.indptr)

    def effective_counts(self) -> npt.NDArray[np.float64]:
        """How many items of equal weight would tell as much as each user's, float64 [n_users].

        It is (sum of weights)^2 / (sum of their squares), `counts` where all weights are the same: the effective sample
        size of Kish, Survey Sampling (1965), section 11.2.
        """
        counts = self.counts().astype(np.float64)
        if self.weights.strides == (0,) or (self.weights == 1).all():
            return counts
        weights = self.weights.astype(np.float64)
        squares = segment_sum(weights**2, self.indptr)
        filled = np.flatnonzero(counts)
        counts[filled] = segment_sum(weights, self.indptr)[filled] ** 2 / squares[filled]
        return counts

    @cached_property
    def item_counts(self) -> npt.NDArray[np.int64]:
        """Number of users who have each item, int64 [n_items]; counted once, in blocks of entries."""
        counts = np.zeros(self.n_items, np.int64)
        for first in range(0, self.nnz, COUNTED_AT_ONCE):
            counts += np.bincount(self.indices[first : first + COUNTED_AT_ONCE], minlength=self.n_items)
        return counts

    def owners(self) -> npt.NDArray[np.int32]:
        """The user of each entry, int32 [nnz]."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.counts())

    def user(self, row: int) -> Interactions:
        """A batch of one: user `row`."""
        return self.users(slice(row, row + 1))

    def items_of(self, row: int) -> npt.NDArray[np.int32]:
        """The items of user `row`, rising, int32; a view."""
        return self.indices[self.indptr[row] : self.indptr[row + 1]]

    def users(self, rows: slice | Ints) -> Interactions:
        """The batch of the given users, in the given order."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.n_users)
            if step == 1:
                first, last = (self.indptr[start], self.indptr[stop]) if stop > start else (0, 0)
                indptr = self.indptr[start : stop + 1] - first if stop > start else np.zeros(1, np.int64)
                return Interactions(indptr, self.indices[first:last], self.weights[first:last], self.n_items)
            rows = np.arange(start, stop, step)
        counts = self.counts()[rows]
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][rows] - indptr[:-1], counts)
        return Interactions(indptr, self.indices[entries], self.weights[entries], self.n_items)

    def only(self, kept: npt.NDArray[np.bool_]) -> Interactions:
        """The same users, with the interactions of users that are `kept` only, bool [n_users]."""
        return self.entries(np.repeat(kept, self.counts()))

    def entries(self, kept: npt.NDArray[np.bool_]) -> Interactions:
        """The same users, with the interactions that are `kept` only, bool [nnz]."""
        places = np.flatnonzero(kept)
        # A view of one number, which stands for weights that are all the same, stays one.
        weights = self.weights[: len(places)] if self.weights.strides == (0,) else self.weights[places]
        return Interactions(np.searchsorted(places, self.indptr), self.indices[places], weights, self.n_items)

    def subsets(self, kept: npt.NDArray[np.bool_]) -> Interactions:
        """Parts of this batch of one user, a user each: those that are `kept`, bool [n, nnz]."""
        places, ends = np.nonzero(kept)[1], np.append(0, np.cumsum(kept.sum(axis=1)))
        return Interactions(ends, self.indices[places], self.weights[places], self.n_items)

    def columns(self, keep: Ints) -> Interactions:
        """Only the items in `keep`, renumbered to their position in it.

        Raises:
            InputError: `keep` is not strictly increasing in [0, n_items).
        """
        if len(keep) and (keep[0] < 0 or keep[-1] >= self.n_items or (keep[1:] <= keep[:-1]).any()):
            raise InputError(f"`keep` must be strictly increasing in [0, {self.n_items})")
        position = np.full(self.n_items, -1, np.int32)
        position[keep] = np.arange(len(keep), dtype=np.int32)
        renumbered = position[self.indices]
        return Interactions(self.indptr, renumbered, self.weights, len(keep)).entries(renumbered >= 0)

    def with_interactions(self, items: Ints, weights: Floats) -> Interactions:
        """This batch of one user with more interactions added, without sorting the present ones again.

        Args:
            items: item rows in any order; a repeated or present one keeps its largest weight.
            weights: of each, positive and finite in float32.

        Raises:
            InputError: see `from_pairs`.
        """
        more = Interactions.from_pairs(np.zeros(len(items), int), items, weights, n_users=1, n_items=self.n_items)
        places = np.searchsorted(self.indices, more.indices)
        known = np.isin(more.indices, self.indices[places[places < self.nnz]])
        merged, at = self.weights.copy(), places[known]
        merged[at] = np.maximum(merged[at], more.weights[known])
        indices = np.insert(self.indices, places[~known], more.indices[~known])
        merged = np.insert(merged, places[~known], more.weights[~known])
        return Interactions(np.array([0, len(indices)]), indices, merged, self.n_items)

    def matmul(self, table: Floats, entries: Floats | None = None) -> Floats:
        """The sum over each user's items of `entries[i] * table[item]`.

        Args:
            table: float [n_items, width].
            entries: float [nnz], one factor an interaction; 1 when left out.

        Returns:
            Array [n_users, width] of the table's dtype. A user's row has the same bits in every batch.
        """
        return gathered_sums(table, self.indices, self.indptr, entries)

    def dense(self) -> npt.NDArray[np.bool_]:
        """Which items each user has, bool [n_users, n_items]."""
        mask = np.zeros((self.n_users, self.n_items), np.bool_)
        mask[self.owners(), self.indices] = True
        return mask

    @classmethod
    def from_pairs(
        cls,
        users: Sequence[int] | Ints,
        items: Sequence[int] | Ints,
        weights: Sequence[float] | Floats | None = None,
        *,
        n_users: int,
        n_items: int,
    ) -> Interactions:
        """Build a batch from parallel arrays in any order.

        Args:
            users: user row of each interaction, in [0, n_users).
            items: item row of each interaction, in [0, n_items).
            weights: positive weight of each interaction; 1 when left out. A repeated pair keeps its largest weight.
            n_users: number of users, those without an interaction included.
            n_items: number of items in the catalogue.

        Raises:
            InputError: lengths differ, a row is out of range, or a weight is not positive and finite in float32.
        """
        user_rows, item_rows = np.asarray(users, np.int64), np.asarray(items, np.int64)
        with np.errstate(over="ignore"):
            values = np.ones(len(user_rows), np.float32) if weights is None else np.asarray(weights, np.float32)
        if not len(user_rows) == len(item_rows) == len(values):
            lengths = (len(user_rows), len(item_rows), len(values))
            raise InputError(f"`users`, `items` and `weights` must be of one length, got {lengths}")
        for name, rows, end in (("users", user_rows, n_users), ("items", item_rows, n_items)):
            if rows.size and (rows.min() < 0 or rows.max() >= end):
                raise InputError(f"`{name}` must lie in [0, {end}), got {rows.min()}..{rows.max()}")
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise InputError("`weights` must be positive and finite")
        keys = user_rows * n_items + item_rows
        order = np.lexsort((-values, keys))
        first = np.concatenate(([True], np.diff(keys[order]) > 0)) if len(order) else np.zeros(0, np.bool_)
        order = order[first]
        indptr = np.concatenate(([0], np.cumsum(np.bincount(user_rows[order], minlength=n_users)))).astype(np.int64)
        return cls(indptr, item_rows[order].astype(np.int32), values[order], n_items)


def save_interactions(folder: Path, interactions: Interactions) -> None:
    """Write interactions to a new folder, as `map_interactions` maps it.

    Raises:
        OSError: the folder is there, or the disk is full.
    """
    folder.mkdir()
    weights = interactions.weights
    save_array(folder / "indptr.npy", interactions.indptr)
    save_array(folder / "indices.npy", interactions.indices)
    save_array(folder / "weights.npy", weights[0] if weights.strides == (0,) and len(weights) else weights)
    save_array(folder / "n_items.npy", np.int64(interactions.n_items))


def save_array(path: Path, array: npt.NDArray[Any] | np.generic) -> None:
    """Write an array to a new file. `numpy.save` itself loses the end of it without a word where the disk is full.

    Raises:
        OSError: the disk is full.
    """
    with path.open("wb") as file:
        np.save(cast("Any", SimpleNamespace(write=file.write)), array)  # no file to numpy, which leaves writing to it


def map_interactions(folder: Path) -> Interactions:
    """Interactions whose arrays are mapped from files, which any number of processes can share.

    Args:
        folder: with `indptr.npy`, `indices.npy`, `weights.npy` (one number where all weights are the same) and
            `n_items.npy`.

    Raises:
        InputError: a file is missing or isn't such an array.
    """
    try:
        indptr, indices, weights = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in ("indptr", "indices", "weights")
        )
        n_items = int(np.load(folder / "n_items.npy", allow_pickle=False))
        if not (indptr.ndim == indices.ndim == 1 and len(indptr) and indptr[0] == 0 and indptr[-1] == len(indices)):
            raise ValueError("its arrays don't belong together")
        return Interactions(indptr, indices, np.broadcast_to(weights, indices.shape), n_items)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"`histories` must be a folder of arrays, got {folder}: {error}") from None


ENTRIES_AT_ONCE = 16_384  # table rows gathered at once: a buffer that stays in the processor's cache
GATHERED_AT_ONCE = 2**19  # the same in bytes, for tables of any width
LANES = 8  # numpy's pairwise sum has eight partial sums,
LEAF = 128  # for up to so many values; more are halved first


def row_chunks(indptr: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of CSR rows with about `ENTRIES_AT_ONCE` entries each, one row at least."""
    first, end = 0, len(indptr) - 1
    while first < end:
        last = max(first + 1, int(np.searchsorted(indptr, indptr[first] + ENTRIES_AT_ONCE, "right")) - 1)
        yield first, last
        first = last


def gathered_sums(table: Floats, indices: Ints, indptr: npt.NDArray[np.int64], entries: Floats | None = None) -> Floats:
    """`segment_sum(table[indices] * entries[:, None], indptr)`, some times as fast and with the same bits.

    numpy adds the columns of a segment one after the other. Here segments of one length lie side by side, so that whole
    table rows are added at once, in the order of numpy's pairwise sum: the first row, and to it the sum of the others.

    Args:
        table: float [n_items, width].
        indices: int [nnz], rows of it.
        indptr: int64 [n_rows + 1], the segments.
        entries: float [nnz], a factor on each row; None: 1.
    """
    counts, out = np.diff(indptr), np.zeros((len(indptr) - 1, table.shape[1]), table.dtype)
    gather = Gather(table, least=LEAF)
    filled, longer = np.flatnonzero(counts > 0), np.flatnonzero(counts > 1)
    for part in (filled[at : at + gather.at_once] for at in range(0, len(filled), gather.at_once)):
        out[part] = gather(indices, indptr[:-1][part], 1, entries)[:, 0]
    # Sums of more than LEAF rows are made of two halves each, the first of which is a multiple of LANES.
    starts, lengths = [indptr[:-1][longer] + 1], [counts[longer] - 1]
    whole, first, halves = np.arange(len(longer)), 0, []
    while (long := np.flatnonzero(lengths[-1] > LEAF)).size:
        start, length, first = starts[-1][long], lengths[-1][long], first + len(starts[-1])
        half = length // 2 // LANES * LANES
        halves.append((whole[long], first, len(long)))
        whole = np.arange(first, first + 2 * len(long))
        starts.append(np.concatenate([start, start + half]))
        lengths.append(np.concatenate([half, length - half]))
    sums = _leaf_sums(gather, indices, np.concatenate(starts), np.concatenate(lengths), entries)
    for parents, at, n in reversed(halves):
        sums[parents] = sums[at : at + n] + sums[at + n : at + 2 * n]
    out[longer] += sums[: len(longer)]
    return out


def _leaf_sums(gather: Gather, indices: Ints, starts: Ints, lengths: Ints, entries: Floats | None) -> Floats:
    """The sum of each run of at most LEAF entries, [n, width]; that of longer ones means nothing."""
    sums = np.zeros((len(starts), gather.table.shape[1]), gather.table.dtype)
    lanes = np.where(lengths > LEAF, 0, lengths // LANES)
    for runs, times in alike(lanes, most=LEAF // LANES, entries=gather.at_once // LANES):
        rows = gather(indices, starts[runs], times * LANES, entries).reshape(len(runs), times, LANES, -1)
        added = rows[:, 0] if times == 1 else np.add.reduce(rows, axis=1)
        for _ in range(3):  # neighbours, then pairs, then fours
            added = added[:, ::2] + added[:, 1::2]
        sums[runs] = added[:, 0]
    rest = np.where(lengths > LEAF, 0, lengths % LANES)
    for at in range(LANES - 1):
        left = np.flatnonzero(rest > at)
        for runs in (left[first : first + gather.at_once] for first in range(0, len(left), gather.at_once)):
            sums[runs] += gather(indices, starts[runs] + lanes[runs] * LANES + at, 1, entries)[:, 0]
    return sums


def alike(lengths: Ints, *, most: int, entries: int) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
    """(runs, length) of runs of one length from 1 to `most`: at most so many entries at once, but one run at least."""
    order = np.argsort(np.minimum(lengths, most + 1).astype(np.uint16), kind="stable")
    ends = np.searchsorted(lengths[order], np.arange(most + 2)).tolist()
    for length in range(1, most + 1):
        at_once = max(1, entries // length)
        for first in range(ends[length], ends[length + 1], at_once):
            yield order[first : min(first + at_once, ends[length + 1])], length


class Gather:
    """Rows of a table, gathered into one buffer again and again: new memory each time would cost more than the rows.

    Args:
        table: [n, width].
        least: the fewest rows that the buffer must hold.

    Attributes:
        at_once: the most rows of a call, which the processor's cache holds.
    """

    def __init__(self, table: npt.NDArray[Any], *, least: int) -> None:
        width = table.shape[1]
        self.table, self.at_once = table, max(least, GATHERED_AT_ONCE // max(width * table.itemsize, 1))
        self._buffer = np.empty((0, width), table.dtype)

    def __call__(self, indices: Ints, starts: Ints, length: int, entries: Floats | None = None) -> npt.NDArray[Any]:
        """The rows `indices[start : start + length]` of each start, times their entries: [n, length, width].

        They are valid until the next call.
        """
        places = (starts[:, None] + np.arange(length)).ravel()
        if len(places) > len(self._buffer):  # a device's few events need no large one
            self._buffer = np.empty((min(2 * len(places), self.at_once), *self._buffer.shape[1:]), self.table.dtype)
        rows = self._buffer[: len(places)]
        np.take(self.table, indices[places], axis=0, out=rows, mode="clip")  # any other mode makes a copy first
        if entries is not None:
            rows *= entries[places, None]
        gathered: npt.NDArray[Any] = rows.reshape(len(starts), length, -1)
        return gathered


def segment_sum(values: npt.NDArray[Any], indptr: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Sum `values` [nnz, ...] over each CSR row: [n_rows, ...]; an empty row gives zeros."""
    starts, empty = indptr[:-1], indptr[1:] == indptr[:-1]
    if not empty.any() and len(starts):
        return np.add.reduceat(values, starts, axis=0, dtype=values.dtype)
    out = np.zeros((len(starts), *values.shape[1:]), values.dtype)
    filled = (~empty).nonzero()[0]
    if len(filled):
        out[filled] = np.add.reduceat(values, starts[filled], axis=0)
    return out


def row_squares(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sum of squares of each row of `values` [n, width], float64 [n]; the same bits for a row in every batch."""
    squares, width = np.zeros(len(values)), values.shape[1]
    at_once = max(1, GATHERED_AT_ONCE // (8 * max(width, 1)))
    for first in range(0, len(values) if width else 0, at_once):
        part = values[first : first + at_once].astype(np.float64)
        np.square(part, out=part)
        # Not a sum along the axis, whose order of adding depends on how many rows there are.
        squares[first : first + at_once] = np.add.reduceat(part.ravel(), np.arange(0, part.size, width))
    return squares


def kept_rows(values: npt.NDArray[Any], kept: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """The values [n, ...], with zeros for rows that are not kept: a product with zero would not do, of infinity."""
    return values if kept.all() else np.where(kept.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
