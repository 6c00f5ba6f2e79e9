import contextlib
import math
import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from palate_core.errors import InputError, PalateError
from palate_core.noise import discrete_gaussian
from palate_core.noise.discrete_gaussian import MAX_SIGMA, sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource, SeededSource

TOP = 2**64 - 1
FALSE_ALARM = 1e-6  # and the seeds are fixed: a passing test stays green
DRAWS = 1_000_000


class Script:
    """A source whose calls are filled with given words, then with words of a seed."""

    def __init__(self, *fills):
        self.fills, self.rest, self.calls = list(fills), SeededSource(b"rest"), 0

    def words(self, n):
        self.calls += n > 0
        if not self.fills or n == 0:
            return self.rest.words(n)
        return np.full(n, self.fills.pop(0), np.uint64)


def _probabilities(edges, sigma):
    """P(edges[i] <= Y < edges[i + 1]) for integer edges, the outer two cells open.

    Small sigma: the sum itself. Large: the normal integral over [edge - 1/2, edge' - 1/2]. Its midpoint error is below
    1/(24 sigma^2) a cell: 4e-8 at the smallest sigma it is used for, 2^10, i.e. nothing at a million draws.
    """
    if sigma < 2**10:
        values = np.arange(-40 * sigma, 40 * sigma + 1)
        weights = np.exp(-(values.astype(float) ** 2) / (2 * sigma**2))
        cell = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        return np.bincount(cell, weights, minlength=len(edges) - 1) / weights.sum()
    bounds = (np.asarray(edges, float) - 0.5) / sigma
    bounds[[0, -1]] = -np.inf, np.inf
    # Differences on the side where they don't cancel.
    left, right = np.diff(norm.cdf(bounds)), -np.diff(norm.sf(bounds))
    return np.where(bounds[1:] <= 0, left, right)


