"""Witness: records outside the ledger what devices are about to see of it, so that a restored one lacks none of that.

    check   tries a write, before anything is charged or published
    write   writes the signed plan with its charge, before it is sent; it replaces the former one, and manifests
    show    writes the signed manifest of a model, which says what was spent, before it is published

>>> witness = Witness(Path("/nowhere"))
>>> witness.check()
Traceback (most recent call last):
palate_server.folder.witness.WitnessError: `backup.witness` must be a folder that can be written, got ...
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from palate_common.models.manifest import evidence_of
from palate_common.records.files import write_durably
from palate_core.errors import PalateError
from palate_core.plan import MOST_PLAN

WITNESS, MODEL = "plan.json", "model.json"
"""The latest plan; and the latest model's manifest with its signature, which is there until the next charge."""
ROOM = MOST_PLAN
"""Bytes of a trial: as many as a signed plan may have, and random, so that no file system compresses them."""
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
            WitnessError: the folder can't be written: nothing may be charged, or published.
        """
        trial = self._folder / _TRIAL
        try:
            write_durably(trial, secrets.token_bytes(ROOM))
            trial.unlink(missing_ok=True)  # another process may have tried, too
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: nothing is charged until it can") from None

    def write(self, plan: bytes) -> None:
        """Record a signed plan with its charge. From then on no file says that less was spent.

        Raises:
            WitnessError: the folder can't be written: the attempt is void, and its plan was not sent.
        """
        try:
            write_durably(self._folder / WITNESS, plan)
            (self._folder / MODEL).unlink(missing_ok=True)  # not before: what devices have seen stays known
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: the attempt is void") from None

    def show(self, signed: Mapping[str, bytes]) -> None:
        """Record a model's manifest and its signature, by name. It says what was spent by then, which may be nothing.

        Raises:
            WitnessError: the folder can't be written.
        """
        try:
            write_durably(self._folder / MODEL, evidence_of(signed))
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: no model is published until it can") from None


def _must_be(error: OSError, folder: Path) -> str:
    return f"`backup.witness` must be a folder that can be written, got {error.strerror or error}: {folder}"
