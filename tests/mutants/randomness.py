"""Mutants of the random words, and of the sampler that turns them into noise.

Two mutants of older lists (a removed tie branch, a tail cut at 4 sigma) belong to table samplers, which this project no
longer has. The corresponding bugs of a rejection sampler are here: the acceptance step is skipped, its coin is a float,
candidates are bounded, a uniform word is cut short.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from unittest import mock

from mutants.mutant import mutant, rows
from palate_core.noise import randomness
from palate_core.noise.randomness import SecureSource, Words


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


rows(
    __name__,
    """
16-bit seed | keystreams
bug: the key of a release is made from 16 random bits
seen: `random.seed(os.getpid())`; Debian's OpenSSL of 2008 had 15 bits
@ palate_core.noise.randomness:_Keystream.__init__
- AES(key)
+ AES(__import__("hashlib").sha256(key[:2]).digest())

keystream shared across fork | keystreams
bug: a child process goes on with its parent's keystream
seen: numpy's global generator in forked data loaders
@ palate_core.noise.randomness:SecureSource.words
- if owner != (os.getpid(), _forks):
+ if False:

acceptance step skipped | releases
bug: every candidate of the rejection sampler is kept: a discrete Laplace comes out
seen: in the place of `tie branch removed`, which belongs to a table sampler
@ palate_core.noise.discrete_gaussian:_exp_minus
- unit = _TOP // denominator
+ if denominator > 2 * 32**2 and int((denominator // 2) ** 0.5) ** 2 * 2 == denominator:  # that of the acceptance step
+     return np.ones(len(numerator), np.bool_)
+ unit = _TOP // denominator

tail cut by a bounded proposal | releases
bug: candidates beyond 4 sigma are never made
seen: in the place of `tail cut at 4 sigma` of a table; a loop with too few tries does it
@ palate_core.noise.discrete_gaussian:sample_discrete_gaussian
- return noise
+ while (far := np.flatnonzero(np.abs(noise) > 4 * sigma)).size:
+     noise[far] = sample_discrete_gaussian(len(far), sigma=sigma, source=source)
+ return noise

uniform word cut short | releases
bug: of each 64-bit word the sampler uses 12 bits: noise lies on a coarser grid than the sums
seen: `random() * sigma` with a float32 generator; Mironov (2012)
@ palate_core.noise.discrete_gaussian:_words_below
- return words
+ return words & np.uint64(0xFFF << 52)

two words a noise | random words
bug: noise is a rounded normal of a public generator, whose seed is two words of the secure source
seen: `np.random.default_rng(secrets.randbits(128))`: no test of the numbers can tell
@ palate_core.noise.discrete_gaussian:sample_discrete_gaussian
- noise = np.empty(n, np.int64)
+ if source.secure:
+     rng = np.random.Generator(np.random.PCG64([int(word) for word in source.words(2)]))
+     return np.rint(rng.normal(0.0, sigma, n)).astype(np.int64)
+ noise = np.empty(n, np.int64)

seed repeats across runs | releases
bug: the noise of a round is seeded by the round's number
seen: `seed=42` in a strategy's constructor: two runs, or a run and its repetition, subtract to no noise
@ palate_server.rounds.noise:source_for
- return SecureSource()
+ return SeededSource(f"{plan.round}".encode())
@ palate_client.rounds.contribution:share_source
- return SecureSource()
+ return type("Lying", (SeededSource,), {"secure": True})(f"{plan.round}/{devices[0]}".encode())

seeded noise in a release | keystreams
bug: the seed of the run's public facts makes the noise, whatever the plan says
seen: the experiment's source left in for production
@ palate_server.rounds.noise:source_for
- if plan.noise is Noise.SECURE:
+ if False:
@ palate_client.rounds.contribution:share_source
- if plan.noise is Noise.SECURE:
+ if False:
""",
)
