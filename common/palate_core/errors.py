"""Every error Palate raises on purpose, and the exit code its command line gives it.

    PalateError                 1   something failed
    ├── InputError              2   bad usage, configuration or data
    │   └── WrongKeyError       2   a key doesn't open the device's store
    ├── BudgetError             3   a privacy budget is exhausted, or a charge is refused
    ├── EvidenceError           4   an audit's evidence exceeds the claim
    ├── IntegrityError          1   bytes are not what was signed, sealed or logged
    ├── ClosedError             1   the device's store is closed
    ├── ErasedError             1   the device's store was erased
    ├── LockedError             1   somebody else owns the run folder, or the file
    ├── RefusedError            1   a device refused a plan; the reason stays on the device
    └── UnreachableError        1   a server can't be reached, or doesn't answer as it should

Messages are one line: what was expected, what was given, and for privacy a remedy. They may change; `code` doesn't.
"""

from typing import ClassVar


class PalateError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        exit_code: of the command line.
        code: stable identifier of the kind of error, for logs and other languages.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"


class InputError(PalateError):
    """Bad usage, configuration or data: "`x` must be ..., got ..."."""

    exit_code = 2
    code = "input"


class WrongKeyError(InputError):
    """A key doesn't open the device's store, or the store's own key is gone."""

    code = "wrong-key"


class BudgetError(PalateError):
    """A privacy budget is exhausted, or the ledger refused a charge."""

    exit_code = 3
    code = "budget"


class EvidenceError(PalateError):
    """An audit's evidence exceeds the claim."""

    exit_code = 4
    code = "evidence"


class IntegrityError(PalateError):
    """Bytes are not what was signed, sealed or logged."""

    code = "integrity"


class ClosedError(PalateError):
    """The device's store is closed."""

    code = "closed"


class ErasedError(PalateError):
    """The device's store was erased, by this process or another."""

    code = "erased"


class LockedError(PalateError):
    """Another process owns the run folder, or keeps a file locked."""

    code = "locked"


class RefusedError(PalateError):
    """A device refused a plan. The server only ever sees one constant code."""

    code = "refused"


class UnreachableError(PalateError):
    """A server can't be reached, isn't the pinned one, or doesn't answer as it should."""

    code = "unreachable"
