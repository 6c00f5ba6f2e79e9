import ast
import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from palate_common import interactions
from palate_common.algorithms import Algorithm
from palate_common.interactions import segment_sum
from palate_common.mechanism import clipping, pairs, update
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, ClippedUpdate, DenseBlock, OuterBlock, Update, whole_direction
from palate_core.layout import CLIP_NORMS, MAX_GRID, BlockSpec, Layout

PACKAGES = Path(__file__).parents[2]

ODD = st.sampled_from(
    (0.0, -0.0, 1.0, -1.0, 5e-324, 1e-170, 1e-154, 2e-162, 1e150, -1e154, 1e160, 1e300, np.inf, np.nan)
)
NUMBERS = st.one_of(st.floats(-3, 3), st.floats(-1e-3, 1e-3), ODD)
GRIDS = st.one_of(st.sampled_from((1, 2, 3, 7, 100, 2**10, 2**14, 2**20, MAX_GRID)), st.integers(1, MAX_GRID))
NORMS = st.one_of(st.just(1.0), st.sampled_from(CLIP_NORMS), st.floats(1e-6, 1e6))


@st.composite
def blocks(draw: st.DrawFn, n_users: int, numbers: st.SearchStrategy[float]) -> tuple[tuple[int, ...], Block]:
    """A block of any kind, and its shape for one user."""
    if draw(st.booleans()):
        shape = draw(st.sampled_from(((), (3,), (2, 2), (1, 1, 5))))
        return shape, DenseBlock(draw(nps.arrays(np.float64, (n_users, *shape), elements=numbers)))
    pairs = draw(st.booleans())
    n_rows, width = draw(st.integers(2 if pairs else 1, 6)), draw(st.sampled_from((1, 1, 2, 3)))
    rows = [sorted(draw(st.sets(st.integers(0, n_rows - 1)))) for _ in range(n_users)]
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    indices = np.array([row for user in rows for row in user], np.int32)
    factors = draw(nps.arrays(np.float64, len(indices), elements=numbers))
    if pairs:
        return (n_rows * (n_rows - 1) // 2,), PairBlock(indptr, indices, factors, n_rows)
    columns = draw(nps.arrays(np.float64, (n_users, width), elements=numbers))
    shape = (n_rows,) if width == 1 and draw(st.booleans()) else (n_rows, width)
    block = OuterBlock(indptr, indices, factors, columns, n_rows)
    if not draw(st.booleans()):
        return shape, block
    along = draw(nps.arrays(np.int64, n_rows, elements=st.integers(-3, 3) | st.sampled_from((2**10, 2**24))))
    if draw(st.booleans()):
        return shape, centred(block, along)
    return shape, replace(block, along=along, shift=draw(nps.arrays(np.float64, n_users, elements=numbers)))


def centred(block: OuterBlock, along: np.ndarray) -> OuterBlock:
    """The same block without its part along a direction."""
    with np.errstate(over="ignore", invalid="ignore"):
        shift = segment_sum(block.rows * along[block.indices], block.indptr) / max(1, int(along @ along))
    return replace(block, along=along, shift=shift)


@st.composite
def updates(draw: st.DrawFn, numbers: st.SearchStrategy[float] = NUMBERS) -> tuple[Update, Layout]:
    """A batch of 0 to 4 users with 1 to 3 blocks."""
    n_users = draw(st.integers(0, 4))
    made = draw(st.lists(blocks(n_users, numbers), min_size=1, max_size=3))
    weights = draw(st.lists(st.floats(0.05, 1), min_size=len(made), max_size=len(made)))
    total = math.sqrt(sum(weight**2 for weight in weights))
    layout = tuple(
        BlockSpec(name=f"b{place}", shape=shape, weight=min(1.0, weight / total))
        for place, ((shape, _), weight) in enumerate(zip(made, weights, strict=True))
    )
    return Update(tuple(block for _, block in made), n_users), layout


def only(batch: Update, users: Sequence[int]) -> Update:
    """The same contributions for some of the users, in another order."""
    picked: list[Block] = []
    for block in batch.blocks:
        if isinstance(block, DenseBlock):
            picked.append(DenseBlock(block.values[list(users)]))
            continue
        parts = [slice(block.indptr[user], block.indptr[user + 1]) for user in users]
        indptr = np.cumsum([0, *(part.stop - part.start for part in parts)], dtype=np.int64)
        entries = np.concatenate([np.arange(part.start, part.stop) for part in parts] or [np.zeros(0, int)]).astype(int)
        if isinstance(block, PairBlock):
            picked.append(PairBlock(indptr, block.indices[entries], block.rows[entries], block.n_rows))
            continue
        shift = None if block.shift is None else block.shift[list(users)]
        own = block.indices[entries], block.rows[entries], block.columns[list(users)]
        picked.append(OuterBlock(indptr, *own, block.n_rows, block.along, shift))
    return Update(tuple(picked), len(users))


def square_norm(clipped: ClippedUpdate, user: int) -> int:
    """In Python's whole numbers, which neither round nor overflow."""
    return sum(int(step) ** 2 for step in clipped.vector(user))


def dense(rows: object, weight: float = 1.0) -> tuple[Update, Layout]:
    values = np.asarray(rows, np.float64)
    return Update((DenseBlock(values),), len(values)), (BlockSpec(name="x", shape=values.shape[1:], weight=weight),)


@given(updates(), GRIDS, NORMS)
def test_the_norm_of_every_users_integer_vector_is_at_most_grid(
    made: tuple[Update, Layout], grid: int, clip_norm: float
) -> None:
    batch, layout = made
    clipped = clip(batch, layout, clip_norm=clip_norm, grid=grid)
    assert len(clipped.accepted) == batch.n_users
    for user in range(batch.n_users):
        assert square_norm(clipped, user) <= grid**2
        if not clipped.accepted[user]:
            assert not clipped.vector(user).any()


@given(updates(), GRIDS, st.randoms(use_true_random=False))
def test_one_users_integers_do_not_depend_on_who_else_is_in_the_batch(
    made: tuple[Update, Layout], grid: int, random: object
) -> None:
    batch, layout = made
    together = clip(batch, layout, clip_norm=1.0, grid=grid)
    order = list(range(batch.n_users))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    shuffled = clip(only(batch, order), layout, clip_norm=1.0, grid=grid)
    for place, user in enumerate(order):
        alone = clip(only(batch, [user]), layout, clip_norm=1.0, grid=grid)
        assert np.array_equal(alone.vector(0), together.vector(user))
        assert np.array_equal(shuffled.vector(place), together.vector(user))
        assert alone.accepted[0] == together.accepted[user] == shuffled.accepted[place]


def test_of_a_direction_that_is_nothing_nothing_is_taken_however_often() -> None:
    """A shift that is far too large for its square makes no number that isn't finite."""
    columns, shift = np.array([[-1e154, 0.0], [0.0, 0.0]]), np.array([1.0, 0.0])
    block = OuterBlock(
        np.zeros(3, np.int64), np.zeros(0, np.int32), np.zeros(0), columns, 1, np.zeros(1, np.int64), shift
    )
    layout = (BlockSpec(name="x", shape=(1, 2), weight=1.0),)
    clipped = clip(Update((block,), 2), layout, clip_norm=1.0, grid=2)
    assert not any(clipped.vector(user).any() for user in range(2))


@given(updates(), GRIDS, st.sampled_from((0, 10**9)), st.integers(1, 5))
def test_the_total_is_the_sum_of_the_vectors_whichever_way_it_is_taken(
    made: tuple[Update, Layout], grid: int, dense_share: int, at_once: int
) -> None:
    batch, layout = made
    clipped = clip(batch, layout, clip_norm=1.0, grid=grid)
    with (
        mock.patch.object(update, "DENSE_SHARE", dense_share),  # always one user at a time, or never
        mock.patch.object(update, "DENSE_AT_ONCE", 6 * at_once),
        mock.patch.object(interactions, "GATHERED_AT_ONCE", 8 * at_once),
        mock.patch.object(pairs, "DENSE_SHARE", dense_share),
        mock.patch.object(pairs, "FEWEST_DENSE", 1),
        mock.patch.object(pairs, "DENSE_AT_ONCE", 3 * at_once),
        mock.patch.object(pairs, "PAIRS_AT_ONCE", at_once),
    ):
        total = clipped.total()
    vectors = [[int(step) for step in clipped.vector(user)] for user in range(batch.n_users)]
    assert total.dtype == np.int64
    assert total.tolist() == [sum(steps) for steps in zip(*vectors, strict=True)] if vectors else not total.any()


def sparse_users(rng: np.random.Generator, n_users: int, n_rows: int, *, most: float) -> OuterBlock:
    """Users of rare rows and of rows that many have, each with a taste of three numbers."""
    chosen = rng.random((n_users, n_rows)) < np.linspace(0.001, most, n_rows)
    indptr, indices = np.concatenate(([0], np.cumsum(chosen.sum(axis=1)))), np.nonzero(chosen)[1].astype(np.int32)
    return OuterBlock(indptr, indices, rng.normal(size=len(indices)), rng.normal(size=(n_users, 3)), n_rows)


@pytest.mark.parametrize("grid", [2**14, 2**20, 2**26])  # of the last, products are too large for float32
@pytest.mark.parametrize("users_at_once", [700, 16_384])
def test_a_sparse_total_is_that_of_a_dense_product(grid: int, users_at_once: int) -> None:
    """Of popular items with hundreds of users as of rare ones; and a total is added to."""
    n_users, n_rows = 1500, 90
    block = sparse_users(np.random.default_rng(8), n_users, n_rows, most=0.5)
    layout = (BlockSpec(name="x", shape=(n_rows, 3), weight=1.0),)
    clipped = clip(Update((block,), n_users), layout, clip_norm=1.0, grid=grid)
    (steps,) = clipped.steps
    assert isinstance(steps, update.OuterSteps)
    spelled = np.zeros((n_users, n_rows), np.int64)
    spelled[np.repeat(np.arange(n_users), np.diff(steps.indptr)), steps.indices] = steps.rows
    expected = (spelled.T @ steps.columns).ravel()
    total = np.arange(n_rows * 3)
    with mock.patch.object(update, "DENSE_SHARE", 0), mock.patch.object(update, "USERS_AT_ONCE", users_at_once):
        clipped.add_to(total)
    assert (total - np.arange(n_rows * 3)).tolist() == expected.tolist()


def test_a_sum_of_batches_has_all_their_users() -> None:
    """A node's noise, and what its sum may weigh, follow from the number of users."""
    layout = (BlockSpec(name="x", shape=(2,), weight=1.0),)
    batches = [clip(Update((DenseBlock(np.ones((n, 2))),), n), layout, clip_norm=1.0, grid=1000) for n in (3, 1, 2)]
    found = update.ClippedSum.of(iter(batches), layout, grid=1000)
    assert (found.users, found.grid) == (6, 1000)
    assert found.total().tolist() == sum(batch.total() for batch in batches).tolist()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e200, 1.7e308])
