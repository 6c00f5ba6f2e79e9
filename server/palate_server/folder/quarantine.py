"""Quarantine: which items of the catalogue are left out of the next runs, since when, and by whom.

    a sealed verdict names an item          -> noted, for some runs -> each run's public inputs
    `palate serve quarantine --add, --lift` -> noted for as many runs, or ended

Which of the items that a verdict names, `palate_server.operation.judging` says. This is a file of the server folder,
`quarantine.json`. A verdict is read once, however often it is looked at, so that what an operator has lifted stays so.
All that is in it follows from released numbers, or from what an operator says.
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

OPERATOR = "operator"
"""In the place of the run whose verdict names an item."""
MOST_FILE = 2**22
KEPT = 100
"""So many verdicts that were read are kept in mind: it is the latest one that is looked at more than once."""
PATIENCE = 10.0
"""Seconds to wait for another process that writes."""


class QuarantinedItem(BaseModel):
    """An item in quarantine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: str
    """Its id."""
    by: str
    """The run that pushed it, by its devices' verdict; or `operator`."""
    until: int = Field(ge=0)
    """How many trainings of the population must have ended with a release before it is over."""
    proved: bool = True
    """Whether no false votes of a few can have put it there. Else it is one that the model in use hardly shows."""


class _Noted(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: tuple[QuarantinedItem, ...] = ()
    read: tuple[str, ...] = ()
    """The verdicts that were read, the latest `KEPT` of them."""
    lifted: tuple[str, ...] = ()
    """Items that the operator has let in again: only a proof puts them there."""


class QuarantineFullError(PalateError):
    """More items are in quarantine than may be: nothing is trained before somebody has looked."""


@dataclass(frozen=True)
class Quarantine:
    """The items in quarantine of one server folder.

    Attributes:
        file: where they are noted; it needn't be there.
    """

    file: Path

    def items(self, *, trainings: int) -> tuple[QuarantinedItem, ...]:
        """Those in quarantine now, by their ids.

        Args:
            trainings: how many of the population have ended with a release.

        Raises:
            IntegrityError: the file is none.
        """
        found = (each for each in self._noted().items if each.until > trainings)
        return tuple(sorted(found, key=lambda each: each.item))

    def was_read(self, verdict: str) -> bool:
        """Whether a verdict was read before."""
        return verdict in self._noted().read

    @property
    def lifted(self) -> frozenset[str]:
        """The items that an operator has let in again, and not put there since."""
        return frozenset(self._noted().lifted)

    def read(self, verdict: str, named: Iterable[QuarantinedItem]) -> None:
        """Note what a verdict puts in quarantine, once.

        Args:
            verdict: its run.
            named: the items.
        """

        def noted(former: _Noted) -> _Noted:
            if verdict in former.read:
                return former
            return former.model_copy(
                update={"items": _with(former.items, named), "read": (*former.read, verdict)[-KEPT:]}
            )

        self._write(noted)

    def add(self, items: Iterable[str], *, until: int) -> None:
        """Put items in quarantine, by the operator's word."""
        added = [QuarantinedItem(item=each, by=OPERATOR, until=until) for each in items]

        def noted(former: _Noted) -> _Noted:
            lifted = set(former.lifted).difference(each.item for each in added)
            return former.model_copy(update={"items": _with(former.items, added), "lifted": tuple(sorted(lifted))})

        self._write(noted)

    def lift(self, items: Iterable[str], *, trainings: int) -> None:
        """End the quarantine of items from the next run on; from then on only a proof puts them there.

        Raises:
            InputError: one of them isn't in quarantine.
        """
        there, chosen = {each.item for each in self.items(trainings=trainings)}, set(items)
        if unknown := sorted(chosen - there):
            raise InputError(f"`--lift` must name items in quarantine, got {unknown[0]!r:.80}")

        def noted(former: _Noted) -> _Noted:
            kept = tuple(each for each in former.items if each.item not in chosen)
            return former.model_copy(update={"items": kept, "lifted": tuple(sorted({*former.lifted, *chosen}))})

        self._write(noted)

    def _noted(self) -> _Noted:
        try:
            return _Noted.model_validate(read_canonical(self.file.read_bytes(), most=MOST_FILE))
        except FileNotFoundError:
            return _Noted()
        except (ValidationError, IntegrityError):
            raise IntegrityError(
                f"{self.file.name} must be what Palate wrote, got something else: {self.file}"
            ) from None

    def _write(self, change: Callable[[_Noted], _Noted]) -> None:
        """Change the file while no other process does."""
        with FileLock(self.file.with_name(f".{self.file.name}.lock"), seconds=PATIENCE):
            write_durably(self.file, canonical_json(change(self._noted()).model_dump(mode="json")), mode=0o600)


def _with(items: Iterable[QuarantinedItem], more: Iterable[QuarantinedItem]) -> tuple[QuarantinedItem, ...]:
    """The items and more of them, each once; one that is there already stays for the longer of both."""
    found = {each.item: each for each in items}
    for each in more:
        former = found.get(each.item)
        if former is None or former.until < each.until:
            found[each.item] = each
    return tuple(found[item] for item in sorted(found))
