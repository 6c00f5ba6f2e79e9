"""Ids: user and item ids of any type, as text that is equal exactly when the id is; and lists of very many.

Part of `repair`. `"1"`, `1`, `1.0` and `" 1 "` are one id; `"01"` is another one.

    >>> import pandas as pd
    >>> codes, names = canonical_ids(pd.Series(["1", 1, 1.0, " 1", "01", None]), "user_id", repairs := {})
    >>> codes.tolist(), names, sorted(repairs.items())
    ([0, 0, 0, 0, 1, -1], ['1', '01'], [('ids_trimmed', 1), ('ids_unified', 2)])
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_common.interactions import Ints
from palate_core.errors import InputError
from palate_sim.data.columns import show

MISSING = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>", "nat", "\\n"})
"""Texts that stand for "no id", compared without case."""

SMALL_TABLE, LARGEST_IN_TABLE = 1 << 20, 1 << 27
"""Whole numbers below these, by the size of a batch, are looked up in a table of 4 bytes each; larger ones as text."""

AT_ONCE = 65_536
"""Ids made into Python texts at once."""

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
    coder = IdCoder(name)
    codes = coder.code(column)
    for repair, count in coder.repairs.items():
        repairs[repair] = repairs.get(repair, 0) + count
    return codes.astype(np.int64), coder.names.to_pylist()


class IdCoder:
    """Numbers the ids of a column that comes in batches, in the order in which they first occur.

    Args:
        name: the canonical field, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._runs: list[pa.Array] = []  # the ids of codes 0, 1, ..., in runs
        self._fresh: list[str] = []  # the last run, while it grows
        self._count = 0
        self._codes: dict[str, int] | None = {}  # id -> code; None while the whole numbers of `_table` are enough
        self._table = np.full(0, -1, np.int32)  # whole number -> code
        self._kinds: dict[str, int] = {}  # rows of Python objects by type
        self._unified = self._trimmed = 0

    @property
    def repairs(self) -> dict[str, int]:
        """Counts of what was unified and trimmed."""
        mixed = sum(self._kinds.values()) - max(self._kinds.values(), default=0)
        counts = {"ids_unified": self._unified + mixed, "ids_trimmed": self._trimmed}
        return {name: count for name, count in counts.items() if count}

    @property
    def names(self) -> pa.ChunkedArray:
        """The id of each code, as text."""
        self._close_run()
        return pa.chunked_array(self._runs, pa.large_string())

    def __len__(self) -> int:
        """How many ids there are."""
        return self._count

    def code(self, column: pd.Series) -> npt.NDArray[np.int32]:
        """The code of each row, int32 [n_rows], -1 where the row has no id.

        Raises:
            InputError: see `canonical_ids`.
        """
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu" and len(column):
            values = column.to_numpy()
            most = min(max(SMALL_TABLE, 32 * len(values)), LARGEST_IN_TABLE)
            if values.min() >= 0 and values.max() < most and (self._codes is None or not self._count):
                return self._by_table(values)
        return self._by_text(column)

    def _by_table(self, values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
        """Codes of whole numbers, looked up in a table."""
        self._codes = None
        top = int(values.max())
        if top >= len(self._table):
            more = np.full(max(top + 1, min(2 * len(self._table), LARGEST_IN_TABLE)) - len(self._table), -1, np.int32)
            self._table = np.concatenate([self._table, more])
        codes: npt.NDArray[np.int32] = self._table[values]
        new = values[codes < 0]
        if len(new):
            first = pd.unique(new)
            self._table[first] = np.arange(self._count, self._count + len(first), dtype=np.int32)
            self._runs.append(pa.array(first).cast(pa.large_string()))
            self._count += len(first)
            codes = self._table[values]
        return codes

    def _by_text(self, column: pd.Series) -> npt.NDArray[np.int32]:
        """Codes of ids of any type, each looked up by its text."""
        if column.dtype == object:
            column = self._texts(column)
        raw_codes, uniques = pd.factorize(column)
        known = self._known()
        recode = np.full(len(uniques) + 1, -1, np.int32)
        rows_of: npt.NDArray[np.int64] | None = None
        for code, value in enumerate(uniques):
            written = _text(value)
            found = known.get(written)
            if found is None:  # new, or not written as an id is: what is known is canonical
                if rows_of is None:
                    rows_of = np.bincount(raw_codes[raw_codes >= 0], minlength=len(uniques))
                found = self._admit(written, int(rows_of[code]), known)
            recode[code] = found
        return recode[raw_codes]

    def _admit(self, written: str, rows: int, known: dict[str, int]) -> int:
        """The code of an id that is new or written in another way, -1 for no id; `rows` are counted as repaired."""
        text = written.strip()
        if "\n" in text or "\r" in text:
            raise InputError(f"`{self._name}` must be on one line, got {show(text)}: is a quotation mark left open?")
        if text.casefold() in MISSING:
            return -1
        if _WHOLE_FLOAT.fullmatch(text):
            text = str(int(text.partition(".")[0]))
            self._unified += rows
        if written != written.strip():
            self._trimmed += rows
        code = known.setdefault(text, self._count)
        if code == self._count:
            self._count += 1
            self._fresh.append(text)
        return code

    def _known(self) -> dict[str, int]:
        """The code of each id so far."""
        if self._codes is None:
            self._codes = {name: code for code, name in enumerate(self.names.to_pylist())}
        return self._codes

    def _close_run(self) -> None:
        if self._fresh:
            self._runs.append(pa.array(self._fresh, pa.large_string()))
            self._fresh = []

    def _texts(self, column: pd.Series) -> pd.Series:
        """A column of Python objects as text; counts rows by type."""
        texts: list[str | None] = []
        for value in column:
            if not isinstance(value, (str, bytes, numbers.Number)) and value is not None and not _scalar(value):
                raise InputError(f"`{self._name}` must be text or a number, got {type(value).__name__}")
            text = None if value is None or value is pd.NA or value is pd.NaT else _text(value)
            if text is not None and not is_text(text):
                raise InputError(f"`{self._name}` must be valid text, got {show(text)}")
            texts.append(text)
            if text is not None and text.strip().casefold() not in MISSING and not _WHOLE_FLOAT.fullmatch(text):
                kind = "text" if isinstance(value, (str, bytes)) else "other"
                self._kinds[kind] = self._kinds.get(kind, 0) + 1
        return pd.Series(texts, dtype="str")


def is_text(text: str) -> bool:
    """Whether the text can be written as UTF-8: a lone surrogate, from a file name in another encoding, can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


class IdList(Sequence[str]):
    """Many ids in order, as a sequence of texts that need not be in memory.

    A small log's ids are a tuple. Ten million of them as Python texts would take a gigabyte; here they are one Arrow
    array.

        >>> ids = IdList(pa.chunked_array([["ann", "bob", "cid"]], pa.large_string()))
        >>> len(ids), ids[1], list(ids[1:]), ids.take(np.array([2, 0]))[0]
        (3, 'bob', ['bob', 'cid'], 'cid')

    Args:
        array: of `large_string`, without nulls.
    """

    def __init__(self, array: pa.ChunkedArray) -> None:
        self.array = array

    def __len__(self) -> int:
        """How many there are."""
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> IdList: ...

    def __getitem__(self, place: int | slice) -> str | IdList:
        """One id, or those of a slice."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step == 1:
                return IdList(self.array.slice(start, max(0, stop - start)))
            return self.take(np.fromiter(range(start, stop, step), np.int64))
        return str(self.array[int(place)].as_py())

    def __iter__(self) -> Iterator[str]:
        """Each id, some thousands made at once."""
        for first in range(0, len(self), AT_ONCE):
            yield from self.array.slice(first, AT_ONCE).to_pylist()

    def take(self, rows: Ints) -> IdList:
        """The ids in these rows, in their order."""
        return IdList(self.array.take(pa.array(rows)))


def in_order(ids: Sequence[str], rows: Ints) -> Sequence[str]:
    """The ids in these rows, in the form that `ids` has."""
    return ids.take(rows) if isinstance(ids, IdList) else tuple(ids[row] for row in rows)
