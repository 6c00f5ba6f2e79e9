"""Conduct: what devices did in one attempt: evidence against who has signed what is false, and who was missing.

    stages -> Conduct -> strikes: who is named, with the record; absences: who isn't invited for a while

A record is taken only if it holds by itself: it is of this attempt, and `check` finds its device in it.

>>> Conduct().named
set()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from palate_common.secagg.evidence import FaultEvidence, check
from palate_core.errors import IntegrityError
from palate_core.masks.directory import Directory


@dataclass
class Conduct:
    """Conduct in one attempt; devices by number, or nodes without masks.

    Attributes:
        offenders: without masks: nodes that sent a malformed answer.
        evidence: with masks: device -> the first record that names it.
        unsigned: with masks: devices that sent what isn't theirs by a signature. It proves nothing, and is as silence.
        unrevealed: those that committed to a nonce and didn't show one: a toss is lost, but nothing charged for it.
        on_evidence: called with each record as soon as it is found, so that it survives the process.
    """

    offenders: set[int] = field(default_factory=set)
    evidence: dict[int, FaultEvidence] = field(default_factory=dict)
    unsigned: set[int] = field(default_factory=set)
    unrevealed: set[int] = field(default_factory=set)
    on_evidence: Callable[[int, FaultEvidence], None] | None = field(default=None, repr=False, compare=False)

    @property
    def named(self) -> set[int]:
        """The devices that are named with evidence."""
        return set(self.evidence)

    def name(self, record: FaultEvidence, directory: Directory, *, context: bytes) -> bool:
        """Keep a record if it holds; whether its device is named."""
        if not holds(record, directory, context=context):
            return False
        if record.device not in self.evidence:
            self.evidence[record.device] = record
            if self.on_evidence is not None:
                self.on_evidence(record.device, record)
        return True


def holds(record: FaultEvidence, directory: Directory, *, context: bytes) -> bool:
    """Whether a record is of this attempt and convicts its device, by the bytes that are kept of it."""
    try:
        return record.attempt == context.hex() and check(record.to_bytes(), directory) == record.device
    except IntegrityError:
        return False
