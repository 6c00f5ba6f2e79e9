"""Noise: from an `Aggregate` to a `NoisyAggregate`, the first value on the server that may be stored or shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import facts_of
from palate_common.mechanism.update import Int64, block_sums, block_units
from palate_core.errors import IntegrityError
from palate_core.layout import DUMMIES, layout_size
from palate_core.log.canonical import canonical_json
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource, SeededSource, Source
from palate_core.plan import Noise, RoundPlan
from palate_server.rounds.aggregation import Aggregate


@dataclass(frozen=True)
class NoisyAggregate:
    """A noised sum, in grid steps. Only `noised` makes one, or it is read from a sealed release.

    Attributes:
        steps: int64 [layout size + DUMMIES].
        users: installations in the sum.
        plan: the plan of its charge.
        subcohorts: of a sum of several sub-cohorts, installations in each; empty: it is one's.
    """

    steps: Int64
    users: int
    plan: RoundPlan
    subcohorts: tuple[int, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Installations in each of the sums that are in it."""
        return self.subcohorts or (self.users,)

    def sums(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Block -> its noised sum, in the block's units and shape."""
        layout = self.plan.layout
        return block_sums(self.steps[: layout_size(layout)], layout, self.plan.clip_norm / self.plan.grid)

    @property
    def sigma(self) -> float:
        """Standard deviation of its noise, in grid steps: never below the charged one.

        With dp local, each device's noise has the charged one, and the sum has the noise of all devices.
        """
        return self.plan.mode.released_sigma(self.users, sigma=self.plan.sigma, cohort=self.plan.cohort)

    def noise(self) -> Mapping[str, float]:
        """Block -> standard deviation of its noise, in the block's units."""
        units = block_units(self.plan.layout, self.plan.clip_norm / self.plan.grid)
        return {name: self.sigma * unit for name, unit in units.items()}


def source_for(plan: RoundPlan) -> Source:
    """A fresh secure random source, or, for experiments with seeded noise, one from the seed."""
    if plan.noise is Noise.SECURE:
        return SecureSource()
    scope = {"seed": facts_of(plan).seed, "round": plan.round, "attempt": plan.attempt}
    return SeededSource(hashlib.sha256(b"palate/seeded-noise/1" + canonical_json(scope)).digest())


def noised(aggregate: Aggregate, plan: RoundPlan) -> NoisyAggregate:
    """The aggregate with noise: the server's, or, with dp distributed or local, the devices', which it has already.

    **Guarantees:** every coordinate gets its own draw: whether anybody touched it or not.
    **Guarantees:** too small a cohort releases nothing: the plan's floor counts.
    **Assumes:** each installation's contribution has L2 norm at most `plan.grid` steps.
    **Assumes:** the operating system's random source and AES-256.
    **Assumes:** with dp distributed, at least `n_min - c_max` survivors added their share, and nobody learns it.

    Raises:
        IntegrityError: the cohort is too small or too large for the plan, or a plan with privacy has no noise.
    """
    users = aggregate.participation.users
    if users < plan.least:
        raise IntegrityError(
            f"the cohort must have at least {plan.least} installations, got {users}: nothing is released, and "
            "the attempt stays charged"
        )
    if plan.mode.private and plan.sigma <= 0:
        raise IntegrityError(f"`sigma` must be positive with dp {plan.dp}, got {plan.sigma}")
    if plan.cohort is not None and users > (most := plan.cohort.n_max * plan.cohort.together):
        raise IntegrityError(f"the cohort must have at most {most} installations, got {users}")
    if plan.mode.noised_by_devices:
        return NoisyAggregate(aggregate.total, users, plan)
    total = np.concatenate([aggregate.total, np.zeros(DUMMIES, np.int64)])
    if not plan.mode.private:
        return NoisyAggregate(total, users, plan)
    noise = sample_discrete_gaussian(len(total), sigma=plan.sigma, source=source_for(plan))
    return NoisyAggregate(total + noise, users, plan)


def added(sums: Sequence[NoisyAggregate]) -> NoisyAggregate:
    """The sum of the noised sums of an attempt's sub-cohorts, each of which may be released: it is post-processing."""
    first = sums[0]
    if len(sums) == 1:
        return first
    total, sizes = np.sum([each.steps for each in sums], axis=0), tuple(each.users for each in sums)
    return NoisyAggregate(total, sum(sizes), first.plan, sizes)
