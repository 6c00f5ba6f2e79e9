"""Interactions: batches of users' events, in memory and in files, and sums over runs of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.seam import Seam
from palate_common import interactions
from palate_common.interactions import Interactions
from palate_common.mechanism import pairs, update
from palate_core.errors import PalateError

LENGTHS = (0, 0, 1, 1, 2, 3, 7, 8, 9, 10, 17, 64, 127, 128, 129, 130, 136, 257, 258, 400)
"""Lengths of runs, on both sides of every limit."""


@contextmanager
def small_limits(dice: Dice) -> Iterator[None]:
    """Limits of sizes far lower, now and then, so that few numbers go through all ways."""
    lower = ((interactions, "ENTRIES_AT_ONCE", (1, 4, 300)), (interactions, "GATHERED_AT_ONCE", (8, 64, 4096)),
             (interactions, "COUNTED_AT_ONCE", (1, 5)), (update, "USERS_AT_ONCE", (1, 2, 3)),
             (update, "DENSE_AT_ONCE", (1, 20)), (update, "DENSE_SHARE", (1, 3, 10**6)), (update, "RUN", (8, 9)),
             (pairs, "PAIRS_AT_ONCE", (1, 7)), (pairs, "DENSE_AT_ONCE", (1, 9, 40)),
             (pairs, "DENSE_SHARE", (1, 2, 10**6)), (pairs, "FEWEST_DENSE", (1, 2)))  # fmt: skip
    with ExitStack() as stack:
        for owner, name, options in lower:
            if dice.chance(0.6):
                stack.enter_context(mock.patch.object(owner, name, dice.one_of(options)))
        yield


def _batch(dice: Dice, n_users: int, n_items: int, most: int = 12) -> Interactions:
    """Some users' interactions, some of them without any."""
    n = dice.whole(0, most) if n_users and n_items else 0
    users, items = dice.wholes(0, max(n_users - 1, 0), n), dice.wholes(0, max(n_items - 1, 0), n)
    weights = None if dice.chance(0.3) else dice.wholes(1, 64, n) / dice.one_of((16, 2**14))
    found = Interactions.from_pairs(users, items, weights, n_users=n_users, n_items=n_items)
    if dice.chance(0.2):
        return replace(found, weights=np.broadcast_to(np.float32(dice.one_of((1.0, 0.5))), found.indices.shape))
    return found


def _shown(answer: CaseAnswer, batch: Interactions | PalateError | None) -> None:
    """All of a batch."""
    if isinstance(batch, Interactions):
        answer.exact(batch.indptr, batch.indices, batch.weights, batch.n_items, batch.weights.strides == (0,))


def _interactions(dice: Dice, answer: CaseAnswer) -> None:
    """A batch of users, one operation after the other."""
    batch = _batch(dice, dice.whole(0, 6), dice.whole(0, 7), dice.one_of((0, 2, 12, 30)))
    with small_limits(dice):
        for _ in range(5):
            _shown(answer, batch)
            answer.exact(batch.n_users, batch.nnz, batch.counts(), batch.effective_counts(), batch.item_counts)
            answer.tell(batch.owners(), batch.dense())
            n = batch.n_users
            for user in range(n)[:2]:
                _shown(answer, batch.user(user))
                answer.tell(batch.items_of(user))
            kind = dice.one_of((np.float64, np.float32))
            table = (dice.wholes(-99, 99, batch.n_items * 3) / 8).reshape(-1, 3).astype(kind)
            entries = dice.one_of((None, (dice.wholes(-9, 9, batch.nnz) / 4).astype(kind)))
            answer.exact(batch.matmul(table, entries))
            match dice.whole(0, 6):
                case 0:
                    first, last = (dice.one_of((None, dice.whole(-7, 7))) for _ in range(2))
                    batch = batch.users(slice(first, last, dice.one_of((None, 1, 1, 2, -1, -2))))
                case 1 if n:
                    batch = batch.users(dice.wholes(0, n - 1, dice.whole(0, 6)))
                case 2:
                    batch = batch.only(dice.wholes(0, 1, n).astype(bool))
                case 3:
                    batch = batch.entries(dice.wholes(0, 3, batch.nnz) > 0)
                case 4:
                    keep = np.array(dice.some_of(range(batch.n_items), dice.one_of((0.9, 0.7, 0.0))), dtype=int)
                    answer.tried(
                        batch.columns, np.array([dice.whole(-1, 1), *(keep[1:] + dice.whole(0, 1))], dtype=int)
                    )
                    answer.tried(batch.columns, keep.repeat(2))
                    batch = batch.columns(keep)
                case 5 if n:
                    more = dice.whole(0, 4) if batch.n_items else 0
                    items = dice.wholes(0, max(batch.n_items - 1, 0), more)
                    one = batch.user(dice.whole(0, n - 1))
                    _shown(answer, one.joined(items, dice.wholes(1, 64, more) / 16))
                    _shown(answer, answer.tried(one.joined, [dice.whole(-1, batch.n_items)], [dice.whole(0, 1)]))