@pytest.mark.parametrize("block", [0, 1])
def test_a_contribution_that_is_not_finite_is_zeroed_and_the_others_are_kept(odd: float, block: int) -> None:
    layout = (BlockSpec(name="x", shape=(2,), weight=0.6), BlockSpec(name="y", shape=(4, 2), weight=0.8))
    values, columns = np.ones((3, 2)), np.ones((3, 2))
    (values, columns)[block][1, 0] = odd
    rows = OuterBlock(np.array([0, 2, 3, 5]), np.array([0, 3, 1, 1, 2], np.int32), np.ones(5), columns, 4)
    clipped = clip(Update((DenseBlock(values), rows), 3), layout, clip_norm=1.0, grid=1000)
    assert clipped.accepted.tolist() == [True, False, True]
    assert not clipped.vector(1).any()
    assert 900**2 < square_norm(clipped, 0) <= 1000**2
    assert clipped.total().tolist() == (clipped.vector(0) + clipped.vector(2)).tolist()


def test_blocks_are_clipped_jointly() -> None:
    layout = tuple(BlockSpec(name=name, shape=(2,), weight=math.sqrt(0.5)) for name in "xy")
    batch = Update((DenseBlock(np.array([[3.0, 0.0]])), DenseBlock(np.array([[0.0, -4.0]]))), 1)
    # Clipped block by block, both would come out at 707 steps; clipped after the sum, at 3 and 4 times that.
    assert clip(batch, layout, clip_norm=1.0, grid=1000).vector(0).tolist() == [599, 0, 0, -799]


