"""Bounds against other implementations, against scipy, and against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.audit.covered import ALPHA, EPSILONS, above_the_truth
from palate_audit.evidence.evidence import LEAST_P
from palate_audit.statistics.counting import (
    MOST_MU,
    ErrorCounts,
    epsilon_one_run,
    epsilon_raw,
    epsilon_trade_off,
    gaussian_trade_off,
    mu_counted,
    one_run_p,
    refuted,
    upper,
)
from palate_audit.statistics.scored import known_null, noncentral_t_above, two_samples
from palate_core.accounting import epsilon_of, mu_of

# privacy-estimates 0.1.0.post1 compute_eps_lo(method="beta") and jax-privacy 2.0.0 CanaryScoreAuditor
# .epsilon_clopper_pearson(one_sided=False, Explicit threshold) agree on all of these to 1e-15.
RAW = [
    (0, 1000, 0, 1000, 1e-6, 0.05, 5.600586527602728),
    (100, 1000, 50, 1000, 1e-5, 0.05, 2.5992064827528365),
    (20, 500, 0, 700, 0.0, 0.01, 4.81670823042109),
    (3000, 10000, 400, 10000, 1e-6, 0.05, 2.753205929834672),
    (40, 100, 45, 100, 1e-6, 0.05, 0.0),
    (5, 50, 30, 60, 1e-3, 0.1, 0.6644361850516952),
]
# jax-privacy 2.0.0: canaries, guesses, correct, delta, alpha; eps of Steinke et al.
ONE_RUN = [
    (1000, 1000, 700, 1e-5, 0.05, 0.7317406384658977),
    (5000, 500, 480, 1e-6, 0.05, 2.793821157284527),
    (65536, 6552, 5981, 1e-6, 0.05, 2.275720238831106),
    (100, 50, 50, 1e-4, 0.01, 2.2692907664541813),
    (1000, 200, 120, 1e-5, 0.05, 0.15787950410827511),
    (1000, 200, 101, 1e-5, 0.05, 0.0),
    (2000, 400, 390, 0.0, 0.05, 3.126270275133993),
]


@pytest.mark.parametrize(("misses", "inside", "false", "outside", "delta", "alpha", "epsilon"), RAW)
def test_raw_counts_give_what_two_other_implementations_give(
    misses: int, inside: int, false: int, outside: int, delta: float, alpha: float, epsilon: float
) -> None:
    found = epsilon_raw(ErrorCounts(misses, inside, false, outside), delta=delta, alpha=alpha)
    assert found == pytest.approx(epsilon, abs=1e-12)


@pytest.mark.parametrize(("canaries", "guesses", "correct", "delta", "alpha", "epsilon"), ONE_RUN)
def test_one_run_gives_what_another_implementation_gives(
    canaries: int, guesses: int, correct: int, delta: float, alpha: float, epsilon: float
) -> None:
    facts = {"canaries": canaries, "guesses": guesses, "correct": correct}
    assert epsilon_one_run(**facts, delta=delta, alpha=alpha) == pytest.approx(epsilon, abs=5e-5)  # type: ignore[arg-type]


def test_the_p_value_of_one_run_is_that_of_every_term_written_out() -> None:
    for epsilon, delta, correct in ((1.0, 1e-4, 170), (0.3, 1e-3, 120), (2.0, 1e-2, 190)):
        q = math.exp(epsilon) / (1 + math.exp(epsilon))
        beta = stats.binom.sf(correct - 1, 200, q)
        terms = [(stats.binom.sf(correct - i - 1, 200, q) - beta) / i for i in range(1, correct + 1)]
        expected = min(1.0, beta + 2 * 1000 * delta * max(0.0, *terms))
        found = one_run_p(canaries=1000, guesses=200, correct=correct, epsilon=epsilon, delta=delta)
        assert found == pytest.approx(expected, rel=1e-12)


def test_an_upper_bound_is_clopper_and_pearsons() -> None:
    for successes, trials in ((0, 10), (3, 100), (99, 100), (100, 100)):
        bound = upper(successes, trials, alpha=0.03)
        expected = stats.binomtest(successes, trials).proportion_ci(0.94, "exact").high
        assert bound == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("t", "freedom", "centre"), [(2, 5, 1), (3, 1, 0.5), (10, 30, 6), (76, 10**5, 74), (-1, 10, 1)]
)
def test_noncentral_t_is_scipys(t: float, freedom: int, centre: float) -> None:
    expected = stats.nct.sf(t, freedom, centre)
    assert noncentral_t_above(t, freedom=freedom, centre=centre) == pytest.approx(expected, rel=1e-9)


def test_noncentral_t_keeps_its_digits_where_p_values_are_small() -> None:
    found = noncentral_t_above(30.0, freedom=1000, centre=20.0)
    assert found == pytest.approx(3.6132e-17, rel=1e-4)


@given(st.floats(-200, 200), st.integers(1, 10**6), st.floats(0, 300))
def test_noncentral_t_is_a_probability(t: float, freedom: int, centre: float) -> None:
    """The last digits of a sum that is 1 must not end an audit of noise that is far too large."""
    assert 0 <= noncentral_t_above(t, freedom=freedom, centre=centre) <= 1


def test_without_a_shift_the_two_sample_test_is_students() -> None:
    rng = np.random.default_rng(1)
    inside, outside = rng.normal(0.1, 1, 50), rng.normal(0, 1, 70)
    expected = stats.ttest_ind(inside, outside, alternative="greater").pvalue
    assert two_samples(inside, outside).p_value(0.0) == pytest.approx(expected, rel=1e-9)
    expected = stats.ttest_1samp(inside, 0.0, alternative="greater").pvalue
    assert known_null(inside).p_value(0.0) == pytest.approx(expected, rel=1e-9)


def test_a_lower_bound_is_where_the_p_value_is_alpha() -> None:
    rng = np.random.default_rng(2)
    for shift in (two_samples(rng.normal(0.5, 1, 4000), rng.normal(0, 1, 4000)), known_null(rng.normal(0.5, 1, 4000))):
        low = shift.lower(0.05)
        assert low < shift.estimate
        assert shift.p_value(low) == pytest.approx(0.05, abs=1e-9)
    assert known_null(rng.normal(-0.5, 1, 4000)).lower(0.05) == 0.0


def test_scores_that_do_not_spread_tell_everything() -> None:
    assert known_null(np.ones(50)).lower(0.05) > 1e6
    assert two_samples(np.ones(50), np.ones(50)).lower(0.05) == 0.0


def test_trade_off_curves_have_their_ends_and_their_duality() -> None:
    mu = 1.3
    curve = gaussian_trade_off(mu)
    assert (curve(0.0), curve(1.0)) == (1.0, 0.0)
    for false in (0.01, 0.2, 0.5):
        assert curve(curve(false)) == pytest.approx(false, abs=1e-9)
    epsilon = epsilon_of(mu=mu, delta=1e-3)
    lines = epsilon_trade_off(epsilon, 1e-3)
    assert all(lines(false) <= curve(false) + 1e-9 for false in np.linspace(1e-4, 1, 200))


def test_refuted_is_a_p_value() -> None:
    """Counts drawn exactly on the claimed curve give a value at most alpha with probability at most alpha."""
    rng, mu, n = np.random.default_rng(3), 1.0, 2000
    false = stats.norm.sf(mu / 2)
    p_values = np.array(
        [
            refuted(ErrorCounts(int(rng.binomial(n, false)), n, int(rng.binomial(n, false)), n), gaussian_trade_off(mu))
            for _ in range(1000)
        ]
    )
    for alpha in (0.01, 0.05, 0.2):
        assert stats.binomtest(int((p_values <= alpha).sum()), 1000, alpha, alternative="greater").pvalue > 1e-4


def test_what_cannot_be_is_refuted_as_far_as_numbers_go() -> None:
    sure = ErrorCounts(0, 10**5, 0, 10**5)
    assert refuted(sure, gaussian_trade_off(0.5)) == LEAST_P
    assert refuted(ErrorCounts(50, 100, 50, 100), gaussian_trade_off(0.5)) == 1.0
    assert mu_counted(sure, alpha=0.05) < MOST_MU
    assert epsilon_raw(ErrorCounts(100, 100, 100, 100), delta=1e-6, alpha=0.05) == 0.0


@pytest.mark.parametrize(("epsilon", "times"), [(1.0, 150), pytest.param(13.0, 400, marks=pytest.mark.soak)])
def test_the_l2_bound_is_above_the_truth_in_one_of_twenty(epsilon: float, times: int) -> None:
    mu, rng, above = mu_of(epsilon=epsilon, delta=1e-6), np.random.default_rng(4), np.zeros(2)
    for _ in range(times):
        noise = rng.normal(0, 1, 512)
        above += (
            known_null(noise + mu).lower(0.05) > mu,
            two_samples(noise[:256] + mu, noise[256:]).lower(0.05) > mu,
        )
    for count in above:
        assert stats.binomtest(int(count), times, 0.05).pvalue > 1e-4


CENTRAL = 0.999
"""What the number of bounds above the truth has to be inside of, with as many seeds."""


@pytest.mark.parametrize(
    ("epsilon", "seeds"),
    [(1.0, 100), (13.0, 100), *(pytest.param(epsilon, 1000, marks=pytest.mark.soak) for epsilon in EPSILONS)],
)
def test_bounds_are_above_the_truth_as_often_as_they_say(epsilon: float, seeds: int) -> None:
    """Scores of a Gaussian mechanism that is as claimed, made directly. L0 and the guesses assume less."""
    above = above_the_truth(epsilon, seeds)
    low, high = stats.binom.interval(CENTRAL, seeds, ALPHA)
    exact = {name for name in above if not name.startswith("L0") and "guesses" not in name}
    assert exact == {"L1 counts, 3 runs", "L2 two samples, one run", "L2 known null, one run"}
    for name, count in above.items():
        assert count <= high, name
        assert name not in exact or count >= low, name


@pytest.mark.parametrize(("share", "n"), [(0.5, 400), (0.2, 1000), (0.9, 1000)])
def test_mu_counted_is_above_the_truth_as_often_as_stated(share: float, n: int) -> None:
    """At the best threshold for sides of unequal size; at any other the bound is smaller."""
    rng, mu, inside = np.random.default_rng(8), 2.0, round(share * n)
    place = mu / 2 + math.log((1 - share) / share) / mu
    rates = stats.norm.cdf(place - mu), stats.norm.sf(place)
    above = sum(
        mu_counted(
            ErrorCounts(
                int(rng.binomial(inside, rates[0])), inside, int(rng.binomial(n - inside, rates[1])), n - inside
            ),
            alpha=0.05,
        )
        > mu
        for _ in range(1000)
    )
    low, high = stats.binom.interval(CENTRAL, 1000, 0.05)
    assert above <= high
    assert share != 0.5 or above >= low  # two rates that differ vary less than one


def test_counts_without_a_side_or_without_a_difference_bound_nothing() -> None:
    assert mu_counted(ErrorCounts(0, 0, 0, 100), alpha=0.05) == 0.0
    assert mu_counted(ErrorCounts(50, 100, 50, 100), alpha=0.05) == 0.0
    assert mu_counted(ErrorCounts(0, 10, 0, 1000), alpha=0.05) > 0.0
