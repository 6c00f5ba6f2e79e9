"""Handovers: the release key changes, which the old key and the new one sign, in the ledger and for its devices.

    old key signs (population, place in the ledger, old, new), new key signs the same -> a `handover` entry
    pinned key, the handovers that a plan or a model shows -> `follow` -> the key that must have signed it

The ledger being one, so is the place of a handover: two from one key to two are two ledgers, or two entries of one, of
which its rules refuse the second.

    >>> key, new = SigningKey.generate(), SigningKey.generate()
    >>> link = Handover(entry=make_handover("readers", 7, key, new).body, inclusion=())
    >>> [each.new_key == new.public for each in follow(key.public, "readers", [link])]
    [True]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.entries import HandoverEntry, entry_from
from palate_core.log.merkle import Checkpoint, verify_inclusion
from palate_core.log.signing import SigningKey, verify

HANDOVER_TAG: Final = "palate/handover/1"
MOST_HANDOVERS: Final = 16
"""The most handovers that are shown, and followed."""


class Handover(BaseModel):
    """A handover that is shown, with the proof that it is in the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: dict[str, Any]
    """The ledger's `handover` entry."""
    inclusion: tuple[str, ...]
    """RFC 9162 inclusion proof of the entry in the state that is shown."""


def handover_bytes(population: str, seq: int, old_key: str, new_key: str) -> bytes:
    """What both keys sign."""
    return canonical_json({"population": population, "seq": seq, "old_key": old_key, "new_key": new_key})


def make_handover(population: str, seq: int, old: SigningKey, new: SigningKey) -> HandoverEntry:
    """Sign a handover with both keys.

    Args:
        population: whose ledger.
        seq: the entry's place in it.
        old: the release key so far.
        new: the release key from then on.

    Raises:
        InputError: they are the same.
    """
    if old.public == new.public:
        raise InputError("the new release key must be another one, got the same")
    data = handover_bytes(population, seq, old.public, new.public)
    return HandoverEntry(
        seq=seq,
        old_key=old.public,
        new_key=new.public,
        old_signature=old.sign(HANDOVER_TAG, data),
        new_signature=new.sign(HANDOVER_TAG, data),
    )


def make_new_start(population: str, seq: int, old_key: str, new: SigningKey) -> HandoverEntry:
    """Record that the release key was lost, and which one apps pin from now on. No device follows it.

    Args:
        population: whose ledger.
        seq: the entry's place in it.
        old_key: the lost key, public, hexadecimal.
        new: the release key from then on.
    """
    signature = new.sign(HANDOVER_TAG, handover_bytes(population, seq, old_key, new.public))
    return HandoverEntry(seq=seq, old_key=old_key, new_key=new.public, old_signature="", new_signature=signature)


def check_new_start(population: str, entry: HandoverEntry) -> None:
    """Refuse a new start that its own key hasn't signed.

    Raises:
        IntegrityError: it hasn't.
    """
    data = handover_bytes(population, entry.seq, entry.old_key, entry.new_key)
    verify(entry.new_key, HANDOVER_TAG, data, entry.new_signature)


def check_handover(population: str, entry: HandoverEntry) -> None:
    """Refuse a handover that either key hasn't signed.

    Raises:
        IntegrityError: it isn't signed by both, or the keys are the same.
    """
    if entry.old_key == entry.new_key:
        raise IntegrityError("the new release key must be another one, got the same")
    data = handover_bytes(population, entry.seq, entry.old_key, entry.new_key)
    verify(entry.old_key, HANDOVER_TAG, data, entry.old_signature)
    verify(entry.new_key, HANDOVER_TAG, data, entry.new_signature)


def follow(pinned: str, population: str, handovers: Sequence[Handover]) -> tuple[HandoverEntry, ...]:
    """The handovers that lead from a pinned key to the present one; signatures are verified, inclusion isn't.

    Args:
        pinned: the release key that the reader trusts, hexadecimal.
        population: whose ledger.
        handovers: those that are shown, oldest first; what led to the pinned key is passed over.

    Raises:
        IntegrityError: one isn't signed by both keys, or doesn't go on from the one before it; or they don't come from
            the pinned key at all.
    """
    if len(handovers) > MOST_HANDOVERS:
        raise IntegrityError(f"at most {MOST_HANDOVERS} handovers of the release key are followed: {len(handovers)}")
    entries, keys = [_entry(each) for each in handovers], {pinned}
    known = any(pinned in (entry.old_key, entry.new_key) for entry in entries)
    if entries and not known:
        raise IntegrityError("the handovers of the release key must come from the pinned one, got another's")
    start = next((place for place, entry in enumerate(entries) if entry.old_key == pinned), len(entries))
    chain = tuple(entries[start:])
    now, last = pinned, -1
    for entry in chain:
        if entry.old_key != now or entry.seq <= last or entry.new_key in keys:
            raise IntegrityError(f"a handover must go on from {now[:16]}…, got one from {entry.old_key[:16]}…: forked")
        check_handover(population, entry)
        now, last = entry.new_key, entry.seq
        keys.add(now)
    return chain


def signer_of(pinned: str, population: str, handovers: Sequence[Handover]) -> str:
    """The release key that must have signed what shows these handovers.

    Raises:
        IntegrityError: as `follow`.
    """
    chain = follow(pinned, population, handovers)
    return chain[-1].new_key if chain else pinned


def check_included(handovers: Sequence[Handover], checkpoint: Checkpoint) -> None:
    """Refuse handovers that aren't in the ledger.

    Raises:
        IntegrityError: one isn't in that state of it.
    """
    for each in handovers:
        entry = _entry(each)
        verify_inclusion(
            entry.leaf(), index=entry.seq, size=checkpoint.size, root=checkpoint.root, proof=each.inclusion
        )


def _entry(handover: Handover) -> HandoverEntry:
    try:
        entry = entry_from(handover.entry)
    except InputError as error:
        raise IntegrityError(f"a handover must be an entry of the ledger, got: {error}") from None
    if not isinstance(entry, HandoverEntry):
        raise IntegrityError(f"a handover must be a handover entry of the ledger, got a {entry.kind} entry")
    return entry
