"""Quarantine: which items of the catalogue the operator has left out of the next runs, and for how long.

    `palate serve quarantine --add, --lift` -> noted for so many runs, or ended -> each run's public inputs

This is a file of the server folder, `quarantine.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_common.records.file_lock import FileLock
from palate_common.records.files import write_durably
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, read_canonical

MOST_FILE = 2**22
PATIENCE = 10.0
"""Seconds to wait for another process that writes."""

Items = tuple["QuarantinedItem", ...]


class QuarantinedItem(BaseModel):
    """An item in quarantine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: str
    """Its id."""
    until: int = Field(ge=0)
    """How many trainings of the population must have ended with a release before it is over."""


class _Noted(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Items = ()


class QuarantineFullError(PalateError):
    """Items are in quarantine without which nothing can be trained, before somebody has looked."""


@dataclass(frozen=True)
class Quarantine:
    """The items in quarantine of one server folder.

    Attributes:
        file: where they are noted; it needn't be there.
    """

    file: Path

    def items(self, *, trainings: int) -> Items:
        """Those in quarantine now, by their ids.

        Args:
            trainings: how many of the population have ended with a release.

        Raises:
            IntegrityError: the file is none.
        """
        return tuple(each for each in self._noted() if each.until > trainings)

    def add(self, items: Iterable[str], *, until: int) -> None:
        """Put items in quarantine; one that is there already stays for the longer of both times."""

        def added(former: Items) -> Items:
            times = {each.item: each.until for each in former}
            times |= {item: max(until, times.get(item, 0)) for item in items}
            return tuple(QuarantinedItem(item=item, until=times[item]) for item in sorted(times))

        self._write(added)

    def lift(self, items: Iterable[str], *, trainings: int) -> None:
        """End the quarantine of items from the next run on.

        Raises:
            InputError: one of them isn't in quarantine.
        """
        there, chosen = {each.item for each in self.items(trainings=trainings)}, set(items)
        if unknown := sorted(chosen - there):
            raise InputError(f"`--lift` must name items in quarantine, got {unknown[0]!r:.80}")
        self._write(lambda former: tuple(each for each in former if each.item not in chosen))

    def _noted(self) -> Items:
        try:
            return _Noted.model_validate(read_canonical(self.file.read_bytes(), most=MOST_FILE)).items
        except FileNotFoundError:
            return ()
        except (ValidationError, IntegrityError):
            raise IntegrityError(
                f"{self.file.name} must be what Palate wrote, got something else: {self.file}"
            ) from None

    def _write(self, change: Callable[[Items], Items]) -> None:
        """Change the file while no other process does."""
        with FileLock(self.file.with_name(f".{self.file.name}.lock"), seconds=PATIENCE):
            made = _Noted(items=change(self._noted()))
            write_durably(self.file, canonical_json(made.model_dump(mode="json")), mode=0o600)