def _pairs_of(dice: Dice, answer: CaseAnswer) -> None:
    """Interactions from pairs in any order, repeated ones and wrong ones, and interactions in files."""
    n, n_users, n_items = dice.whole(0, 9), dice.whole(1, 4), dice.whole(1, 4)
    users, items = dice.wholes(0, n_users - 1, n), dice.wholes(0, n_items - 1, n)
    weights: Any = dice.one_of((None, dice.wholes(1, 3, n) / 2))
    if dice.chance(0.4):
        spoiled, at = dice.one_of((users, items)), dice.whole(0, 8)
        if n:
            spoiled[at % n] = dice.one_of((-1, 4, n_users, n_items, 10**10))
    if dice.chance(0.3) and n:
        weights = np.full(n, dice.one_of((0.0, -1.0, np.nan, np.inf, 1e39, 1e-50, 1e38)))
    if dice.chance(0.1):
        users = users[1:]
    found = answer.tried(Interactions.from_pairs, users, items, weights, n_users=n_users, n_items=n_items)
    _shown(answer, found)
    if isinstance(found, PalateError):
        found = _batch(dice, 2, 3)
    with made_folder(answer) as place:
        folder = place / "there"
        interactions.save_interactions(folder, found)
        _shown(answer, interactions.map_interactions(folder))
        answer.tell(sorted((path.name, np.load(path).shape) for path in folder.iterdir()))
        name = dice.one_of(("indptr", "indptr", "indptr", "indices", "indices", "weights", "n_items"))
        array = np.load(folder / f"{name}.npy")
        (folder / f"{name}.npy").unlink()
        wrong: Any = dice.one_of((None, array.ravel()[:1], array + 1, np.zeros((1, 1), int), array.ravel()[:0]))
        if wrong is not None and (wrong.ndim == array.ndim or array.ndim):
            interactions.save_array(folder / f"{name}.npy", wrong)
        try:
            _shown(answer, interactions.map_interactions(folder))
        except PalateError as error:
            answer.tell(type(error).__name__)


def _segments(dice: Dice, answer: CaseAnswer) -> None:
    """Sums over runs of table rows, of every length."""
    lengths = np.array([dice.one_of(LENGTHS) for _ in range(dice.one_of((0, 1, 2, 6)))], dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    nnz, n, width = int(indptr[-1]), dice.whole(1, 9), dice.one_of((1, 2, 5, 70))
    kind = dice.one_of((np.float64, np.float32))
    indices = dice.wholes(0, n - 1, nnz)
    table = (dice.wholes(-99, 99, n * width) / 8).reshape(n, width).astype(kind)
    entries = dice.one_of((None, (dice.wholes(-9, 9, nnz) / 4).astype(kind)))
    real, factors = dice.floats(n, width), dice.floats(nnz)
    with small_limits(dice):
        answer.exact(interactions.gathered_sums(table, indices, indptr, entries))
        whole = interactions.gathered_sums(real, indices, indptr, factors)
        alone = [interactions.gathered_sums(real, indices[a:b], np.array([0, b - a]), factors[a:b])
                 for a, b in pairwise(indptr.tolist())]  # fmt: skip
        answer.tell(whole, np.array_equal(whole, np.concatenate([whole[:0], *alone])))
        answer.exact(interactions.segment_sum(table[indices], indptr))
        answer.tell(interactions.segment_sum(np.arange(nnz, dtype=np.int32), indptr))
        answer.tell(list(interactions.row_chunks(indptr)))
        most, at_once = dice.one_of((1, 8, 130)), dice.one_of((1, 4, 300))
        answer.tell([(runs, length) for runs, length in interactions.alike(lengths, most=most, entries=at_once)])
        gather = interactions.Gather(table, least=dice.one_of((1, 128)))
        answer.tell(gather.at_once)
        for length in (1, 3, 2):
            starts = np.flatnonzero(np.arange(nnz) <= nnz - length)[: min(dice.whole(1, 5), gather.at_once // length)]
            if len(starts):
                answer.exact(gather(indices, starts, length, entries).copy())
        rows = dice.wholes(-(2**20), 2**20, dice.one_of((0, 3, 12))).reshape(-1, 3)
        answer.exact(interactions.row_squares(rows), interactions.row_squares(rows[:, :0]))
        kept = dice.wholes(0, 1, len(rows)).astype(bool)
        answer.tell(interactions.kept_rows(rows, kept), interactions.kept_rows(rows, kept | True))


SEAMS = (
    Seam("interactions: one operation after the other", _interactions, 30),
    Seam("interactions: from pairs and in files", _pairs_of, 18),
    Seam("runs of rows: sums of every length", _segments, 36),
)
