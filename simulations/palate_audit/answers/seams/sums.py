"""Sums: interactions and their weights, contributions that are clipped, put on the grid, sent and added up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.harness.watched_run import memory
from palate_common import interactions, weighting
from palate_common.algorithms import PublicFacts
from palate_common.errors import PalateError
from palate_common.interactions import Interactions
from palate_common.mechanism import clipping, pairs, update
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.cohort import CohortTerms
from palate_common.mechanism.pairs import PairBlock, PairSteps
from palate_common.mechanism.update import BlockSpec, ClippedSum, DenseBlock, OuterBlock, OuterSteps, Update
from palate_common.records.canonical import canonical_json
from palate_common.rounds import exchange, wire
from palate_common.rounds.plan import RoundPlan, Sampling
from palate_common.rounds.shares import NoisyShare
from palate_common.rounds.wire import REFUSED, ContributionHeader
from palate_common.weighting import Weighting
from palate_server.rounds.aggregation import aggregate, recovered

LENGTHS = (0, 0, 1, 1, 2, 3, 7, 8, 9, 10, 17, 64, 127, 128, 129, 130, 136, 257, 258, 400)
"""Lengths of runs, on both sides of every limit."""


@contextmanager
def _small(dice: Dice) -> Iterator[None]:
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
    weights = None if dice.chance(0.3) else dice.wholes(1, 64, n) / 16
    found = Interactions.from_pairs(users, items, weights, n_users=n_users, n_items=n_items)
    if dice.chance(0.2):
        return replace(found, weights=np.broadcast_to(np.float32(dice.one_of((1.0, 0.5))), found.indices.shape))
    return found


def _shown(answer: Answer, batch: Interactions | PalateError | None) -> None:
    """All of a batch."""
    if isinstance(batch, Interactions):
        answer.exact(batch.indptr, batch.indices, batch.weights, batch.n_items, batch.weights.strides == (0,))


def _interactions(dice: Dice, answer: Answer) -> None:
    """A batch of users, one operation after the other."""
    batch = _batch(dice, dice.whole(0, 6), dice.whole(0, 7), dice.one_of((0, 2, 12, 30)))
    with _small(dice):
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
                    batch = batch.columns(keep)
                case 5 if n:
                    more = dice.whole(0, 4) if batch.n_items else 0
                    items = dice.wholes(0, max(batch.n_items - 1, 0), more)
                    one = batch.user(dice.whole(0, n - 1))
                    _shown(answer, one.joined(items, dice.wholes(1, 64, more) / 16))
                    _shown(answer, answer.tried(one.joined, [dice.whole(-1, batch.n_items)], [dice.whole(0, 1)]))


def _pairs_of(dice: Dice, answer: Answer) -> None:
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
    with TemporaryDirectory(dir=memory()) as place:
        folder = Path(place, "there")
        interactions.save_interactions(folder, found)
        _shown(answer, interactions.map_interactions(folder))
        answer.tell(sorted((path.name, np.load(path).shape) for path in folder.iterdir()))
        name = dice.one_of(("indptr", "indices", "indices", "weights", "n_items"))
        array = np.load(folder / f"{name}.npy")
        (folder / f"{name}.npy").unlink()
        wrong: Any = dice.one_of((None, array.ravel()[:1], array + 1, np.zeros((1, 1), int), array.ravel()[:0]))
        if wrong is not None and (wrong.ndim == array.ndim or array.ndim):
            interactions.save_array(folder / f"{name}.npy", wrong)
        try:
            _shown(answer, interactions.map_interactions(folder))
        except PalateError as error:
            answer.tell(type(error).__name__)


def _segments(dice: Dice, answer: Answer) -> None:
    """Sums over runs of table rows, of every length."""
    lengths = np.array([dice.one_of(LENGTHS) for _ in range(dice.one_of((0, 1, 2, 6)))], dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    nnz, n, width = int(indptr[-1]), dice.whole(1, 9), dice.one_of((1, 2, 5, 70))
    kind = dice.one_of((np.float64, np.float32))
    indices = dice.wholes(0, n - 1, nnz)
    table = (dice.wholes(-99, 99, n * width) / 8).reshape(n, width).astype(kind)
    entries = dice.one_of((None, (dice.wholes(-9, 9, nnz) / 4).astype(kind)))
    real, factors = dice.floats(n, width), dice.floats(nnz)
    with _small(dice):
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


SIZES = (0.0, 1.0, 1.0, 1.0, 0.015625, 64.0, 4096.0, 2.0**-500, 1e-200, 1e160, 1e300)
"""How large a user's numbers are."""


