"""Mutants of the draws: noise that was used before, or has another distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mutants.mutant import mutant, rows
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


rows(
    __name__,
    """
tiled noise | releases
bug: 64 draws are repeated along the vector
seen: a buffer of random words that is not refilled
@ palate_core.noise.discrete_gaussian:sample_discrete_gaussian
- return noise
+ return np.resize(noise[:64], n)

dummies repeat the noise | repeats
bug: dummies carry a copy of the first 64 numbers' noise, so that a release gives away those 64 sums exactly
seen: np.resize, which fills up with repetitions
@ palate_core.noise.discrete_gaussian:sample_discrete_gaussian
- return noise
+ return np.resize(noise[: max(1, n - 64)], n)

both signs of long vectors | sizes
bug: of a noise of more than 2^17 numbers the second half is the first one with the other sign
seen: antithetic sampling, where a vector was long enough to be slow
@ palate_core.noise.discrete_gaussian:sample_discrete_gaussian
- return noise
+ return noise if n <= 2**17 else np.concatenate([noise[: n - n // 2], -noise[: n // 2]])

uniform noise | releases
bug: noise is uniform, of the charged variance
seen: a dither taken for the noise
@ palate_core.noise.discrete_gaussian:sample_discrete_gaussian
- filled = barren = 0
+ uniforms = (source.words(n).astype(np.float64) + 0.5) / 2.0**64
+ return np.rint((2 * uniforms - 1) * sigma * 3**0.5).astype(np.int64)

Laplace noise | releases
bug: noise is Laplace, of the charged variance
seen: a mechanism for another norm behind the same interface
@ palate_core.noise.discrete_gaussian:sample_discrete_gaussian
- filled = barren = 0
+ centred = 2 * ((source.words(n).astype(np.float64) + 0.5) / 2.0**64) - 1
+ size = -np.log(np.maximum(1 - np.abs(centred), 1e-300)) * sigma / 2**0.5
+ return np.rint(np.copysign(size, centred)).astype(np.int64)

float noise off the grid | releases
bug: a float Gaussian is added to the integers, and released with all its digits
seen: Mironov (2012): the low bits of a float's noise tell the number under it
@ palate_server.rounds.noise:noised
- noise = sample_discrete_gaussian(len(total), sigma=plan.sigma, source=source_for(plan))
+ source = source_for(plan)
+ uniform, angle = ((source.words(len(total)).astype(np.float64) + 0.5) / 2.0**64 for _ in range(2))
+ noise = plan.sigma * np.sqrt(-2 * np.log(uniform)) * np.cos(2 * np.pi * angle)
""",
)
