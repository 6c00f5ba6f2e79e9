"""Ceilings, intervals and p-values of the attacks: right, and valid where the claim holds."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from riskcal.analysis import get_beta_from_pld
from scipy import sparse
from scipy.stats import binomtest

from palate_audit.attacks.ceiling import excess_p_value, lower_bounds, most_auc, most_tpr
from palate_audit.attacks.membership import energy_in_span, segments_of
from palate_audit.attacks.rates import area, curve
from palate_audit.evidence.evidence import Rung
from palate_audit.statistics.counting import ErrorCounts
from palate_common.interactions import Interactions
from palate_core.accounting import epsilon_of
from palate_core.errors import InputError

NORMAL = NormalDist()


@pytest.mark.parametrize("mu", [0.3, 1.2, 3.0])
def test_the_ceiling_is_riskcals(mu: float) -> None:
    losses = from_gaussian_mechanism(1 / mu)
    for fpr in (0.001, 0.01, 0.3):
        assert 1 - get_beta_from_pld(losses, alpha=fpr) == pytest.approx(most_tpr(fpr, mu=mu), rel=2e-3)


def test_the_ceiling_is_what_the_best_test_of_a_gaussian_reaches() -> None:
    rng, mu = np.random.default_rng(0), 1.2
    outside, inside = rng.normal(size=200_000), rng.normal(mu, size=200_000)
    for fpr in (0.01, 0.1):
        reached = (inside > NORMAL.inv_cdf(1 - fpr)).mean()
        assert reached == pytest.approx(most_tpr(fpr, mu=mu), abs=0.004)
    assert area(inside, outside).value == pytest.approx(most_auc(mu=mu), abs=0.003)
    assert (most_tpr(0.0, mu=mu), most_tpr(1.0, mu=mu)) == (0.0, 1.0)


def test_an_area_counts_pairs_and_half_of_the_ties() -> None:
    inside, outside = np.array([0.1, 0.5, 0.5, 2.0]), np.array([0.5, 0.0, 1.0, 0.5])
    pairs = [(x > y) + 0.5 * (x == y) for i, x in enumerate(inside) for j, y in enumerate(outside) if i != j]
    assert area(inside, outside).value == pytest.approx(np.mean(pairs))
    with pytest.raises(InputError, match="as many scores of both sides"):
        area(inside, outside[1:])


def test_scores_that_part_have_an_interval_all_the_same() -> None:
    found = area(np.ones(20), np.zeros(20))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 + np.log(0.025) / 20)  # Poisson's "rule of three", for 95 % on both sides


@pytest.mark.parametrize(("users", "repeats"), [(4, 20), (60, 10)])
@pytest.mark.parametrize("apart", [0.01, 0.3, 2.0, 10.0, 20.0])
def test_an_area_of_games_with_shared_noise_has_an_interval_that_is_wide_enough(
    users: int, repeats: int, apart: float
) -> None:
    """As the likelihood ratio plays: each trial's noise serves both worlds. Nearly blind, and hardly ever wrong."""
    rng = np.random.default_rng([users, int(100 * apart)])
    truth, above, below, times = NormalDist().cdf((2 * apart) ** 0.5 / 2), 0, 0, 300
    for _ in range(times):
        noise = rng.normal(size=users * repeats) * apart**0.5
        found = area(noise + apart / 2, noise - apart / 2)
        above, below = above + (found.low > truth), below + (found.high < truth)
    # At most 2.5 % on the side that accuses; on the other one a part of it, with as few trials as 80.
    assert binomtest(above, times, 0.025, alternative="greater").pvalue > 1e-4
    assert binomtest(above + below, times, 0.05, alternative="greater").pvalue > 1e-4


def test_a_curve_goes_from_nothing_to_everything() -> None:
    fpr, tpr = curve(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    assert fpr.tolist() == [0, 0, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 1, 1]


def counts_of(mu: float, rng: np.random.Generator, *, trials: int = 2000, fpr: float = 0.1) -> ErrorCounts:
    """What the best test of mu-GDP decides."""
    misses = rng.binomial(trials, 1 - most_tpr(fpr, mu=mu))
    return ErrorCounts(misses, trials, rng.binomial(trials, fpr), trials)


def test_valid_p_values_where_the_claim_is_tight() -> None:
    rng = np.random.default_rng(2)
    found = [excess_p_value([counts_of(1.2, rng)], mu=1.2) for _ in range(150)]
    assert sum(p <= 0.05 for p in found) <= 12  # 5 % of 150, and three standard errors
    assert min(found) > 1e-5


def test_less_noise_than_claimed_is_found() -> None:
    rng = np.random.default_rng(3)
    less = counts_of(4.8, rng)
    assert excess_p_value([less], mu=1.2) < 1e-50
    assert excess_p_value([less, less], mu=1.2) == pytest.approx(2 * excess_p_value([less], mu=1.2))


def test_lower_bounds_lie_below_the_claim_and_near_it() -> None:
    rng, delta = np.random.default_rng(4), 1e-5
    claimed = epsilon_of(mu=1.2, delta=delta)
    counts = [counts_of(1.2, rng, trials=200_000, fpr=fpr) for fpr in (0.01, 0.1, NORMAL.cdf(-0.6))]
    plain, gaussian = lower_bounds(counts, name="x", delta=delta, claimed=claimed)
    assert (plain.rung, gaussian.rung) == (Rung.L0, Rung.L1)
    assert 0.2 * claimed < plain.epsilon < gaussian.epsilon < claimed
    assert gaussian.ratio > 0.9


def test_the_energy_of_noise_in_a_span_has_the_law_that_verdicts_use() -> None:
    rng = np.random.default_rng(6)
    entries = np.array([1.0, 2.0, 2.0, 4.0, 5.0]), np.array([0, 1, 0, 1, 7]), np.array([0, 2, 4, 5])
    sent = sparse.csr_array(entries, shape=(3, 9))
    found = [energy_in_span(sent, rng.normal(size=9)) for _ in range(2000)]
    assert {rank for _, rank in found} == {2}  # the second vector is twice the first
    energies = [energy for energy, _ in found]
    assert np.mean(energies) == pytest.approx(2.0, abs=0.15)
    assert np.var(energies) == pytest.approx(4.0, abs=0.9)
    assert energy_in_span(sparse.csr_array((1, 3)), np.zeros(3)) == (0.0, 0)


def test_every_target_is_in_one_decile_and_one_group() -> None:
    sizes = np.arange(1, 31)
    items = np.concatenate([np.arange(size) for size in sizes])
    targets = Interactions.from_pairs(np.repeat(np.arange(30), sizes), items, n_users=30, n_items=40)
    parts = segments_of(targets, {"sex": ("f", "m") * 15})
    deciles, groups = ([part for name, part in parts.items() if name.startswith(what)] for what in ("activity", "sex"))
    assert (len(deciles), len(groups)) == (10, 2)
    for segmentation in (deciles, groups):
        assert np.sum(segmentation, axis=0).tolist() == [1] * 30
    assert next(iter(parts)) == "activity 1-3 items"