def test_the_layout_knows_no_data() -> None:
    """An algorithm gives the layout before any history is there: nothing that it is called with holds one."""
    assert [*inspect.signature(Algorithm.layout).parameters] == ["self", "state", "round_"]


def test_weights_scale_before_the_clip() -> None:
    layout = (BlockSpec(name="x", shape=(1,), weight=0.6), BlockSpec(name="y", shape=(1,), weight=0.8))
    unit = Update((DenseBlock(np.array([[1.0]])), DenseBlock(np.array([[1.0]]))), 1)
    large = Update((DenseBlock(np.array([[10.0]])), DenseBlock(np.array([[10.0]]))), 1)
    for batch in (unit, large):
        assert clip(batch, layout, clip_norm=1.0, grid=1000).vector(0).tolist() == [599, 799]
    lopsided = Update((DenseBlock(np.array([[1.0]])), DenseBlock(np.array([[0.0]]))), 1)
    assert clip(lopsided, layout, clip_norm=0.3, grid=1000).vector(0).tolist() == [999, 0]


@pytest.mark.parametrize(
    ("value", "steps"), [(0.0, 0), (0.5, 499), (-0.5, -499), (1.0, 999), (-1.0, -999), (7.0, 999), (1e150, 999)]
)
def test_steps_are_truncated_toward_zero(value: float, steps: int) -> None:
    batch, layout = dense([[value]])
    assert clip(batch, layout, clip_norm=1.0, grid=1000).vector(0).tolist() == [steps]


