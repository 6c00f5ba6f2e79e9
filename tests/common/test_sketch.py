"""`Sketch`: many numbers as few, linear, and back."""

from dataclasses import replace

import numpy as np
import pytest

from palate_common.algorithms.parts.hashing import below, mix
from palate_common.algorithms.parts.sketch import Sketch
from palate_common.mechanism.update import OuterBlock
from palate_core.errors import InputError


def sent(n_users: int = 40, n_rows: int = 3000, seed: int = 0) -> OuterBlock:
    """Users with 1 to 30 rows each; the first has none."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, n_users)
    sizes[0] = 0
    rows = np.concatenate([np.sort(rng.choice(n_rows, size, replace=False)) for size in sizes])
    indptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    return OuterBlock(indptr, rows.astype(np.int32), rng.random(len(rows)) + 0.1, np.ones((n_users, 1)), n_rows)


def dense(block: OuterBlock) -> np.ndarray:
    """Rows of one number a user, [n_users, n_rows]."""
    out = np.zeros((len(block.columns), block.n_rows))
    for user in range(len(out)):
        part = slice(block.indptr[user], block.indptr[user + 1])
        out[user, block.indices[part]] = block.rows[part]
    return out


def part_of(block: OuterBlock, user: int) -> OuterBlock:
    """One user's part."""
    part = slice(block.indptr[user], block.indptr[user + 1])
    ends = np.array([0, part.stop - part.start])
    return OuterBlock(ends, block.indices[part], block.rows[part], block.columns[user : user + 1], block.n_rows)


def test_a_device_sends_the_sketch_of_what_it_would_have_sent_with_its_norm() -> None:
    block, sketch = sent(), Sketch(n_rows=3000, n_buckets=200, seed=7)
    folded, plain = dense(sketch.fold(block)), dense(block)
    for user in range(len(plain)):
        expected = sketch.buckets(plain[user])
        length = np.linalg.norm(expected)
        assert np.allclose(folded[user] * length, expected * np.linalg.norm(plain[user]))
        assert np.isclose(np.linalg.norm(folded[user]), np.linalg.norm(plain[user]))


def test_rows_rise_within_each_user_and_a_user_has_the_same_bits_in_every_batch() -> None:
    block, sketch = sent(), Sketch(n_rows=3000, n_buckets=50, seed=7)
    folded = sketch.fold(block)
    assert folded.n_rows == 50
    for user in range(40):
        alone = sketch.fold(part_of(block, user))
        together = part_of(folded, user)
        assert (np.diff(together.indices) > 0).all()
        assert np.array_equal(alone.indices, together.indices)
        assert np.array_equal(alone.rows, together.rows)


def test_what_cancels_out_is_sent_as_zero() -> None:
    sketch = Sketch(n_rows=64, n_buckets=1, seed=0)
    signs = [sketch.buckets(np.eye(64)[row])[0] for row in range(64)]
    pair = np.array([signs.index(1.0), signs.index(-1.0)])
    block = OuterBlock(np.array([0, 2]), np.sort(pair).astype(np.int32), np.ones(2), np.ones((1, 1)), 64)
    assert dense(sketch.fold(block)).tolist() == [[0.0]]


def test_a_centred_block_is_refused_not_sent_without_its_shift() -> None:
    block = replace(sent(), along=np.ones(3000, np.int64), shift=np.ones(40))
    with pytest.raises(InputError, match="a sketched block must not be centred"):
        Sketch(3000, 500, 0).fold(block)


def test_back_and_forth_are_each_others_transpose() -> None:
    sketch, rng = Sketch(n_rows=500, n_buckets=70, seed=3), np.random.default_rng(0)
    rows, buckets = rng.normal(size=500), rng.normal(size=70)
    assert np.isclose(sketch.buckets(rows) @ buckets, rows @ sketch.rows(buckets))


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_large_numbers_of_a_long_tail_come_back(noise: float) -> None:
    sketch = Sketch(n_rows=20_000, n_buckets=2_500, seed=1)
    rng = np.random.default_rng(2)
    numbers = 10_000 / rng.permutation(np.arange(1, 20_001))
    found, rest = sketch.recover(sketch.buckets(numbers) + noise * rng.normal(size=2_500), noise)
    top = np.argsort(-numbers)[:40]
    assert np.isin(top, np.argsort(-found)[:60]).mean() > 0.95
    assert np.abs(found[top] / numbers[top] - 1).mean() < 0.25
    assert noise <= rest < 100
    assert found.min() >= 0


def test_hashes_are_even_and_seeds_differ() -> None:
    hashes = below(mix(np.arange(100_000, dtype=np.uint64)), 10)
    assert np.abs(np.bincount(hashes, minlength=10) / 10_000 - 1).max() < 0.06
    first, second = (Sketch(n_rows=1000, n_buckets=100, seed=seed) for seed in (1, -1))
    assert not np.array_equal(first.buckets(np.ones(1000)), second.buckets(np.ones(1000)))


def test_numbers_with_a_place_of_their_own_stay_as_they_are() -> None:
    block, sketch = sent(), Sketch(n_rows=3000, n_buckets=3000, seed=0)
    sums = np.arange(3000.0)
    assert sketch.fold(block) is block
    assert sketch.recover(sums, 2.0)[0] is sums
    assert sketch.estimate(sums, 2.0, np.ones(3000))[0] is sums


def test_signed_numbers_come_back_where_their_size_is_known() -> None:
    rng, sketch = np.random.default_rng(5), Sketch(n_rows=5000, n_buckets=1000, seed=2)
    spread = 100 / np.arange(1, 5001)
    numbers = spread * rng.normal(size=5000)
    noised = sketch.buckets(numbers) + 0.1 * rng.normal(size=1000)
    found, rest = sketch.estimate(noised, 0.1, spread)
    errors = (found - numbers)[:100] / spread[:100]
    assert np.sqrt(np.mean(errors**2)) < 0.5
    assert rest > 0.1
