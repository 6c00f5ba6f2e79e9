"""Run records: a run folder's files and its ledger entries side by side, for the tests that compare them.

records.charges[0].body["mu2"], records.sealed
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from palate_audit.run.extract import RunExtract
from palate_audit.run.live import LiveLedger
from palate_core.errors import IntegrityError
from palate_server.ledger.history import ChargeEntry, CloseEntry, Entry, OpenEntry, SealEntry, one_line
from palate_server.rounds.terms import RunTerms

Place = tuple[int, int]
"""Round and attempt."""


@dataclass(frozen=True)
class RunRecords:
    """The records of one run.

    Attributes:
        folder: its run folder.
        run: its id in the ledger.
        population: whose ledger.
        entries: its entries of the ledger, from the extract, or from the live ledger where there is no extract.
        extract: the signed extract; None for a run that is not finished.
        live: the live ledger; None if it wasn't given.
    """

    folder: Path
    run: str
    population: str
    entries: Sequence[Entry]
    extract: RunExtract | None
    live: LiveLedger | None

    @cached_property
    def terms(self) -> RunTerms:
        """The terms with which the run was opened.

        Raises:
            IntegrityError: the ledger has no terms, or they are invalid.
        """
        opened = [entry for entry in self.entries if isinstance(entry, OpenEntry) and entry.run == self.run]
        if not opened:
            raise IntegrityError(f"the ledger must have opened the run {self.run}, and has not")
        try:
            return RunTerms.model_validate(opened[0].facts)
        except ValidationError as error:
            raise IntegrityError(f"entry {opened[0].seq} must hold the terms of a run: {one_line(error)}") from None

    @cached_property
    def charges(self) -> dict[Place, ChargeEntry]:
        """The charges, by round and attempt."""
        own = [entry for entry in self.entries if isinstance(entry, ChargeEntry) and entry.run == self.run]
        return {(entry.round, entry.attempt): entry for entry in own}

    @cached_property
    def seals(self) -> dict[Place, SealEntry]:
        """The seals, by round and attempt."""
        own = [entry for entry in self.entries if isinstance(entry, SealEntry) and entry.run == self.run]
        return {(entry.round, entry.attempt): entry for entry in own}

    @cached_property
    def closed(self) -> Mapping[str, Any] | None:
        """The run's closing entry."""
        own = [entry for entry in self.entries if isinstance(entry, CloseEntry) and entry.run == self.run]
        return own[0].facts if own else None

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; None if it is missing or invalid."""
        try:
            found = json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None