@pytest.mark.parametrize("grid", [1, 2**14, 2**20, MAX_GRID, 3**10])
def test_rounding_cannot_push_a_boundary_norm_over_the_bound(grid: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 30_001))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    layout = (BlockSpec(name="x", shape=(30_001,), weight=1.0),)
    for stretch in (1.0, 1 + 1e-15, 1 - 1e-15, 1e6):
        clipped = clip(Update((DenseBlock(values * stretch),), 8), layout, clip_norm=1.0, grid=grid)
        assert clipped.accepted.all()
        assert all(square_norm(clipped, user) <= grid**2 for user in range(8))
    assert grid < 2**20 or square_norm(clipped, 0) > (0.99 * grid) ** 2


def test_an_outer_product_keeps_its_direction_and_all_but_a_little_of_its_norm() -> None:
    rng = np.random.default_rng(1)
    rows, columns = rng.normal(size=40), rng.normal(size=(1, 24))
    block = OuterBlock(np.array([0, 40]), np.arange(0, 80, 2, dtype=np.int32), rows, columns, 80)
    spec = BlockSpec(name="x", shape=(80, 24), weight=1.0)
    steps = clip(Update((block,), 1), (spec,), clip_norm=1.0, grid=2**20).vector(0).reshape(80, 24)
    exact = np.zeros((80, 24))
    exact[::2] = np.outer(rows, columns[0]) / (np.linalg.norm(rows) * np.linalg.norm(columns))
    assert np.abs(steps / 2**20 - exact).max() < 2**11 / 2**20
    assert not steps[1::2].any()


