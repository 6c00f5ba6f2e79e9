"""Witness: records each charge outside the ledger before its plan is sent, so that a restored ledger lacks none.

    check   tries a write, before anything is charged
    write   writes the signed plan with its charge; it replaces the former one

>>> witness = Witness(Path("/nowhere"))
>>> witness.check()
Traceback (most recent call last):
palate_server.folder.witness.WitnessError: `backup.witness` must be a folder that can be written, got ...
"""

from __future__ import annotations

import secrets
from pathlib import Path

from palate_common.errors import PalateError
from palate_common.records.files import write_durably

WITNESS = "plan.json"
ROOM = 2**18
"""Bytes of a trial: more than a signed plan has, and random, so that no file system compresses them."""
_TRIAL = "trial"


class WitnessError(PalateError):
    """The witness can't be written: nothing may be charged."""


class Witness:
    """The witness of a server folder's charges.

    Args:
        folder: the folder of the setting `backup.witness`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self) -> None:
        """Try a durable write of as many bytes as a plan may have, and remove them.

        Raises:
            WitnessError: the folder can't be written: nothing may be charged.
        """
        trial = self._folder / _TRIAL
        try:
            write_durably(trial, secrets.token_bytes(ROOM))
            trial.unlink()
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: nothing is charged until it can") from None

    def write(self, plan: bytes) -> None:
        """Record a signed plan with its charge.

        Raises:
            WitnessError: the folder can't be written: the attempt is void, and its plan was not sent.
        """
        try:
            write_durably(self._folder / WITNESS, plan)
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: the attempt is void") from None


def _must_be(error: OSError, folder: Path) -> str:
    return f"`backup.witness` must be a folder that can be written, got {error.strerror or error}: {folder}"
