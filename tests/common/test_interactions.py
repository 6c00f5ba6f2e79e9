from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common import interactions
from palate_common.interactions import Interactions, gathered_sums, row_chunks, row_squares, segment_sum
from palate_core.errors import InputError


def made(seed: int, n_users: int, n_items: int) -> Interactions:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, n_items + 1, n_users)
    items = [rng.choice(n_items, size, replace=False) for size in sizes]
    flat = np.concatenate(items) if items else np.zeros(0, int)
    owners = np.repeat(np.arange(n_users), sizes)
    return Interactions.from_pairs(owners, flat, rng.uniform(0.1, 9, len(flat)), n_users=n_users, n_items=n_items)


def same(one: Interactions, other: Interactions) -> bool:
    return one.n_items == other.n_items and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("indptr", "indices", "weights")
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40), st.integers(1, 6), st.integers(1, 9))
def test_a_users_row_has_the_same_bits_in_every_batch(
    seed: int, n_users: int, n_items: int, width: int, at_once: int
) -> None:
    """In a batch of one, among others, among others in another order, and however the batch is cut."""
    rng = np.random.default_rng(seed)
    batch = made(seed, n_users, n_items)
    order = rng.permutation(n_users)
    table = rng.normal(size=(n_items, width)).astype(rng.choice(["f4", "f8"]))
    together = batch.matmul(table), batch.matmul(table, batch.weights)
    shuffled_batch = batch.users(order)
    shuffled = shuffled_batch.matmul(table), shuffled_batch.matmul(table, shuffled_batch.weights)
    with mock.patch.object(interactions, "GATHERED_AT_ONCE", 8 * at_once):
        cut = batch.matmul(table), batch.matmul(table, batch.weights)
    for result in range(2):
        assert together[result].dtype == table.dtype
        assert np.array_equal(cut[result], together[result])
        assert np.array_equal(shuffled[result], together[result][order])
        for user in range(n_users):
            one = batch.user(user)
            alone = one.matmul(table, one.weights if result else None)
            assert np.array_equal(alone[0], together[result][user])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 9))
def test_a_batch_of_one_that_is_joined_by_more_is_the_batch_of_all_pairs(seed: int, n_items: int, count: int) -> None:
    """Also where an item is there already, or comes twice."""
    rng, known = np.random.default_rng(seed), made(seed, 1, n_items)
    items, weights = rng.integers(n_items, size=count), rng.uniform(0.1, 9, count)
    pairs = np.concatenate([known.indices, items]), np.concatenate([known.weights, weights])
    whole = Interactions.from_pairs(np.zeros(len(pairs[0]), int), *pairs, n_users=1, n_items=n_items)
    joined = known.with_interactions(items, weights)
    assert same(joined, whole)
    for name in ("indptr", "indices", "weights"):
        assert getattr(joined, name).dtype == getattr(whole, name).dtype
    with pytest.raises(InputError):
        known.with_interactions(np.array([n_items]), np.ones(1))
    with pytest.raises(InputError):
        known.with_interactions(np.array([0]), np.zeros(1))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 127, 128, 129, 4097, 100_003])
def test_a_segments_sum_has_the_same_bits_wherever_it_lies(length: int) -> None:
    rng = np.random.default_rng(length)
    values = rng.normal(size=length) * 10.0 ** rng.integers(-8, 8, length)
    alone = segment_sum(values, np.array([0, length]))[0]
    for before in (1, 2, 3, 5, 64):
        padded = np.concatenate([rng.normal(size=before), values, rng.normal(size=3)])
        among = segment_sum(padded, np.array([0, before, before, before + length, before + length + 3]))
        assert among[1] == 0
        assert among[2] == alone
    table = np.repeat(values[:, None], 3, axis=1)
    assert row_squares(table.T)[0] == row_squares(values[None, :])[0]


