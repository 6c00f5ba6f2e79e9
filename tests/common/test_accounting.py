import math
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palate_common.accounting import sampled as sampled_sums
from palate_core import accounting
from palate_core.accounting import (
    CENTRAL_SIGMA_FLOOR,
    charged_mu2,
    check_delta,
    check_epsilon,
    default_delta,
    delta_of,
    discrete_slack,
    epsilon_of,
    mu_of,
    sigma_for,
    split_budget,
)
from palate_core.errors import InputError
from palate_core.noise.discrete_gaussian import MAX_SIGMA
from palate_sim import accounting as releases
from palate_sim.accounting import Account, GaussianEvent, account, epsilon_closed
from palate_sim.card.second_accountant import epsilon_pld

mus = st.floats(1e-4, 100)
deltas = st.floats(1e-12, 0.1)
epsilons = st.floats(1e-3, 50)
steps = st.integers(1, 2**20)
sigmas = st.integers(CENTRAL_SIGMA_FLOOR, 2**30)


def _exact_delta(epsilon, mu):
    """The definition at 60 digits."""
    with mpmath.workdps(60):
        eps, m = mpmath.mpf(epsilon), mpmath.mpf(mu)
        upper, lower = m / 2 - eps / m, -m / 2 - eps / m
        return mpmath.erfc(-upper / mpmath.sqrt(2)) / 2 - mpmath.exp(eps) * mpmath.erfc(-lower / mpmath.sqrt(2)) / 2


def _discrete_epsilon(sigma, sensitivity, delta):
    """eps of the discrete Gaussian itself in one dimension, by its privacy losses."""
    y = np.arange(-12 * sigma - sensitivity, 12 * sigma + sensitivity + 1, dtype=float)
    p, q = (np.exp(-((y - shift) ** 2) / (2 * sigma**2)) for shift in (0, sensitivity))
    p, q = p / p.sum(), q / q.sum()
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if np.maximum(p - math.exp(middle) * q, 0).sum() <= delta else (middle, high)
    return high


def _event(**changes):
    return GaussianEvent(**{"sensitivity": 2**14, "sigma": 5 * 2**14, "dimension": 1000, **changes})


def test_every_guarantee_and_assumption_has_a_test():
    files = [Path(module.__file__ or "") for module in (accounting, releases, sampled_sums)]
    claims = re.findall(r"\*\*(?:Guarantees|Assumes):\*\* ([^:]+):", "".join(each.read_text() for each in files))
    assert len(claims) == 18
    sampled = re.findall(r"^def (test_\w+)", Path(__file__).with_name("test_sampled_gaussian.py").read_text(), re.M)
    for claim in claims:
        assert any(name.startswith(f"test_{claim.replace(' ', '_')}") for name in (*globals(), *sampled)), claim


# The charge


@pytest.mark.parametrize(("sigma", "sensitivity"), [(64, 1), (64, 20), (64, 64), (100, 100), (200, 67), (333, 500)])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_discrete_as_continuous(sigma, sensitivity, delta):
    charged = math.sqrt(charged_mu2(sensitivity=sensitivity, sigma=sigma))
    assert _discrete_epsilon(sigma, sensitivity, delta) <= epsilon_of(mu=charged, delta=delta)


def test_discrete_as_continuous_is_needed():
    # Without the 4 the claim would be wrong: at sigma 1 by 0.05.
    assert _discrete_epsilon(1, 1, 1e-5) == pytest.approx(4.430, abs=1e-3)
    assert epsilon_of(mu=1, delta=1e-5) == pytest.approx(4.377, abs=1e-3)


@given(sensitivity=st.one_of(steps, st.floats(1e-3, 1e6)), sigma=sigmas)
def test_charge_rounded_up(sensitivity, sigma):
    exact = Fraction(sensitivity) ** 2 / (sigma**2 - 4)
    charged = charged_mu2(sensitivity=sensitivity, sigma=sigma)
    assert math.nextafter(charged, 0) < exact <= charged


