"""Restraint: how long the next charge waits after charges without a release, whatever the reason.

    charges since the latest release, by the ledger -> a pause that doubles -> after `most` of them: ask the operator

Their number is from the ledger, so that no crash or restart loses one. The time of the last attempt is in a small file,
written before each charge; if the file is lost, the pause starts again. Another one has the operator's word that it may
go on; if that is lost, it is asked for again.

>>> restraint = Restraint(Path("/nowhere/attempt"), pause=3600.0, most=3)
>>> restraint.until([])
0.0
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from palate_common.records.files import write_durably
from palate_core.errors import InputError, PalateError
from palate_server.folder.server_folder import Site
from palate_server.ledger.history import ChargeEntry, Entry
from palate_server.operation.terms import DAY


class _Attempt(BaseModel):
    """Start of the latest attempt, size of the ledger before it, and whether its end was recorded."""

    at: float
    size: int
    ended: bool


def voids(entries: Sequence[Entry]) -> list[ChargeEntry]:
    """The charges since the latest release or restoration of the ledger, which have no release so far."""
    found: list[ChargeEntry] = []
    for entry in reversed(entries):
        if entry.kind in ("seal", "restored"):
            break
        if isinstance(entry, ChargeEntry):
            found.append(entry)
    return found[::-1]


class Restraint:
    """Keeps a server without releases from charging again and again.

    **Guarantees:** no charge after `most` in a row without a release before the operator says so, whatever ends the
        process.

    Args:
        file: the file of the latest attempt's start, in an existing folder; the operator's word is beside it.
        pause: seconds after the first charge without a release; each further one doubles it, up to a day.
        most: number of charges in a row after which the operator is asked.
    """

    def __init__(self, file: Path, *, pause: float, most: int) -> None:
        self._file, self._pause, self._most = file, pause, most

    @contextmanager
    def attempt(self, size: int) -> Iterator[None]:
        """Record start and end of an attempt; enter it before the charge. `size` is the ledger's.

        Raises:
            OSError: the file can't be written: nothing may be charged.
        """
        begun = _Attempt(at=time.time(), size=size, ended=False)
        self._write(begun)
        ended = begun.model_copy(update={"ended": True})
        try:
            yield
        except (PalateError, OSError):
            with suppress(OSError):  # the attempt may have failed because the disk is full
                self._write(ended)
            raise
        self._write(ended)

    @property
    def under_way(self) -> bool:
        """Whether an attempt has begun whose end isn't recorded."""
        latest = self._read()
        return latest is not None and not latest.ended

    def in_vain(self, entries: Sequence[Entry]) -> int:
        """How many charges in a row have released nothing, since the operator said to go on, if they did."""
        after = self._word()
        return sum(charge.seq > after for charge in voids(entries))

    def until(self, entries: Sequence[Entry]) -> float:
        """When a charge is allowed again, seconds since 1970; 0: now; infinity: when the operator says so."""
        count = self.in_vain(entries)
        if not count:
            return 0.0
        if count >= self._most:
            return math.inf
        return self._begun(len(entries)).at + min(DAY, self._pause * 2.0 ** (count - 1))

    def exhausted(self, entries: Sequence[Entry]) -> bool:
        """Whether the operator is asked before another charge."""
        return self.in_vain(entries) >= self._most

    def resume(self, entries: Sequence[Entry]) -> int:
        """Record the operator's word to go on; returns how many charges in a row had released nothing.

        Raises:
            InputError: they aren't so many that it is asked for.
            OSError: it can't be recorded.
        """
        if not self.exhausted(entries):
            raise InputError(
                f"`palate serve resume` must be given after {self._most} charges in a row without a release, "
                f"`cohort.attempts`, got {self.in_vain(entries)}"
            )
        found = voids(entries)
        write_durably(self._word_file, json.dumps({"after": found[-1].seq}).encode())
        return len(found)

    def lost(self, entries: Sequence[Entry]) -> ChargeEntry | None:
        """The charge of an attempt in which the process ended; it is returned only once."""
        latest = self._read()
        if latest is None or latest.ended:
            return None
        self._write(latest.model_copy(update={"ended": True}))
        return next((charge for charge in voids(entries) if charge.seq >= latest.size), None)

    def _begun(self, size: int) -> _Attempt:
        """The latest attempt; if it is unknown, its start is now."""
        now = time.time()
        if (found := self._read()) is not None:
            return found.model_copy(update={"at": min(found.at, now)})
        unknown = _Attempt(at=now, size=size, ended=True)
        with suppress(OSError):  # while the file can't be written, the pause starts again at each call
            self._write(unknown)
        return unknown

    @property
    def _word_file(self) -> Path:
        return self._file.with_name("go-on.json")

    def _word(self) -> int:
        """The charge after which the operator said to go on; -1: they haven't."""
        try:
            return int(json.loads(self._word_file.read_bytes())["after"])
        except (OSError, ValueError, LookupError, TypeError):
            return -1

    def _read(self) -> _Attempt | None:
        try:
            return _Attempt.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return None

    def _write(self, attempt: _Attempt) -> None:
        write_durably(self._file, json.dumps(attempt.model_dump()).encode())


def restraint_of(site: Site) -> Restraint:
    """The restraint of a server folder's charges."""
    cohort = site.config.cohort
    return Restraint(site.state / "attempt.json", pause=cohort.pause_seconds, most=cohort.attempts)