def test_the_product_is_what_it_says() -> None:
    batch = made(3, 9, 20)
    table = np.random.default_rng(0).normal(size=(20, 4))
    plain, weighted = np.zeros((9, 20)), np.zeros((9, 20))
    plain[batch.owners(), batch.indices] = 1
    weighted[batch.owners(), batch.indices] = batch.weights
    assert np.allclose(batch.matmul(table), plain @ table, atol=1e-12)
    assert np.allclose(batch.matmul(table, batch.weights), weighted @ table, atol=1e-12)
    assert np.array_equal(batch.dense(), plain.astype(bool))


def test_pairs_come_in_any_order_and_a_repeated_one_keeps_its_largest_weight() -> None:
    batch = Interactions.from_pairs([2, 0, 2, 2, 0], [1, 3, 1, 0, 0], [1, 2, 9, 4, 5], n_users=4, n_items=5)
    assert batch.indptr.tolist() == [0, 2, 2, 4, 4]
    assert batch.indices.tolist() == [0, 3, 0, 1]
    assert batch.weights.tolist() == [5, 2, 4, 9]
    assert (batch.n_users, batch.n_items, batch.nnz) == (4, 5, 4)
    assert (batch.indptr.dtype, batch.indices.dtype, batch.weights.dtype) == (np.int64, np.int32, np.float32)
    assert batch.counts().tolist() == [2, 0, 2, 0]
    assert batch.owners().tolist() == [0, 0, 2, 2]


def test_nobody_and_nothing_are_a_batch_too() -> None:
    for n_users in (0, 3):
        batch = Interactions.from_pairs([], [], n_users=n_users, n_items=4)
        assert (batch.n_users, batch.nnz) == (n_users, 0)
        assert batch.matmul(np.ones((4, 2))).tolist() == [[0, 0]] * n_users
        assert same(batch.users(slice(0, n_users)), batch)
        assert list(row_chunks(batch.indptr)) == ([(0, 3)] if n_users else [])


