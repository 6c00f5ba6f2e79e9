"""Mutants of witnesses and of handovers: what an operator needs their keys for, without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest import mock

from mutants.mutant import mutant
from palate_client import models
from palate_common.models import manifest
from palate_core.errors import IntegrityError
from palate_core.log import handovers, pinned
from palate_core.log.checkpoints import open_checkpoint, read_state
from palate_core.log.consistency import Shown
from palate_core.log.cosignatures import Cosigned, Quorum, open_cosignature
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note, VerifierKey
from palate_core.log.pinned import Pinned
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.witnesses import UncosignedError, Witnesses


@mutant(
    "witness skipped",
    bug="a device takes what nobody has cosigned, as long as the release key has signed it",
    seen="a check that is there for what carries cosignatures, and passes what carries none",
    test="ledgers",
    at=(Pinned, "check"),
)
def skipped(real: Any, self: Pinned, what: str, checkpoint: Checkpoint, cosigned: str | None, *more: Any) -> Any:
    return () if cosigned is None else real(self, what, checkpoint, cosigned, *more)


@mutant(
    "a quorum counted twice",
    bug="each cosignature counts, also two by one witness",
    seen="counting lines where keys are to be counted",
    test="ledgers",
    at=(Quorum, "cosigned"),
)
def counted_twice(self: Quorum, note: Note, *, log: VerifierKey) -> tuple[Cosigned, ...]:
    return tuple(
        Cosigned(witness, open_cosignature(note.text, witness, found))
        for witness in self.witnesses
        for found in note.by(witness)
    )


def _counted(self: Quorum, note: Note, log: VerifierKey) -> tuple[Cosigned, ...]:
    """The cosignatures of a note, if they are enough."""
    found = self.cosigned(note, log=log)
    if len(found) < self.needed:
        raise IntegrityError("too few have cosigned")
    return found


@mutant(
    "an old cosignature taken",
    bug="the cosigned checkpoint needn't be the state that the plan shows",
    seen="a signature that is verified, over text that nobody compares",
    test="ledgers",
    at=(Quorum, "check"),
)
def old(self: Quorum, note: Note, *, log: VerifierKey, checkpoint: Checkpoint) -> tuple[Cosigned, ...]:
    open_checkpoint(note, log)
    return _counted(self, note, log)


@mutant(
    "another log's cosignatures taken",
    bug="size and root are compared, and whose log it is isn't",
    seen="one witness key for all logs, and a name that nobody reads",
    test="ledgers",
    at=(Quorum, "check"),
)
def of_another_log(self: Quorum, note: Note, *, log: VerifierKey, checkpoint: Checkpoint) -> tuple[Cosigned, ...]:
    if read_state(note.text).checkpoint != checkpoint:
        raise IntegrityError("another state")
    return _counted(self, note, log)


@mutant(
    "handover unchecked",
    bug="a new release key is followed without the former one's signature, and a look into the ledger",
    seen="a rotation that the new key vouches for",
    test="ledgers",
)
def unchecked() -> Iterator[None]:
    with (
        mock.patch.object(handovers, "check_handover"),
        mock.patch.object(pinned, "check_included"),
    ):
        yield


@mutant(
    "former key believed",
    bug="a device that has followed a handover takes what the former key signs",
    seen="the pinned key is tried first, and fits",
    test="ledgers",
)
def former() -> Iterator[None]:
    with mock.patch.object(Pinned, "check_follows"):
        yield


@mutant(
    "plan sent without its quorum",
    bug="a server whose witnesses are down charges and sends all the same",
    seen="an outage that is logged, and passed over to keep the service up",
    test="ledgers",
    at=(Witnesses, "charged"),
)
def sent(real: Any, self: Witnesses, ledger: Ledger) -> Shown:
    with suppress(UncosignedError):
        return real(self, ledger)
    return ledger.shown()


@mutant(
    "a model's entry unread",
    bug="a device takes a model whose state is cosigned, whatever that state says of the model",
    seen="a cosignature over a state, taken for one over what shows it",
    test="ledgers",
)
def unread() -> Iterator[None]:
    with mock.patch.object(models, "check_recorded"), mock.patch.object(manifest, "_check_publication"):
        yield


@mutant(
    "a lost epoch that nobody cosigned",
    bug="a device takes a restored ledger for the old one gone on, whoever says where that ended",
    seen="a check of the new state, taken for one of the state before, which only its entry names",
    test="ledgers",
)
def lost_epoch() -> Iterator[None]:
    with mock.patch.object(Pinned, "check_former"):
        yield
