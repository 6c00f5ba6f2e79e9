"""Mutants of the noise: too little of it, or none on some coordinates or in some rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from mutants.mutant import Mutant, mutant
from palate_client.rounds import contribution
from palate_common.mechanism.update import ClippedSum, ClippedUpdate, Int64
from palate_common.rounds import shares
from palate_core import noise_share
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import Source
from palate_core.noise_share import ClearSum, NoisedVector
from palate_core.plan import ChargedPlan, RoundPlan
from palate_server.rounds import coordinator, noise
from palate_server.rounds.aggregation import Aggregate
from palate_server.rounds.noise import NoisyAggregate

Draw = Callable[[int, int, Source], Any]
"""(how many, sigma, source) -> noise."""


@contextmanager
def sampled(draw: Draw) -> Iterator[None]:
    """Server and devices draw their noise by `draw`."""

    def instead(n: int, *, sigma: int, source: Source) -> Any:
        return draw(n, sigma, source)

    with (
        mock.patch.object(noise, "sample_discrete_gaussian", instead),
        mock.patch.object(shares, "sample_discrete_gaussian", instead),
        mock.patch.object(noise_share, "sample_discrete_gaussian", instead),
    ):
        yield


@contextmanager
def sharing(change: Callable[[ClearSum, Any, RoundPlan, Source], ClearSum]) -> Iterator[None]:
    """Devices send `change(noised, clipped, plan, source)`: one under masks, and all those of a node."""

    def alone(vector: Int64, charged: ChargedPlan, source: Source) -> NoisedVector:
        noised = ClearSum(noise_share.add_share(vector, charged, source).steps, 1)
        return NoisedVector(change(noised, ClippedSum(vector, 1, charged.plan.grid), charged.plan, source).steps)

    def several(clipped: ClippedUpdate | ClippedSum, charged: ChargedPlan, source: Source) -> ClearSum:
        found = shares.add_shares(clipped, charged, source)
        return change(found, clipped, charged.plan, source) if charged.plan.mode.noised_by_devices else found

    with mock.patch.object(contribution, "add_shares", several), mock.patch.object(contribution, "add_share", alone):
        yield


@contextmanager
def changed(change: Callable[[Int64, Int64, RoundPlan], Int64]) -> Iterator[None]:
    """Server and devices release `change(noised, clean, plan)` in the place of the noised numbers."""

    def released(summed: Aggregate, plan: RoundPlan) -> NoisyAggregate:
        found = noise.noised(summed, plan)
        if plan.cohort is not None:
            return found
        clean = np.zeros_like(found.steps)
        clean[: len(summed.total)] = summed.total
        return replace(found, steps=change(found.steps, clean, plan))

    def shared(found: ClearSum, clipped: ClippedUpdate, plan: RoundPlan, _: Source) -> ClearSum:
        clean = np.zeros_like(found.steps)
        total = clipped.total()
        clean[: len(total)] = total
        return replace(found, steps=change(found.steps, clean, plan))

    with mock.patch.object(coordinator, "noised", released), sharing(shared):
        yield


def _scaled(factor: float, how: str) -> Mutant:
    """Noise with a part of its sigma."""

    @mutant(
        f"sigma x{factor}",
        bug=f"the noise has {100 * factor:g} % of the charged standard deviation",
        seen=how,
        test="releases",
    )
    def less() -> Iterator[None]:
        def draw(n: int, sigma: int, source: Source) -> Int64:
            return sample_discrete_gaussian(n, sigma=max(1, round(factor * sigma)), source=source)

        with sampled(draw):
            yield

    return less


sigma_09 = _scaled(0.9, "a unit or a rounding on the way from plan to sampler")
sigma_099 = _scaled(0.99, "the normaliser of the noise is the number of devices that answered")
sigma_0995 = _scaled(0.995, "float16 or bfloat16 parameters; only a deep test has the samples to see it")


@mutant(
    "a block without noise",
    bug="the last block of the layout is released as it is",
    seen="a bias or an embedding that is not among the noised parameters",
    test="releases",
)
def bare_block() -> Iterator[None]:

    def change(noisy: Int64, clean: Int64, plan: RoundPlan) -> Int64:
        ends = np.cumsum([spec.size for spec in plan.layout])
        last = slice(int(ends[-1]) - plan.layout[-1].size, int(ends[-1]))
        noisy = noisy.copy()
        noisy[last] = clean[last]
        return noisy

    with changed(change):
        yield


@mutant(
    "noise only on touched coordinates",
    bug="coordinates that nobody touched get no noise, and so name those that somebody did",
    seen="sparse embeddings with noise on the rows of the batch",
    test="idle rounds",
)
def only_touched() -> Iterator[None]:
    with changed(lambda noisy, clean, plan: np.where(clean != 0, noisy, 0)):
        yield


@mutant(
    "noise before the clip",
    bug="noise is added to the raw update, and clipped with it",
    seen="the order of two wrappers",
    test="releases",
)
def before_the_clip() -> Iterator[None]:

    def change(noisy: Int64, clean: Int64, plan: RoundPlan) -> Int64:
        length = float(np.linalg.norm(noisy.astype(np.float64)))
        return (noisy * min(1.0, plan.grid / max(length, 1.0))).astype(np.int64)

    with changed(change):
        yield


@mutant(
    "a retry has the first attempt's noise size",
    bug="the server's noise of a round has the deviation that its first attempt was charged for",
    seen="a number that is worked out once a round, and void attempts that make it another",
    test="random words",
)
def first_sigma() -> Iterator[None]:
    first, real = dict[tuple[Any, ...], int](), noise.noised

    def instead(aggregate: Aggregate, plan: RoundPlan) -> NoisyAggregate:
        sigma = first.setdefault((plan.run, plan.round, plan.model_hash, str(plan.facts), plan.layout), plan.sigma)
        if aggregate.participation.users < plan.least or plan.mode.noised_by_devices or plan.sigma == 0:
            return real(aggregate, plan)
        return replace(real(aggregate, plan.model_copy(update={"sigma": sigma})), plan=plan)

    with mock.patch.object(coordinator, "noised", instead):
        yield
