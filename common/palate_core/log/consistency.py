"""Consistency: checks that the ledger which a plan or a model shows extends the state that was seen last.

    a plan's charge, a model's manifest -> Shown (state, proofs, cosignatures) -> check_growth
            what the app pins: key and witnesses -> check_pinned -> Covered -^
                             the last state that was seen here -^

    >>> from palate_core.log.merkle import MerkleTree
    >>> tree = MerkleTree([b"a", b"b", b"c"])
    >>> now = Shown.of(tree, 3, since=[2])
    >>> pinned = Pinned("readers", "ab" * 32)
    >>> covered = check_pinned("model", now, pinned=pinned, evidence=None)
    >>> check_growth(covered, seen=tree.checkpoint(2), evidence=None, spent=math.inf)

A device keeps one state for both, with the signed bytes that showed it, so that charges and publications can't come
from two ledgers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import read_canonical
from palate_core.log.entries import MOST_COSIGNED, Entry, RestoredEntry, entry_from
from palate_core.log.handovers import MOST_HANDOVERS, Handover
from palate_core.log.merkle import Checkpoint, MerkleTree, verify_consistency, verify_inclusion
from palate_core.log.pinned import Pinned

MOST_EPOCHS = 16
"""Most restorations of a ledger that are shown."""
PROVED = 64
"""Consistency is proved with the states after this many of the latest charges, after as many of the entries at which a
server publishes models, and after a quarter as many of all others. A device that has missed more must be enrolled
again, with a new store."""
MOST_KEPT = 2**20
"""Largest signed plan or manifest that a device has kept, in bytes."""
SPENT = "spent_mu2"
"""Field of a manifest: the population's mu^2 when it was signed."""


class Epoch(BaseModel):
    """Proof that the ledger was restored from a backup, with the entry about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: dict[str, Any]
    """The ledger's `restored` entry."""
    inclusion: tuple[str, ...]
    """RFC 9162 inclusion proof of the entry in the state that is shown."""


