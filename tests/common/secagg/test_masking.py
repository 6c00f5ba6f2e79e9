import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import InputError
from palate_core.masks import masking
from palate_core.masks.masking import Masker
from palate_core.masks.packing import residue_type

STEP = masking._STEP


def mask(size, bits, key):
    total = np.zeros(size, residue_type(bits))
    Masker(size, bits).add(total, key)
    return total


def by_blocks(key, size):
    """Counter mode as SP 800-38A defines it: each counter encrypted by itself."""
    counters = b"".join(block.to_bytes(16, "big") for block in range(-(-size // 16)))
    return Cipher(AES(key), ECB()).encryptor().update(counters)[:size]  # noqa: S305 (the definition, on counters)


def test_nist_vectors():
    # GCM's test cases 13 and 14 show the zero key's blocks 0 to 2: the hash key, the tag's mask, a ciphertext of zeros.
    zero = "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"
    assert mask(12, 32, bytes(32)).astype("<u4").tobytes().hex() == zero
    assert mask(6, 64, bytes(32)).astype("<u8").tobytes().hex() == zero
    # NIST AESAVS, appendix C.3 (KeySbox, 256 bits): the zero block under this key.
    key = bytes.fromhex("c47b0294dbbbee0fec4757f22ffeee3587ca4730c3d33b691df38bab076bc558")
    assert mask(4, 20, key).astype("<u4").tobytes().hex() == "46f2fb342d6f0ab477476fc501242c5f"


@pytest.mark.parametrize("bits", [1, 20, 32, 33, 64])
@pytest.mark.parametrize("size", [1, 3, STEP // 8 - 1, STEP // 8 + 1, STEP // 4, STEP // 4 + 1, STEP])
def test_whole_length(bits, size):
    key = os.urandom(32)
    total = mask(size, bits, key)
    assert total.astype(total.dtype.newbyteorder("<")).tobytes() == by_blocks(key, total.nbytes)


@pytest.mark.parametrize("bits", [20, 40])
@pytest.mark.parametrize("size", [7, STEP // 4 + 1])
def test_many_at_once_are_one_after_the_other(size, bits):
    keys = [os.urandom(32) for _ in range(5)]
    masker = Masker(size, bits)
    one_by_one, at_once = np.ones(size, masker.dtype), np.ones(size, masker.dtype)
    for key in keys[:3]:
        masker.add(one_by_one, key)
    for key in keys[3:]:
        masker.subtract(one_by_one, key)
    masker.apply(at_once, added=keys[:3], subtracted=keys[3:])
    assert np.array_equal(at_once, one_by_one)
    with pytest.raises(InputError, match="key"):
        masker.apply(at_once, added=[*keys, bytes(31)])
    assert np.array_equal(at_once, one_by_one)


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.booleans()), max_size=8), st.randoms(), st.booleans())
def test_masks_cancel(keys, random, wide):
    bits, size = (40, 9) if wide else (20, 9)
    masker = Masker(size, bits)
    start = np.arange(size, dtype=masker.dtype) * masker.dtype.type(2**28 + 7)
    total = start.copy()
    steps = [(key, sign) for key, sign in keys] + [(key, not sign) for key, sign in keys]
    random.shuffle(steps)
    for key, sign in steps:
        (masker.add if sign else masker.subtract)(total, key)
    assert np.array_equal(total, start)


def test_key_used_once():
    """Why the assumption is there: one key on two vectors shows their difference."""
    key, masker = os.urandom(32), Masker(5, 20)
    one, two = np.arange(5, dtype=np.uint32), np.full(5, 9, np.uint32)
    masked_one, masked_two = one.copy(), two.copy()
    masker.add(masked_one, key)
    masker.add(masked_two, key)
    assert np.array_equal(masked_one - masked_two, one - two)


def test_aes256():
    """Another key, another mask, and bits that are set half of the time (8 sigma of 3.2 million bits)."""
    one, two = mask(100_000, 32, os.urandom(32)), mask(100_000, 32, os.urandom(32))
    assert not np.array_equal(one, two)
    share = np.unpackbits(one.view(np.uint8)).mean()
    assert abs(share - 0.5) < 8 * 0.5 / np.sqrt(3.2e6)


@pytest.mark.parametrize(
    "total",
    [
        np.zeros(4, np.uint64),
        np.zeros(3, np.uint32),
        np.zeros((2, 2), np.uint32),
        np.zeros(8, np.uint32)[::2],
        np.zeros(4, np.int32),
        np.zeros(4),
    ],
)
def test_other_totals_are_refused(total):
    masker = Masker(4, 20)
    for apply in (masker.add, masker.subtract):
        with pytest.raises(InputError, match="contiguous row of 4 uint32"):
            apply(total, bytes(32))
    assert not total.any()


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_other_keys_are_refused(length):
    total = np.zeros(4, np.uint32)
    with pytest.raises(InputError, match="32 bytes"):
        Masker(4, 20).add(total, bytes(length))
    assert not total.any()


@pytest.mark.parametrize(("size", "bits"), [(0, 20), (-1, 20), (True, 20), (2.0, 20), (4, 0), (4, 65)])
def test_other_sizes_are_refused(size, bits):
    with pytest.raises(InputError):
        Masker(size, bits)
