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

from mutants.mutant import mutant
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
