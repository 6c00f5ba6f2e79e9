"""Witness: records each charge outside the ledger before its plan is sent, so that a restored ledger lacks none.

    begin   before the first charge: writes the signed manifest of each model, which says that nothing was spent
    check   tries a write, before anything is charged
    write   writes the signed plan with its charge; it replaces the former one, and that manifest

>>> witness = Witness(Path("/nowhere"))
>>> witness.check()
Traceback (most recent call last):
palate_server.folder.witness.WitnessError: `backup.witness` must be a folder that can be written, got ...
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from palate_common.errors import PalateError
from palate_common.records.files import write_durably
from palate_common.rounds.plan import MOST_PLAN

WITNESS, START = "plan.json", "start"
"""The latest plan; and the folder of the latest model's manifest, which is there until the first charge."""
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

    def begin(self, manifest: Mapping[str, bytes]) -> None:
        """Record a model's manifest and signature, by name, while nothing was ever charged.

        Raises:
            WitnessError: the folder can't be written.
        """
        try:
            (self._folder / START).mkdir(exist_ok=True)
            for name, data in manifest.items():
                write_durably(self._folder / START / name, data)
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: no model is published until it can") from None

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
        """Record a signed plan with its charge. From then on no file says that nothing was spent.

        Raises:
            WitnessError: the folder can't be written: the attempt is void, and its plan was not sent.
        """
        try:
            if (self._folder / START).exists():
                shutil.rmtree(self._folder / START)
            write_durably(self._folder / WITNESS, plan)
        except OSError as error:
            raise WitnessError(f"{_must_be(error, self._folder)}: the attempt is void") from None


def _must_be(error: OSError, folder: Path) -> str:
    return f"`backup.witness` must be a folder that can be written, got {error.strerror or error}: {folder}"