@pytest.mark.parametrize(
    ("users", "items", "weights", "message"),
    [
        ([0, 3], [0, 0], None, r"`users` must lie in \[0, 3\), got 0..3"),
        ([-1], [0], None, r"`users` must lie in"),
        ([0], [4], None, r"`items` must lie in \[0, 4\), got 4..4"),
        ([0], [-1], None, r"`items` must lie in"),
        ([0], [0], [0.0], "positive and finite"),
        ([0], [0], [-1.0], "positive and finite"),
        ([0], [0], [np.nan], "positive and finite"),
        ([0], [0], [np.inf], "positive and finite"),
        ([0], [0], [1e39], "positive and finite"),
        ([0], [0], [1e-50], "positive and finite"),
        ([0], [0, 1, 2], None, r"of one length, got \(1, 3, 1\)"),
        ([0, 1], [0, 1], [1.0], r"of one length, got \(2, 2, 1\)"),
    ],
)
def test_pairs_that_are_none_are_refused(users: list[int], items: list[int], weights: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Interactions.from_pairs(users, items, weights, n_users=3, n_items=4)  # type: ignore[arg-type]  # list or None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_users_are_taken_in_the_given_order_by_slice_or_by_number(seed: int, data: st.DataObject) -> None:
    batch = made(seed, 7, 6)
    bound = st.one_of(st.none(), st.integers(-9, 9))
    step = data.draw(st.sampled_from((None, 1, 2, -1, -3)))
    taken = slice(data.draw(bound), data.draw(bound), step)
    numbers = np.arange(7)[taken]
    by_slice, by_number = batch.users(taken), batch.users(numbers)
    assert same(by_slice, by_number)
    for place, user in enumerate(numbers):
        assert same(by_slice.user(place), batch.user(int(user)))
    mask = np.isin(np.arange(7), numbers)
    assert same(batch.users(mask), batch.users(np.flatnonzero(mask)))


def test_columns_are_renumbered() -> None:
    batch = Interactions.from_pairs([0, 0, 0, 1], [0, 2, 4, 1], [1, 2, 3, 4], n_users=3, n_items=5)
    kept = batch.columns(np.array([2, 4]))
    assert (kept.n_items, kept.indptr.tolist()) == (2, [0, 2, 2, 2])
    assert (kept.indices.tolist(), kept.weights.tolist()) == ([0, 1], [2, 3])
    assert kept.indptr.dtype == np.int64
    assert same(batch.columns(np.arange(5)), batch)
    assert batch.columns(np.zeros(0, np.int64)).nnz == 0


@pytest.mark.parametrize("keep", [[1, 0], [0, 0], [-1, 2], [0, 5]])
def test_columns_that_do_not_rise_or_do_not_exist_are_refused(keep: list[int]) -> None:
    batch = Interactions.from_pairs([0], [0], n_users=1, n_items=5)
    for kind in (np.int64, np.uint8):
        with pytest.raises(InputError, match="strictly increasing"):
            batch.columns(np.array(keep).astype(kind))


def test_chunks_cover_every_row_once_and_cut_no_row() -> None:
    indptr = np.array([0, 0, 5, 5, 40_000, 40_001, 40_001])
    chunks = list(row_chunks(indptr))
    assert chunks[0][0] == 0
    assert chunks[-1][1] == 6
    assert all(left[1] == right[0] for left, right in pairwise(chunks))
    assert all(last > first for first, last in chunks)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_gathered_rows_have_the_bits_of_sums_row_by_row(dtype: str, weighted: bool) -> None:
    """For every length up to the first halving of numpy's pairwise sum, and for lengths with halves of halves."""
    rng = np.random.default_rng(3)
    lengths = np.concatenate([np.arange(290), [0, 1023, 1024, 1025, 5000, 0, 9, 9]])
    rng.shuffle(lengths)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    table = (rng.normal(size=(400, 5)) * 10.0 ** rng.integers(-6, 7, (400, 1))).astype(dtype)
    indices = rng.integers(400, size=indptr[-1]).astype(np.int32)
    entries = rng.uniform(0.1, 9, len(indices)).astype(np.float32) if weighted else None
    rows = table[indices] if entries is None else (table[indices] * entries[:, None]).astype(dtype)
    expected = segment_sum(rows, indptr)
    assert np.array_equal(gathered_sums(table, indices, indptr, entries), expected)
    with mock.patch.object(interactions, "GATHERED_AT_ONCE", 100):
        assert np.array_equal(gathered_sums(table, indices, indptr, entries), expected)


def test_weights_that_are_a_view_of_one_number_stay_one() -> None:
    ones = Interactions(np.array([0, 2, 3]), np.array([0, 2, 1], np.int32), np.broadcast_to(np.float32(1), 3), 3)
    kept = ones.columns(np.array([1, 2]))
    assert kept.indices.tolist() == [1, 0]
    assert kept.indptr.tolist() == [0, 1, 2]
    assert kept.weights.strides == (0,)
    assert kept.weights.tolist() == [1, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
def test_the_effective_count_is_the_count_where_weights_are_equal_and_lower_where_they_differ(
    seed: int, n_users: int, n_items: int
) -> None:
    batch = made(seed, n_users, n_items)
    found, counts = batch.effective_counts(), batch.counts()
    assert (found <= counts * (1 + 1e-12)).all()
    assert (found >= np.minimum(counts, 1) * (1 - 1e-12)).all()
    scaled = Interactions(batch.indptr, batch.indices, batch.weights * 8, batch.n_items)
    np.testing.assert_allclose(scaled.effective_counts(), found, rtol=1e-12)
    for weight in (1.0, 0.7):
        alike = Interactions(batch.indptr, batch.indices, np.full(batch.nnz, weight, np.float32), batch.n_items)
        np.testing.assert_allclose(alike.effective_counts(), counts, rtol=1e-12)
    alone = [batch.user(row).effective_counts()[0] for row in range(n_users)]
    assert np.array_equal(alone, found), "the same bits in every batch"


def test_one_event_that_outweighs_the_others_is_worth_about_one() -> None:
    batch = Interactions.from_pairs([0, 0, 0], [0, 1, 2], [1000, 1, 1], n_users=1, n_items=3)
    assert batch.effective_counts()[0] == pytest.approx(1002**2 / 1_000_002)