@pytest.mark.parametrize("sigma", [64.5, 100.0, "100", None, True, math.nan])
def test_integer_noise(sigma):
    with pytest.raises(InputError, match="`sigma` must be a whole number"):
        charged_mu2(sensitivity=1, sigma=sigma)


@pytest.mark.parametrize("sigma", [63, 2, 1, 0, -64])
def test_central_floor(sigma):
    with pytest.raises(InputError, match="at least 64"):
        charged_mu2(sensitivity=1, sigma=sigma)
    assert charged_mu2(sensitivity=1, sigma=64) == pytest.approx(1 / 4092)


def test_the_discrete_rule_is_free_at_the_usual_grid():
    exact, charged = 1 / 5, math.sqrt(charged_mu2(sensitivity=2**14, sigma=5 * 2**14))
    assert exact < charged < exact * (1 + 1e-9)


def test_slack():
    assert discrete_slack(releases=20, dimension=10**6) == pytest.approx(8e-27, rel=1e-12)
    assert Fraction(discrete_slack(releases=3, dimension=7)) >= Fraction(84, 10**34)
    assert discrete_slack(releases=0, dimension=7) == 0


# delta, eps and mu


@given(mu=st.floats(1e-6, 100), t=st.floats(-40, 36))
@example(mu=1e-6, t=-40.0)
@example(mu=1e-6, t=36.0)
@example(mu=2.0, t=-1.0)
@example(mu=100.0, t=-40.0)
@example(mu=100.0, t=36.0)
def test_delta_is_accurate(mu, t):
    epsilon = max(0.0, mu * (t + mu / 2))
    exact = _exact_delta(epsilon, mu)
    if exact > 1e-280:
        assert abs(delta_of(epsilon=epsilon, mu=mu) / exact - 1) < 1e-12


@given(mu=st.floats(100, 9999), t=st.floats(-10, 36))
def test_delta_is_accurate_within_its_margin_for_any_mu(mu, t):
    epsilon = max(0.0, mu * (t + mu / 2))
    assert abs(delta_of(epsilon=epsilon, mu=mu) / _exact_delta(epsilon, mu) - 1) < 1e-10


def test_delta_like_scipy():
    from scipy.stats import norm

    for epsilon in (0.0, 0.1, 1.0, 5.0, 10.0):
        for mu in (0.1, 0.5, 1.0, 2.0, 7.0):
            theirs = norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
            assert delta_of(epsilon=epsilon, mu=mu) == pytest.approx(theirs, abs=1e-14)


def test_delta_at_the_ends():
    assert delta_of(epsilon=1, mu=0) == delta_of(epsilon=0, mu=0) == 0
    assert delta_of(epsilon=0, mu=2) == pytest.approx(math.erf(1 / math.sqrt(2)), rel=1e-13)
    assert delta_of(epsilon=0, mu=5e-324) <= 5e-324
    assert delta_of(epsilon=1e300, mu=9999) == delta_of(epsilon=1, mu=5e-324) == 0
    assert delta_of(epsilon=1, mu=9999) == 1


@given(mu=mus, delta=deltas)
@settings(deadline=None)
def test_epsilon_rounded_up(mu, delta):
    epsilon = epsilon_of(mu=mu, delta=delta)
    assert _exact_delta(epsilon, mu) <= delta
    assert delta_of(epsilon=epsilon, mu=mu) <= delta
    # And by no more than it has to: a part in 10^8 less is too little.
    if epsilon > 1e-3:
        assert _exact_delta(epsilon * (1 - 1e-8) - 1e-9, mu) > delta


@given(mu=mus, factor=st.floats(1 + 1e-9, 2), delta=deltas)
@settings(deadline=None)
def test_epsilon_monotone(mu, factor, delta):
    assert epsilon_of(mu=mu * factor, delta=delta) >= epsilon_of(mu=mu, delta=delta)


@given(mu=mus, delta=deltas, factor=st.floats(1.001, 2))
@settings(deadline=None)
def test_more_delta_never_costs_eps(mu, delta, factor):
    assert epsilon_of(mu=mu, delta=delta * factor) <= epsilon_of(mu=mu, delta=delta)


