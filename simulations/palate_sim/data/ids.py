"""Ids: user and item ids of any type, as text that is equal exactly when the id is.

Part of `repair`. `"1"`, `1`, `1.0` and `" 1 "` are one id; `"01"` is another one.

    >>> import pandas as pd
    >>> codes, names = canonical_ids(pd.Series(["1", 1, 1.0, " 1", "01", None]), "user_id", repairs := {})
    >>> codes.tolist(), names, sorted(repairs.items())
    ([0, 0, 0, 0, 1, -1], ['1', '01'], [('ids_trimmed', 1), ('ids_unified', 2)])
"""

from __future__ import annotations

import numbers
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.errors import InputError
from palate_sim.data.columns import show

MISSING = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>", "nat", "\\n"})
"""Texts that stand for "no id", compared without case."""

_WHOLE_FLOAT = re.compile(r"[+-]?\d+\.0+")


def canonical_ids(column: pd.Series, name: str, repairs: dict[str, int]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number the ids of a column.

    Args:
        column: ids of any scalar types.
        name: the canonical field, for messages.
        repairs: counts to add to.

    Returns:
        The code of each row, int64 [n_rows], -1 where the row has no id; and the id of each code.

    Raises:
        InputError: an id is a list, a dict or another thing that is no scalar, or more than one line.
    """
    if column.dtype == object:
        column, unified = _texts(column, name)
        repairs["ids_unified"] = repairs.get("ids_unified", 0) + unified
    raw_codes, uniques = pd.factorize(column)
    rows_of = np.bincount(raw_codes[raw_codes >= 0], minlength=len(uniques))
    names: dict[str, int] = {}
    recode = np.full(len(uniques) + 1, -1, np.int64)
    for code, value in enumerate(uniques):
        written = _text(value)
        text = written.strip()
        if "\n" in text or "\r" in text:
            raise InputError(f"`{name}` must be on one line, got {show(text)}: is a quotation mark left open?")
        if text.casefold() in MISSING:
            continue
        if _WHOLE_FLOAT.fullmatch(text):
            text = str(int(text.partition(".")[0]))
            repairs["ids_unified"] = repairs.get("ids_unified", 0) + int(rows_of[code])
        if written != written.strip():
            repairs["ids_trimmed"] = repairs.get("ids_trimmed", 0) + int(rows_of[code])
        recode[code] = names.setdefault(text, len(names))
    return recode[raw_codes], list(names)


def is_text(text: str) -> bool:
    """Whether the text can be written as UTF-8: a lone surrogate, from a file name in another encoding, can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(column: pd.Series, name: str) -> tuple[pd.Series, int]:
    """A column of Python objects as text, and how many rows had a type other than the most common one."""
    kinds: dict[str, int] = {}
    texts: list[str | None] = []
    for value in column:
        if not isinstance(value, (str, bytes, numbers.Number)) and value is not None and not _scalar(value):
            raise InputError(f"`{name}` must be text or a number, got {type(value).__name__}")
        text = None if value is None or value is pd.NA or value is pd.NaT else _text(value)
        if text is not None and not is_text(text):
            raise InputError(f"`{name}` must be valid text, got {show(text)}")
        texts.append(text)
        if text is not None and text.strip().casefold() not in MISSING and not _WHOLE_FLOAT.fullmatch(text):
            kind = "text" if isinstance(value, (str, bytes)) else "other"
            kinds[kind] = kinds.get(kind, 0) + 1
    return pd.Series(texts, dtype="str"), sum(kinds.values()) - max(kinds.values(), default=0)


def _scalar(value: Any) -> bool:
    """Whether a value is a scalar: numpy scalars, dates and UUIDs are, lists and dicts are not."""
    return bool(pd.api.types.is_scalar(value)) or not hasattr(value, "__iter__")


def _text(value: Any) -> str:
    """An id as text, before normalisation."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
