"""False alarms: whatever depends on chance has a p-value, and all of them together are wrong once in a million."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from palate_audit.counted import repeats as released
from palate_audit.counted import seeds
from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import Finding, Verdict, holm, judge
from palate_audit.harness.production import Production
from palate_audit.statistics import repeats


def test_holms_rule_is_wrong_as_seldom_as_it_says() -> None:
    """One true hypothesis of many is rejected with probability alpha at most, counted where alpha is large."""
    rng = np.random.default_rng(1)
    wrong = sum(bool(holm(rng.random(25), alpha=0.05)) for _ in range(4000))
    assert stats.binomtest(wrong, 4000, 0.05, alternative="greater").pvalue > 1e-4
    two = judge([Finding.counted("x", ALPHA / 2 * 1.01, ""), Finding.counted("y", 1, "")])
    assert [each.verdict for each in two] == [Verdict.PASS, Verdict.PASS]


def test_fresh_releases_are_never_equal_by_chance() -> None:
    """80 discrete Gaussians each of at least 64 steps."""
    equal = math.comb(seeds.FRESH, 2) * repeats.gaussian_chance(64) ** 80
    assert equal <= 1e-100
    assert len(next(iter(Production(users=16, counts=64, products=64).fresh(1)))) == 80


def test_searches_for_repeats_have_their_p_value() -> None:
    assert repeats.CHANCE <= 1e-12
    found = repeats.search({"one": np.arange(50), "two": np.arange(20, 60)}, chance=1e-3)
    assert found.p_value == found.probability <= repeats.CHANCE
    assert released.TEST