class Shown(BaseModel):
    """A state of a population's ledger, and proofs that it extends earlier ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Checkpoint
    consistency: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    """RFC 9162 consistency proofs from earlier states that plans and models have shown, by size."""
    epochs: tuple[Epoch, ...] = Field(default=(), max_length=MOST_EPOCHS, exclude_if=lambda epochs: not epochs)
    """The latest restorations of the ledger from a backup, oldest first: a device may have been away for several."""
    cosigned: str | None = Field(default=None, max_length=MOST_COSIGNED, exclude_if=lambda note: note is None)
    """The checkpoint as a signed note with the cosignatures of witnesses; None: nobody has cosigned it."""
    handovers: tuple[Handover, ...] = Field(default=(), max_length=MOST_HANDOVERS, exclude_if=lambda links: not links)
    """The latest handovers of the release key, oldest first."""

    @property
    def beyond_proofs(self) -> bool:
        """Whether it has what a version of its message must announce: cosignatures, or handovers."""
        return self.cosigned is not None or bool(self.handovers)

    @classmethod
    def of(
        cls,
        tree: MerkleTree,
        size: int,
        *,
        since: Iterable[int],
        restored: Iterable[Entry] = (),
        handovers: Iterable[Entry] = (),
    ) -> Shown:
        """A state of a log, with proofs.

        Args:
            tree: over the log in that state or a later one.
            size: of the log in that state.
            since: sizes of the earlier states.
            restored: entries of restorations.
            handovers: entries of handovers of the release key.

        Raises:
            InputError: the log has fewer entries.
        """
        return Shown(
            checkpoint=tree.checkpoint(size),
            consistency={old: tree.consistency_proof(old, size) for old in since},
            epochs=tuple(Epoch(entry=e.body, inclusion=tree.inclusion_proof(e.seq, size)) for e in restored),
            handovers=tuple(Handover(entry=e.body, inclusion=tree.inclusion_proof(e.seq, size)) for e in handovers),
        )


@dataclass(frozen=True)
class Covered:
    """A state that witnesses cover, by a release key that the app follows: from `check_pinned` or `taken_before` only.

    Attributes:
        what: "plan" or "model", for errors.
        shown: the state with its proofs.
        pinned: what the app pins; None: this device has taken the state before, and it was covered then.
        before: the last state that was seen, with its proofs, or None.
    """

    what: str
    shown: Shown
    pinned: Pinned | None
    before: Shown | None


def check_pinned(what: str, shown: Shown, *, pinned: Pinned, evidence: bytes | None) -> Covered:
    """Refuse a state that the app's witnesses haven't cosigned, or by a key that was handed over already.

    Args:
        what: "plan" or "model", for errors.
        shown: the new state with its proofs, from a message whose signature is verified.
        pinned: what the app pins: a release key, and witnesses if it has any.
        evidence: the signed bytes that showed the last state that was seen, or None.

    Raises:
        IntegrityError: too few cosignatures, a handover that isn't in the ledger, or one that was followed before and
            isn't shown; or what was kept can't be read.
    """
    before = kept_by(evidence)
    if before is not None and before.handovers:
        pinned.check_follows(what, before.handovers, shown.handovers)
    pinned.check(what, shown.checkpoint, shown.cosigned, shown.handovers, _epoch_of(shown) if pinned.quorums else 0)
    return Covered(what=what, shown=shown, pinned=pinned, before=before)


def taken_before(what: str, shown: Shown, *, evidence: bytes | None) -> Covered:
    """A state that this device has taken already, and whose witnesses were asked then.

    Args:
        what: for errors.
        shown: the state, from what this device has kept.
        evidence: the signed bytes that show the state that it is compared with, or None.

    Raises:
        IntegrityError: `evidence` can't be read.
    """
    return Covered(what=what, shown=shown, pinned=None, before=kept_by(evidence))


def check_growth(covered: Covered, *, seen: Checkpoint | None, evidence: bytes | None, spent: float) -> None:
    """Refuse a state that doesn't extend the one that was seen last, or has spent less.

    **Guarantees:** two ledgers for plans and models can not both have a quorum: a witness cosigns one history only.

    Args:
        covered: the new state.
        seen: the last state that was seen, or None.
        evidence: the signed bytes that showed `seen`, or None: a restored ledger must include their spend.
        spent: the population's mu^2 in the message that shows the new state; infinite where it says none.

    Raises:
        IntegrityError: another ledger of the same size, no proof that this one extends it, or a lower spend.
    """
    what, shown, now = covered.what, covered.shown, covered.shown.checkpoint
    if seen is None:
        return  # nothing was seen that this state could contradict; who covers it was asked before
    if seen.size == now.size and seen.root != now.root:
        raise IntegrityError(f"the ledger must be one, got another of the same size {seen.size}: forked")
    known = spend_shown(evidence)
    if math.isfinite(known) and not spent >= known:
        raise IntegrityError(f"what the {what} says was spent must not go down, got {spent:g} after {known:g}")
    if seen == now or any(_covers(epoch, seen, covered, known) for epoch in shown.epochs):
        return
    proof = shown.consistency.get(seen.size)
    if proof is None:
        raise IntegrityError(f"the {what} must prove that its ledger extends size {seen.size}, the last one seen here")
    verify_consistency(old_size=seen.size, old_root=seen.root, new_size=now.size, new_root=now.root, proof=proof)


def _epoch_of(shown: Shown) -> int:
    """Which epoch of the ledger a state says it is of.

    Raises:
        IntegrityError: the entry about it isn't in the log.
    """
    return (_restored(shown.epochs[-1], shown.checkpoint).epoch or 0) if shown.epochs else 0


def _covers(epoch: Epoch, seen: Checkpoint, covered: Covered, spent: float) -> bool:
    """Whether the epoch explains that the last seen state was lost, without forgetting its spend.

    The entry is in the log that this and every later state extends, so a device that is shown two logs can prove it.
    Where witnesses are pinned, a quorum must have cosigned where the lost log ended, and none of it was seen beyond;
    and the epoch that was lost must be the one that was seen: the log before it may have gone on, too.
    """
    shown, pinned, before = covered.shown, covered.pinned, covered.before
    entry = _restored(epoch, shown.checkpoint)
    if not entry.base < seen.size <= entry.seq:
        return False
    watched = pinned if pinned is not None and pinned.quorums else None
    if watched is not None and before is not None and entry.epoch not in (None, _epoch_of(before) + 1):
        return False
    if not entry.spent >= spent:
        raise IntegrityError("a restored ledger must go on from the spend that was seen here, and has forgotten some")
    if watched is not None:
        if entry.epoch is None or entry.cosigned is None:
            raise IntegrityError("a restored ledger must show what witnesses cosigned last before, got no cosignature")
        end = Checkpoint(entry.witness_size, entry.witness_root)
        watched.check_former(end, entry.cosigned, shown.handovers, entry.epoch - 1)
        if seen.size > end.size or (seen.size == end.size and seen.root != end.root):
            raise IntegrityError(
                f"a restored ledger must go on from all that was seen here, size {seen.size}, and knows of {end.size}"
            )
    return True


def _restored(epoch: Epoch, now: Checkpoint) -> RestoredEntry:
    """The entry of an epoch, which must be in the log.

    Raises:
        IntegrityError: it isn't, or is another kind of entry.
    """
    try:
        entry = entry_from(epoch.entry)
    except InputError as error:
        raise IntegrityError(f"an epoch must be a restored entry of the ledger, got: {error}") from None
    if not isinstance(entry, RestoredEntry):
        raise IntegrityError(f"an epoch must be a restored entry of the ledger, got a {entry.kind} entry")
    verify_inclusion(entry.leaf(), index=entry.seq, size=now.size, root=now.root, proof=epoch.inclusion)
    return entry


def spend_shown(evidence: bytes | None) -> float:
    """The population's mu^2 that signed bytes have shown; infinite where they show none, so that no spend suffices."""
    value = _read(evidence)
    try:
        spent = value["charge"]["entry"]["facts"]["spent"] if "charge" in value else value["manifest"][SPENT]
    except (KeyError, TypeError):
        spent = None
    return float(spent) if isinstance(spent, int | float) and not isinstance(spent, bool) else math.inf