def _chi2_p(samples, sigma):
    """p value of the samples against the exact law, in about 60 cells of at least 20 expected samples."""
    width = max(1, sigma // 8)
    edges = np.arange(-4 * sigma // width, 4 * sigma // width + 2) * width
    expected = _probabilities(edges, sigma) * len(samples)
    while expected[0] < 20:
        edges, expected = edges[1:], np.concatenate(([expected[0] + expected[1]], expected[2:]))
    while expected[-1] < 20:
        edges, expected = edges[:-1], np.concatenate((expected[:-2], [expected[-2] + expected[-1]]))
    cells = np.clip(np.searchsorted(edges, samples, side="right") - 1, 0, len(expected) - 1)
    seen = np.bincount(cells, minlength=len(expected))
    return chi2.sf(((seen - expected) ** 2 / expected).sum(), len(expected) - 1)


def test_every_guarantee_and_assumption_has_a_test():
    claims = re.findall(r"\*\*(?:Guarantees|Assumes):\*\* ([^:]+):", sample_discrete_gaussian.__doc__)
    assert len(claims) == 5
    for claim in claims:
        assert any(name.startswith(f"test_{claim.replace(' ', '_')}") for name in globals())


@pytest.mark.parametrize("sigma", [1, 2, 3, 5, 17, 64, 1000, 2**14, 3**9, 2**20, 2**24 + 1, 2**30 - 1, 2**30])
def test_exact_law(sigma):
    samples = sample_discrete_gaussian(DRAWS, sigma=sigma, source=SeededSource(b"law %d" % sigma))
    assert samples.dtype == np.int64
    assert _chi2_p(samples, sigma) > FALSE_ALARM


@pytest.mark.parametrize("sigma", [2**14, 2**20])
def test_the_same_chi2_sees_a_rounded_gaussian_of_sigma_times_099(sigma):
    continuous = np.random.default_rng(1).normal(size=DRAWS) * sigma
    assert _chi2_p(np.rint(continuous), sigma) > FALSE_ALARM
    assert _chi2_p(np.rint(0.99 * continuous), sigma) < FALSE_ALARM


@pytest.mark.parametrize("sigma", [1, 2])
def test_the_same_chi2_tells_discrete_from_rounded(sigma):
    rounded = np.rint(np.random.default_rng(2).normal(size=DRAWS) * sigma)
    assert _chi2_p(rounded, sigma) < FALSE_ALARM


@pytest.mark.parametrize("sigma", [1, 7, 2**20])
def test_exact_law_moments(sigma):
    x = sample_discrete_gaussian(DRAWS, sigma=sigma, source=SeededSource(b"moments %d" % sigma)) / sigma
    # Standard errors of a normal variable's first four moments; at sigma = 1 the discrete ones agree to 1e-6.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - expected) < 4.9 * math.sqrt(variance / DRAWS)


@pytest.mark.parametrize("sigma", [1, 3, 2**20])
def test_exact_law_symmetric(sigma):
    samples = sample_discrete_gaussian(DRAWS, sigma=sigma, source=SeededSource(b"sign %d" % sigma))
    positive, negative = (samples > 0).sum(), (samples < 0).sum()
    assert abs(int(positive) - int(negative)) < 4.9 * math.sqrt(positive + negative)


def test_exact_law_low_bits_uniform():
    samples = sample_discrete_gaussian(DRAWS, sigma=3**9, source=SeededSource(b"bits"))
    seen = np.bincount(samples % 64, minlength=64)
    assert chi2.sf(((seen - DRAWS / 64) ** 2 / (DRAWS / 64)).sum(), 63) > FALSE_ALARM


def test_exact_law_independent_along_the_vector():
    x = sample_discrete_gaussian(DRAWS, sigma=2**20, source=SeededSource(b"lag")) / 2**20
    for lag in (1, 2, 3, 64, 1 << 15):
        assert abs((x[:-lag] * x[lag:]).mean()) < 4.9 / math.sqrt(DRAWS - lag)


def test_exact_law_whatever_the_length():
    # The law of a value may not depend on how many were asked for, nor on its place.
    source = SeededSource(b"short")
    samples = np.concatenate([sample_discrete_gaussian(3, sigma=2, source=source) for _ in range(5_000)])
    for part in (samples, samples[::3], samples[2::3]):
        assert _chi2_p(part, 2) > FALSE_ALARM


@pytest.mark.parametrize("sigma", [4, *(pytest.param(each, marks=pytest.mark.soak) for each in (1, 1000))])
def test_exact_law_like_another_exact_sampler(sigma):
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    theirs = np.array(dp.m.make_gaussian(*space, scale=float(sigma))([0] * 100_000))
    ours = sample_discrete_gaussian(len(theirs), sigma=sigma, source=SeededSource(b"two %d" % sigma))
    width = max(1, sigma // 4)
    edge = 3 * sigma // width
    cells = [np.clip(np.floor_divide(x, width), -edge, edge) + edge for x in (ours, theirs)]
    a, b = (np.bincount(x, minlength=2 * edge + 1) for x in cells)
    filled = a + b > 0
    # Theirs can't be seeded: 1e-9 keeps chance out of it.
    assert chi2.sf(((a - b)[filled] ** 2 / (a + b)[filled]).sum(), filled.sum() - 1) > 1e-9


def test_reproducible():
    draws = [sample_discrete_gaussian(999, sigma=99, source=SeededSource(seed)) for seed in (b"a", b"a", b"b")]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_reproducible_golden_values():
    draws = sample_discrete_gaussian(6, sigma=2**14, source=SeededSource(b"golden"))
    assert draws.tolist() == [3933, 10707, 3519, -21945, -33271, 2089]


def test_uniform_words():
    # The law stands or falls with the words: a source that misses the upper half is seen at once.
    class Halved:
        def __init__(self):
            self.source = SeededSource(b"halved")

        def words(self, n):
            return self.source.words(n) >> np.uint64(1)

    samples = sample_discrete_gaussian(DRAWS, sigma=2**14, source=Halved())
    assert _chi2_p(samples, 2**14) < FALSE_ALARM


def _run(k):
    """Fills that make a run of k coins of probability 1/e, then a failure: a chain of 3 (odd), k times, then of 2."""
    return [discrete_gaussian._FACTORIAL_LIMIT // 2 - 1] * k + [TOP // 2 + 1]


@pytest.mark.parametrize("laps", [0, 1, 2, 3, 8, 200])
@pytest.mark.parametrize("sigma", [64, 3**9, 2**30])
def test_no_tail_cut(sigma, laps):
    offset = sigma // 3
    unit = TOP // sigma
    whole = (offset + sigma * laps - sigma) ** 2 // (2 * sigma**2)
    signs, accept_offset, accept = 0, unit * sigma - 1, TOP // (2 * sigma**2) * (2 * sigma**2) - 1
    fills = [offset * unit, accept_offset, *_run(laps), signs, accept, *(_run(whole) if whole else [])]
    if whole > 256:
        with pytest.raises(PalateError, match="source"):
            sample_discrete_gaussian(1, sigma=sigma, source=Script(*fills))
        return
    assert sample_discrete_gaussian(1, sigma=sigma, source=Script(*fills)).tolist() == [offset + sigma * laps]


def test_the_sign_and_the_second_zero():
    sigma = 64
    unit = TOP // sigma
    accept = TOP - 2**60
    negative = [5 * unit, accept, *_run(0), TOP, accept]
    assert sample_discrete_gaussian(1, sigma=sigma, source=Script(*negative)).tolist() == [-5]
    zero = [0, accept, *_run(0), 0, accept]
    assert sample_discrete_gaussian(1, sigma=sigma, source=Script(*zero)).tolist() == [0]
    # Minus zero is thrown away, and the next candidates decide.
    minus_zero = [0, accept, *_run(0), TOP, accept]
    assert sample_discrete_gaussian(1, sigma=sigma, source=Script(*minus_zero, *negative)).tolist() == [-5]


def test_a_word_above_the_last_multiple_is_drawn_again():
    limit = TOP // 10 * 10
    source = Script(TOP, limit, limit - 1)
    assert discrete_gaussian._words_below(3, limit, source).tolist() == [limit - 1] * 3
    assert source.calls == 3


@pytest.mark.parametrize(
    ("fills", "answer"),
    [
        ([TOP - 2**60], True),  # 1: the first coin fails
        ([0, TOP - 2**60, 0], False),  # 2: the second fails, by the fraction
        ([0, 0, TOP - 2**60], False),  # or by the 1/2
        ([0, 0, 0, 0, TOP - 2**60], True),  # 3
        ([0, 0, 0, 0, 0, TOP - 2**60, 0], False),  # 4
    ],
)
def test_each_branch_of_the_chain(fills, answer):
    source = Script(*fills)
    coins = discrete_gaussian._exp_minus(np.array([1], np.uint64), 2, source)
    assert coins.tolist() == [answer]
    assert source.calls == len(fills)


@pytest.mark.parametrize("place", range(2, 14))
def test_each_branch_of_the_chain_in_one_word(place):
    limit = discrete_gaussian._FACTORIAL_LIMIT
    if place <= 10:
        fills = [limit // math.factorial(place)]  # the first word at which coin `place` fails
    else:
        fills = [limit // math.factorial(10) - 1, *[0] * (place - 11), TOP - 2**60]
    source = Script(*fills)
    assert discrete_gaussian._exp_minus_one(1, source).tolist() == [place % 2 == 1]
    assert source.calls == len(fills)
    if place <= 10:
        # One word less and that coin succeeds.
        last = Script(fills[0] - 1, TOP - 2**60)
        assert discrete_gaussian._exp_minus_one(1, last).tolist() == [(place + 1) % 2 == 1]


@pytest.mark.parametrize("seed", [1, 2])
def test_coins_have_their_probability(seed):
    source, n = SeededSource(b"coins %d" % seed), 400_000
    coins = {math.exp(-1): discrete_gaussian._exp_minus_one(n, source), 0.5: discrete_gaussian._bits(n, source)}
    for numerator, denominator in ((0, 1), (1, 1), (1, 3), (2**60, 2**61), (2**61, 2**61), (5, 7)):
        fraction = np.full(n, numerator, np.uint64)
        coins[math.exp(-numerator / denominator)] = discrete_gaussian._exp_minus(fraction, denominator, source)
    for k in (2, 3, 9):
        coins[1 / k] = discrete_gaussian._one_in(k, n, source)
    for p, thrown in coins.items():
        assert abs(thrown.mean() - p) <= 4.9 * math.sqrt(p * (1 - p) / n)


@given(
    sigma=st.integers(1, MAX_SIGMA),
    fraction=st.floats(0, 1, exclude_max=True),
    laps=st.integers(0, discrete_gaussian._PATIENCE),
)
def test_the_exponent_is_exact_and_never_overflows(sigma, fraction, laps):
    offset = min(int(fraction * sigma), sigma - 1)
    for x in {0, offset, sigma - 1}:
        whole, part = discrete_gaussian._exponent(np.array([x], np.uint64), np.array([laps], np.uint64), sigma)
        expected = divmod((x + sigma * laps - sigma) ** 2, 2 * sigma**2)
        assert (int(whole[0]), int(part[0])) == expected


class Stuck:
    """A source that repeats one word."""

    def __init__(self, word):
        self.word = word

    def words(self, n):
        return np.full(n, self.word, np.uint64)


@pytest.mark.parametrize("sigma", [1, 64, 2**20, 2**30])
@pytest.mark.parametrize("word", [0, 1, TOP])
def test_always_ends(sigma, word):
    with pytest.raises(PalateError, match=r"^`source` must give uniform words, got [^\n]*$"):
        sample_discrete_gaussian(1000, sigma=sigma, source=Stuck(word))


@given(sigma=st.integers(1, MAX_SIGMA), word=st.integers(0, TOP))
def test_always_ends_whatever_the_word(sigma, word):
    with contextlib.suppress(PalateError):
        sample_discrete_gaussian(10, sigma=sigma, source=Stuck(word))


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 70_000])
def test_any_length(n):
    assert sample_discrete_gaussian(n, sigma=64, source=SecureSource()).shape == (n,)


@pytest.mark.parametrize("arguments", [{"n": -1}, {"n": 1.0}, {"n": True}, {"n": None}])
def test_a_wrong_length_is_refused(arguments):
    with pytest.raises(InputError, match="`n` must be a whole number"):
        sample_discrete_gaussian(**arguments, sigma=64, source=SeededSource(b"x"))


@pytest.mark.parametrize("sigma", [0, -1, 64.0, math.nan, math.inf, True, "64", None, MAX_SIGMA + 1])
def test_a_wrong_sigma_is_refused(sigma):
    with pytest.raises(InputError, match="`sigma` must be a whole number"):
        sample_discrete_gaussian(1, sigma=sigma, source=SeededSource(b"x"))


def test_numpy_integers_are_whole_numbers():
    few = [sample_discrete_gaussian(kind(5), sigma=kind(64), source=SeededSource(b"np")) for kind in (int, np.int64)]
    assert np.array_equal(*few)


def test_fast_enough():
    sample_discrete_gaussian(10_000, sigma=2**20, source=SecureSource())
    start = time.process_time()
    sample_discrete_gaussian(DRAWS, sigma=2**20, source=SecureSource())
    # 0.08 s where it was written; a quarter of a second was asked for, and a busy machine gets four times that.
    assert time.process_time() - start < 1.0