def test_a_centred_product_has_next_to_no_part_along_the_direction_and_all_but_a_little_of_its_norm() -> None:
    """Popularity of a long tail; what stays along it is what rounding the shift leaves."""
    n_users, n_rows, grid = 300, 800, 2**20
    block = sparse_users(np.random.default_rng(4), n_users, n_rows, most=0.4)
    block = replace(block, rows=np.ones(len(block.rows)))
    along = whole_direction(np.linspace(0.001, 0.4, n_rows), grid=grid)
    block, length = centred(block, along), float(np.linalg.norm(along))
    clipped = clip(
        Update((block,), n_users), (BlockSpec(name="x", shape=(n_rows, 3), weight=1.0),), clip_norm=1e-6, grid=grid
    )
    assert clipped.accepted.all()
    for user in range(n_users):
        steps = clipped.vector(user).reshape(n_rows, 3)
        assert square_norm(clipped, user) > (0.97 * grid) ** 2
        part = slice(block.indptr[user], block.indptr[user + 1])
        exact = -block.shift[user] * along.astype(np.float64)
        exact[block.indices[part]] += block.rows[part]
        exact /= np.linalg.norm(exact)
        kept = np.linalg.norm(along @ steps) / length
        assert kept < (length / 2 + 20) * 2**10  # half a shift, and the truncated rows
        assert kept < 0.1 * np.linalg.norm(steps)
        assert exact @ steps @ block.columns[user] > 0.98 * np.linalg.norm(steps) * np.linalg.norm(block.columns[user])


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_rows", [50, 2000, 60_000])
def test_a_direction_in_whole_numbers_is_close_and_small(n_rows: int, exponent: float) -> None:
    direction = (np.arange(n_rows) + 10.0) ** -exponent
    along = whole_direction(direction, grid=2**20)
    assert along @ direction > 0.97 * np.linalg.norm(along) * np.linalg.norm(direction)
    assert np.linalg.norm(along) < 2**10 / 2.5


def test_a_shift_that_rounding_lengthens_costs_rows_a_little_and_no_user() -> None:
    """The worst case: t is half a step from a whole number, for all users."""
    along, columns = np.full(100, 9), np.ones((1, 2))
    for items in range(1, 96):  # more would lie along the direction all but entirely
        block = OuterBlock(np.array([0, items]), np.arange(items, dtype=np.int32), np.ones(items), columns, 100)
        clipped = clip(
            Update((centred(block, along),), 1),
            (BlockSpec(name="x", shape=(100, 2), weight=1.0),),
            clip_norm=1e-6,
            grid=2**20,
        )
        assert clipped.accepted.all()
        assert square_norm(clipped, 0) > (0.9 * 2**20) ** 2


def test_what_lies_along_the_direction_alone_is_sent_as_little_more_than_nothing() -> None:
    """Were the norm that of the rounding error that is left of it, rounding would be sent at the whole norm."""
    along = np.arange(1, 9)
    block = OuterBlock(np.array([0, 8]), np.arange(8, dtype=np.int32), 0.3 * along, np.ones((1, 2)), 8)
    layout = (BlockSpec(name="x", shape=(8, 2), weight=1.0),)
    clipped = clip(Update((centred(block, along),), 1), layout, clip_norm=1e-6, grid=2**20)
    assert square_norm(clipped, 0) < (0.02 * 2**20) ** 2


