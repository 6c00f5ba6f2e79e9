"""Witness: where each charge is on record outside of the ledger before its plan leaves, so that a restore forgets none.

    check   a real write, before anything is charged
    write   the signed plan with its charge, in the place of the former one

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
"""Bytes that are tried: more than a signed plan has, and random, so that no file system stores them as nothing."""
_TRIAL = "trial"


class WitnessError(PalateError):
    """The witness can't be written: nothing may be charged."""


class Witness:
    """The witness of a site's charges.

    Args:
        folder: `backup.witness`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self) -> None:
        """Try it: write as much as a plan may have, durably, and take it away again.

        Raises:
            WitnessError: it can't be written: don't charge.
        """
        trial = self._folder / _TRIAL
        try:
            write_durably(trial, secrets.token_bytes(ROOM))
            trial.unlink()
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: nothing is charged until it can") from None

    def write(self, plan: bytes) -> None:
        """Put a signed plan, and so its charge, on record.

        Raises:
            WitnessError: it can't be written: the attempt is void, and nobody has seen its plan.
        """
        try:
            write_durably(self._folder / WITNESS, plan)
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: the attempt is void") from None


def _must_be(error: OSError, folder: Path) -> str:
    return f"`backup.witness` must be a folder that can be written, got {error.strerror or error}: {folder}"
