"""Mutants of the draws: noise that was used before, or has another distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from palate_audit.mutants.mutant import mutant
from palate_audit.mutants.noise import Draw, sampled

from palate_common.mechanism.update import Int64
from palate_core.layout import DUMMIES
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import Source
from palate_server.rounds import noise


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
    test="C",
)
def reused() -> Iterator[None]:
    """Draw once, and return that noise at every call."""
    with sampled(_remembered(lambda call: (0, 1))):
        yield


@mutant(
    "antithetic noise",
    bug="every second noise vector is the former one with the other sign",
    seen="a variance reduction of the sum of two releases, which then has no noise",
    test="C",
)
def antithetic() -> Iterator[None]:
    """Return each noise twice, with opposite signs."""
    with sampled(_remembered(lambda call: (call // 2, 1 - 2 * (call % 2)))):
        yield


@mutant(
    "noise cycled",
    bug="two noise vectors take turns",
    seen="a pool of noise that was made beforehand",
    test="C",
)
def cycled() -> Iterator[None]:
    """Alternate between two noise vectors."""
    with sampled(_remembered(lambda call: (call % 2, 1))):
        yield


@mutant(
    "tiled noise",
    bug="64 draws are repeated along the vector",
    seen="a buffer of random words that is not refilled",
    test="J",
)
def tiled() -> Iterator[None]:
    """Repeat 64 draws along the vector."""

    def draw(n: int, sigma: int, source: Source) -> Int64:
        return np.resize(sample_discrete_gaussian(min(n, 64), sigma=sigma, source=source), n)

    with sampled(draw):
        yield


def _uniforms(n: int, source: Source) -> Any:
    """Uniform floats in (0, 1)."""
    return (source.words(n).astype(np.float64) + 0.5) / 2.0**64


@mutant(
    "uniform noise",
    bug="noise is uniform, of the charged variance",
    seen="a dither taken for the noise",
    test="B2",
)
def uniform() -> Iterator[None]:
    """Draw uniform noise, which is bounded by 1.73 sigma."""

    def draw(n: int, sigma: int, source: Source) -> Int64:
        found: Int64 = np.rint((2 * _uniforms(n, source) - 1) * sigma * math.sqrt(3)).astype(np.int64)
        return found

    with sampled(draw):
        yield


@mutant(
    "Laplace noise",
    bug="noise is Laplace, of the charged variance",
    seen="a mechanism for another norm behind the same interface",
    test="B2",
)
def laplace() -> Iterator[None]:
    """Draw Laplace noise, with heavy tails and a sharp peak."""

    def draw(n: int, sigma: int, source: Source) -> Int64:
        centred = 2 * _uniforms(n, source) - 1
        size = -np.log(np.maximum(1 - np.abs(centred), 1e-300)) * sigma / math.sqrt(2)
        found: Int64 = np.rint(np.copysign(size, centred)).astype(np.int64)
        return found

    with sampled(draw):
        yield


@mutant(
    "float noise off the grid",
    bug="a float Gaussian is added to the integers, and released with all its digits",
    seen="Mironov (2012): the low bits of a float's noise tell the number under it",
    test="H",
)
def off_grid() -> Iterator[None]:
    """Add noise that is not rounded to the grid."""

    def draw(n: int, sigma: int, source: Source) -> Any:
        radius, angle = np.sqrt(-2 * np.log(_uniforms(n, source))), 2 * np.pi * _uniforms(n, source)
        return sigma * radius * np.cos(angle)

    # Only the server's noise: a device's message has no room for fractions.
    with mock.patch.object(noise, "sample_discrete_gaussian", lambda n, *, sigma, source: draw(n, sigma, source)):
        yield


@mutant(
    "spare draws used again",
    bug="a noise begins with the last 64 numbers of the one before, which were published as dummies",
    seen="a buffer of draws that were made in advance, and of which the last are kept",
    test="R",
)
def spare() -> Iterator[None]:
    """Begin with the end of the last noise of the same sigma."""
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
    "dummies repeat the noise",
    bug="dummies carry a copy of the first 64 numbers' noise, so that a release gives away those 64 sums exactly",
    seen="np.resize, which fills up with repetitions",
    test="R",
)
def copied_dummies() -> Iterator[None]:
    """Draw for the contributions, and fill up with copies."""

    def draw(n: int, sigma: int, source: Source) -> Int64:
        return np.resize(sample_discrete_gaussian(max(1, n - DUMMIES), sigma=sigma, source=source), n)

    with sampled(draw):
        yield


@mutant(
    "candidates kept for the next call",
    bug="what a call has drawn beyond its need begins every later noise of that deviation, if it is large",
    seen="a cache that saves random words, and from which nothing is taken out",
    test="W",
)
def kept_candidates() -> Iterator[None]:
    """Keep the first surplus of each large sigma."""
    kept: dict[int, Int64] = {}

    def draw(n: int, sigma: int, source: Source) -> Int64:
        found = sample_discrete_gaussian(n + SURPLUS, sigma=sigma, source=source)
        if source.secure and sigma >= DEAR:
            old = kept.setdefault(sigma, found[n:].copy())[:n]
            found[: len(old)] = old
        return found[:n]

    with sampled(draw):
        yield


@mutant(
    "both signs of long vectors",
    bug="of a noise of more than 2^17 numbers the second half is the first one with the other sign",
    seen="antithetic sampling, where a vector was long enough to be slow",
    test="Z",
)
def both_signs() -> Iterator[None]:
    """Draw half of a long noise."""

    def draw(n: int, sigma: int, source: Source) -> Int64:
        if n <= 2**17:
            return sample_discrete_gaussian(n, sigma=sigma, source=source)
        half = sample_discrete_gaussian(n - n // 2, sigma=sigma, source=source)
        return np.concatenate([half, -half[: n // 2]])

    with sampled(draw):
        yield


SURPLUS, DEAR = 16, 2**19

MUTANTS = (
    reused,
    antithetic,
    cycled,
    tiled,
    uniform,
    laplace,
    off_grid,
    spare,
    copied_dummies,
    kept_candidates,
    both_signs,
)
