import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import InputError
from palate_core.masks.shamir import combine, split
from palate_server.secagg import decoding
from palate_server.secagg.decoding import combine_all, misfits


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


@pytest.mark.parametrize(("shares", "threshold", "length"), [(5, 2, 32), (20, 11, 7), (118, 85, 32), (300, 40, 34)])
def test_many_secrets_at_once_are_one_after_the_other(shares, threshold, length):
    rng = np.random.default_rng(shares)
    secrets = [rng.bytes(length) for _ in range(19)]
    rows = np.stack([split(secret, shares=shares, threshold=threshold) for secret in secrets])
    held = np.zeros((19, shares), bool)
    for each in held:
        each[rng.permutation(shares)[:threshold]] = True
    rows[~held] = 255  # what isn't held has no say
    assert [found.tobytes() for found in combine_all(held, rows)] == secrets
    # Too few give what `combine` gives of them, and nothing tells.
    held[:] = False
    held[:, :2] = True
    few = [combine([1, 2], row[:2], total=shares) for row in rows]
    assert [found.tobytes() for found in combine_all(held, rows)] == few


def test_many_secrets_of_other_shapes():
    held, rows = np.ones((3, 5), bool), np.zeros((3, 5, 4), np.uint8)
    assert combine_all(held[:0], rows[:0]).shape == (0, 4)
    for other, values in ((held.astype(int), rows), (held[:2], rows), (held, rows[:, :, :0]), (held, rows.astype(int))):
        with pytest.raises(InputError):
            combine_all(other, values)
    held[1, 1:] = False
    with pytest.raises(InputError, match="two shares"):
        combine_all(held, rows)


@given(st.integers(2, 12), st.integers(0, 9), st.booleans(), st.randoms(use_true_random=False))
def test_wrong_shares_are_found_among_enough_right_ones(threshold: int, wrong: int, large: bool, random: Any) -> None:
    total = 300 if large else threshold + 2 * wrong + 1
    secret = os.urandom(32)
    held = sorted(random.sample(range(total), threshold + 2 * wrong))
    shares = split(secret, shares=total, threshold=threshold)[held].copy()
    bad = sorted(random.sample(range(len(held)), wrong))
    shares[bad] ^= np.frombuffer(os.urandom(31) + b"\1", np.uint8)  # none stays as it was
    found = misfits([at + 1 for at in held], shares, threshold=threshold, total=total)
    if wrong == 0:
        assert found.all(), "there are none to spare, so that nothing can be told"
        return
    assert np.flatnonzero(found).tolist() == bad
    good = [at for at in range(len(held)) if at not in bad][:threshold]
    assert combine([held[at] + 1 for at in good], shares[good], total=total) == secret


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.2, 0.5])
def test_work_by_the_square(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in products of elements: with many neighbours and many wrong shares, too."""
    done, times = [0], decoding._Decoder.times

    def counted(field: Any, one: Any, other: Any) -> Any:
        product = times(field, one, other)
        done[0] += product.size
        return product

    monkeypatch.setattr(decoding._Decoder, "times", counted)
    for total in (60, 250, 500):
        threshold, bad = total * 3 // 5, int(wrong * total)
        shares = split(os.urandom(32), shares=total, threshold=threshold).copy()
        shares[:bad] ^= np.frombuffer(os.urandom(32 * bad), np.uint8).reshape(bad, 32)
        done[0] = 0
        found = misfits(range(1, total + 1), shares, threshold=threshold, total=total)
        assert found.tolist() == ([at < bad for at in range(total)] if wrong <= 0.2 else [True] * total)
        assert done[0] <= 15 * total**2


def test_of_too_many_wrong_shares_nothing_is_said() -> None:
    shares = split(os.urandom(32), shares=9, threshold=5).copy()
    shares[:5] = np.frombuffer(os.urandom(5 * 32), np.uint8).reshape(5, 32)
    assert misfits(range(1, 10), shares, threshold=5, total=9).all()