def paired(*users: dict[int, float], n_rows: int = 5) -> tuple[Update, Layout]:
    """Each user's rows, whose pairs are sent."""
    indptr = np.cumsum([0, *map(len, users)])
    indices = np.array([row for user in users for row in sorted(user)], np.int32)
    rows = np.array([user[row] for user in users for row in sorted(user)])
    layout = (BlockSpec(name="x", shape=(n_rows * (n_rows - 1) // 2,), weight=1.0),)
    return Update((PairBlock(indptr, indices, rows, n_rows),), len(users)), layout


def test_pairs_are_the_upper_triangle_row_by_row_each_once() -> None:
    weights = {0: 3.0, 1: -2.0, 3: 1.0, 4: 0.5}
    batch, layout = paired(weights)
    steps = clip(batch, layout, clip_norm=1.0, grid=2**20).vector(0) / 2**20
    rows = np.zeros(5)
    rows[[*weights]] = [*weights.values()]
    exact = np.outer(rows, rows)[np.triu_indices(5, 1)]
    assert np.abs(steps - exact / np.linalg.norm(exact)).max() < 2e-3


@pytest.mark.parametrize("n_items", [2, 3, 30, 1000])
def test_pairs_keep_all_but_a_little_of_their_norm(n_items: int) -> None:
    batch, layout = paired(dict.fromkeys(range(n_items), 1.0), n_rows=1000)
    clipped = clip(batch, layout, clip_norm=1e-6, grid=2**20)
    assert (0.94 * 2**20) ** 2 < float(clipped.steps[0].square_norms()[0]) <= 2**40
    assert square_norm(clipped, 0) == int(clipped.steps[0].square_norms()[0])


def test_a_user_with_one_row_has_no_pair_and_whatever_its_weight_others_are_kept() -> None:
    """Their norm is that of nothing; numbers whose squares overflow are rejected, as in any block."""
    batch, layout = paired({2: 1e70}, {}, {0: 1.0, 1: 1.0}, {0: 1e60, 4: 1e-60}, {1: 1e200}, {0: np.inf, 3: 0.0})
    clipped = clip(batch, layout, clip_norm=1e-6, grid=MAX_GRID)
    assert clipped.accepted.tolist() == [True, True, True, True, False, False]
    assert [int(clipped.vector(user).any()) for user in range(6)] == [0, 0, 1, 0, 0, 0]
    assert clipped.total().tolist() == clipped.vector(2).tolist()
    assert clipped.vector(2)[0] > 0.99 * MAX_GRID


def test_pairs_that_nobody_could_have_clipped_are_refused_by_the_last_check() -> None:
    """Numbers whose squares would wrap: their norm counts as infinite, next to one at the bound."""
    rows = np.array([2**32, 2**32, 2**13, 2**13, -(2**63), 1])
    steps = pairs.PairSteps(np.array([0, 2, 4, 6]), np.array([0, 1] * 3, np.int32), rows, 2)
    assert steps.square_norms().tolist() == [np.inf, 2.0**52, np.inf]


def test_many_users_pairs_are_a_product_of_whole_numbers() -> None:
    """Users with many rows are summed densely, the others pair by pair; a total is added to."""
    n_users, n_rows = 400, 90
    chosen = sparse_users(np.random.default_rng(3), n_users, n_rows, most=0.3)
    block = PairBlock(chosen.indptr, chosen.indices, chosen.rows, n_rows)
    layout = (BlockSpec(name="x", shape=(n_rows * (n_rows - 1) // 2,), weight=1.0),)
    clipped = clip(Update((block,), n_users), layout, clip_norm=1.0, grid=2**20)
    (steps,) = clipped.steps
    assert isinstance(steps, pairs.PairSteps)
    spelled = np.zeros((n_users, n_rows), np.int64)
    spelled[np.repeat(np.arange(n_users), np.diff(steps.indptr)), steps.indices] = steps.rows
    expected = (spelled.T @ spelled)[np.triu_indices(n_rows, 1)]
    many = int((np.diff(steps.indptr) * pairs.DENSE_SHARE > n_rows).sum())
    assert pairs.FEWEST_DENSE <= many < n_users
    total = np.arange(len(expected))
    clipped.add_to(total)
    assert (total - np.arange(len(expected))).tolist() == expected.tolist()


def test_a_single_item_user_an_empty_user_and_a_zero_update_are_no_special_cases() -> None:
    block = OuterBlock(
        np.array([0, 1, 1, 3]), np.array([2, 0, 2], np.int32), np.array([5.0, 0.0, 0.0]), np.ones((3, 1)), 3
    )
    clipped = clip(Update((block,), 3), (BlockSpec(name="x", shape=(3,), weight=1.0),), clip_norm=1.0, grid=1000)
    assert clipped.accepted.all()
    assert [clipped.vector(user).tolist() for user in range(3)] == [[0, 0, 999], [0, 0, 0], [0, 0, 0]]


def test_no_users_at_all_sum_to_zero() -> None:
    outer = OuterBlock(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros((0, 2)), 3)
    layout = (BlockSpec(name="x", shape=(2, 2), weight=0.6), BlockSpec(name="y", shape=(3, 2), weight=0.8))
    clipped = clip(Update((DenseBlock(np.zeros((0, 2, 2))), outer), 0), layout, clip_norm=1.0, grid=1000)
    assert clipped.total().tolist() == [0] * 10


def test_numbers_whose_squares_underflow_cost_their_own_user_alone() -> None:
    """Columns near 1e-161 have squares of three digits, so that their length is off by more than the guard."""
    columns = np.array([[5.65902624473077e-161, 4.917098400080468e-161, 1.2973315239684771e-161], [1.0, 1.0, 1.0]])
    block = OuterBlock(np.array([0, 1, 2]), np.zeros(2, np.int32), np.array([1.34e154, 1.0]), columns, 1)
    layout = (BlockSpec(name="x", shape=(1, 3), weight=1.0),)
    clipped = clip(Update((block,), 2), layout, clip_norm=1e-6, grid=MAX_GRID)
    assert clipped.accepted.tolist() == [False, True]
    assert not clipped.vector(0).any()
    assert square_norm(clipped, 1) > (0.99 * MAX_GRID) ** 2


@pytest.mark.parametrize("guard", [1.01, 1e3, 1e15, 1e300, np.nan])
def test_whatever_goes_wrong_in_the_scaling_the_last_check_holds(guard: float) -> None:
    rows = OuterBlock(np.array([0, 1, 2]), np.array([0, 1], np.int32), np.array([1.0, 1e-3]), np.ones((2, 2)), 2)
    values = np.array([[1.0, 1.0], [1e-4, 0.0]])
    both = PairBlock(np.array([0, 2, 4]), np.array([0, 1, 0, 1], np.int32), np.array([1.0, 1.0, 1e-3, 1e-3]), 2)
    for other in (rows, centred(rows, np.array([3, 4])), both):
        layout = (
            BlockSpec(name="x", shape=(2,), weight=0.6),
            BlockSpec(name="y", shape=other.shape[1:], weight=0.8),
        )
        with mock.patch.object(clipping, "GUARD", guard), np.errstate(invalid="ignore", over="ignore"):
            clipped = clip(Update((DenseBlock(values), other), 2), layout, clip_norm=1.0, grid=2**20)
        assert all(square_norm(clipped, user) <= 2**40 for user in range(2))
        assert not clipped.vector(0).any()


def test_a_shift_that_would_make_sums_inexact_is_refused_by_the_last_check() -> None:
    """Its user's own rows cancel it, so that what they send is short."""
    along, shift = np.array([1]), np.array([2**31])
    steps = update.OuterSteps(np.array([0, 1]), np.zeros(1, np.int32), shift + 5, np.ones((1, 1), int), 1, along, shift)
    assert steps.vector(0).tolist() == [5]
    assert steps.square_norms().tolist() == [np.inf]


def test_blocks_over_one_array_of_rows_are_clipped_by_what_each_of_them_has() -> None:
    """Blocks may share their rows' numbers, and say different things about them."""
    indptr, at, rng = np.array([0, 2, 5]), np.array([0, 3, 1, 2, 3], np.int32), np.random.default_rng(3)
    layout = tuple(BlockSpec(name=name, shape=(4, 2), weight=0.7) for name in "ab")

    rows, column = (rng.normal(size=5) / 100, rng.normal(size=5) * 100), rng.normal(size=(2, 2))

    def clipped(order: Sequence[np.ndarray], *, copied: bool) -> list[list[int]]:
        blocks = tuple(OuterBlock(indptr, at.copy() if copied else at, each, column, 4) for each in order)
        found = clip(Update(blocks, 2), layout, clip_norm=1.0, grid=2**14)
        return [found.vector(user).tolist() for user in range(2)]

    for order in (rows, rows[::-1]):
        assert clipped(order, copied=False) == clipped(order, copied=True)


def test_only_clip_makes_a_clipped_update() -> None:
    makers = set()
    for folder in ("common", "client", "server", "simulations"):
        for file in (PACKAGES / folder).rglob("*.py"):
            if "ClippedUpdate" not in (text := file.read_text()):
                continue
            calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
            names = {getattr(called, "id", getattr(called, "attr", "")) for called in calls}
            if "ClippedUpdate" in names and "palate_audit" not in file.parts:  # which forges some on purpose
                makers.add(file.name)
    assert makers == {"clipping.py"}
