"""Mutants of clipping: one user's norm exceeds the charged sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.mechanism import clipping
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, ClippedUpdate, DenseBlock, Int64, OuterBlock, Update
from palate_core.layout import BlockSpec

Float64 = npt.NDArray[np.float64]
Scale = Callable[[Float64, float], Float64]
"""(norms, clip norm) -> each user's factor onto a grid of one step."""


def correct(norms: Float64, clip_norm: float) -> Float64:
    """min(1, C / norm) / C, and 0 for what is not finite."""
    return clipping.GUARD / np.maximum(np.where(np.isfinite(norms), norms, np.inf), clip_norm)


def clipped(
    update: Update,
    layout: Sequence[BlockSpec],
    *,
    clip_norm: float,
    grid: int,
    scale: Scale = correct,
    norms: Float64 | None = None,
    after: Callable[[BlockSpec], float] = lambda spec: spec.weight,
) -> ClippedUpdate:
    """The production clip in replaceable parts, without the check at its end."""
    clipping._check_shapes(update, layout)
    if norms is None:
        norms = clipping._norms(update, layout)
    factor, finite = scale(norms, clip_norm), np.isfinite(norms)
    steps = tuple(
        block.keep(finite).quantise(factor * after(spec), grid)
        for spec, block in zip(layout, update.blocks, strict=True)
    )
    return ClippedUpdate(steps, finite, grid)


def clips(instead: Callable[..., ClippedUpdate]) -> Any:
    """Every device clips by `instead`."""
    return mock.patch.object(contribution, "clip", instead)


@mutant(
    "no clip",
    bug="contributions are put on the grid as they are",
    seen="a clip that is configured and never called, as when a strategy without its wrapper is used",
    test="sensitivity",
)
def no_clip() -> Iterator[None]:
    with clips(lambda *args, **kw: clipped(*args, **kw, scale=lambda norms, c: np.full(len(norms), 1 / c))):
        yield


@mutant(
    "per-block clip",
    bug="each block is clipped to the whole clip norm by itself",
    seen="per-layer clipping accounted as a global one",
    test="sensitivity",
)
def per_block_clip() -> Iterator[None]:

    def instead(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        parts = [
            clipped(Update((block,), update.n_users), (spec,), clip_norm=clip_norm, grid=grid)
            for spec, block in zip(layout, update.blocks, strict=True)
        ]
        return ClippedUpdate(tuple(part.steps[0] for part in parts), np.ones(update.n_users, np.bool_), grid)

    with clips(instead):
        yield


@dataclass(frozen=True)
class _Summed(ClippedUpdate):
    """A clipped update whose users are unclipped, and whose sum is clipped."""

    bound: float = 0.0

    def total(self) -> Int64:
        """The clipped sum."""
        raw = super().total().astype(np.float64)
        cut: Int64 = (raw * min(1.0, self.bound / max(float(np.linalg.norm(raw)), 1.0))).astype(np.int64)
        return cut


def _sumclips(bound: Callable[[int, int], float]) -> Any:
    """Clip a node's sum to `bound(users, grid)`."""

    def instead(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        raw = clipped(update, layout, clip_norm=clip_norm, grid=grid, scale=lambda n, c: np.full(len(n), 1 / c))
        return _Summed(raw.steps, raw.accepted, raw.grid, bound(update.n_users, grid))

    return clips(instead)


@mutant(
    "clip after sum",
    bug="a node sums its users first and clips the sum to their number of clip norms",
    seen="clipping the mean gradient of a batch instead of each example's",
    test="sensitivity",
)
def clip_after_sum() -> Iterator[None]:
    with _sumclips(lambda users, grid: users * grid):
        yield


@mutant(
    "shard clipped as one user",
    bug="the sum of a node's users is clipped to one clip norm",
    seen="a simulated client that stands for many users; zero-out of one then moves it by up to two clip norms",
    test="sensitivity",
)
def shard_as_one() -> Iterator[None]:
    with _sumclips(lambda users, grid: grid):
        yield


@mutant(
    "NaN bypasses the clip",
    bug="a norm that is NaN compares as small, and what isn't NaN goes out unclipped",
    seen="`if norm > clip` is false for NaN",
    test="sensitivity",
)
def nan_bypass() -> Iterator[None]:

    def instead(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        norms = clipping._norms(update, layout)
        harmless = Update(tuple(_numbers(block) for block in update.blocks), update.n_users)
        bounded = np.where(norms > clip_norm, np.where(np.isfinite(norms), norms, np.inf), clip_norm)
        return clipped(harmless, layout, clip_norm=clip_norm, grid=grid, norms=bounded, scale=lambda n, _: 1 / n)

    with clips(instead):
        yield


def _numbers(block: Block) -> Block:
    """A block with zeros in the place of numbers that are not finite."""
    if isinstance(block, DenseBlock):
        return DenseBlock(np.nan_to_num(block.values, posinf=0.0, neginf=0.0))
    block = replace(block, rows=np.nan_to_num(block.rows, posinf=0.0, neginf=0.0))
    if isinstance(block, PairBlock):
        return block
    shift = None if block.shift is None else np.nan_to_num(block.shift, posinf=0.0, neginf=0.0)
    return replace(block, columns=np.nan_to_num(block.columns, posinf=0.0, neginf=0.0), shift=shift)


def _checked_by_integers(kind: type[np.signedinteger[Any]]) -> Any:
    """Don't scale; drop users whose integer norm exceeds the grid, computed in arithmetic that wraps."""

    def instead(update: Update, layout: Sequence[BlockSpec], *, clip_norm: float, grid: int) -> ClippedUpdate:
        raw = clipped(update, layout, clip_norm=clip_norm, grid=grid, scale=lambda n, c: np.full(len(n), 1 / c))
        vectors = np.stack([raw.vector(user) for user in range(update.n_users)]).astype(kind)
        within = (vectors * vectors).sum(axis=1, dtype=kind) <= kind(grid) * kind(grid)
        return ClippedUpdate(tuple(block.keep(within) for block in raw.steps), within, grid)

    return clips(instead)


@mutant(
    "integer norm overflow, int64",
    bug="the norm check squares in int64, which wraps: 2^32 steps have norm 0",
    seen="int64 dot products were seen to overflow to 0",
    test="sensitivity",
)
def overflow_int64() -> Iterator[None]:
    with _checked_by_integers(np.int64):
        yield


@mutant(
    "integer norm overflow, int32",
    bug="the norm check squares in int32, which wraps: 2^16 steps have norm 0",
    seen="int32 dot products were seen to overflow to 0",
    test="sensitivity",
)
def overflow_int32() -> Iterator[None]:
    with _checked_by_integers(np.int32):
        yield


@mutant(
    "a row named twice counts twice",
    bug="rows that one user names twice are accepted: the clip counts each by itself, the sum adds them up",
    seen="sparse gradients before they are coalesced",
    test="reference",
    at=(clipping, "_check_rows"),
)
def rows_named_twice(real: Any, name: str, block: OuterBlock | PairBlock) -> None:
    owners = np.repeat(np.arange(len(block.indptr) - 1), np.diff(block.indptr))
    twice = len({*zip(owners.tolist(), block.indices.tolist(), strict=False)}) < len(block.indices)
    if not twice or not set(block.indices.tolist()) <= set(range(block.n_rows)):
        real(name, block)