@given(epsilon=epsilons, delta=deltas)
@settings(deadline=None)
def test_mu_rounded_down(epsilon, delta):
    mu = mu_of(epsilon=epsilon, delta=delta)
    assert epsilon_of(mu=mu, delta=delta) <= epsilon
    # And by no more than it has to.
    assert epsilon_of(mu=mu * (1 + 1e-7), delta=delta) > epsilon


def test_no_mu_costs_nothing():
    assert epsilon_of(mu=0, delta=1e-5) == 0
    assert epsilon_of(mu=1e-9, delta=1e-5) == 0


# Budgets


@given(mu=st.floats(1e-3, 100), shares=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30))
def test_split_within_budget(mu, shares):
    parts = split_budget(mu=mu, shares=shares)
    assert sum(Fraction(part) ** 2 for part in parts) <= Fraction(mu) ** 2
    assert math.fsum(part**2 for part in parts) == pytest.approx(mu**2, rel=1e-12)
    for part, share in zip(parts, shares, strict=True):
        assert part**2 / parts[0] ** 2 == pytest.approx(share / shares[0], rel=1e-9)


@given(mu_r=st.floats(1e-2, 10), sensitivity=steps)
def test_sigma_enough(mu_r, sensitivity):
    sigma = sigma_for(mu_r=mu_r, sensitivity=sensitivity)
    assert Fraction(charged_mu2(sensitivity=sensitivity, sigma=sigma)) <= Fraction(mu_r) ** 2
    # And the smallest such.
    if sigma > CENTRAL_SIGMA_FLOOR:
        assert Fraction(charged_mu2(sensitivity=sensitivity, sigma=sigma - 1)) > Fraction(mu_r) ** 2


def test_sigma_needs_a_grid_that_can_be_sampled():
    with pytest.raises(InputError, match="coarser grid"):
        sigma_for(mu_r=1e-6, sensitivity=2**14)
    assert sigma_for(mu_r=2e-5, sensitivity=2**14) <= MAX_SIGMA


@given(
    epsilon=st.floats(0.1, 20),
    delta=deltas,
    shares=st.lists(st.floats(1, 100), min_size=1, max_size=10),
    sensitivity=st.integers(2**10, 2**16),
)
@settings(deadline=None)
def test_mu_leaves_room(epsilon, delta, shares, sensitivity):
    mu = mu_of(epsilon=epsilon, delta=delta)
    events = [
        GaussianEvent(sensitivity=sensitivity, sigma=sigma_for(mu_r=part, sensitivity=sensitivity), dimension=10**6)
        for part in split_budget(mu=mu, shares=shares)
    ]
    total = account(events, delta=delta)
    assert Fraction(total.mu2) <= Fraction(math.nextafter(mu * mu, math.inf))
    assert total.epsilon <= epsilon


# Accounts


@given(st.lists(st.builds(_event, sensitivity=steps, sigma=sigmas), max_size=8))
@settings(deadline=None)
def test_composition(events):
    exact = sum((Fraction(e.sensitivity) ** 2 / (e.sigma**2 - 4) for e in events), Fraction(0))
    if exact >= 10**6:
        return
    total = account(events, delta=1e-6)
    assert exact <= total.mu2 <= float(exact) * (1 + 1e-14)
    assert total.epsilon >= epsilon_of(mu=math.sqrt(total.mu2), delta=1e-6)
    assert total.epsilon >= max((account([e], delta=1e-6).epsilon for e in events), default=0)
    assert account(events[::-1], delta=1e-6) == total


def test_composition_includes_the_slack():
    # At an eps of nearly nothing the slack of many coordinates shows.
    tiny = _event(sensitivity=1, sigma=2**30, dimension=10**12)
    assert account([tiny], delta=1e-5).epsilon == discrete_slack(releases=1, dimension=10**12) > 0


def test_composition_of_nothing_costs_nothing():
    assert account([], delta=1e-5) == Account(mu2=0.0, epsilon=0.0, delta=1e-5)


