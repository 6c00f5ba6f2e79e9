"""The counted tests' p-values are what they say: on what is as claimed, small ones are as rare as they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released
from palate_audit.harness.trials import conduct
from palate_audit.run.mechanism import QUICK, statistical

USERS, DIMENSION, SIGMAS = 64, 1024, (20_000.0, 30_000.0)
LEVELS = (0.02, 0.2)


class Ideal:
    """A sum with continuous Gaussian noise, two releases, exactly as it claims."""

    name, repeatable = "an ideal Gaussian", False
    users, blocks, dimension = USERS, (DIMENSION,), DIMENSION
    claim = Claim(
        epsilon=Claim.gaussian(sensitivity=10_000.0, sigmas=SIGMAS, delta=1e-6).epsilon,
        delta=1e-6,
        releases=tuple(ReleaseClaim(sensitivity=10_000.0, sigma=sigma, spacing=None, stated=sigma) for sigma in SIGMAS),
        mu=10_000.0 * math.sqrt(sum(1 / sigma**2 for sigma in SIGMAS)),
    )

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 5])

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        norms = np.sqrt(np.bincount(contributions.owners(), contributions.values**2, USERS))
        clipped = contributions.values / np.maximum(norms, 1.0)[contributions.owners()]
        total = np.bincount(contributions.indices, clipped, DIMENSION) * 10_000.0
        return Released(tuple(total + self.rng.normal(0.0, sigma, DIMENSION) for sigma in SIGMAS), 0)


@pytest.mark.parametrize("runs", [12, pytest.param(120, marks=pytest.mark.soak)])
def test_small_p_values_are_as_rare_as_they_should_be(runs: int) -> None:
    """With 12 runs a test is found whose p-values are mostly small; with 120 one that doubles how often."""
    found: dict[str, list[float]] = {}
    for seed in range(runs):
        for each in statistical(conduct(Ideal(seed), runs=QUICK, seed=seed)):
            if each.p_value is not None:
                found.setdefault(each.test, []).append(each.p_value)
    assert len(found) > 10
    for test, values in found.items():
        for level in LEVELS:
            share = float(np.mean(np.asarray(values) <= level))
            # Six standard errors: one in a hundred million each, if the p-values are right.
            assert share <= level + 6 * math.sqrt(level * (1 - level) / len(values)), (test, level, share)
