"""Mutants of the random words, and of the sampler that turns them into noise.

Two mutants of older lists (a removed tie branch, a tail cut at 4 sigma) belong to table samplers, which this project no
longer has. The corresponding bugs of a rejection sampler are here: the acceptance step is skipped, its coin is a float,
candidates are bounded, a uniform word is cut short.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar
from unittest import mock

import numpy as np

from mutants.mutant import mutant
from mutants.noise import sampled
from palate_client.rounds import contribution
from palate_common.algorithms.base import facts_of
from palate_common.mechanism.update import Int64
from palate_core.noise import discrete_gaussian, randomness
from palate_core.noise.discrete_gaussian import Bools, sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource, SeededSource, Source, Words
from palate_core.plan import RoundPlan
from palate_server.rounds import noise


@mutant(
    "seed repeats across runs",
    bug="the noise of a round is seeded by the round's number",
    seen="`seed=42` in a strategy's constructor: two runs, or a run and its repetition, subtract to no noise",
    test="releases",
)
def seed_of_round() -> Iterator[None]:
    class Lying(SeededSource):
        """A seed that says it is none, as the core asks a device's source."""

        secure: ClassVar[bool] = True

    def of_device(plan: RoundPlan, devices: Sequence[int]) -> Source:
        return Lying(f"{plan.round}/{devices[0]}".encode())

    with (
        mock.patch.object(noise, "source_for", lambda plan: SeededSource(f"{plan.round}".encode())),
        mock.patch.object(contribution, "share_source", of_device),
    ):
        yield


@mutant(
    "seeded noise in a release",
    bug="the seed of the run's public facts makes the noise, whatever the plan says",
    seen="the experiment's source left in for production",
    test="keystreams",
)
def seeded() -> Iterator[None]:

    def of(plan: RoundPlan, *devices: Any) -> Source:
        place = (facts_of(plan).seed, plan.round, plan.attempt, *(list(map(int, each)) for each in devices))
        return SeededSource(str(place).encode())

    with mock.patch.object(noise, "source_for", of), mock.patch.object(contribution, "share_source", of):
        yield


@mutant(
    "16-bit seed",
    bug="the key of a release is made from 16 random bits",
    seen="`random.seed(os.getpid())`; Debian's OpenSSL of 2008 had 15 bits",
    test="keystreams",
    at=(randomness._Keystream, "__init__"),
)
def short_seed(real: Any, self: Any, key: bytes) -> None:
    real(self, hashlib.sha256(key[:2]).digest())


@mutant(
    "keystream shared across threads",
    bug="each thread reads the release's keystream from its beginning",
    seen="a generator in a thread-local that every thread seeds alike",
    test="keystreams",
)
def shared_by_threads() -> Iterator[None]:
    local, keys = threading.local(), dict[int, bytes]()

    def words(self: SecureSource, n: int) -> Words:
        key = keys.setdefault(id(self), os.urandom(32))
        streams = local.__dict__.setdefault("streams", {})
        return streams.setdefault((id(self), key), randomness._Keystream(key)).words(n)  # type: ignore[no-any-return]

    # Ids of deleted sources are reused, so a new source resets its key.
    real = SecureSource.__init__

    def begin(self: SecureSource) -> None:
        keys.pop(id(self), None)
        real(self)

    with mock.patch.object(SecureSource, "words", words), mock.patch.object(SecureSource, "__init__", begin):
        yield


@mutant(
    "keystream shared across fork",
    bug="a child process goes on with its parent's keystream",
    seen="numpy's global generator in forked data loaders",
    test="keystreams",
    at=(SecureSource, "words"),
)
def shared_by_fork(self: SecureSource, n: int) -> Words:
    return self._state[1].words(n)


@mutant(
    "acceptance step skipped",
    bug="every candidate of the rejection sampler is kept: a discrete Laplace comes out",
    seen="in the place of `tie branch removed`, which belongs to a table sampler",
    test="releases",
    at=(discrete_gaussian, "_exp_minus"),
)
def no_acceptance(real: Any, numerator: Words, denominator: int, source: Source) -> Bools:
    accepts = _is_twice_a_square(denominator)
    return np.ones(len(numerator), np.bool_) if accepts else real(numerator, denominator, source)


def _is_twice_a_square(number: int) -> bool:
    """Whether it is 2 sigma^2, the denominator of the acceptance step; the proposal's is sigma."""
    root = math.isqrt(number // 2)
    return number == 2 * root * root and root > 32


@mutant(
    "tail cut by a bounded proposal",
    bug="candidates beyond 4 sigma are never made",
    seen="in the place of `tail cut at 4 sigma` of a table; a loop with too few tries does it",
    test="releases",
)
def bounded_proposal() -> Iterator[None]:

    def draw(n: int, sigma: int, source: Source) -> Int64:
        found = sample_discrete_gaussian(n, sigma=sigma, source=source)
        while (far := np.flatnonzero(np.abs(found) > 4 * sigma)).size:
            found[far] = sample_discrete_gaussian(len(far), sigma=sigma, source=source)
        return found

    with sampled(draw):
        yield


@mutant(
    "uniform word cut short",
    bug="of each 64-bit word the sampler uses 12 bits: noise lies on a coarser grid than the sums",
    seen="`random() * sigma` with a float32 generator; Mironov (2012)",
    test="releases",
    at=(discrete_gaussian, "_words_below"),
)
def short_words(real: Any, count: int, limit: int, source: Source) -> Words:
    return real(count, limit, source) & np.uint64(0xFFF << 52)


@mutant(
    "two words a noise",
    bug="noise is a rounded normal of a public generator, whose seed is two words of the secure source",
    seen="`np.random.default_rng(secrets.randbits(128))`: no test of the numbers can tell",
    test="random words",
)
def public_generator() -> Iterator[None]:

    def draw(n: int, sigma: int, source: Source) -> Int64:
        if not source.secure:
            return sample_discrete_gaussian(n, sigma=sigma, source=source)
        rng = np.random.Generator(np.random.PCG64([int(word) for word in source.words(2)]))
        found: Int64 = np.rint(rng.normal(0.0, sigma, n)).astype(np.int64)
        return found

    with sampled(draw):
        yield
