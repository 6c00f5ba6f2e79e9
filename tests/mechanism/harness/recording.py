"""Recording: every random word that the path draws, and every vector that a device masks, while the context is open.

The words are those of the real sources, and go on to whoever asked; a copy is kept, by source, in the order of drawing.
A masked vector is never sent as it is: it is kept where the device hands it to its state machine.

    >>> from palate_core.noise.randomness import SecureSource
    >>> with recorded() as seen:
    ...     words = SecureSource().words(3)
    >>> [(each.secure, each.words.tolist() == words.tolist()) for each in seen.sources]
    [(True, True)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from palate_client.rounds import contribution
from palate_common.mechanism.update import Int64
from palate_core.device.attempt import MaskedDevice
from palate_core.masks.transcript import AttemptTerms
from palate_core.noise.randomness import SecureSource, SeededSource, Words
from palate_core.noise_share import NoisedVector


@dataclass
class RecordedSource:
    """One source, and what was drawn from it.

    Attributes:
        source: the source itself, so that no other has its identity.
        secure: whether it says that a release may use it.
        drawn: each draw.
    """

    source: object
    secure: bool
    drawn: list[Words] = field(default_factory=list)

    @property
    def words(self) -> Words:
        """All words, in order."""
        return np.concatenate([np.zeros(0, np.uint64), *self.drawn])


@dataclass
class Recording:
    """What was drawn and masked.

    Attributes:
        sources: in the order of their first words.
        vectors: (context of the attempt, device, int64 [released size]) in the order in which they were made.
    """

    sources: list[RecordedSource] = field(default_factory=list)
    vectors: list[tuple[bytes, int, Int64]] = field(default_factory=list)

    def _of(self, source: object, *, secure: bool) -> RecordedSource:
        """The record of a source."""
        for each in reversed(self.sources):
            if each.source is source:
                return each
        self.sources.append(RecordedSource(source, secure))
        return self.sources[-1]


@contextmanager
def recorded() -> Iterator[Recording]:
    """Record, in this process, until the context ends."""
    seen = Recording()

    def listening(kind: type[SecureSource] | type[SeededSource]) -> Callable[..., Words]:
        real = kind.words

        def words(self: Any, n: int) -> Words:
            found = real(self, n)
            seen._of(self, secure=kind.secure).drawn.append(found.copy())
            return found

        return words

    def device(terms: AttemptTerms, *, vector: Callable[[], NoisedVector], **rest: Any) -> Any:
        def made() -> NoisedVector:
            found = vector()
            seen.vectors.append((terms.context, rest["id"], found.steps.copy()))
            return found

        return MaskedDevice(terms, vector=made, **rest)

    with (
        mock.patch.object(SecureSource, "words", listening(SecureSource)),
        mock.patch.object(SeededSource, "words", listening(SeededSource)),
        mock.patch.object(contribution, "MaskedDevice", device),
    ):
        yield seen
