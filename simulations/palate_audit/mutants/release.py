"""Mutants of side outputs: raw numbers in a log, a header, a file, or the next plan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.mechanism import clipping
from palate_common.mechanism.update import DUMMIES, BlockSpec, ClippedUpdate, Update
from palate_common.rounds.plan import RoundPlan
from palate_common.rounds.wire import ContributionHeader
from palate_server.rounds.aggregation import Aggregate
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.noise import NoisyAggregate

logger = logging.getLogger("palate_client.rounds.contribution")


def _released(also: Any) -> Any:
    """Call `also(coordinator, plan, sum)` before a sum is noised."""
    real = Coordinator._release

    def instead(self: Coordinator, plan: RoundPlan, summed: Aggregate) -> Release:
        also(self, plan, summed)
        return real(self, plan, summed)

    return mock.patch.object(Coordinator, "_release", instead)


@mutant(
    "un-noised metric",
    bug="the norm of the raw sum is told with the counts of a round",
    seen="`evaluate` and `fit_metrics_aggregation_fn` next to a private `fit`",
    test="E",
)
def metric() -> Iterator[None]:
    """Publish one number of the raw sum."""

    def told(_: Coordinator, plan: RoundPlan, summed: Aggregate) -> None:
        object.__setattr__(summed.participation, "update_norm", float(np.linalg.norm(summed.total)))

    with _released(told):
        yield


@mutant(
    "un-noised clip fraction",
    bug="a node says how many of its users were clipped",
    seen="Flower's and TFF's adaptive clipping report it, noised or not",
    test="E",
)
def clip_fraction() -> Iterator[None]:
    """Report it in the field for users whose own limits refused."""
    counted: list[int] = []

    def clip(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        counted.append(int((clipping._norms(update, layout) > clip_norm).sum()))
        return clipping.clip(update, layout, clip_norm=clip_norm, grid=grid)

    def header(**fields: Any) -> ContributionHeader:
        return ContributionHeader(**{**fields, "rejected": fields["rejected"] + counted[-1]})

    with mock.patch.object(contribution, "clip", clip), mock.patch.object(contribution, "ContributionHeader", header):
        yield


@mutant(
    "un-noised norm log",
    bug="a node writes the norms of its users to its log",
    seen="`logger.debug` while training; logs are shipped",
    test="E",
)
def norm_log() -> Iterator[None]:
    """Write one log line a batch."""

    def clip(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        logger.debug("mean norm before the clip: %.4g", float(clipping._norms(update, layout).mean()))
        return clipping.clip(update, layout, clip_norm=clip_norm, grid=grid)

    with mock.patch.object(contribution, "clip", clip):
        yield


@mutant(
    "adaptive clip from a raw quantile",
    bug="the next round's clip norm follows the raw norm of this round's sum",
    seen="Andrew et al. (2021) noise the quantile; copies of it don't",
    test="E",
)
def raw_clip() -> Iterator[None]:
    """The next plan depends on the raw sum."""

    def adapt(self: Coordinator, plan: RoundPlan, summed: Aggregate) -> None:
        norm = float(np.linalg.norm(summed.total)) / plan.grid / max(summed.participation.users, 1)
        self.terms = self.terms.model_copy(update={"clip_norm": plan.clip_norm * (0.5 + norm)})

    with _released(adapt):
        yield


@mutant(
    "head chosen from raw counts",
    bug="the model, and what it chooses, is made from the raw sum; the noised one is stored",
    seen="a vocabulary or a list of popular items taken from the data before any noise",
    test="E",
)
def raw_model() -> Iterator[None]:
    """Seal one sum, and use another."""
    raw: list[Any] = []
    real = Coordinator._release

    def instead(self: Coordinator, plan: RoundPlan, summed: Aggregate) -> Release:
        replay, apply = self._replay, self._replay.apply

        def applied(noisy: NoisyAggregate) -> Any:
            steps = np.concatenate([summed.total, np.zeros(DUMMIES, np.int64)])
            return apply(replace(noisy, steps=steps) if plan.mode.trusts_server else noisy)

        raw.append(summed)
        with mock.patch.object(replay, "apply", applied):
            return real(self, plan, summed)

    with mock.patch.object(Coordinator, "_release", instead):
        yield


@mutant(
    "un-noised checkpoint",
    bug="the raw sum is written to the run folder beside the noised one",
    seen="a checkpoint for resuming that is taken before the noise",
    test="E",
)
def checkpoint() -> Iterator[None]:
    """Write an additional file."""

    def write(self: Coordinator, plan: RoundPlan, summed: Aggregate) -> None:
        folder = self.registry.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        np.save(folder / f"round-{plan.round}.npy", summed.total)

    with _released(write):
        yield


MUTANTS = (metric, clip_fraction, norm_log, raw_clip, raw_model, checkpoint)
