"""Witnesses: gets the states of a population's ledger cosigned, before anybody is shown them.

    ready   before a charge: whether enough witnesses are there, by the state before; asked again after a minute
    charged, shown   after a charge or a publication: the state with its proofs and a quorum's cosignatures

What is charged and then not cosigned is void, so the witnesses are asked before: one that is down costs no charge, but
the one that it was lost in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from palate_common.records.closing import Closing
from palate_core.errors import PalateError
from palate_core.log.checkpoints import sign_checkpoint
from palate_core.log.consistency import Shown
from palate_core.log.notes import Note, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.ledger.cosigning import TooFewWitnessesError, WitnessAddress, WitnessClient
from palate_server.ledger.ledger import Ledger

RECENT = 60.0
"""Seconds for which a quorum that has cosigned counts as there."""
RACES = 3
"""How often a state is asked for anew where another process has made the ledger grow meanwhile."""


class UncosignedError(PalateError):
    """Too few witnesses have cosigned a state of the ledger: nothing that shows it may be sent."""


class Witnesses(Closing):
    """The witnesses of one ledger, as its server asks them; for one thread at a time.

    **Guarantees:** what it returns carries the cosignatures of a quorum, over the state that it shows.

    Args:
        addresses: the witnesses.
        log: the ledger's key, of `checkpoints.log_key`, with the present release key.
        key: the present release key.
        needed: how many must cosign.
        seconds: time limit of one question to all of them.
        keep: called with the ledger and each cosigned checkpoint of it, before that is shown to anybody; of a charge,
            which its plan shows, by `keep_last`.
        clock: returns monotonic seconds.

    Raises:
        InputError: the witnesses aren't a quorum.
    """

    def __init__(
        self,
        addresses: Sequence[WitnessAddress],
        *,
        log: VerifierKey,
        key: SigningKey,
        needed: int,
        seconds: float,
        keep: Callable[[Ledger, Note], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = WitnessClient(addresses, log=log, needed=needed, seconds=seconds)
        self._log, self._key, self._keep, self._clock = log, key, keep, clock
        self._answered = -math.inf
        self._unkept: Note | None = None

    def ready(self, ledger: Ledger) -> None:
        """Check that a quorum is there, and would cosign what comes next.

        Raises:
            UncosignedError: it isn't, or knows a later or another state of this ledger: nothing may be charged.
        """
        if self._clock() - self._answered < RECENT:
            return
        try:
            self.shown(ledger)
        except UncosignedError as error:
            raise UncosignedError(f"{error}: nothing is charged until they do") from None

    def shown(self, ledger: Ledger) -> Shown:
        """The present state of the ledger, with proofs and cosignatures, which are kept before it returns.

        Raises:
            UncosignedError: too few witnesses have cosigned it.
        """
        shown = self.charged(ledger)
        self.keep_last(ledger)
        return shown

    def keep_last(self, ledger: Ledger) -> None:
        """Keep what was cosigned last, if that wasn't done."""
        if (note := self._unkept) is not None:
            self._keep(ledger, note)
            self._unkept = None

    def charged(self, ledger: Ledger) -> Shown:
        """As `shown`, for a charge, whose plan carries the cosignatures and is kept before it is sent.

        A second file would have to wait for the disk once more. `keep_last` writes it when nobody waits.

        Raises:
            UncosignedError: too few witnesses have cosigned it.
        """
        tried = 0
        while True:
            shown = ledger.shown()
            note = sign_checkpoint(shown.checkpoint, self._log.name, self._key)
            try:
                cosigned = self._client.cosigned(note, prove=ledger.consistency_proof)
            except TooFewWitnessesError as error:
                tried += 1
                if tried < RACES and ledger.checkpoint() != shown.checkpoint:
                    continue  # another process has shown them a later state of this ledger
                self._answered = -math.inf
                raise UncosignedError(str(error)) from None
            self._answered = self._clock()
            self._unkept = cosigned
            return shown.model_copy(update={"cosigned": cosigned.to_bytes().decode()})

    def close(self) -> None:
        """End the connections; closing twice is fine."""
        self._client.close()
