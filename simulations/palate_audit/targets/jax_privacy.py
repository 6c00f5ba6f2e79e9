"""jax-privacy's DP-SGD: clipped gradients, choice of batches, noise, independent or of a banded factorisation.

    batch_iterator -> clipped_grad of a linear model -> gaussian or matrix_factorization_privatizer -> gradients

The loss is the product of the weights with an example, so that an example's gradient is the example itself: each canary
is one. Keys are those that jax-privacy makes if it is given none.

With a banded factorisation every example is in the first batch and in no later one. What is released in step t is
x_t + (C^-1 z)_t. Whoever has the releases can multiply them by C, which is public. Then step s has independent noise,
and the first batch times C[s, 0]: that is what is audited, for the steps in which C[s, 0] isn't zero.

Needs jax-privacy 2.0 (`pip install jax-privacy`), which goes together with Palate.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released
from palate_audit.statistics.sampling import Sampled
from palate_core.accounting import epsilon_of
from palate_core.errors import InputError

USERS, SIZE = 512, 2048
NOISE_MULTIPLIER, CLIP_NORM, DELTA = 1.0, 0.5, 1e-6
STEPS, BANDS, ROUNDS = 2, 4, 12


@dataclass(frozen=True)
class JaxPrivacySteps:
    """Some steps of DP-SGD.

    Attributes:
        steps: number of steps.
        sampling: of `CyclicPoissonSampling`; 1: every example in every step.
        bands: of the factorisation; 1: independent noise.
    """

    steps: int = STEPS
    sampling: float = 1.0
    bands: int = 1
    noise_multiplier: float = NOISE_MULTIPLIER
    users: int = USERS
    dimension: int = SIZE
    repeatable: bool = False

    @property
    def name(self) -> str:
        """The library's version and the options."""
        how = "full batches" if self.sampling == 1 else f"CyclicPoissonSampling at {self.sampling:g}"
        if self.bands > 1:
            how = f"matrix factorisation of {self.bands} bands, each example in one of {ROUNDS} steps"
        _library("jax_privacy")
        return f"jax-privacy {version('jax-privacy')}, clipped_grad and its privatizer, {how}"

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block, the weights."""
        return (self.dimension,)

    @cached_property
    def claim(self) -> Claim:
        """Gaussian releases, with hidden sampling or without."""
        sigma = self.noise_multiplier * CLIP_NORM
        if self.bands > 1:
            releases = tuple(
                ReleaseClaim(sensitivity=CLIP_NORM * float(part), sigma=sigma * self._sensitivity)
                for part in self._strategy[: self.bands, 0]
            )
            mu = float(np.sqrt(sum(release.mu**2 for release in releases)))
            epsilon = epsilon_of(mu=1 / self.noise_multiplier, delta=DELTA)
            return Claim(epsilon=epsilon, delta=DELTA, releases=releases, mu=mu, unit="example")
        if self.sampling == 1:
            sigmas = (sigma,) * self.steps
            return Claim.gaussian(sensitivity=CLIP_NORM, sigmas=sigmas, delta=DELTA, unit="example")
        return Claim(
            epsilon=Sampled(self.noise_multiplier, self.sampling, self.steps, DELTA).epsilon,
            delta=DELTA,
            releases=(ReleaseClaim(sensitivity=CLIP_NORM, sigma=sigma),) * self.steps,
            mu=None,
            unit="example",
            adjacency="add or remove",
            sampling=self.sampling,
        )

    @cached_property
    def stated(self) -> Mapping[str, float]:
        """What jax-privacy's accountants say of these steps."""
        accounting: Any = _library("jax_privacy.accounting")
        analysis, configs = accounting.analysis, accounting.accountants
        params = analysis.DpParams(
            noise_multipliers=self.noise_multiplier,
            num_samples=self.users,
            delta=DELTA,
            batch_size=self.users if self.bands > 1 else round(self.sampling * self.users),
        )
        steps = 1 if self.bands > 1 else self.steps
        made = {"RDP": configs.RdpAccountantConfig(), "PLD": configs.PldAccountantConfig()}
        return {
            f"jax-privacy's DpsgdTrainingAccountant, {name}": float(
                analysis.DpsgdTrainingAccountant(config).compute_epsilon(steps, params)
            )
            for name, config in made.items()
        }

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """The noised gradients of the steps."""
        library, numeric = _library("jax_privacy"), _library("jax.numpy")
        # A row that single precision can't hold is infinite there, which is what a user of it would see.
        with np.errstate(over="ignore"):
            rows = (contributions.dense() * CLIP_NORM).astype(np.float32)
        weights = numeric.zeros(self.dimension, numeric.float32)
        noise: Any = library.noise_addition
        if self.bands > 1:
            # Keys from numpy's generator, as `prng_key=None` takes them.
            privatizer = noise.matrix_factorization_privatizer(
                self._factors.inverse_as_streaming_matrix(self._coefficients),
                stddev=self.noise_multiplier * CLIP_NORM * self._sensitivity,
            )
        else:
            privatizer = noise.gaussian_privatizer(stddev=self.noise_multiplier * CLIP_NORM)
        state, found = privatizer.init(weights), []
        for batch in self._batches():
            # Padded to one size, so that jax compiles it once; padding is left out by `is_padding_example`.
            padded = library.batch_selection.pad_to_multiple_of(batch, self.users) if len(batch) else self._nobody
            summed = self._gradient(
                weights, numeric.asarray(rows[padded]), is_padding_example=numeric.asarray(padded < 0)
            )
            noised, state = privatizer.update(summed, state)
            found.append(-np.asarray(noised, np.float64))
        if self.bands > 1:
            whitened = self._strategy @ np.stack(found)
            return Released(tuple(whitened[: self.bands]))
        return Released(tuple(found))

    @cached_property
    def _gradient(self) -> Any:
        """The sum of clipped gradients, compiled once."""
        clipped = _library("jax_privacy").clipped_grad(
            lambda weights, row: -(weights @ row), l2_clip_norm=CLIP_NORM, keep_batch_dim=False
        )
        return _library("jax").jit(clipped)

    def _batches(self) -> list[Any]:
        """The examples of each step."""
        if self.bands > 1:
            return [np.arange(self.users), *([np.zeros(0, np.int64)] * (ROUNDS - 1))]
        selection: Any = _library("jax_privacy.batch_selection")
        strategy = selection.CyclicPoissonSampling(sampling_prob=self.sampling, iterations=self.steps)
        return list(strategy.batch_iterator(self.users))

    @property
    def _nobody(self) -> Any:
        """A batch of nothing but padding."""
        return np.full(self.users, -1)

    @property
    def _factors(self) -> Any:
        return _library("jax_privacy.matrix_factorization.toeplitz")

    @cached_property
    def _coefficients(self) -> Any:
        """The strategy's bands, by jax-privacy's own optimisation."""
        return self._factors.optimize_banded_toeplitz(ROUNDS, self.bands)

    @cached_property
    def _strategy(self) -> Any:
        """C, [steps, steps]."""
        return np.asarray(self._factors.materialize_lower_triangular(self._coefficients, ROUNDS), np.float64)

    @cached_property
    def _sensitivity(self) -> float:
        """By jax-privacy, of one participation: what its noise is scaled with."""
        return float(np.sqrt(self._factors.minsep_sensitivity_squared(self._coefficients, ROUNDS, 1, ROUNDS)))


def full_batch() -> JaxPrivacySteps:
    """Two steps over all examples."""
    return JaxPrivacySteps()


def poisson() -> JaxPrivacySteps:
    """Four steps over hidden batches that are sampled at one half."""
    return JaxPrivacySteps(steps=4, sampling=0.5)


def banded() -> JaxPrivacySteps:
    """Noise of a banded matrix factorisation."""
    return JaxPrivacySteps(steps=ROUNDS, bands=BANDS)


def _library(name: str) -> Any:
    """Import a library that isn't Palate's."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this target needs {error.name}: pip install jax-privacy") from None
