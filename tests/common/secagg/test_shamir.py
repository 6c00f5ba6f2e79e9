import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from palate_core.errors import InputError
from palate_core.masks.shamir import MAX_SHARES, combine, split


def times(a, b, bits):
    """The field's product, by the book."""
    polynomial = {8: 0x11D, 16: 0x1100B}[bits]
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a >> bits:
            a ^= polynomial
        b >>= 1
    return product


@given(st.data(), st.integers(2, 30), st.binary(min_size=1, max_size=40))
def test_threshold_shares_suffice(data, shares, secret):
    threshold = data.draw(st.integers(2, shares))
    rows = split(secret, shares=shares, threshold=threshold)
    count = data.draw(st.integers(threshold, shares))
    chosen = data.draw(st.permutations(range(shares)))[:count]
    assert combine([row + 1 for row in chosen], rows[chosen], total=shares) == secret


@settings(max_examples=20, deadline=None)
@given(st.integers(256, 700), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_threshold_shares_suffice_above_255(shares, threshold, seed):
    rng = np.random.default_rng(seed)
    secret = rng.bytes(34)
    rows = split(secret, shares=shares, threshold=threshold)
    chosen = rng.permutation(shares)[:threshold]
    assert combine((chosen + 1).tolist(), rows[chosen], total=shares) == secret


@pytest.mark.parametrize(("shares", "threshold"), [(2, 2), (255, 2), (255, 255), (256, 2), (256, 256), (1000, 700)])
def test_edges(shares, threshold):
    secret = bytes(range(64))
    rows = split(secret, shares=shares, threshold=threshold)
    assert rows.shape == (shares, 64)
    assert rows.dtype == np.uint8
    for chosen in (np.arange(threshold), np.arange(shares)[-threshold:]):
        assert combine((chosen + 1).tolist(), rows[chosen], total=shares) == secret


@pytest.mark.parametrize(("shares", "bits"), [(20, 8), (300, 16)])
def test_shares_are_the_values_of_one_polynomial(monkeypatch, shares, bits):
    """Horner's rule in a field of its own, on the coefficients that were drawn."""
    drawn = bytes(range(1, 13))
    monkeypatch.setattr(os, "urandom", lambda n: drawn[:n])
    secret = b"\xfe\x07\x80\x01"
    rows = split(secret, shares=shares, threshold=4)
    width = bits // 8
    text = secret + drawn
    elements = [int.from_bytes(text[i : i + width], "little") for i in range(0, 16, width)]
    size = 4 // width
    for row in (0, 1, 6, shares - 1):
        for place in range(size):
            value = 0
            for coefficient in reversed(elements[place::size]):
                value = times(value, row + 1, bits) ^ coefficient
            assert rows[row].tobytes()[place * width : (place + 1) * width] == value.to_bytes(width, "little")


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.parametrize("shares", [3, 300])
def test_fewer_are_uniform(shares):
    """Each single share of a fixed secret, and two of three shares jointly (by their xor): chi^2 at one in 10^6."""
    draws = 20_000
    rows = np.concatenate([split(bytes(2000), shares=shares, threshold=3)[:2] for _ in range(draws // 1000)], axis=1)
    bound = chi2.isf(1e-6 / 3, 255)
    for sample in (rows[0], rows[1], rows[0] ^ rows[1]):
        assert chi_square(np.bincount(sample, minlength=256)) < bound


def test_fewer_are_uniform_exactly():
    """Every polynomial of degree 1 once: a share takes each value once, whatever the secret is."""
    for secret in (0, 1, 200):
        for index in (1, 2, 255):
            assert len({secret ^ times(slope, index, 8) for slope in range(256)}) == 256


def test_fewer_than_the_threshold_give_another_secret():
    secret = os.urandom(32)
    rows = split(secret, shares=10, threshold=5)
    for chosen in itertools.combinations(range(10), 4):
        assert combine([row + 1 for row in chosen], rows[list(chosen)], total=10) != secret


def test_a_changed_share_changes_the_secret():
    secret = os.urandom(32)
    rows = split(secret, shares=10, threshold=5)
    for byte in range(32):
        changed = rows.copy()
        changed[3, byte] ^= 1
        assert combine([1, 2, 3, 4, 5], changed[:5], total=10) != secret


def test_fresh_coefficients():
    first, second = (split(bytes(32), shares=5, threshold=3) for _ in range(2))
    assert not np.array_equal(first, second)


def test_secrets_split_together_are_combined_apart():
    rows = split(b"a" * 32 + b"b" * 32, shares=6, threshold=4)
    assert combine([2, 3, 5, 6], rows[[1, 2, 4, 5], :32], total=6) == b"a" * 32
    assert combine([1, 2, 3, 4], rows[:4, 32:], total=6) == b"b" * 32


@pytest.mark.parametrize(
    ("secret", "shares", "threshold"),
    [
        (b"", 3, 2),
        (b"ab", 3, 1),
        (b"ab", 3, 0),
        (b"ab", 3, 4),
        (b"ab", 1, 1),
        (b"ab", MAX_SHARES + 1, 2),
        (b"abc", 256, 2),
    ],
)
def test_split_refuses(secret, shares, threshold):
    with pytest.raises(InputError, match="must be"):
        split(secret, shares=shares, threshold=threshold)


@pytest.mark.parametrize(
    ("indices", "shape", "total"),
    [
        ([1, 1], (2, 4), 5),
        ([0, 1], (2, 4), 5),
        ([-1, 1], (2, 4), 5),
        ([1, 6], (2, 4), 5),
        ([1], (1, 4), 5),
        ([], (0, 4), 5),
        ([1, 2], (3, 4), 5),
        ([1, 2], (2, 0), 5),
        ([1, 2], (2, 3), 300),
        ([1, 2], (2, 4), 1),
        ([1, 2], (2, 4), MAX_SHARES + 1),
    ],
)
def test_combine_refuses(indices, shape, total):
    with pytest.raises(InputError, match="must be"):
        combine(indices, np.zeros(shape, np.uint8), total=total)


def test_combine_refuses_other_types():
    with pytest.raises(InputError, match="uint8"):
        combine([1, 2], np.zeros((2, 4), np.uint16), total=5)