def test_unknown_events_refused():
    class Cheaper(GaussianEvent):
        @property
        def mu2(self):
            return 0.0

    cheaper = Cheaper(sensitivity=1, sigma=64, dimension=1)
    for unknown in (cheaper, None, 1.0, "gaussian", {"sensitivity": 1, "sigma": 64}, GaussianEvent):
        with pytest.raises(InputError, match="its cost is unknown"):
            account([_event(), unknown], delta=1e-5)


def test_every_attempt_listed():
    first, retry = _event(round=3, attempt=0), _event(round=3, attempt=1)
    assert account([first, retry], delta=1e-5).mu2 == 2 * first.mu2


def test_accounts_name_their_accountant():
    total = account([_event()], delta=1e-5)
    assert (total.accountant, total.version) == ("palate closed form", "1")


@pytest.mark.parametrize(
    "change",
    [
        {"sensitivity": 0},
        {"sensitivity": -1},
        {"sensitivity": math.nan},
        {"sensitivity": math.inf},
        {"sigma": 63},
        {"sigma": 1e6},
        {"dimension": 0},
        {"dimension": 1.5},
        {"round": -1},
        {"attempt": -1},
    ],
)
def test_an_impossible_event_is_refused(change):
    with pytest.raises(InputError, match=f"`{next(iter(change))}` must be"):
        _event(**change)


def test_an_event_knows_its_multiplier():
    assert _event().noise_multiplier == pytest.approx(5, rel=1e-9)
    assert Fraction(_event().noise_multiplier) ** 2 * Fraction(_event().mu2) <= 1


# Golden values and the second accountant


def test_golden_values():
    twenty = [5.0] * 20
    assert epsilon_closed(noise_multipliers=twenty, delta=1e-6) == pytest.approx(4.30584, abs=5e-6)
    assert epsilon_pld(noise_multipliers=twenty, delta=1e-6) == pytest.approx(4.3058, abs=5e-5)
    # The same as twenty releases on the grid, round 0 included.
    events = [_event(round=number) for number in range(20)]
    assert account(events, delta=1e-6).epsilon == pytest.approx(4.30584, abs=5e-6)


def test_two_releases_at_eps_5_are_754_together():
    mu = mu_of(epsilon=5, delta=1e-5)
    assert round(epsilon_of(mu=math.sqrt(2) * mu, delta=1e-5), 2) == 7.54


def test_eps_5_becomes_115_for_two_devices():
    mu = mu_of(epsilon=5, delta=1e-5)
    assert round(epsilon_of(mu=2 * mu, delta=1e-5), 1) == 11.5


# Each a real composition: 5 schedules with every size of noise in turn, a delta with each.
SCHEDULES = [[1.0], [1.0, 1.0], [2.0, 1.0, 1.0], [3.0] + [1.0] * 9, [1.0] * 10 + [2.0] * 10]
SETTINGS = [
    ([z * scale for z in schedule], (1e-5, 1e-7)[place % 2])
    for first, schedule in enumerate(SCHEDULES)
    for place, scale in enumerate((1.0, 2.0, 3.5, 5.0, 10.0))
    if place in (first, (first + 2) % 5)
]


@pytest.mark.parametrize(("multipliers", "delta"), SETTINGS)
def test_fixed_schedule(multipliers, delta):
    closed = epsilon_closed(noise_multipliers=multipliers, delta=delta)
    pld = epsilon_pld(noise_multipliers=multipliers, delta=delta)
    assert abs(pld - closed) <= 1e-6


def test_the_second_accountant_is_loaded_only_when_asked():
    code = "import sys, palate_core.accounting as a; a.epsilon_of(mu=1, delta=1e-5); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "dp_accounting"} & set(loaded)


# Input


def test_default_delta():
    assert default_delta(n_users=100) == default_delta(n_users=10_000) == 1e-5
    assert default_delta(n_users=1_000_000) == 1e-7
    assert default_delta(n_users=np.int64(20_000)) == pytest.approx(5e-6)


