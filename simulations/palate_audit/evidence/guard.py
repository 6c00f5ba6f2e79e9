"""Guard: whatever a forger writes into a file is a finding, and never the end of an audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from palate_audit.evidence.evidence import Finding
from palate_common.errors import PalateError

BROKEN = (
    PalateError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, OSError, RecursionError,
    MemoryError,
)  # fmt: skip
"""What code raises that computes with files which don't fit together."""


def guarded(test: str, findings: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a part; where what it reads makes it fail, that is its last finding."""
    try:
        yield from findings()
    except BROKEN as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        yield Finding.checked(test, False, f"what the folder holds can't be audited: {said}")
