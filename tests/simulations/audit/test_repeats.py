"""Repeats: every one is found, in whatever place and with whatever sign, and by chance there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from palate_audit.mutants.mutation_testing import find

from palate_audit.counted.repeats import exact_repeats
from palate_audit.evidence.evidence import Verdict, judge
from palate_audit.harness.claim import Claim
from palate_audit.harness.production import Production
from palate_audit.harness.target import Contributions, Released
from palate_audit.harness.trials import Presence, conduct
from palate_audit.statistics.repeats import CHANCE, gaussian_chance, search


def gaussian(seed: int, n: int, sigma: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.rint(np.random.default_rng(seed).normal(0.0, sigma, n)).astype(np.int64)


@given(st.integers(0, 900), st.integers(0, 900), st.sampled_from([1, -1]), st.integers(8, 40), st.integers(0, 2**32))
def test_a_stretch_that_was_copied_is_found(start: int, to: int, sign: int, length: int, seed: int) -> None:
    one, other = gaussian(seed, 1000, 1e4), gaussian(seed + 1, 1000, 1e4)
    assert search({"one": one, "other": other}, chance=gaussian_chance(1e4)).hits == 0
    other[to : to + length] = sign * one[start : start + length][: len(other[to : to + length])]
    found = search({"one": one, "other": other}, chance=gaussian_chance(1e4))
    assert found.hits >= length - found.length + 1
    assert 0 < found.p_value <= CHANCE
    assert f"one from {start}, other from {to}" in str(found)


def test_a_vector_that_repeats_itself_is_found() -> None:
    vector = gaussian(3, 500, 1e5)
    vector[436:] = vector[:64]
    assert search({"a release": vector}, chance=gaussian_chance(1e5)).hits > 50


def test_what_is_not_noise_alone_is_left_out() -> None:
    vector = gaussian(4, 200, 1e5)
    vector[100:120] = vector[:20]
    kept = np.ones(200, np.bool_)
    kept[100:120] = False
    assert search({"a": vector}, chance=gaussian_chance(1e5), kept={"a": kept}).hits == 0
    assert search({"a": vector}, chance=gaussian_chance(1e5)).hits > 0


def test_words_have_no_sign() -> None:
    words = np.array([5, 2**64 - 5, 7], np.uint64)
    assert search({"words": words}, chance=2.0**-64).hits == 0
    assert search({"words": np.array([5, 9, 5], np.uint64)}, chance=2.0**-64).hits == 1


def test_small_noise_needs_longer_stretches_and_none_is_found_by_chance() -> None:
    lengths = []
    for sigma in (1.0, 64.0, 1e4, 1e9):
        for seed in range(20):
            found = search({"a": gaussian(seed, 3000, sigma)}, chance=gaussian_chance(sigma))
            assert found.hits == 0
            assert found.probability <= CHANCE
        lengths.append(found.length)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 2 * lengths[2]


@pytest.mark.parametrize("name", ["spare draws used again", "dummies repeat the noise"])
def test_releases_with_repeats_are_found(name: str) -> None:
    target = Production(dp="central", users=64, counts=256, products=256, shares=(0.25,) * 4)
    (clean,) = judge(exact_repeats(conduct(target, runs=(Presence.NONE, Presence.HALF), seed=1)))
    assert clean.verdict is Verdict.PASS
    with find(name).injected():
        (found,) = judge(exact_repeats(conduct(target, runs=(Presence.NONE, Presence.HALF), seed=1)))
    assert found.verdict is Verdict.ALARM


def test_noise_in_floating_point_is_not_checkable() -> None:
    class Floats:
        name, dimension, blocks, users, repeatable = "floats", 64, (64,), 16, False
        claim = Claim.gaussian(sensitivity=1.0, sigmas=(2.0,), delta=1e-6)

        def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
            return Released((np.random.default_rng().normal(0.0, 2.0, 64),))

    (found,) = exact_repeats(conduct(Floats(), runs=(Presence.NONE,), seed=1))
    assert found.verdict is Verdict.UNCHECKABLE
