"""Stage: one step of a masked attempt on the server: its requests, the checks of answers, and the next stage.

A stage checks all that an honest device would check of another one, so that a dishonest device is left out instead of
stopping the others. The stages are in `cohort` (until the shares are sent), `boxes` (who has dealt well)
and `sum` (from the masked vectors on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from palate_common.mechanism.update import Int64
from palate_common.secagg.evidence import FaultEvidence
from palate_core.errors import IntegrityError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Flags, Step, read_fixed
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import AttemptTerms
from palate_server.secagg.conduct import Conduct

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Attempt:
    """The data of all stages, and the devices' misconduct so far."""

    terms: AttemptTerms
    directory: Directory
    key: SigningKey
    conduct: Conduct = field(default_factory=Conduct)

    def name(self, record: FaultEvidence) -> bool:
        """Name a device for what it has signed, if the record holds."""
        return self.conduct.name(record, self.directory, context=self.terms.context)


@dataclass(frozen=True)
class UnmaskedSum:
    """The sum of the survivors' vectors, int64 [size], and the survivors."""

    total: Int64
    survivors: tuple[int, ...]


class Stage(Protocol):
    """One step in one toss."""

    step: Step
    toss: int
    asked: tuple[int, ...]
    asked_set: frozenset[int]

    def body(self, device: int) -> bytes:
        """The request to one device."""
        ...

    def accept(self, device: int, body: memoryview) -> None:
        """Take an answer; IntegrityError if it is invalid."""
        ...

    def close(self) -> Stage | UnmaskedSum:
        """End the stage; returns the next one, or the sum."""
        ...


class BaseStage:
    """The base of all stages: the devices to ask, and the least number of answers."""

    step: Step

    def __init__(self, attempt: Attempt, toss: int, asked: Sequence[int]) -> None:
        self.attempt, self.terms, self.toss = attempt, attempt.terms, toss
        self.asked = tuple(asked)
        self.asked_set = frozenset(self.asked)

    def require(self, left: int) -> None:
        """End the attempt if too few devices are left."""
        if left < self.terms.n_min:
            name = self.step.name.lower()
            raise IntegrityError(f"at least {self.terms.n_min} devices must be left after {name}, got {left}")


class PiecesByMember:
    """The bytes that each member gets of a table of pieces, selected in one operation, because many would be slow.

    Args:
        table: pieces, uint8 [n, k, width].
        chosen: the pieces to send, bool [n, k].
    """

    def __init__(self, table: Bytes, chosen: Flags) -> None:
        self._bytes = table[chosen].tobytes()
        self._ends = [0, *(chosen.sum(axis=1).cumsum() * table.shape[2]).tolist()]

    def __getitem__(self, member: int) -> bytes:
        return self._bytes[self._ends[member] : self._ends[member + 1]]


def member_of(cohort: Cohort, device: int) -> int:
    """The index of a device in the cohort."""
    member = cohort.member(device)
    if member is None:
        raise IntegrityError(f"device {device} must be in the cohort, got one outside it")
    return member


def pieces(name: str, body: memoryview, count: int, width: int) -> Bytes:
    """Split a body into equal pieces, uint8 [count, width]."""
    return np.frombuffer(read_fixed(name, body, count * width), np.uint8).reshape(count, width)
