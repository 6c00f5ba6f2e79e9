"""Telling: what a call gives or raises, and what a table has, as an answer.

`CaseAnswer` tells what seams of numbers need: room for floating point, and Palate's own errors. Files, databases and
messages need other things: every digit, since nothing was computed, and errors of the system.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_client.store.activity import Past
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey

BEYOND = (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError)
"""What may be raised beside Palate's own errors."""
_PATH = re.compile(r"(?<![^\s`'])/\S+")
"""Where a file is, in an error's text."""


def tell_error(answer: CaseAnswer, error: Exception) -> None:
    """Tell an error of Palate's: its kind, and the names and numbers in its text."""
    said = str(error).replace(answer.apart, "") if answer.apart else str(error)
    answer.tell(type(error).__name__, NAMED.findall(said))


def tell_result(answer: CaseAnswer, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call, and tell what it gives, with every digit, or any error; returns what it gives, None where it raised."""
    try:
        found = call(*args, **named)
    except PalateError as error:
        tell_error(answer, error)
    except BEYOND as error:
        answer.tell(type(error).__name__)
    else:
        answer.tell(plain(found))
        return found
    return None


def plain(value: Any) -> Any:
    """What of a value is told: models as their fields, numbers as they are written."""
    if isinstance(value, SigningKey):
        return value.public
    if isinstance(value, BaseModel):
        return type(value).__name__, json.dumps(value.model_dump(mode="json"), sort_keys=True)
    if isinstance(value, float) and type(value) is float:
        return repr(value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def tell_refusal(answer: CaseAnswer, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call, and tell only what it raises, without paths; returns what it gives, None where it raised."""
    try:
        return call(*args, **named)
    except (PalateError, OSError, sqlite3.Error) as error:
        said = _PATH.sub("", str(error)) if isinstance(error, PalateError) else ""
        answer.tell(type(error).__name__, NAMED.findall(said))
        return None


def tell_text(answer: CaseAnswer, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call, and tell what it raises and what it gives, as `as_text`; returns what it gives."""
    found = tell_refusal(answer, call, *args, **named)
    answer.tell(as_text(found))
    return found


def as_text(value: Any) -> str:
    """A value as text, each real number with all its digits: nothing was computed with it."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.tolist()}"
    if isinstance(value, Past):
        return as_text(value.active) + as_text(value.bought)
    return repr(sorted(value) if isinstance(value, set | frozenset) else value)


def tell_outcome(answer: CaseAnswer, call: Callable[[], Any]) -> None:
    """Call, and tell the result; of an error of any kind its name: its text may have paths."""
    try:
        found = call()
    except Exception as error:
        found = type(error).__name__
    answer.tell(found)


def tell_facts(answer: CaseAnswer, value: Any) -> None:
    """Tell a tree of values: of sentences the names and the numbers, of times every digit, of numbers their sum."""
    numbers = list[float]()

    def fact(each: Any) -> Any:
        if isinstance(each, float):
            if abs(each) >= 1e9 or each == 0:
                return each.hex()
            numbers.append(each)
            return "a number"
        if isinstance(each, str):
            return NAMED.findall(each) if " " in each else each
        if isinstance(each, Mapping):
            return {name: fact(part) for name, part in each.items()}
        return [fact(part) for part in each] if isinstance(each, list | tuple) else each

    answer.tell(fact(value))
    answer.tell(np.array(numbers))


def rows_of(connection: Any, table: str) -> list[tuple[Any, ...]]:
    """Everything in a table, in an order of its own, with numbers as they are."""
    rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
    exact = [tuple(each.hex() if isinstance(each, float) else each for each in row) for row in rows]
    return sorted(exact, key=repr)


def tables_as_text(connection: sqlite3.Connection, *tables: str) -> str:
    """All rows of some tables, in the order of their first column."""
    return repr([connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables])  # noqa: S608
