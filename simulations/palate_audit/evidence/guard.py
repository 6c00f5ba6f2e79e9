"""Guard: whatever a forger writes into a file, or a bug raises in a test, is a finding, never the end of an audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from palate_audit.evidence.evidence import Finding
from palate_core.errors import PalateError

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


WITHOUT = (ImportError, MemoryError, OSError)
"""What says more of the machine than of the code that is tested."""


def survived(test: str, findings: Callable[[], list[Finding]], *, ours: bool = True) -> list[Finding]:
    """The findings of a test of code that runs here; where that code raises, that is the finding, and no pass.

    Args:
        test: the name of that finding.
        findings: makes them.
        ours: the code under test is Palate's own. Then it is an alarm, because the code didn't do what it must, except
            for what the machine lacks. Of somebody else's, numbers that a test can't take make it "not checkable".
    """
    try:
        return findings()
    except WITHOUT as error:
        return [Finding.missing(test, f"it could not run: {_line(error)}")]
    except Exception as error:  # a bug raises anything
        said = f"it ended with {_line(error)}"
        return [Finding.checked(test, False, said) if ours else Finding.missing(test, said)]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
