import re

import pytest

from palate_core import errors
from palate_core.errors import (
    BudgetError,
    ClosedError,
    ErasedError,
    EvidenceError,
    InputError,
    IntegrityError,
    LockedError,
    PalateError,
    RefusedError,
    UnreachableError,
    WrongKeyError,
)

CODES: dict[type[PalateError], int] = dict.fromkeys(
    (PalateError, ClosedError, ErasedError, IntegrityError, LockedError, RefusedError, UnreachableError), 1
)
CODES |= {InputError: 2, WrongKeyError: 2, BudgetError: 3, EvidenceError: 4}


def test_every_error_is_in_one_tree_and_has_its_exit_code() -> None:
    defined = {value for value in vars(errors).values() if isinstance(value, type)}
    assert defined == set(CODES)
    for error, code in CODES.items():
        assert issubclass(error, PalateError)
        assert error.exit_code == code


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = dict(re.findall(r"(\w+Error)\s+(\d)", errors.__doc__ or ""))
    assert drawn == {error.__name__: str(code) for error, code in CODES.items()}


@pytest.mark.parametrize("error", list(CODES))
def test_an_error_is_its_message(error: type[PalateError]) -> None:
    with pytest.raises(PalateError, match=r"^one line$"):
        raise error("one line")


def test_every_error_has_a_code_of_its_own_that_stays() -> None:
    assert {error.__name__: error.code for error in CODES} == {
        "PalateError": "failed",
        "InputError": "input",
        "WrongKeyError": "wrong-key",
        "BudgetError": "budget",
        "EvidenceError": "evidence",
        "IntegrityError": "integrity",
        "ClosedError": "closed",
        "ErasedError": "erased",
        "LockedError": "locked",
        "RefusedError": "refused",
        "UnreachableError": "unreachable",
    }
