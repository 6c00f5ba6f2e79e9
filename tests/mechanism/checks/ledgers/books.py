"""Books: how a ledger is driven beside a book of plain lists, and what both sides' checks share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from unittest import mock

from palate_audit.evidence.evidence import Finding
from palate_common.records.database import Database
from palate_core.errors import PalateError

TEST = "G second ledger"


def beside(lives: Mapping[str, Callable[[], Iterator[str]]]) -> list[Finding]:
    """A finding of each life of a ledger; it goes on until something is not as the book has it.

    Args:
        lives: name -> its steps; each says how ledger and book differ, and nothing if they don't.
    """
    found = []
    for name, live in lives.items():
        steps, wrong = 0, ""
        try:
            for wrong in live():
                if wrong:
                    break
                steps += 1
        except PalateError as error:
            wrong = f"a step that nothing forbids must be made, got: {error}"
        found.append(Finding.checked(f"{TEST}: {name}", not wrong, wrong or f"the same after each of {steps} steps"))
    return found


def done(step: Callable[[], object]) -> bool:
    """Whether a step was made; if not, it was refused."""
    try:
        step()
    except PalateError:
        return False
    return True


@contextmanager
def before_transaction(moment: int | None, act: Callable[[], None]) -> Iterator[None]:
    """Do something before a transaction of any database, by its number: what another process does at that moment.

    Args:
        moment: how many transactions come before it; None: it is never done.
        act: what is done; its own transactions don't count.
    """
    real, count, busy = Database.transaction, 0, False

    def transaction(self: Database, *, write: bool = False) -> Any:
        nonlocal count, busy
        if not busy:
            busy = True
            if count == moment:
                act()
            count, busy = count + 1, False
        return real(self, write=write)

    with mock.patch.object(Database, "transaction", transaction):
        yield


def up(exact: Fraction) -> float:
    """The smallest float that isn't below a fraction."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)