def _numbers(dice: Dice, sizes: Sequence[float], *shape: int) -> Any:
    """Numbers of some users, each with its own size: some too large for a square, some that are none."""
    flat = (dice.wholes(-64, 64, len(sizes) * math.prod(shape)) / 16).reshape(len(sizes), *shape)
    found = flat * np.array(sizes).reshape(-1, *[1] * len(shape))
    if found.size and dice.chance(0.25):
        found.flat[dice.whole(0, found.size - 1)] = dice.one_of((np.nan, np.inf, -np.inf, 1e308))
    return found


def _rows(dice: Dice, sizes: Sequence[float], n_rows: int) -> tuple[Any, Any, Any]:
    """Users' sparse rows: none, some or all of them."""
    share = dice.one_of((0.0, 0.2, 0.7, 1.0))
    at = [dice.some_of(range(n_rows), share) for _ in sizes]
    indptr = np.cumsum([0, *map(len, at)], dtype=np.int64)
    numbers = [_numbers(dice, [size], len(rows)).ravel() for size, rows in zip(sizes, at, strict=True)]
    return indptr, np.array([row for rows in at for row in rows], np.int32), np.concatenate([np.zeros(0), *numbers])


def _block(dice: Dice, sizes: Sequence[float]) -> tuple[tuple[int, ...], Any]:
    """A block of any kind, and its shape for one user."""
    n, width = dice.whole(1, 6), dice.one_of((1, 2, 3))
    unit = [1.0] * len(sizes)
    match dice.whole(0, 4):
        case 0:
            shape = dice.one_of(((n,), (n, width), (1,)))
            return shape, DenseBlock(_numbers(dice, sizes, *shape))
        case 1:
            shape = (n,) if width == 1 and dice.chance(0.5) else (n, width)
            columns = _numbers(dice, unit, width) if dice.chance(0.7) else np.full((len(unit), width), 49.0)
            return shape, OuterBlock(*_rows(dice, sizes, n), columns, n)
        case 2:
            along, shift = dice.wholes(-3, 3, n) * dice.one_of((0, 1, 1, 1, 1)), _numbers(dice, sizes)
            return (n, width), OuterBlock(*_rows(dice, sizes, n), _numbers(dice, unit, width), n, along, shift)
        case 3:
            along, least = 1 + dice.wholes(0, 3, n), dice.one_of((0.0, 0.25))
            sparse, columns = _rows(dice, sizes, n), _numbers(dice, unit, width)
            if dice.chance(0.4):  # rows that are nearly all along it
                sparse[2][:] = along[sparse[1]] * dice.one_of((1.0, 3.5)) + dice.one_of((0.0, 0.125)) * (sparse[1] == 0)
            return (n, width), OuterBlock.centred(*sparse, columns, n, along=along, least_left=least)
        case _:
            n = dice.whole(2, 7)
            return (n * (n - 1) // 2,), PairBlock(*_rows(dice, [min(size, 64.0) for size in sizes], n), n)


def _clip(dice: Dice, answer: Answer) -> None:
    """Contributions of every kind and size, clipped together, on the grid, and summed in any way."""
    users = dice.one_of((0, 1, 1, 2, 3, 5))
    size = dice.one_of(SIZES)
    sizes = [dice.one_of((size, size, dice.one_of(SIZES))) for _ in range(users)]
    made = [_block(dice, sizes) for _ in range(dice.one_of((1, 1, 2, 2, 3, 5)))]
    layout = [BlockSpec(name=f"b{n}", shape=shape, weight=dice.one_of((1.0, 0.5, 0.75, 0.125)))
              for n, (shape, _) in enumerate(made)]  # fmt: skip
    terms: dict[str, Any] = {
        "clip_norm": dice.one_of((1.0, 5.0, 0.625, 1e-6, 1e6)),
        "grid": dice.one_of((1, 3, 2**8, 2**13, 2**20, 2**26)),
    }
    raw = Update(tuple(block for _, block in made), users)
    guard = dice.one_of((clipping.GUARD,) * 6 + (1.5,))  # with more, some are too long on the grid
    with _small(dice), mock.patch.object(clipping, "GUARD", guard):
        for block in raw.blocks:
            answer.exact(block.square_norms(), block.shape)
        clipped = answer.of(clip, raw, layout, **terms)
        if clipped is None:
            return
        answer.exact([block.square_norms() for block in clipped.steps], clipped.users)
        answer.tell([block.size for block in clipped.steps], clipped.total())
        given = dice.wholes(-9, 9, update.layout_size(layout))
        clipped.add_to(given)
        answer.tell(given, [clipped.vector(user) for user in range(users)])
        kept = dice.wholes(0, 1, users).astype(bool)
        answer.tell([block.keep(kept) for block in clipped.steps])
        summed = ClippedSum.of(iter([clipped] * dice.whole(0, 2)), layout, grid=terms["grid"])
        answer.tell(summed, summed.total())
    shown = update.split_vector(given, layout)
    answer.tell(shown, update.released_size(layout))
    answer.exact(list(update.block_units(layout, 0.125).items()), list(update.block_sums(given, layout, 0.5).values()))


def _refused(dice: Dice, answer: Answer) -> None:
    """Blocks that don't fit their layout, or themselves."""
    n = 4
    indptr, indices = np.array([0, 2, 2, 4]), np.array([0, 3, 1, 2], np.int32)
    told: dict[str, Any] = {"indptr": indptr, "indices": indices, "rows": np.arange(1.0, 5.0), "n_rows": n}
    outer = dice.chance(0.6)
    if outer:
        told |= {"columns": np.ones((3, 2)), "along": np.array([1, 2, -1, 1]), "shift": np.ones(3)}
    wrong: dict[str, Sequence[Any]] = {
        "indptr": (indptr + 1, np.array([0, 2, 1, 4]), np.array([0, 2, 2, 3]), np.array([0, 4, 4, 4]), indptr[:-1],
                   np.array([0, 0, 0, 4])),
        "indices": (indices[::-1], indices - 1, indices + 1, indices[:3], np.array([0, 0, 1, 2]),
                    np.array([1, 0, 0, 1]), np.array([2, 3, 1, 1])),
        "rows": (np.arange(3.0), np.arange(5.0)),
        "n_rows": (3, 5),
        "columns": (np.ones((2, 2)), np.ones((3, 3)), np.ones((3, 1))),
        "along": (None, np.ones(4), np.ones(3, np.int64), np.full(4, 2**25), np.array([2**26, 1, 0, 0]),
                  np.array([2**26, 0, 0, 0])),
        "shift": (None, np.ones(4), np.ones((3, 1))),
    }  # fmt: skip
    shape = (n, 2) if outer else (n * (n - 1) // 2,)
    for _ in range(3):
        name = dice.one_of(list(told))
        changed = told | ({name: dice.one_of(wrong[name])} if dice.chance(0.85) else {})
        block: Any = (OuterBlock if outer else PairBlock)(**changed)
        layout = [BlockSpec(name="one", shape=dice.one_of((shape, shape, shape, (n,))), weight=1.0)]
        blocks = dice.one_of(((block,),) * 6 + ((), (block, block)))
        with mock.patch.object(clipping, "MOST_ROWS", dice.one_of((3, 4, 5))):
            answer.of(clip, Update(blocks, dice.one_of((3, 3, 3, 2))), layout, clip_norm=1.0, grid=2**10)
    plain = Update((DenseBlock(np.ones((3, 2))),), 3)
    answer.of(clip, plain, layout[: dice.whole(0, 1)], clip_norm=1.0, grid=8)
    fitting = [BlockSpec(name="one", shape=(2,), weight=1.0)]
    for norm, grid in ((9e-7, 9), (1.1e6, 9), (1.0, 0), (1.0, 2**26 + 1), (math.nan, 9), (1e-6, 2**26), (1e6, 1)):
        answer.of(clip, plain, fitting, clip_norm=norm, grid=grid)


def _many(dice: Dice, answer: Answer) -> None:
    """Sums over users of whole numbers of every size, each way they can go."""
    users, n = dice.one_of((1, 2, 3, 30)), dice.one_of((1, 2, 9, 40))
    width = dice.one_of((1, 2, 3))
    indptr, indices, _ = _rows(dice, [0.0] * users, n)
    top = dice.one_of((1, 9, 1000, 2**13, 2**22))
    rows, columns = dice.wholes(-top, top, len(indices)), dice.wholes(-9, 9, users * width).reshape(users, width)
    outer = OuterSteps(indptr, indices, rows, columns, n)
    if dice.chance(0.5):
        outer = replace(outer, along=dice.wholes(-3, 3, n), shift=dice.wholes(-top, top, users))
    both = PairSteps(indptr, indices, rows, n)
    with _small(dice):
        for block in (outer, both):
            total = np.full(block.size, 5)
            block.add_to(total)
            answer.tell(total, block.vector(users - 1))
            answer.exact(block.square_norms())
        large = np.array([2**24, 2**24 + 1, -(2**24) - 1, 2**30][: dice.whole(1, 4)])[dice.whole(0, 1) :]
        ends = np.array([0, len(large), len(large)])
        answer.exact(PairSteps(ends, np.arange(len(large), dtype=np.int32), large, 4).square_norms())
        shift = np.array([2**29 + dice.whole(-1, 1), 3])
        reach = OuterSteps(
            ends,
            np.arange(len(large), dtype=np.int32),
            large,
            np.array([[1, 1], [2, -2]]),
            4,
            np.array([-2, 1, 1, 0]),
            shift,
        )
        answer.exact(reach.square_norms())
    if dice.chance(0.05):  # places beyond 16 bits
        wide = OuterSteps(
            np.array([0, 1, 3]),
            np.array([65_536, 0, 65_537], np.int32),
            np.arange(1, 4),
            columns[:1].repeat(2, 0),
            65_538,
        )
        total = np.zeros(wide.size, np.int64)
        wide.add_to(total)
        answer.tell(np.flatnonzero(total), total[np.flatnonzero(total)])
    direction = dice.floats(n, low=-2.0, high=9.0)
    for grid in (2**20, dice.one_of((2**8, 2**13, 2**26, 1000))):
        answer.tell(update.whole_direction(direction, grid=grid))


def _crowd(dice: Dice, answer: Answer) -> None:
    """Thousands of users at once, of whom a few are too long or no numbers."""
    users = dice.one_of((1_000, 4_097, 20_011))
    plain = dice.wholes(-64, 64, users * 2).reshape(users, 2) / 64
    owners, items = dice.wholes(0, users - 1, 500), dice.wholes(0, 8, 500)
    batch = Interactions.from_pairs(owners, items, dice.wholes(1, 64, 500) / 16, n_users=users, n_items=9)
    sparse = (batch.indptr, batch.indices, batch.weights.astype(np.float64))
    for user in (0, users - 1, *dice.wholes(0, users - 1, 9).tolist()):
        plain[user] *= dice.one_of((np.nan, 1e200, 64.0))
    blocks = (DenseBlock(plain), OuterBlock(*sparse, 1 + plain[:, :1] ** 2, 9), PairBlock(*sparse, 9))
    layout = [BlockSpec(name=str(n), shape=shape, weight=0.5) for n, shape in enumerate(((2,), (9,), (36,)))]
    clipped = clip(Update(blocks, users), layout, clip_norm=1.0, grid=2**20)
    answer.tell(clipped.total(), clipped.accepted, [clipped.vector(user) for user in (0, 999, users - 1)])
    answer.exact(batch.effective_counts()[owners], batch.item_counts)


def _plan(dice: Dice, size: int, dp: str, **changes: Any) -> RoundPlan:
    """A plan of a mode, of one block."""
    cohort = CohortTerms(n_max=dice.one_of((9, 900)), n_min=6, c_max=dice.whole(1, 5), masks=False)
    fields: dict[str, Any] = {
        "population": "readers", "run": "run-1", "round": dice.whole(0, 2), "attempt": dice.whole(0, 2),
        "model_hash": "cd" * 32, "algorithm": "popularity", "settings": {},
        "facts": PublicFacts(n_users=9, n_items=size, mu=1.0, local=dp == "local"),
        "layout": (BlockSpec(name="counts", shape=(size,), weight=1.0),),
        "clip_norm": 1.0, "grid": dice.one_of((5, 2**14, 2**20, 2**26)),
        "sigma": dice.one_of((64, 640, 2**12, 2**34)) if dp != "off" else 0, "dp": dp, "noise": "secure",
        "cohort_floor": 1,
        "per_node": dice.one_of((1, 2, 9, 2**26)), "cohort": cohort if dp == "distributed" else None, "mu2": 9.0,
        "expires": 2**31,
    }  # fmt: skip
    return RoundPlan.model_validate(fields | changes)


def _message(dice: Dice, plan: RoundPlan, size: int) -> tuple[dict[str, Any], Any]:
    """The header and the numbers of an answer to a plan: honest, at a limit, or wrong."""
    users = dice.one_of((1, 1, 1, plan.per_node, dice.whole(1, 9)))
    header: dict[str, Any] = {"version": 1, "run": plan.run, "round": plan.round, "attempt": plan.attempt}
    header |= {"plan_hash": plan.hash, "users": users, "rejected": dice.one_of((0, 0, 1, 3)), "size": size}
    bound = users * plan.grid
    numbers = dice.one_of(
        (
            [1, -2],
            [bound],
            [-bound],
            [bound, 1],
            [bound + 1],
            [4 * bound // 5, 3 * bound // 5],
            [bound] * 3,
            [bound, bound * 7 // 10**7],
            [bound, bound * 11 // 10**7],
        )
    )
    if plan.mode.noised_by_devices:
        most = 2 ** (plan.bits(users) - 1) - 1
        far = bound + plan.sigma * math.isqrt(users * int(size + 16 * math.sqrt(size) + 128))
        numbers = dice.one_of(
            ([1], [most], [-most - 1], [most + 1], [-most - 2], [far], [far + plan.sigma * 8], [-bound])
        )
    if dice.chance(0.3):
        name = dice.one_of(list(header))
        header[name] = dice.one_of((0, 2, -1, "run-2", "ab" * 32, 2**26, 2**26 + 1, 1.0, None, True, 10**19))
    return header, (numbers + [0] * size)[:size]


def _encoded(dice: Dice, plan: RoundPlan, header: dict[str, Any], numbers: Sequence[int]) -> bytes:
    """An answer as a node could send it."""
    users = header["users"] if isinstance(header["users"], int) and 0 < header["users"] < 2**27 else 1
    kind = wire.share_dtype(plan.bits(users)) if plan.mode.noised_by_devices else wire.dtype_for(users, plan.grid)
    text = canonical_json(header)
    fitting = [max(-(2**63), min(number, 2**63 - 1)) for number in numbers]
    data = len(text).to_bytes(4, "big") + text + np.array(fitting, np.int64).astype(kind).tobytes()
    match dice.whole(0, 19):
        case 0:
            return data[: -dice.whole(1, 9)]
        case 1:
            return data + bytes(dice.whole(1, 8))
        case 2:
            return dice.one_of((b"", b"\0\0\0\0", b"refuse", b"Refused", data[4:], data[:40], bytes(8) + data))
        case 3:
            return data[:4] + data[4:].replace(b":", b": ", 1)
    return data


def _wire(dice: Dice, answer: Answer) -> None:
    """Contributions on the wire: written, read back, and what no honest node sends."""
    size, dp = dice.whole(1, 5), dice.one_of(("central", "local", "distributed", "off", "local"))
    plan = _plan(dice, size, dp)
    if dp == "local" and dice.chance(0.2):
        plan = plan.model_copy(update={"events": Sampling(inclusion=0.5, steps=2)})
    for coordinates, grid in ((dice.whole(0, 99), dice.one_of((1, 2, 3, 255, 256, 2**26))),):
        answer.tell(wire.packed_bytes(coordinates, grid))
    answer.tell(wire.vector_bytes(plan), [value for name, value in vars(exchange).items() if name.isupper()])
    if plan.cohort is not None:
        masked = plan.cohort.model_copy(update={"masks": True, "n_max": dice.whole(6, 2**20)})
        answer.tell(wire.vector_bytes(plan.model_copy(update={"cohort": masked})))
    answer.tell(
        str(wire.dtype_for(2 ** dice.whole(4, 6), 2**26 - dice.whole(0, 1))), str(wire.share_dtype(dice.whole(31, 33)))
    )
    header = ContributionHeader(
        run="r", round=1, attempt=2, plan_hash="x", users=dice.one_of((1, 2**10)), rejected=3, size=size
    )
    numbers = dice.wholes(-(2**20), 2**20, size)
    answer.tell(wire.encode(header, ClippedSum(numbers, 2, dice.one_of((2**20, 2**26)))))
    answer.tell(wire.encode_share(header, NoisyShare(numbers, 2), bits=dice.whole(31, 34)))
    two = header.model_copy(update={"users": 2, "size": 2})  # whose squares are beyond what floats hold exactly
    for little in (90, 150, 0):
        answer.of(wire.decode, wire.encode(two, ClippedSum(np.array([2**27, little]), 2, 2**26)), grid=2**26)
    for _ in range(4):
        data = _encoded(dice, plan, *_message(dice, plan, size + 64 * dice.whole(0, 1)))
        answer.of(wire.decode, data, grid=plan.grid)
        answer.of(wire.decode_share, data, bits=dice.one_of((plan.bits(1), 18, 32, 40)))
        if dp == "local":
            answer.of(wire.decode_local, data, plan)
        head = answer.tried(wire.split, data)
        answer.tell(None if isinstance(head, PalateError) else bytes(head[1]))
    long = canonical_json(
        header.model_dump() | {"run": "r" * (2**12 - len(canonical_json(header.model_dump())) + 1 + dice.whole(0, 1))}
    )
    answer.tell(isinstance(answer.tried(wire.split, len(long).to_bytes(4, "big") + long), tuple))


def _aggregates(dice: Dice, answer: Answer) -> None:
    """The answers of an attempt's nodes, summed: some twice, some refused, some wrong."""
    size, dp = dice.whole(1, 3), dice.one_of(("central", "local", "central", "local", "distributed", "off"))
    plan = _plan(dice, size, dp)
    full = size + 64 if plan.mode.noised_by_devices else size
    room = dice.chance(0.4) and dp in ("central", "local")
    if room:
        plan = plan.model_copy(update={"grid": 2**40} if dp == "central" else {"sigma": 2**36})
        plan = plan.model_copy(update={"per_node": 2**26})
    replies = list[tuple[int, bytes]]()
    for _ in range(dice.one_of((0, 1, 3, 6, 8))):
        header, numbers = _message(dice, plan, full if dice.chance(0.9) else size)
        if room:
            header |= {"users": dice.one_of((2**22, 2**20, 1, 2**20 - 1, 2**22 - 1)), "rejected": 0}
            numbers = dice.one_of((numbers, [1] * full, [2] * full))
        data = REFUSED if dice.chance(0.15) else _encoded(dice, plan, header, numbers)
        replies.append((dice.whole(1, 6), data))
    answer.tell(aggregate(iter(replies), plan), aggregate(dict(replies), plan))
    done = SimpleNamespace(
        total=dice.wholes(-9, 9, full), survivors=tuple(range(dice.whole(0, 5))), invited=dice.whole(5, 9),
        dropped={"malformed": dice.whole(0, 3), "silent": 1},
    )  # fmt: skip
    answer.tell(recovered(done))  # type: ignore[arg-type]


def _weighting(dice: Dice, answer: Answer) -> None:
    """Weights of events by kind, value and age, with any settings, and those of the presets."""
    kinds = ("view", "VIEW", "like", "hide", "other", "Straße")
    first, second = (dict(zip(dice.shuffled((-1.0, 0.0, 1.0, 3.0, 120.0))[: dice.whole(1, 4)], (0.5, 0.0, 2.0, 1.0),
                              strict=False)) for _ in range(2))  # fmt: skip
    told: dict[str, Any] = {
        "kinds": dice.one_of(
            (None, {}, {"View": 0.5, "*": 0.25}, {"like": 2.0, "hide": 0.0}, {"STRASSE": 3.0, "like": 1})
        ),
        "values": dice.one_of((None, first)),
        "kind_values": dice.one_of(({}, {"VIEW": second}, {"like": {0.0: 1.5}, "view": {0.0: 0.125}})),
        "combine": dice.one_of(("max", "sum")),
        "cap": dice.one_of((math.inf, 1.5, 0.25, 1e300)),
        "half_life_days": dice.one_of((None, 1, 30.0, 1e-4)),
    }
    odd = {
        "kinds": {"a": dice.one_of((-0.5, math.nan, math.inf))},
        "values": dice.one_of(({}, {math.nan: 1.0}, {1.0: -1.0})),
        "kind_values": dice.one_of(({"a": {}}, {"a": {math.inf: 1.0}}, {"a": {1.0: math.nan}})),
        "combine": "min",
        "cap": dice.one_of((0.0, -1.0, math.nan)),
        "half_life_days": dice.one_of((0, -1.0, math.nan, math.inf)),
    }
    for name, wrong in odd.items():
        answer.tell(isinstance(answer.tried(Weighting, **(told | {name: wrong})), Weighting))
    usual = Weighting(**told)
    n = dice.whole(0, 9)
    values = np.array([dice.one_of((math.nan, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 119.0, 120.0, 1e9)) for _ in range(n)])
    codes, latest = dice.wholes(-1, 5, n), 1.7e9
    times = latest - np.array([dice.one_of((math.nan, 0.0, 86_400.0, 3600.0, 1e9, 1e12)) for _ in range(n)])
    starts = np.array([0, *dice.some_of(range(1, max(n, 1)))], dtype=int)[: n or 0]
    preset = dice.one_of(weighting.weighting_names())
    answer.tell(weighting.weighting_names(), weighting.weighting_settings(preset))
    answer.of(weighting.weighting_settings, dice.one_of(("", "Shop", "../shop", "shop.toml", "shop")))
    asked = dice.shuffled((*kinds, "rate", "Play", "purchase"))
    for each in (usual, answer.of(weighting.weighting_of, preset)):
        factors = each.of_values(values, codes, kinds)
        answer.exact(each.of_kinds(asked), factors)
        answer.tell(each.decay(times, latest), each.decay(times, np.where(np.isnan(times), latest, times + 86_400.0)))
        answer.exact(each.combined(np.maximum(factors, 2.0**-130 if dice.chance(0.5) else 0.5), starts))
    answer.exact(usual.combined(np.array([1e-45, 1e39, 2.0]), np.array([0, 1, 2])))


SEAMS = (
    Seam("interactions: one operation after the other", _interactions, 30),
    Seam("interactions: from pairs and in files", _pairs_of, 18),
    Seam("runs of rows: sums of every length", _segments, 36),
    Seam("clipping: contributions of every kind", _clip, 66),
    Seam("clipping: what is refused", _refused, 48),
    Seam("sums of whole numbers over users", _many, 42),
    Seam("sums over thousands of users", _crowd, 6),
    Seam("wire: contributions written and read", _wire, 42),
    Seam("aggregation: the answers of nodes", _aggregates, 48),
    Seam("weights of events", _weighting, 24),
)
