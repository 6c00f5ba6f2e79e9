"""Pinned: what an app trusts: a release key with what it is handed over to, and witnesses that must have cosigned.

    release key, population, witnesses -> Pinned.check <- the handovers and the cosigned note of a plan or a model

One check for plans and models: both show states of one ledger, of which a witness signs one history only. So two
ledgers of one operator can't both have a quorum.

    >>> from palate_core.log.checkpoints import sign_checkpoint
    >>> from palate_core.log.cosignatures import cosign
    >>> from palate_core.log.merkle import MerkleTree
    >>> from palate_core.log.notes import COSIGNATURE
    >>> from palate_core.log.signing import SigningKey
    >>> key, theirs = SigningKey.generate(), SigningKey.generate()
    >>> witness = VerifierKey.of("witness.example/1", theirs, COSIGNATURE)
    >>> pinned = Pinned("readers", key.public, (Quorum((witness,), 1),))
    >>> now = MerkleTree([b"a"]).checkpoint()
    >>> note = sign_checkpoint(now, pinned.log(key.public).name, key)
    >>> note = note.with_signatures(cosign(note.text, witness.name, theirs, time=1_700_000_000))
    >>> [each.witness.name for each in pinned.check("model", now, note.to_bytes().decode())]
    ['witness.example/1']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate_core.errors import InputError, IntegrityError
from palate_core.log.checkpoints import origin_of
from palate_core.log.cosignatures import Cosigned, Quorum
from palate_core.log.handovers import Handover, check_included, follow, signer_of
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import ED25519, Note, VerifierKey, read_note

MOST_QUORUMS = 2
"""The most quorums of which one suffices: while a witness changes its key, the old one and the new one."""


@dataclass(frozen=True)
class Pinned:
    """A population, its release key, and the quorums of witnesses of which one must have cosigned each state.

    **Guarantees:** a quorum suffices for plans and models: where some are pinned, a state that none has cosigned is
    refused, whoever else has signed it.
    **Guarantees:** a device follows a handover: and takes nothing any more from the key before it.
    **Assumes:** the old quorum and the new one count: a witness that stands in both keeps one history under both keys,
    and each is as `Quorum` assumes.

    Attributes:
        population: the population whose ledger it is.
        public_key: the release key that the app trusts; later ones are followed by their handovers.
        quorums: none, one or two; one of them suffices. (): the app pins no witnesses.
        first_key: the release key with which the ledger began; empty: `public_key`.

    Raises:
        InputError: a key is malformed, there are more quorums, or a witness has the release key.
    """

    population: str
    public_key: str
    quorums: tuple[Quorum, ...] = ()
    first_key: str = ""

    def __post_init__(self) -> None:
        log = self.log(self.public_key)
        if len(self.quorums) > MOST_QUORUMS:
            raise InputError(f"at most {MOST_QUORUMS} quorums must be pinned, got {len(self.quorums)}")
        if any(key.public == log.public for quorum in self.quorums for key in quorum.witnesses):
            raise InputError("a witness must have a key of its own, got the release key")

    @classmethod
    def of(
        cls, population: str, public_key: str, *witnesses: Sequence[str], needed: int, first_key: str = ""
    ) -> Pinned:
        """Read verifier keys.

        Args:
            population: the population.
            public_key: the release key that the app trusts.
            witnesses: the keys of each quorum; none: no witnesses are pinned.
            needed: how many witnesses must have cosigned, of each quorum.
            first_key: the release key with which the ledger began, if it is another.

        Raises:
            InputError: a key is malformed, or a quorum is.
        """
        return cls(population, public_key, tuple(Quorum.of(keys, needed) for keys in witnesses), first_key)

    def log(self, key: str, epoch: int = 0) -> VerifierKey:
        """The ledger's verifier key while `key` is the release key, in an epoch.

        Raises:
            InputError: the key is malformed.
        """
        origin_of(self.population, key)
        origin = origin_of(self.population, self.first_key or self.public_key, epoch)
        return VerifierKey(origin, ED25519, bytes.fromhex(key))

    def check(
        self,
        what: str,
        checkpoint: Checkpoint,
        cosigned: str | None,
        handovers: Sequence[Handover] = (),
        epoch: int = 0,
    ) -> tuple[Cosigned, ...]:
        """Refuse a state whose handovers aren't in the ledger, or that no quorum has cosigned.

        Args:
            what: "plan" or "model", for errors.
            checkpoint: the state that it shows.
            cosigned: the note that it carries: the checkpoint with its signatures; None if it carries none.
            handovers: the handovers of the release key that it shows.
            epoch: of the ledger in that state.

        Returns:
            The cosignatures that count; () where no witnesses are pinned.

        Raises:
            IntegrityError: a handover isn't in that state; or there are too few cosignatures, or the note is of another
                ledger or state, or has a signature that says it is by one of the witnesses and isn't.
        """
        log = self.log(signer_of(self.public_key, self.population, handovers), epoch)
        check_included(handovers, checkpoint)
        if not self.quorums:
            return ()
        first = self.quorums[0]
        if cosigned is None:
            raise IntegrityError(
                f"the {what} must be cosigned by {first.needed} of {len(first.witnesses)} witnesses, got no cosignature"
            )
        return self._counted(read_note(cosigned.encode()), log, checkpoint)

    def check_former(self, checkpoint: Checkpoint, cosigned: str, handovers: Sequence[Handover], epoch: int) -> None:
        """Refuse the end of an epoch that no quorum has cosigned, by the release key of then or of now.

        Quorums must be pinned.

        Args:
            checkpoint: the last state of the epoch that is known.
            cosigned: the note with its cosignatures.
            handovers: the handovers of the release key that are shown now.
            epoch: the epoch that has ended.

        Raises:
            IntegrityError: no quorum has.
        """
        note = read_note(cosigned.encode())
        chain = follow(self.public_key, self.population, handovers)
        logs = [self.log(key, epoch) for key in (self.public_key, *(entry.new_key for entry in chain))]
        log = next((each for each in reversed(logs) if note.by(each)), logs[-1])
        self._counted(note, log, checkpoint)

    def _counted(self, note: Note, log: VerifierKey, checkpoint: Checkpoint) -> tuple[Cosigned, ...]:
        """The cosignatures that count, of the first quorum that suffices."""
        for quorum in self.quorums[:-1]:
            try:
                return quorum.check(note, log=log, checkpoint=checkpoint)
            except IntegrityError:
                continue
        return self.quorums[-1].check(note, log=log, checkpoint=checkpoint)

    def check_follows(self, what: str, before: Sequence[Handover], now: Sequence[Handover]) -> None:
        """Refuse what goes back behind a handover that was followed before, or goes on from the same key to another.

        Args:
            what: "plan" or "model", for errors.
            before: the handovers that were shown with the state that was seen last.
            now: those that are shown.

        Raises:
            IntegrityError: the former are not where the latter begin.
        """
        followed = follow(self.public_key, self.population, before)
        if follow(self.public_key, self.population, now)[: len(followed)] != followed:
            raise IntegrityError(
                f"the {what} must be by the release key {followed[-1].new_key[:16]}…, to which the ledger was handed "
                "over, got an earlier one or another handover"
            )
