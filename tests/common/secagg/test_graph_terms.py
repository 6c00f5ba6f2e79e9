import math
import time

import numpy as np
import pytest
from scipy.stats import hypergeom

from palate_core.errors import InputError
from palate_core.masks import graph_terms as terms
from palate_core.masks.graph_terms import graph_terms

RINGS = [(n, c, d) for n in (251, 300, 1000, 3000, 10_000) for c in (0.01, 0.1, 0.2) for d in (0.0, 0.05, 0.1, 0.2)]


def shares(n, corrupt, dropped):
    return n, math.ceil(n * corrupt), math.ceil(n * dropped)


@pytest.mark.parametrize(
    ("n", "marked", "draws"), [(300, 30, 40), (999, 100, 108), (50, 40, 30), (20, 0, 5), (20, 20, 5), (9999, 3300, 700)]
)
def test_tails_are_scipys(n, marked, draws):
    ours, law = terms._tails(n, marked, draws), hypergeom(n, marked, draws)
    theirs = law.sf(np.arange(-1, draws))
    assert np.allclose(ours, theirs, rtol=1e-7, atol=1e-250)


def log2_bounds(n, corrupt, dropped, k, t, c_w):
    """Both bounds of a ring without its draws, with scipy's tails, as its claims state them."""

    def tail(population, marked, draws, least):
        return hypergeom(population, marked, draws).logsf(least - 1) / math.log(2)

    window = math.log2(n) + tail(n, corrupt, k // 2, c_w + 1)
    secrets = math.log2(n) + tail(n - 1, corrupt, k, 2 * t - k)
    few, gap = tail(n - 1, dropped, k, k - t + 1), tail(n, dropped, k // 2, k // 2 - c_w)
    return 10 + np.logaddexp2(2 * window - 1, secrets), math.log2(n) + np.logaddexp2(few, gap)


def log2_ways(population, chosen):
    """log2 of how many ways there are to choose."""
    return math.log2(math.comb(population, chosen))


def log2_drawn(n, corrupt, dropped, found):
    """What draws add to both bounds: too many holders of other lists pass around somebody; somebody is refused."""
    spare, m, q = found.neighbours - found.threshold, found.sample, found.quorum
    passes = hypergeom(n - 1, (n + corrupt) // 2 - 1, m).logsf(q - 1) / math.log(2)
    refused = hypergeom(n - 1, dropped, m).logsf(m - q) / math.log(2)
    ways = log2_ways(2 * spare + 1, spare + 1)
    return 10 + math.log2(n) + ways + (spare + 1) * passes, math.log2(n) + refused


@pytest.mark.parametrize("case", RINGS)
def test_bounds_by_scipy(case):
    n, corrupt, dropped = shares(*case)
    found = graph_terms(n, corrupt=corrupt, dropped=dropped)
    k, t, c_w = found.neighbours, found.threshold, found.window_corrupt
    if found.complete:
        assert (k, t) == (n - 1, (n - 1 + corrupt) // 2 + 1)
        assert (found.sample, found.quorum) == (0, 0)
        return
    assert k % 2 == 0
    assert t >= k // 2 + c_w + 2
    bounds, draws = log2_bounds(n, corrupt, dropped, k, t, c_w), log2_drawn(n, corrupt, dropped, found)
    failure, abort = map(np.logaddexp2, bounds, draws)
    assert failure == pytest.approx(found.failure, abs=1e-6)
    assert abort == pytest.approx(found.abort, abs=1e-6)
    assert found.failure <= -40
    assert found.abort <= -20


@pytest.mark.parametrize(
    ("n", "corrupt", "dropped"),
    [
        (251, 13, 13),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in ((300, 30, 30), (300, 60, 30), (1000, 50, 100))),
    ],
)
def test_no_smaller_ring_does(n, corrupt, dropped):
    """Every smaller k, with scipy: no threshold meets both bounds. So the search skips nothing."""
    found = graph_terms(n, corrupt=corrupt, dropped=dropped)
    for k in range(4, found.neighbours, 2):
        half, union = k // 2, math.log2(n)
        window = hypergeom(n, corrupt, half).logsf(np.arange(half + 1)) / math.log(2)
        c_w = int(np.argmax(window + union <= -25))
        for t in range(half + c_w + 2, k + 1):
            secrets = hypergeom(n - 1, corrupt, k).logsf(2 * t - k - 1) / math.log(2) + union
            assert secrets > -51 or log2_bounds(n, corrupt, dropped, k, t, c_w)[1] > -20


def test_one_secret():
    """2t > k + c but for the bound: the law of c says so, and in a complete graph nothing else can happen."""
    for n, corrupt, dropped in (shares(*case) for case in RINGS):
        found = graph_terms(n, corrupt=corrupt, dropped=dropped)
        worst = min(corrupt, found.neighbours)
        if found.complete:
            assert 2 * found.threshold > found.neighbours + worst
        else:
            bad = hypergeom(n - 1, corrupt, found.neighbours).logsf(2 * found.threshold - found.neighbours - 1)
            assert bad / math.log(2) + math.log2(n) + 10 <= -41
    for n in range(3, 251):
        for corrupt in range(0, n // 3):
            threshold = graph_terms(n, corrupt=corrupt, dropped=0).threshold if (n - 1 + corrupt) // 2 < n - 1 else n
            assert 2 * threshold > n - 1 + corrupt
            assert 2 * (threshold - 1) <= n - 1 + corrupt


@pytest.mark.parametrize("case", [(300, 0.1, 0.1), (1000, 0.1, 0.1), (1000, 0.33, 0.1), (10_000, 0.05, 0.2)])
def test_one_list(case):
    """However many are corrupt, among all and around one, and however the honest are split in two."""
    n, corrupt, dropped = shares(*case)
    found = graph_terms(n, corrupt=corrupt, dropped=dropped)
    k, t = found.neighbours, found.threshold
    signers = max((n - bought) // 2 - 1 + bought for bought in range(corrupt + 1))
    passes = hypergeom(n - 1, signers, found.sample).logsf(found.quorum - 1) / math.log(2)
    worst = max(log2_ways(k - bought, t - bought) + (t - bought) * passes for bought in range(2 * t - k))
    assert 10 + math.log2(n) + worst <= found.failure <= -40


def test_a_draw_of_everybody_leaves_nothing_to_chance():
    """Where two shares of the cohort are too close to tell by a part of it."""
    found = terms._draw(100, 33, 31, 1, -1000.0, -1000.0)
    assert found == (99, 66, -1000.0, -1000.0)
    assert terms._draw(100, 33, 34, 1, -1000.0, -1000.0) is None


def test_no_arc():
    """Two disjoint windows: their joint tail, computed exactly, is below the product that the bound uses."""
    n, corrupt, half = 300, 30, 20
    c_w = 6
    one = hypergeom(n, corrupt, half)
    joint = sum(
        one.pmf(first) * hypergeom(n - half, corrupt - first, half).sf(c_w) for first in range(c_w + 1, half + 1)
    )
    assert 0 < joint <= one.sf(c_w) ** 2
    found = graph_terms(n, corrupt=corrupt, dropped=30)
    window = hypergeom(n, corrupt, found.neighbours // 2).logsf(found.window_corrupt) / math.log(2)
    assert 10 + 2 * (window + math.log2(n)) - 1 <= -41


def test_losses_are_borne():
    """Two thousand rings: nobody falls below t, and no device would refuse a gap (2^-20 a ring)."""
    n, corrupt, dropped = 300, 15, 30
    found = graph_terms(n, corrupt=corrupt, dropped=dropped)
    k, half = found.neighbours, found.neighbours // 2
    rng = np.random.default_rng(3)
    lost = np.zeros(n, np.int64)
    for _ in range(2000):
        lost[:] = 0
        lost[rng.permutation(n)[:dropped]] = 1
        sums = np.cumsum(np.concatenate([[0], lost, lost[:k]]))
        around = sums[k + 1 :] - sums[:n]
        assert k - (around - np.roll(lost, -half)).max() >= found.threshold
        assert (sums[half : half + n] - sums[:n]).max() < half - found.window_corrupt


def test_monotone():
    for n in (300, 1000):
        grid = np.array(
            [
                [graph_terms(n, corrupt=c * n // 100, dropped=d * n // 100).neighbours for d in (0, 5, 10, 15, 20)]
                for c in (1, 5, 10, 15, 20)
            ]
        )
        assert (np.diff(grid, axis=0) >= 0).all()
        assert (np.diff(grid, axis=1) >= 0).all()


def test_never_weaker_than_the_windows_of_the_plan():
    """Windows fail with at most 2^-20.5 over all members, whatever the two ends of an arc are worth."""
    for n, corrupt, dropped in (shares(*case) for case in RINGS):
        found = graph_terms(n, corrupt=corrupt, dropped=dropped)
        if not found.complete:
            window = hypergeom(n, corrupt, found.neighbours // 2).logsf(found.window_corrupt) / math.log(2)
            assert window + math.log2(n) <= -20.5
    assert graph_terms(300, corrupt=30, dropped=30).threshold >= 58
    assert graph_terms(1000, corrupt=100, dropped=100).threshold >= 77


def test_known_terms():
    known = {(300, 30, 30): (86, 63, 18, 57, 38), (1000, 100, 100): (118, 85, 24, 72, 46)}
    known[10_000, 1000, 1000] = (144, 103, 29, 81, 51)
    for (n, corrupt, dropped), expected in known.items():
        found = graph_terms(n, corrupt=corrupt, dropped=dropped)
        assert (found.neighbours, found.threshold, found.window_corrupt, found.sample, found.quorum) == expected


@pytest.mark.parametrize(
    ("n", "corrupt", "dropped"),
    [(2, 0, 0), (10, -1, 0), (10, 0, -1), (10, 11, 0), (10, 0, 11), (True, 0, 0), (10.0, 0, 0), (10, 1.5, 0)],
)
def test_numbers_out_of_range(n, corrupt, dropped):
    with pytest.raises(InputError, match="whole number"):
        graph_terms(n, corrupt=corrupt, dropped=dropped)


@pytest.mark.parametrize(
    ("n", "corrupt", "dropped"), [(3, 1, 1), (50, 17, 17), (250, 125, 63), (300, 200, 60), (300, 10, 299)]
)
def test_too_many_to_bear(n, corrupt, dropped):
    with pytest.raises(InputError, match="raise n_min, or lower c_max"):
        graph_terms(n, corrupt=corrupt, dropped=dropped)


def test_the_largest_that_can_be_borne():
    assert graph_terms(50, corrupt=10, dropped=19).threshold == 30
    with pytest.raises(InputError):
        graph_terms(50, corrupt=10, dropped=20)


def test_fast():
    for cached in (graph_terms, terms._tails, terms._log_factorials):
        cached.cache_clear()
    start = time.process_time()
    graph_terms(10_000, corrupt=2000, dropped=2000)
    assert time.process_time() - start < 0.1  # some 3 ms
