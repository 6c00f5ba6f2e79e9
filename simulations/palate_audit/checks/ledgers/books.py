"""Books: how a ledger is driven beside a book of plain lists, and what both sides' checks share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from palate_audit.evidence.evidence import Finding
from palate_common.errors import PalateError

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


def up(exact: Fraction) -> float:
    """The smallest float that isn't below a fraction."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)
