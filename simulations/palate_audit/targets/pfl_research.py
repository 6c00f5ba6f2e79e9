"""pfl-research's mechanisms, in its own simulation: each user's statistics are clipped, summed, and noised.

    SimulatedBackend.gather: simulate_one_user -> postprocess_one_user (clip) -> sum -> postprocess_server (noise)

A user's data set is one row, and what its training returns is that row. Seeds of the noise are those that pfl's own
`FederatedAlgorithm` draws for each round.

`adaptive` is the first round, with the bound that it was clipped with; the count of clipped users is a statistic beside
the row, for which a part of the bound is spent. `banded` multiplies the releases by the public matrix C, so that step s
has independent noise and C[s, 0] times the users of the first round, who are in no other. Later rounds have one user,
whose row is zero.

Needs pfl 0.6, which asks for an older dp-accounting than Palate: `pip install --no-deps pfl multiprocess dill` runs
with Palate's.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released
from palate_core.accounting import epsilon_of
from palate_core.errors import InputError

USERS, SIZE = 500, 4000
NOISE_MULTIPLIER, CLIPPING_BOUND, DELTA = 1.0, 0.5, 1e-6
COUNT_NOISE = 50.0
"""Deviation of the noise of the indicators' sum, with adaptive clipping."""
ROUNDS, SEPARATION = 8, 4
ROW = "row"


