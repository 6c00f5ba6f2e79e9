"""Restraint: how long the next charge waits where the last ones released nothing, for whatever reason.

    charges since the latest release, by the ledger -> a pause that doubles -> after `most` of them, one charge a day

How many there are the ledger says, so that no crash and no restart forgets one. When the last attempt began is in one
small file, written before each charge; where that is lost, the pause begins anew.

>>> restraint = Restraint(Path("/nowhere/attempt"), pause=3600.0, most=3)
>>> restraint.until([])
0.0
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from palate_common.errors import PalateError
from palate_common.records.files import write_durably
from palate_server.folder.server_folder import Site
from palate_server.ledger.history import ChargeEntry, Entry
from palate_server.operation.terms import DAY


class _Attempt(BaseModel):
    """When the latest attempt began, at which size of the ledger, and whether it was seen to end."""

    at: float
    size: int
    ended: bool


def voids(entries: Sequence[Entry]) -> list[ChargeEntry]:
    """The charges since the latest release, which bought nothing so far; a restored ledger begins anew."""
    found: list[ChargeEntry] = []
    for entry in reversed(entries):
        if entry.kind in ("seal", "restored"):
            break
        if isinstance(entry, ChargeEntry):
            found.append(entry)
    return found[::-1]


class Restraint:
    """What keeps a server that releases nothing from charging on and on.

    **Guarantees:** one charge a day at most after `most` in a row without a release, whatever ends the process.

    **Assumes:** the clock isn't set forward.

    Args:
        file: where it is written when the latest attempt began; its folder exists.
        pause: seconds after the first charge that released nothing; each further one doubles it, up to a day.
        most: so many in a row, and a day is waited for.
    """

    def __init__(self, file: Path, *, pause: float, most: int) -> None:
        self._file, self._pause, self._most = file, pause, most

    @contextmanager
    def attempt(self, size: int) -> Iterator[None]:
        """Around an attempt, from before its charge; `size` is the ledger's.

        Raises:
            OSError: it can't be written: don't charge.
        """
        begun = _Attempt(at=time.time(), size=size, ended=False)
        self._write(begun)
        ended = begun.model_copy(update={"ended": True})
        try:
            yield
        except (PalateError, OSError):
            with suppress(OSError):  # a full disk, which is why it has failed
                self._write(ended)
            raise
        self._write(ended)

    @property
    def under_way(self) -> bool:
        """Whether an attempt has begun that nobody has seen to end."""
        latest = self._read()
        return latest is not None and not latest.ended

    def until(self, entries: Sequence[Entry]) -> float:
        """When a charge is allowed again, Unix seconds; 0: it always was."""
        count = len(voids(entries))
        if not count:
            return 0.0
        wait = DAY if count >= self._most else min(DAY, self._pause * 2.0 ** (count - 1))
        return self._begun(len(entries)).at + wait

    def exhausted(self, entries: Sequence[Entry]) -> bool:
        """Whether so many charges have released nothing that only one a day is allowed."""
        return len(voids(entries)) >= self._most

    def lost(self, entries: Sequence[Entry]) -> ChargeEntry | None:
        """The charge of an attempt whose end nobody saw, since the process ended in it; told once."""
        latest = self._read()
        if latest is None or latest.ended:
            return None
        self._write(latest.model_copy(update={"ended": True}))
        return next((charge for charge in voids(entries) if charge.seq >= latest.size), None)

    def _begun(self, size: int) -> _Attempt:
        """The latest attempt; where it isn't known, it begins now."""
        now = time.time()
        if (found := self._read()) is not None:
            return found.model_copy(update={"at": min(found.at, now)})
        unknown = _Attempt(at=now, size=size, ended=True)
        with suppress(OSError):  # then it begins at each look, and the pause never ends
            self._write(unknown)
        return unknown

    def _read(self) -> _Attempt | None:
        try:
            return _Attempt.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return None

    def _write(self, attempt: _Attempt) -> None:
        write_durably(self._file, json.dumps(attempt.model_dump()).encode())


def restraint_of(site: Site) -> Restraint:
    """The restraint of a site's charges."""
    cohort = site.config.cohort
    return Restraint(site.state / "attempt.json", pause=cohort.pause_seconds, most=cohort.attempts)
