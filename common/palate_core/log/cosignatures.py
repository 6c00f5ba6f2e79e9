"""Cosignatures: what witnesses of a log say, and how many of them a reader insists on (C2SP tlog-cosignature).

A witness cosigns a checkpoint after it has checked that the log only grew since the last one that it cosigned. Where a
quorum of independent witnesses has cosigned what a device is shown, all devices are shown one ledger: an operator who
forks it needs the keys of a quorum, too.

    >>> from palate_core.log.checkpoints import log_key, sign_checkpoint
    >>> from palate_core.log.merkle import MerkleTree
    >>> key, theirs = SigningKey.generate(), SigningKey.generate()
    >>> log, now = log_key("readers", key.public), MerkleTree([b"a"]).checkpoint()
    >>> note = sign_checkpoint(now, log.name, key)
    >>> note = note.with_signatures(cosign(note.text, "witness.example/1", theirs, time=1_700_000_000))
    >>> quorum = Quorum.of([str(VerifierKey.of("witness.example/1", theirs, COSIGNATURE))], needed=1)
    >>> [each.time for each in quorum.check(note, log=log, checkpoint=now)]
    [1700000000]
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from palate_core.errors import InputError, IntegrityError
from palate_core.log.checkpoints import open_checkpoint, read_state
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import COSIGNATURE, Note, Signature, VerifierKey
from palate_core.log.signing import SigningKey, verify_text

MOST_WITNESSES = 32
"""The most witnesses of a quorum."""
MOST_TIME = 2**63 - 1
"""The latest time that a cosignature can have, in Unix seconds."""


@dataclass(frozen=True)
class Cosigned:
    """A cosignature that was verified.

    Attributes:
        witness: whose it is.
        time: when the witness says that it made it, in Unix seconds.
    """

    witness: VerifierKey
    time: int


@dataclass(frozen=True)
class Quorum:
    """The witnesses that a reader knows, and how many of them must have cosigned.

    **Guarantees:** a witness counts once: however many of its signatures there are; and so does a key.
    **Guarantees:** only this state counts: a cosignature of another log, size or root never does.
    **Assumes:** honest witnesses overlap: fewer than `2 * needed - len(witnesses)` witnesses cosign two ledgers, and so
    any two quorums share one that doesn't.

    Attributes:
        witnesses: verifier keys of kind `COSIGNATURE`, with names and keys of their own.
        needed: at least 1, at most all.

    Raises:
        InputError: they aren't.
    """

    witnesses: tuple[VerifierKey, ...]
    needed: int

    def __post_init__(self) -> None:
        if not 0 < len(self.witnesses) <= MOST_WITNESSES:
            raise InputError(f"a quorum must have 1 to {MOST_WITNESSES} witnesses, got {len(self.witnesses)}")
        for what, found in (
            ("name", {key.name for key in self.witnesses}),
            ("key", {key.public for key in self.witnesses}),
        ):
            if len(found) < len(self.witnesses):
                raise InputError(f"each witness of a quorum must have a {what} of its own, got one twice")
        other = [key.name for key in self.witnesses if key.kind != COSIGNATURE]
        if other:
            raise InputError(f"a witness must have a cosigner's key (kind 4), got another kind: {other[0]:.80}")
        if type(self.needed) is not int or not 0 < self.needed <= len(self.witnesses):
            raise InputError(f"a quorum must need 1 to {len(self.witnesses)} witnesses, got {self.needed}")

    @classmethod
    def of(cls, witnesses: Sequence[str], needed: int) -> Quorum:
        """Read the verifier keys.

        Raises:
            InputError: one is malformed, or the quorum is.
        """
        return cls(tuple(VerifierKey.read(text) for text in witnesses), needed)

    @property
    def keys(self) -> tuple[str, ...]:
        """The verifier keys as text, as `of` reads them."""
        return tuple(map(str, self.witnesses))

    def check(self, note: Note, *, log: VerifierKey, checkpoint: Checkpoint) -> tuple[Cosigned, ...]:
        """Check that enough witnesses have cosigned a state of a log.

        Args:
            note: the checkpoint with its signatures.
            log: the log's key, of `checkpoints.log_key`.
            checkpoint: the state that the reader was shown.

        Returns:
            The cosignatures that count, in the order of `witnesses`, so that a reader may ask for recent ones.

        Raises:
            IntegrityError: the note is of another log or state, isn't signed by the log, has a signature that says it
                is by one of the witnesses and isn't, has two by one, or too few.
        """
        now = open_checkpoint(note, log)
        if now != checkpoint:
            raise IntegrityError(
                f"the cosigned checkpoint must be of size {checkpoint.size} and root {checkpoint.root[:16]}…, "
                f"got size {now.size} and root {now.root[:16]}…"
            )
        counted = self.cosigned(note, log=log)
        if len(counted) < self.needed:
            raise IntegrityError(
                f"size {now.size} of the ledger must be cosigned by {self.needed} of {len(self.witnesses)} witnesses, "
                f"got {len(counted)}"
            )
        return counted

    def cosigned(self, note: Note, *, log: VerifierKey) -> tuple[Cosigned, ...]:
        """The witnesses that have cosigned a checkpoint, however many; the log's signature isn't looked at.

        Raises:
            IntegrityError: a signature says that it is by one of the witnesses and isn't, or one has two.
        """
        counted = []
        for witness in self.witnesses:
            found = note.by(witness)
            if len(found) > 1:
                raise IntegrityError(f"a checkpoint must have one cosignature by {witness.name:.80}, got {len(found)}")
            if found and witness.public != log.public:  # a log is no witness of itself
                counted.append(Cosigned(witness, open_cosignature(note.text, witness, found[0])))
        return tuple(counted)


def cosign(text: str, name: str, key: SigningKey, *, time: int) -> Signature:
    """Cosign a checkpoint, after its log was checked.

    Args:
        text: the text of the checkpoint's note.
        name: of the witness.
        key: of the witness; it signs nothing else.
        time: now, in Unix seconds.

    Raises:
        IntegrityError: the text isn't a checkpoint's.
        InputError: the time can't be written.
    """
    read_state(text)
    if not 0 < time <= MOST_TIME:
        raise InputError(f"the time of a cosignature must be from 1 to 2^63 - 1, got {time}")
    value = struct.pack(">Q", time) + key.sign_text(_message(text, time))
    return Signature(name, VerifierKey.of(name, key, COSIGNATURE).key_id, value)


def open_cosignature(text: str, witness: VerifierKey, signature: Signature) -> int:
    """Verify a cosignature; returns its time in Unix seconds.

    Args:
        text: the text of the checkpoint's note.
        witness: the witness's key, from a source the reader trusts.
        signature: the signature, which says that it is by this key.

    Raises:
        IntegrityError: it isn't.
    """
    if witness.kind != COSIGNATURE or not signature.is_by(witness) or len(signature.value) != 72:
        raise IntegrityError(f"the cosignature must be by {witness.name:.80}, got another one")
    (time,) = struct.unpack(">Q", signature.value[:8])
    if not 0 < time <= MOST_TIME:
        raise IntegrityError(f"the time of a cosignature must be from 1 to 2^63 - 1, got {time}")
    try:
        verify_text(witness.public, _message(text, time), signature.value[8:])
    except IntegrityError:
        raise IntegrityError(f"the cosignature must be by {witness.name:.80}, got one that does not fit") from None
    return int(time)


def _message(text: str, time: int) -> str:
    """What is signed."""
    return f"cosignature/v1\ntime {time}\n{text}"