@dataclass(frozen=True)
class PflRound:
    """Rounds of one of pfl's mechanisms.

    Attributes:
        mechanism: `gaussian`, `adaptive` or `banded`.
        noise_multiplier: pfl's `relative_noise_stddev`.
    """

    mechanism: str = "gaussian"
    noise_multiplier: float = NOISE_MULTIPLIER
    users: int = USERS
    dimension: int = SIZE
    repeatable: bool = False

    @property
    def name(self) -> str:
        """The library's version and the mechanism."""
        _library("pfl")
        told = {
            "gaussian": "GaussianMechanism, one round",
            "adaptive": "AdaptiveClippingGaussianMechanism, round 1",
            "banded": f"BandedMatrixFactorizationMechanism, each user in one of {ROUNDS} rounds, "
            f"separation {SEPARATION}",
        }
        return f"pfl {version('pfl')}, {told[self.mechanism]}"

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block, the row."""
        return (self.dimension,)

    @cached_property
    def claim(self) -> Claim:
        """Gaussian releases of sums."""
        if self.mechanism == "banded":
            # The noise is for a user who moves C x by one bound: for a first column of C whose length is 1.
            made = self._banded
            sigma = float(made.relative_noise_stddev) * CLIPPING_BOUND
            column = made.query_matrix[: SEPARATION - 1, 0]
            parts = np.abs(column) / np.linalg.norm(column)
            releases = tuple(ReleaseClaim(sensitivity=CLIPPING_BOUND * float(part), sigma=sigma) for part in parts)
            mu = CLIPPING_BOUND / sigma
            return Claim(epsilon=epsilon_of(mu=mu, delta=DELTA), delta=DELTA, releases=releases, mu=mu)
        sigma = self.noise_multiplier * CLIPPING_BOUND
        if self.mechanism == "adaptive":
            # Andrew et al. 2021, theorem 1, as pfl states it: r = sigma of the row over sigma of the indicator's sum.
            sigma /= np.sqrt(1 - (self.noise_multiplier / COUNT_NOISE) ** 2)
        release = ReleaseClaim(sensitivity=CLIPPING_BOUND, sigma=float(sigma))
        epsilon = epsilon_of(mu=1 / self.noise_multiplier, delta=DELTA)
        return Claim(epsilon=epsilon, delta=DELTA, releases=(release,), mu=release.mu)

    @cached_property
    def stated(self) -> Mapping[str, float]:
        """What pfl's accountants say of the noise: epsilon at which they would ask for it."""
        if self.mechanism == "banded":
            return {"pfl's PLDPrivacyAccountant": self._accountant(1).epsilon}
        accounting: Any = _library("pfl.privacy.privacy_accountant")
        found = {}
        for name in ("PLD", "PRV", "RDP"):
            accountant: Any = getattr(accounting, f"{name}PrivacyAccountant")(
                num_compositions=1,
                sampling_probability=1.0,
                mechanism="gaussian",
                delta=DELTA,
                noise_parameter=self.noise_multiplier,
            )
            found[f"pfl's {name}PrivacyAccountant"] = float(accountant.epsilon)
        return found

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """The noised sums of the rounds."""
        rows = contributions.dense() * CLIPPING_BOUND
        if self.mechanism == "banded":
            made = self._banded
            substitution: Any = _library("pfl.privacy.ftrl_mechanism").ForwardSubstitution
            with self._framework():
                made._C_inv_noise = substitution(made.query_matrix, SEPARATION - 1)  # as a new process begins
            nobody = np.zeros((1, self.dimension))
            found = self._rounds(made, [rows, *([nobody] * (ROUNDS - 1))])
            whitened = made.query_matrix @ np.stack(found)
            return Released(tuple(whitened[: len(self.claim.releases)]))
        return Released(tuple(self._rounds(self._mechanism(), [rows])))

    def _mechanism(self) -> Any:
        gaussian: Any = _library("pfl.privacy.gaussian_mechanism").GaussianMechanism
        if self.mechanism == "gaussian":
            return gaussian(CLIPPING_BOUND, self.noise_multiplier)
        adaptive: Any = _library("pfl.privacy.adaptive_clipping").AdaptiveClippingGaussianMechanism
        return adaptive(
            make_gaussian_mechanism=lambda bound: gaussian(bound, self.noise_multiplier),
            initial_clipping_bound=CLIPPING_BOUND,
            clipping_indicator_noise_stddev=COUNT_NOISE,
            adaptive_clipping_norm_quantile=0.5,
        )

    def _accountant(self, compositions: int) -> Any:
        accounting: Any = _library("pfl.privacy.privacy_accountant")
        return accounting.PLDPrivacyAccountant(
            num_compositions=compositions,
            sampling_probability=1.0,
            mechanism="gaussian",
            epsilon=epsilon_of(mu=1 / self.noise_multiplier, delta=DELTA),
            delta=DELTA,
        )

    @cached_property
    def _banded(self) -> Any:
        """The mechanism; its factorisation is made once. Users are in one round, which is one composition."""
        made: Any = _library("pfl.privacy.ftrl_mechanism").BandedMatrixFactorizationMechanism
        with self._framework(), _elsewhere():  # it writes its matrix into the current folder
            return made(CLIPPING_BOUND, ROUNDS, SEPARATION, lambda _: self._accountant(1))

    @contextmanager
    def _framework(self) -> Iterator[Any]:
        """The module for pfl's statistics while it runs: its factorisation needs torch; numpy for the others."""
        selector: Any = _library("pfl.internal.ops.selector")
        before = selector.get_default_framework_module()
        name = "pytorch_ops" if self.mechanism == "banded" else "numpy_ops"
        mine = _library(f"pfl.internal.ops.{name}")
        selector.set_framework_module(mine, old_module=selector._framework_module)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about copies of tensors
                yield mine
        finally:
            selector.set_framework_module(before, old_module=mine)

    def _rounds(self, mechanism: Any, cohorts: list[Any]) -> list[Any]:
        """One round a cohort, of pfl's own simulation."""
        with self._framework() as framework:
            return self._simulated(framework, mechanism, cohorts)

    def _simulated(self, framework: Any, mechanism: Any, cohorts: list[Any]) -> list[Any]:
        base: Any = _library("pfl.algorithm.base")
        context: Any = _library("pfl.context")
        statistics: Any = _library("pfl.stats").MappedVectorStatistics
        metrics: Any = _library("pfl.metrics").Metrics
        population: Any = _library("pfl.common_types").Population
        privacy: Any = _library("pfl.privacy.privacy_mechanism")
        data, backend = _library("pfl.data.federated_dataset"), _library("pfl.aggregate.simulate")
        datasets: Any = _library("pfl.data.dataset").Dataset

        class RowTraining(base.FederatedAlgorithm):  # type: ignore[misc]  # pfl is imported late
            def get_next_central_contexts(self, *_: Any, **__: Any) -> Any:
                raise NotImplementedError

            def process_aggregated_statistics(self, *_: Any, **__: Any) -> Any:
                raise NotImplementedError

            def simulate_one_user(self, model: Any, user_dataset: Any, central_context: Any) -> Any:
                row = framework.to_tensor(user_dataset.raw_data[0].copy())
                return statistics({ROW: row}, weight=1), metrics()

        central = mechanism
        if not isinstance(mechanism, privacy.CentrallyAppliedPrivacyMechanism):
            central = privacy.CentrallyAppliedPrivacyMechanism(mechanism)
        algorithm, found = RowTraining(), []
        for number, rows in enumerate(cohorts):
            everybody = iter(list(range(len(rows))))
            federated = data.FederatedDataset(
                lambda user, rows=rows: datasets(raw_data=[rows[user]], user_id=str(user)), everybody.__next__
            )
            simulation = backend.SimulatedBackend(training_data=federated, val_data=federated, postprocessors=[central])
            round_ = context.CentralContext(
                current_central_iteration=number,
                do_evaluation=False,
                cohort_size=len(rows),
                population=population.TRAIN,
                model_train_params=None,
                algorithm_params=None,
                seed=algorithm._get_seed(),
            )
            summed, _ = asyncio.run(
                simulation.async_gather_results(model=None, training_algorithm=algorithm, central_context=round_)
            )
            found.append(np.asarray(framework.to_numpy(summed[ROW]), np.float64))
        return found


def gaussian() -> PflRound:
    """The Gaussian mechanism, one round."""
    return PflRound()


def adaptive() -> PflRound:
    """Adaptive clipping, the first round."""
    return PflRound("adaptive")


def banded() -> PflRound:
    """Noise of a banded matrix factorisation."""
    return PflRound("banded", users=1000)


@contextmanager
def _elsewhere() -> Iterator[None]:
    """A current folder that is gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _library(name: str) -> Any:
    """Import a library that isn't Palate's."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this target needs {error.name}: pip install --no-deps pfl multiprocess dill") from None
