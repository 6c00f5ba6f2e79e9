"""Mutants of the kinds of block: norms and sums that are not those of what a user sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant
from palate_common.interactions import segment_sum
from palate_common.mechanism.pairs import PairBlock, PairSteps
from palate_common.mechanism.update import Int64, OuterBlock, OuterSteps

Float64 = npt.NDArray[np.float64]


@mutant(
    "norm without the shift",
    bug="a centred product is clipped by the norm of its sparse rows, without what is taken off all rows",
    seen="a change of what is sent that the clip's own formula doesn't follow",
    test="sensitivity",
)
def shift_forgotten() -> Iterator[None]:

    def bare(block: Any) -> Float64:
        norms: Float64 = real[type(block)](replace(block, along=None, shift=None))
        return norms

    real = {kind: kind.square_norms for kind in (OuterBlock, OuterSteps)}
    with mock.patch.object(OuterBlock, "square_norms", bare), mock.patch.object(OuterSteps, "square_norms", bare):
        yield


@mutant(
    "a shift that is not the user's own",
    bug="what is taken off a user's rows is the mean of all shifts in the batch",
    seen="centring a batch by its mean, as batch normalisation does",
    test="sensitivity",
    at=(OuterBlock, "quantise"),
)
def mean_shift(real: Any, block: OuterBlock, scale: Float64, grid: int) -> OuterSteps:
    if block.shift is None:
        return real(block, scale, grid)
    return real(replace(block, shift=np.full(len(block.shift), block.shift.mean())), scale, grid)


@mutant(
    "a pair counted twice",
    bug="a pair is added for (i, j) and again for (j, i), and clipped as if it were added once",
    seen="the whole of X'X folded onto its upper triangle",
    test="sensitivity",
    at=(PairSteps, "add_to"),
)
def pair_twice(real: Any, steps: PairSteps, total: Int64) -> None:
    real(steps, total)
    real(steps, total)


@mutant(
    "pairs clipped by their rows",
    bug="pairs are clipped by the norm of the items, which grows with the root of their number, not with it",
    seen="a bound of the history taken for a bound of its co-occurrences",
    test="sensitivity",
)
def pairs_by_rows() -> Iterator[None]:

    def norms(block: PairBlock | PairSteps) -> Float64:
        return np.asarray(segment_sum(np.square(block.rows.astype(np.float64)), block.indptr))

    with mock.patch.object(PairBlock, "square_norms", norms), mock.patch.object(PairSteps, "square_norms", norms):
        yield


@mutant(
    "a block the clip doesn't know",
    bug="a new kind of block counts as nothing in the joint norm",
    seen="a sum over the known kinds that skips all others",
    test="sensitivity",
)
def unknown_block() -> Iterator[None]:

    def nothing(block: PairBlock | PairSteps) -> Float64:
        return np.zeros(len(block.indptr) - 1)

    with mock.patch.object(PairBlock, "square_norms", nothing), mock.patch.object(PairSteps, "square_norms", nothing):
        yield