@pytest.mark.parametrize("n_users", [0, -1, 1.5, None, True])
def test_a_wrong_number_of_users_is_refused(n_users):
    with pytest.raises(InputError, match="`n_users` must be a whole number of at least 1"):
        default_delta(n_users=n_users)


@pytest.mark.parametrize("epsilon", [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf, "5", None, True, 5 + 0j])
def test_a_wrong_epsilon_is_refused_in_one_line(epsilon):
    for refuse in (check_epsilon, lambda e: mu_of(epsilon=e, delta=1e-5)):
        with pytest.raises(InputError) as error:
            refuse(epsilon)
        assert str(error.value) == f"`epsilon` must be a number in (0, inf), got {epsilon!r}"


@pytest.mark.parametrize("delta", [0, 1, 1.0, -1e-5, 2, math.nan, math.inf, "1e-5", None, True])
def test_a_wrong_delta_is_refused_in_one_line(delta):
    for refuse in (
        check_delta,
        lambda d: mu_of(epsilon=1, delta=d),
        lambda d: epsilon_of(mu=1, delta=d),
        lambda d: account([], delta=d),
        lambda d: epsilon_closed(noise_multipliers=[1], delta=d),
        lambda d: epsilon_pld(noise_multipliers=[1], delta=d),
    ):
        with pytest.raises(InputError) as error:
            refuse(delta)
        assert str(error.value) == f"`delta` must be a number in (0, 1), got {delta!r}"


@pytest.mark.parametrize("mu", [-1, math.nan, math.inf, 1e4, "1", None])
def test_a_wrong_mu_is_refused(mu):
    for refuse in (lambda m: epsilon_of(mu=m, delta=1e-5), lambda m: delta_of(epsilon=1, mu=m)):
        with pytest.raises(InputError, match=r"`mu` must be a number in \[0, 10000\)"):
            refuse(mu)
    with pytest.raises(InputError, match="`mu` must be"):
        split_budget(mu=mu, shares=(1,))
    with pytest.raises(InputError, match="`mu_r` must be"):
        sigma_for(mu_r=mu, sensitivity=1)


@pytest.mark.parametrize("epsilon", [-1, math.nan, math.inf])
def test_delta_of_a_wrong_epsilon_is_refused(epsilon):
    with pytest.raises(InputError, match="`epsilon` must be"):
        delta_of(epsilon=epsilon, mu=1)


@pytest.mark.parametrize("shares", [(), (0,), (1, -1), (math.nan,), (math.inf, 1)])
def test_wrong_shares_are_refused(shares):
    with pytest.raises(InputError, match="`shares` must"):
        split_budget(mu=1, shares=shares)


@pytest.mark.parametrize("multiplier", [0, -1, math.nan, math.inf])
def test_a_wrong_multiplier_is_refused(multiplier):
    for refuse in (epsilon_closed, epsilon_pld):
        with pytest.raises(InputError, match="`noise_multipliers` must be"):
            refuse(noise_multipliers=[1, multiplier], delta=1e-5)


@pytest.mark.parametrize("multiplier", [1e-5, 1e-200, 5e-324])
def test_no_noise_to_speak_of_is_refused(multiplier):
    with pytest.raises(InputError, match="`mu` must be"):
        epsilon_closed(noise_multipliers=[multiplier], delta=1e-5)


def test_extreme_sensitivities_neither_overflow_nor_loop():
    assert _event(sensitivity=1e-99, sigma=2**30).noise_multiplier > 1e100
    with pytest.raises(InputError, match="`mu` must be"):
        account([_event(sensitivity=1e149)], delta=1e-5)
    with pytest.raises(InputError, match="coarser grid"):
        sigma_for(mu_r=1e-300, sensitivity=1e-99)


@pytest.mark.parametrize("charge", [math.inf, math.nan, None])
def test_a_charge_that_is_no_number_has_no_total(charge):
    with pytest.raises(InputError, match="`charges` must be finite numbers"):
        accounting.total_mu2([0.5, charge])
    assert accounting.total_mu2([]) == 0
