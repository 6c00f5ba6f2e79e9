"""A stage of a masked attempt on the server: whom it asks for what, what counts as an answer, what follows.

A stage checks everything an honest device would check of another, so that one liar is left out instead of stopping the
others. They are in `unmasking_cohort` (until the shares are sealed) and `unmasking_sum` (from the masked vectors on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from palate_common.errors import IntegrityError
from palate_common.mechanism.update import Int64
from palate_common.records.signing import SigningKey
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.directory import Directory
from palate_common.secagg.messages import Flags, Step, read_fixed
from palate_common.secagg.transcript import AttemptTerms
from palate_server.secagg.disputes import Conduct
from palate_server.secagg.recovery import Bytes


@dataclass(frozen=True)
class Attempt:
    """What every stage knows, and what all of them find out about the devices."""

    terms: AttemptTerms
    directory: Directory
    key: SigningKey
    conduct: Conduct = field(default_factory=Conduct)


@dataclass(frozen=True)
class UnmaskedSum:
    """The sum of the survivors' vectors, int64 [size], and who they are."""

    total: Int64
    survivors: tuple[int, ...]


class Stage(Protocol):
    """One step of one toss."""

    step: Step
    toss: int
    asked: tuple[int, ...]
    asked_set: frozenset[int]

    def body(self, device: int) -> bytes:
        """What to ask one device."""
        ...

    def accept(self, device: int, body: memoryview) -> None:
        """Take in an answer; IntegrityError if it is none."""
        ...

    def complain(self, device: int, body: memoryview) -> None:
        """Take in a complaint in the place of an answer; IntegrityError if it is none."""
        ...

    def close(self) -> Stage | UnmaskedSum:
        """What follows."""
        ...


class Asking:
    """Who is asked, and the floor on how many must answer."""

    step: Step

    def __init__(self, attempt: Attempt, toss: int, asked: Sequence[int]) -> None:
        self.attempt, self.terms, self.toss = attempt, attempt.terms, toss
        self.asked = tuple(asked)
        self.asked_set = frozenset(self.asked)

    def complain(self, device: int, body: memoryview) -> None:
        """There is nothing to complain of but boxes, and those are handed out with U1."""
        raise IntegrityError(f"a complaint must answer a request for input, got one after {self.step.name.lower()}")

    def require(self, left: int) -> None:
        """End the attempt where fewer than the floor are left."""
        if left < self.terms.n_min:
            name = self.step.name.lower()
            raise IntegrityError(f"at least {self.terms.n_min} devices must be left after {name}, got {left}")


class Parcels:
    """What each member is sent of a table of pieces, cut once for all: a thousand small cuts would cost more.

    Args:
        table: pieces, uint8 [n, k, width].
        chosen: which of them, bool [n, k].
    """

    def __init__(self, table: Bytes, chosen: Flags) -> None:
        self._bytes = table[chosen].tobytes()
        self._ends = [0, *(chosen.sum(axis=1).cumsum() * table.shape[2]).tolist()]

    def __getitem__(self, member: int) -> bytes:
        return self._bytes[self._ends[member] : self._ends[member + 1]]


def member_of(cohort: Cohort, device: int) -> int:
    """The index of a device that was asked, so is in the cohort."""
    member = cohort.member(device)
    if member is None:
        raise IntegrityError(f"device {device} must be in the cohort, got one outside it")
    return member


def pieces(name: str, body: memoryview, count: int, width: int) -> Bytes:
    """A body of equal pieces, uint8 [count, width]."""
    return np.frombuffer(read_fixed(name, body, count * width), np.uint8).reshape(count, width)
