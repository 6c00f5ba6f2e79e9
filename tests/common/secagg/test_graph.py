import itertools
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from palate_core.errors import InputError
from palate_core.masks import graph
from palate_core.masks.graph import Complete, Ring


def test_same_seed_same_ring():
    """The order by the definition: counters encrypted one by one, members sorted by their words."""
    for n in (3, 10, 1001):
        seed = os.urandom(32)
        blocks = b"".join(block.to_bytes(16, "big") for block in range(n // 2 + 1))
        stream = Cipher(AES(seed), ECB()).encryptor().update(blocks)  # noqa: S305 (the definition, on counters)
        words = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(n)]
        assert Ring.from_seed(seed, n).order.tolist() == sorted(range(n), key=lambda i: words[i])


def test_uniform():
    """All 24 orders of four, and each member at each position of 20: chi^2 at one in 10^6 over both."""
    draws = 12_000
    orders = {order: 0 for order in itertools.permutations(range(4))}
    places = np.zeros((20, 20))
    for _ in range(draws):
        orders[tuple(Ring.from_seed(os.urandom(32), 4).order.tolist())] += 1
        places[Ring.from_seed(os.urandom(32), 20).order, np.arange(20)] += 1
    counts = np.array(list(orders.values()))
    assert ((counts - draws / 24) ** 2 / (draws / 24)).sum() < chi2.isf(5e-7, 23)
    # Doubly constrained: 19 x 19 degrees of freedom, scaled by 19/20 (a permutation matrix' covariance).
    assert ((places - draws / 20) ** 2 / (draws / 20)).sum() * 19 / 20 < chi2.isf(5e-7, 361)


def test_equal_words_are_drawn_again():
    draws = iter([np.array([5, 1, 5], np.uint64), np.array([2, 2, 2], np.uint64), np.array([9, 3, 4], np.uint64)])
    assert graph._sorted_draw(lambda: next(draws)).tolist() == [1, 2, 0]


@given(st.integers(3, 60), st.data())
def test_symmetric(n, data):
    ring = Ring.from_seed(data.draw(st.binary(min_size=32, max_size=32)), n)
    k = 2 * data.draw(st.integers(1, (n - 1) // 2))
    table = ring.table(k)
    for owner in range(n):
        near = ring.neighbours(owner, k).tolist()
        assert near == table[owner].tolist()
        assert len({*near, owner}) == k + 1
        assert all(owner in table[holder] for holder in near)


def test_neighbours_are_the_nearest():
    ring = Ring.from_seed(bytes(32), 10)
    order = ring.order.tolist()
    assert sorted(order) == list(range(10))
    for place, member in enumerate(order):
        assert ring.neighbours(member, 4).tolist() == [order[(place + o) % 10] for o in (-2, -1, 1, 2)]


@given(st.lists(st.booleans(), min_size=3, max_size=40), st.data())
def test_gaps(alive, data):
    n = len(alive)
    ring = Ring.from_seed(data.draw(st.binary(min_size=32, max_size=32)), n)
    window, limit = data.draw(st.integers(1, n)), data.draw(st.integers(0, n + 1))
    missing = [not alive[member] for member in ring.order]
    slowly = any(sum(missing[(start + i) % n] for i in range(window)) >= limit for start in range(n))
    assert ring.gaps(np.array(alive), window, limit) == slowly


def test_gaps_go_around_the_circle():
    ring = Ring.from_seed(bytes(32), 10)
    alive = np.ones(10, bool)
    alive[ring.order[[9, 0, 1]]] = False
    assert ring.gaps(alive, window=3, limit=3)
    assert ring.gaps(alive, window=5, limit=3)
    assert not ring.gaps(alive, window=10, limit=4)
    assert not ring.gaps(alive, window=2, limit=3)


@pytest.mark.parametrize("n", [3, 4, 11])
def test_complete(n):
    whole = Complete(n)
    table = whole.table(n - 1)
    for owner in range(n):
        others = [member for member in range(n) if member != owner]
        assert whole.neighbours(owner, n - 1).tolist() == others == table[owner].tolist()
    with pytest.raises(InputError, match="complete"):
        whole.neighbours(0, n - 2)


def test_refusals():
    ring = Ring.from_seed(bytes(32), 10)
    for seed, n in ((bytes(31), 10), (bytes(33), 10), (bytes(32), 2), (bytes(32), True)):
        with pytest.raises(InputError, match="must be"):
            Ring.from_seed(seed, n)
    with pytest.raises(InputError, match="must be"):
        Complete(2)
    for k in (0, 3, 10, -2, 2.0):
        with pytest.raises(InputError, match="even"):
            ring.neighbours(0, k)
    for member in (-1, 10):
        for call in (
            lambda m: ring.neighbours(m, 4),
            lambda m: Complete(10).neighbours(m, 9),
        ):
            with pytest.raises(InputError, match="0 to 9"):
                call(member)
    for alive in (np.ones(9, bool), np.ones(10), np.ones((10, 1), bool)):
        with pytest.raises(InputError, match="bool"):
            ring.gaps(alive, 2, 1)
    for window in (0, 11):
        with pytest.raises(InputError, match="1 to 10"):
            ring.gaps(np.ones(10, bool), window, 1)
