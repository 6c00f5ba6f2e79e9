"""The subsampled Gaussian in mu^2: dominated, never above the whole, and what two other libraries say of it."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from palate_common.accounting import sampled as sampled_sums
from palate_common.accounting.sampled import TAIL, noise_for, sampled_mu2
from palate_core.accounting import charged_mu2, delta_of, epsilon_of, mu_of, split_budget
from palate_core.errors import InputError
from palate_sim.accounting import GaussianEvent, account
from palate_sim.card.second_accountant import epsilon_pld

pytestmark = pytest.mark.slow

GRID = 2**16
CASES = [(2.0, 0.5, 1), (2.0, 0.5, 3), (1.5, 0.1, 8), (3.0, 0.9, 4), (5.0, 0.02, 20), (0.8, 0.3, 2)]


def mu_for(multiplier: float, inclusion: float, steps: int) -> float:
    sigma = round(multiplier * GRID)
    return math.sqrt(sampled_mu2(sensitivity=GRID, sigma=sigma, inclusion=inclusion, steps=steps))


def step_delta(multiplier: float, inclusion: float, epsilon: float, *, removed: bool) -> float:
    """Hockey-stick divergence of one step by direct integration, in one order."""
    x = np.linspace(-30, 30, 600_001)
    noise = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    mixture = (1 - inclusion) * noise + inclusion * np.exp(-((x - 1 / multiplier) ** 2) / 2) / math.sqrt(2 * math.pi)
    one, other = (mixture, noise) if removed else (noise, mixture)
    return float(np.maximum(one - math.exp(epsilon) * other, 0).sum() * (x[1] - x[0]))


@pytest.mark.parametrize(("multiplier", "inclusion", "steps"), [case for case in CASES if case[2] == 1])
@pytest.mark.parametrize("removed", [True, False])
def test_sampled_dominated(multiplier: float, inclusion: float, steps: int, removed: bool) -> None:
    """One step against integrals, at every epsilon: within TAIL and mu-GDP, and not by much."""
    mu, tight = mu_for(multiplier, inclusion, steps), 0
    for epsilon in np.linspace(0, 6, 61).tolist():
        found = step_delta(multiplier, inclusion, epsilon, removed=removed)
        assert found <= (TAIL + delta_of(epsilon=epsilon, mu=mu)) * (1 + 1e-6) + 1e-15
        tight += found >= 0.5 * delta_of(epsilon=epsilon, mu=mu) and found > TAIL
    assert tight > 0


@pytest.mark.parametrize(
    ("multiplier", "inclusion", "steps", "delta"),
    [(*case, (1e-5, 1e-7)[place % 2]) for place, case in enumerate(CASES)],
)
def test_dp_accounting_lies_below_what_is_charged(
    multiplier: float, inclusion: float, steps: int, delta: float
) -> None:
    mu = mu_for(multiplier, inclusion, steps)
    z = math.sqrt(round(multiplier * GRID) ** 2 - 4) / GRID
    other = epsilon_pld(noise_multipliers=[z], delta=delta, sampling=[(inclusion, steps)])
    charged = epsilon_of(mu=mu, delta=delta - TAIL)
    assert other <= charged * (1 + 1e-4)
    assert mu <= math.sqrt(steps) / z * (1 + 1e-12)


def test_prv_accountants_agree_with_dp_accounting_and_lie_below_the_charge() -> None:
    """Opacus' and Microsoft's PRV accountants, where they are installed, on steps of several rounds together."""
    opacus = pytest.importorskip("opacus.accountants")
    z, inclusion, steps = 1.5, 0.2, 12
    charged = epsilon_of(mu=math.sqrt(3) * mu_for(z, inclusion, steps // 3), delta=1e-5 - 3 * TAIL)
    accountant = opacus.PRVAccountant()
    accountant.history = [(z, inclusion, steps)]
    prv = float(accountant.get_epsilon(delta=1e-5, eps_error=0.01))
    pld = epsilon_pld(noise_multipliers=[z], delta=1e-5, sampling=[(inclusion, steps)])
    assert prv == pytest.approx(pld, abs=0.03)
    assert pld < charged < 2 * pld


def test_secret_coins() -> None:
    """Who sees them sees a whole release of an event that takes part, and that costs more than is charged."""
    for multiplier, inclusion in ((2.0, 0.5), (1.5, 0.1)):
        charged = TAIL + delta_of(epsilon=1.0, mu=mu_for(multiplier, inclusion, 1))
        assert delta_of(epsilon=1.0, mu=1 / multiplier) > charged


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize(("mu", "inclusion"), [(1.0, 0.1), (5.0, 0.1), (3.0, 0.5), (0.5, 0.01)])
def test_no_probability_of_a_step_is_left_out(mu: float, inclusion: float, removed: bool) -> None:
    """What is missing costs nothing, and losses of many steps add up."""
    _, masses, lost = sampled_sums._step(mu, inclusion, 1e-3, removed=removed)
    assert masses.sum() + lost == pytest.approx(1.0, abs=1e-12)


def test_sampled_at_most_whole() -> None:
    for multiplier, inclusion, steps in CASES:
        sigma = round(multiplier * GRID)
        whole = charged_mu2(sensitivity=GRID, sigma=sigma) * steps
        found = sampled_mu2(sensitivity=GRID, sigma=sigma, inclusion=inclusion, steps=steps)
        assert 0 < found <= whole * (1 + 1e-15)
        exact = sampled_mu2(sensitivity=GRID, sigma=sigma, inclusion=1.0, steps=steps)
        assert whole * (1 - 1e-15) <= exact <= whole * (1 + 1e-15)
    assert sampled_mu2(sensitivity=GRID, sigma=2 * GRID, inclusion=0.999, steps=1) <= charged_mu2(
        sensitivity=GRID, sigma=2 * GRID
    )


def test_more_of_anything_costs_more() -> None:
    base = mu_for(2.0, 0.3, 3)
    assert mu_for(1.9, 0.3, 3) > base
    assert mu_for(2.0, 0.35, 3) > base
    assert mu_for(2.0, 0.3, 4) > base


@pytest.mark.parametrize("inclusion", [1.0, 0.5])
def test_sampled_noise_enough(inclusion: float) -> None:
    for mu in split_budget(mu=mu_of(epsilon=8.0, delta=1e-5), shares=(1, 3)):
        sigma = noise_for(mu_r=mu, sensitivity=2**20, inclusion=inclusion, steps=2)
        found = sampled_mu2(sensitivity=2**20, sigma=sigma, inclusion=inclusion, steps=2)
        assert 0.97 * mu**2 < found <= mu**2


def test_releases_with_steps_are_accounted_like_others() -> None:
    event = GaussianEvent(sensitivity=GRID, sigma=2 * GRID, dimension=100, inclusion=0.5, steps=3)
    plain = GaussianEvent(sensitivity=GRID, sigma=2 * GRID, dimension=100)
    assert account([event], delta=1e-5).mu2 == pytest.approx(mu_for(2.0, 0.5, 3) ** 2)
    assert account([plain], delta=1e-5).mu2 < account([event], delta=1e-5).mu2 < 3 * plain.mu2


def test_numpy_is_all_that_a_device_needs() -> None:
    code = (
        "import sys; from palate_common.accounting.sampled import sampled_mu2 as m;"
        "m(sensitivity=1024, sigma=4096, inclusion=0.5, steps=2); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "dp_accounting", "torch", "opacus"} & set(loaded)


@pytest.mark.parametrize(
    "changes",
    [
        *({"inclusion": 0.0}, {"inclusion": 1.1}, {"inclusion": math.nan}, {"inclusion": "all"}, {"inclusion": True}),
        *({"steps": 0}, {"steps": 65}, {"steps": 2.5}, {"steps": math.inf}, {"sigma": 63}),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    terms: dict[str, Any] = {"inclusion": 0.5, "steps": 1, **changes}
    with pytest.raises(InputError, match="must be"):
        sampled_mu2(**{"sensitivity": GRID, "sigma": GRID, **terms})
    if "sigma" not in changes:
        with pytest.raises(InputError, match="must be"):
            noise_for(mu_r=1.0, sensitivity=GRID, **terms)
        with pytest.raises(InputError, match="must be"):
            GaussianEvent(sensitivity=GRID, sigma=GRID, dimension=1, **terms)
    if changes not in ({"sigma": 63}, {"steps": 65}):  # the second accountant counts steps of many rounds together
        with pytest.raises(InputError, match="must be"):
            epsilon_pld(noise_multipliers=[1.0], delta=1e-5, sampling=[(terms["inclusion"], terms["steps"])])


@pytest.mark.parametrize("mu_r", [0.0, -1.0, math.nan, math.inf, "1", 1e4])
def test_noise_for_no_budget_is_refused(mu_r: Any) -> None:
    with pytest.raises(InputError, match="`mu_r` must be"):
        noise_for(mu_r=mu_r, sensitivity=GRID, inclusion=0.5, steps=2)


def test_a_sensitivity_between_two_steps_is_charged_as_it_is() -> None:
    """Cut to a whole number it would cost less than what it is the sensitivity of."""
    terms: dict[str, Any] = {"sigma": 2**10, "dimension": 1, "inclusion": 0.5, "steps": 2}
    between = GaussianEvent(sensitivity=100.9, **terms).mu2
    assert GaussianEvent(sensitivity=100, **terms).mu2 < between < GaussianEvent(sensitivity=101, **terms).mu2


def test_a_cost_that_is_known_already_is_the_same_for_the_same_numbers_of_any_type() -> None:
    """What was counted once is kept by its numbers: they are compared after they were read, never as they came."""
    sampled: dict[str, Any] = {"sensitivity": GRID, "sigma": 2 * GRID}
    cost = sampled_mu2(inclusion=0.5, steps=2, **sampled)
    for inclusion, steps in ((Fraction(1, 2), 2), (np.float32(0.5), np.int64(2)), (np.float64(0.5), np.uint8(2))):
        assert sampled_mu2(inclusion=inclusion, steps=steps, **sampled) == cost  # type: ignore[arg-type]  # as it comes
    epsilon, whole = epsilon_of(mu=1, delta=0.5**20), np.float64(1.0)
    assert type(epsilon) is float
    for mu in (1.0, whole, np.float32(1), np.int64(1), Fraction(1)):
        assert epsilon_of(mu=mu, delta=np.float64(0.5**20)) == epsilon  # type: ignore[arg-type]  # the same
    assert epsilon_of(mu=1 + 1e-9, delta=0.5**20) > epsilon
    with pytest.raises(InputError, match="`mu` must be"):
        epsilon_of(mu=True, delta=0.5**20)  # equal to 1 as a key, and no number


def test_threads_that_ask_for_the_same_cost_get_the_same() -> None:
    """As many threads as ask at once, before anybody has counted it."""
    asked = [0.5, 0.25, 0.125] * 4

    def cost(inclusion: float) -> float:
        return sampled_mu2(sensitivity=GRID, sigma=3 * GRID + 1, inclusion=inclusion, steps=1)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(cost, asked))
    sampled_sums._mu2_of_sampled.cache_clear()
    assert found == [cost(inclusion) for inclusion in asked]


@pytest.mark.parametrize(("sensitivity", "sigma", "inclusion"), [(1, 2**30, 0.5), (128, 64, 0.001), (2, 64, 0.9)])
def test_sampled_in_bounded_time(
    sensitivity: int, sigma: int, inclusion: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that allows single events works the cost out, whatever a plan says: what takes long isn't begun."""
    monkeypatch.setattr(sampled_sums, "_power", lambda *_: pytest.fail("counted"))
    terms = {"sensitivity": sensitivity, "sigma": sigma, "steps": 64}
    assert sampled_mu2(inclusion=inclusion, **terms) == sampled_mu2(inclusion=1.0, **terms)