@lru_cache(maxsize=4)
def shown_by(evidence: bytes | None) -> Shown | None:
    """The state that signed bytes have shown, with its proofs; None where they show none."""
    value = _read(evidence)
    part = value.get("charge") or value.get("manifest")
    try:
        return Shown.model_validate({name: part[name] for name in Shown.model_fields if name in part}) if part else None
    except (ValidationError, TypeError):
        return None


def kept_by(evidence: bytes | None) -> Shown | None:
    """The state that kept signed bytes show; None where none were kept.

    **Guarantees:** evidence that can not be read is no leave: what it held, such as a handover that was followed, can't
    be asked for any more, so nothing is taken.

    Raises:
        IntegrityError: some were kept, and they are no signed plan with a charge and no manifest.
    """
    shown = shown_by(evidence)
    if shown is None and evidence:
        raise IntegrityError(
            "what was kept of the ledger must be a signed plan or manifest, and can't be read: nothing is taken after "
            "it; the device must be enrolled again, with a new store"
        )
    return shown


@lru_cache(maxsize=4)  # devices of a process keep the same bytes, and each is asked twice
def _read(evidence: bytes | None) -> dict[str, Any]:
    """Parse a kept plan, or manifest with its signature; {} if it is neither. Not to be changed."""
    try:
        value = read_canonical(evidence or b"", most=MOST_KEPT)
    except IntegrityError:
        value = None
    return value if isinstance(value, dict) else {}
