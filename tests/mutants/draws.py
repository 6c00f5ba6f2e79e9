"""Mutants of the draws: noise that was used before, or has another distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mutants.mutant import mutant
from mutants.noise import Draw, sampled
from palate_common.mechanism.update import Int64
from palate_core.layout import DUMMIES
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import Source


def _remembered(turn: Callable[[int], tuple[int, int]]) -> Draw:
    """A draw that returns kept noise: `turn` maps the call's number to (index of the kept noise, sign)."""
    kept: dict[tuple[int, int], Any] = {}
    calls: dict[int, int] = {}

    def draw(n: int, sigma: int, source: Source) -> Int64:
        calls[n] = calls.get(n, -1) + 1
        which, sign = turn(calls[n])
        if (n, which) not in kept:
            kept[n, which] = sample_discrete_gaussian(n, sigma=sigma, source=source) / sigma
        found: Int64 = np.rint(sign * kept[n, which] * sigma).astype(np.int64)
        return found

    return draw


@mutant(
    "noise reused",
    bug="one noise vector serves every release",
    seen="noise that is drawn when a strategy is made",
    test="releases",
)
def reused() -> Iterator[None]:
    with sampled(_remembered(lambda call: (0, 1))):
        yield


@mutant(
    "antithetic noise",
    bug="every second noise vector is the former one with the other sign",
    seen="a variance reduction of the sum of two releases, which then has no noise",
    test="releases",
)
def antithetic() -> Iterator[None]:
    with sampled(_remembered(lambda call: (call // 2, 1 - 2 * (call % 2)))):
        yield


@mutant(
    "noise cycled",
    bug="two noise vectors take turns",
    seen="a pool of noise that was made beforehand",
    test="releases",
)
def cycled() -> Iterator[None]:
    with sampled(_remembered(lambda call: (call % 2, 1))):
        yield


@mutant(
    "spare draws used again",
    bug="a noise begins with the last 64 numbers of the one before, which were published as dummies",
    seen="a buffer of draws that were made in advance, and of which the last are kept",
    test="repeats",
)
def spare() -> Iterator[None]:
    kept: dict[int, Int64] = {}

    def draw(n: int, sigma: int, source: Source) -> Int64:
        found = sample_discrete_gaussian(n, sigma=sigma, source=source)
        if source.secure:
            old = kept.get(sigma, found[:0])[:n]
            found[: len(old)] = old
            kept[sigma] = found[-DUMMIES:].copy()
        return found

    with sampled(draw):
        yield


@mutant(
    "candidates kept for the next call",
    bug="what a call has drawn beyond its need begins every later noise of that deviation, if it is large",
    seen="a cache that saves random words, and from which nothing is taken out",
    test="random words",
)
def kept_candidates() -> Iterator[None]:
    kept: dict[int, Int64] = {}

    def draw(n: int, sigma: int, source: Source) -> Int64:
        found = sample_discrete_gaussian(n + SURPLUS, sigma=sigma, source=source)
        if source.secure and sigma >= DEAR:
            old = kept.setdefault(sigma, found[n:].copy())[:n]
            found[: len(old)] = old
        return found[:n]

    with sampled(draw):
        yield


SURPLUS, DEAR = 16, 2**19
