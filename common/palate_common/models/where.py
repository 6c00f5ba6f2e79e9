"""Where: a small language for which items may be listed, by what an item table says of them.

    price < 20 and stock > 0 and "Drama" in genres

    where  = both {"or" both}
    both   = one {"and" one}
    one    = "not" one | "(" where ")" | test
    test   = COLUMN | COLUMN "is" ("known" | "unknown") | COLUMN ["not"] "in" "[" VALUE {"," VALUE} "]"
           | COLUMN COMPARE VALUE | VALUE COMPARE COLUMN | VALUE ["not"] "in" COLUMN
    COMPARE = "<" | "<=" | ">" | ">=" | "==" | "!="          the first four with a number alone
    VALUE   = a number | "a text" | 'a text' | true | false

A filter is read into a tree of tests; nothing of it is run. A column alone asks whether it is true. A list has a value
if one of its texts is it; in comparisons true is 1, and false 0. Every test of what isn't known is false, but `not` and
`is unknown`. A browser reads the same filters alike: docs/vectors/where.json.

    >>> from palate_common.models.item_table import ItemFacts, ItemTable
    >>> table = ItemTable.of([ItemFacts("a", kinds=("Drama",), more={"price": 9.5}), ItemFacts("b", more={"price": 25})])
    >>> ItemColumns(table).select(parse('"Drama" in genres or price > 20')).tolist()
    [True, True]
    >>> parse("price <")
    Traceback (most recent call last):
    palate_core.errors.InputError: `where` must have a number at character 8, got the end
"""  # noqa: E501 # a doctest has the line that Python prints

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from palate_common.models.item_table import COLUMNS, KINDS, OFFER, ItemTable, Value
from palate_core.errors import InputError

MOST_TEXT, MOST_TESTS, MOST_LEVELS = 1000, 100, 20
"""Characters, values and columns together, and parentheses and `not` in each other, at most."""
ALIASES: Final = {"genres": KINDS, "categories": KINDS}
"""Other names of a column."""
Mask = npt.NDArray[np.bool_]
Operator = Callable[[Any, Any], Any]
_ORDER: Final[Mapping[str, Operator]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_TURNED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS: Final = frozenset(("and", "or", "not", "in", "is", "known", "unknown", "true", "false"))
_TOKEN: Final = re.compile(
    r"[ \t\r\n]+|([a-z][a-z0-9_]{0,63}(?![A-Za-z0-9_]))|(-?[0-9]{1,15}(?:\.[0-9]{1,15})?(?![A-Za-z0-9_.]))"
    r"|(\"[^\"]*\"|'[^']*')|([<>=!]=|[<>()\[\],])"
)


@dataclass(frozen=True)
class ColumnTest:
    """A test of one column.

    Attributes:
        column: its name, as a table has it.
        how: "has", "known", or one of < <= > >=.
        values: what it may have, or the one number that it is compared with.
        at: where the name stands, from 1.
    """

    column: str
    how: str
    values: tuple[str | float | bool, ...] = ()
    at: int = 0


@dataclass(frozen=True)
class Joined:
    """Filters that are joined: "and", "or", or "not" of one."""

    how: str
    parts: tuple[Where, ...]


Where = ColumnTest | Joined


@lru_cache(maxsize=256)
def parse(text: str, name: str = "where") -> Where:
    """Read a filter.

    Args:
        text: the filter.
        name: what messages call it.

    **Guarantees:** any text is a filter or refused: at most `MOST_TEXT` characters are read, `MOST_TESTS` values and
    columns, and `MOST_LEVELS` levels.

    Raises:
        InputError: it is no filter; it says what must stand at which character.
    """
    if len(text) > MOST_TEXT:
        raise InputError(f"`{name}` must have at most {MOST_TEXT} characters, got {len(text)}")
    reader = _Reader(text, name)
    found = reader.either()
    if reader.here:
        reader.refuse("`and`, `or` or the end")
    return found


class _Reader:
    """Reads a filter from its beginning, one token at a time."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name, self.here = text, name, ""
        self._end, self._operands, self._levels = 0, 0, 0
        self.step()

    def step(self) -> str:
        """Go on to the next token; returns the one before it."""
        former, self.here, self.at, self.kind = self.here, "", self._end, 0
        while self._end < len(self._text) and not self.here:
            self.at = self._end
            if (found := _TOKEN.match(self._text, self._end)) is None:
                self.here = self._text[self._end]
                self.refuse("both quotes of a text" if self.here in "\"'" else "a column, a value or a sign")
            self._end, self.kind = found.end(), found.lastindex or 0
            self.here = found[0] if self.kind else ""
        self.at = self.at if self.here else len(self._text)
        return former

    def refuse(self, wanted: str) -> NoReturn:
        """Say what must stand here."""
        got = f"'{self.here[:20]}'" if self.here else "the end"
        raise InputError(f"`{self._name}` must have {wanted} at character {self.at + 1}, got {got}")

    def took(self, *tokens: str) -> str:
        """What stands here, if it is one of these, which is then behind; else ""."""
        return self.step() if self.here in tokens and self.here else ""

    def either(self) -> Where:
        return self._joined("or", self._both)

    def _both(self) -> Where:
        return self._joined("and", self._one)

    def _joined(self, how: str, part: Callable[[], Where]) -> Where:
        parts = [part()]
        while self.took(how):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(how, tuple(parts))

    def _one(self) -> Where:
        if self.here not in ("not", "("):
            return self._test()
        if self._levels == MOST_LEVELS:
            self.refuse(f"at most {MOST_LEVELS} levels")
        self._levels += 1
        if self.took("not"):
            found: Where = Joined("not", (self._one(),))
        else:
            self.step()
            found = self.either()
            if not self.took(")"):
                self.refuse("`)`")
        self._levels -= 1
        return found

    def _test(self) -> Where:
        if self._is_column():
            column, at = self._column()
            if self.took("is"):
                if not (how := self.took("known", "unknown")):
                    self.refuse("`known` or `unknown`")
                return _unless(how == "unknown", ColumnTest(column, "known", at=at))
            if sign := self.took("<", "<=", ">", ">="):
                return ColumnTest(column, sign, (self._number(),), at)
            if sign := self.took("==", "!="):
                return _equal(sign, ColumnTest(column, "has", (self._value("a value"),), at))
            without = bool(self.took("not"))
            if self.took("in"):
                return _unless(without, ColumnTest(column, "has", self._list(), at))
            if without:
                self.refuse("`in`")
            return ColumnTest(column, "has", (True,), at)
        ordered, value = self.kind == _NUMBER, self._value("a test")
        if ordered and (sign := self.took("<", "<=", ">", ">=")):
            column, at = self._column()
            return ColumnTest(column, _TURNED[sign], (value,), at)
        if sign := self.took("==", "!="):
            column, at = self._column()
            return _equal(sign, ColumnTest(column, "has", (value,), at))
        without = bool(self.took("not"))
        if not self.took("in"):
            self.refuse("`in`" if without else "a comparison or `in`")
        column, at = self._column()
        return _unless(without, ColumnTest(column, "has", (value,), at))

    def _list(self) -> tuple[str | float | bool, ...]:
        if not self.took("["):
            self.refuse("`[`")
        values = [self._value("a value")]
        while self.took(","):
            values.append(self._value("a value"))
        if not self.took("]"):
            self.refuse("`,` or `]`")
        return tuple(values)

    def _is_column(self) -> bool:
        return self.kind == _NAME and self.here not in _WORDS

    def _column(self) -> tuple[str, int]:
        if not self._is_column():
            self.refuse("a column")
        at = self.at + 1
        self._count()
        name = self.step()
        return ALIASES.get(name, name), at

    def _number(self) -> float:
        if self.kind != _NUMBER:
            self.refuse("a number")
        self._count()
        return float(self.step())

    def _value(self, wanted: str) -> str | float | bool:
        if self.kind == _NUMBER:
            return self._number()
        if self.kind != _TEXT and self.here not in ("true", "false"):
            self.refuse(wanted)
        self._count()
        kind, word = self.kind, self.step()
        return word[1:-1] if kind == _TEXT else word == "true"

    def _count(self) -> None:
        self._operands += 1
        if self._operands > MOST_TESTS:
            self.refuse(f"at most {MOST_TESTS} columns and values")


_NAME, _NUMBER, _TEXT = 1, 2, 3


def _unless(turned: bool, test: Where) -> Where:
    return Joined("not", (test,)) if turned else test


def _equal(sign: str, test: ColumnTest) -> Where:
    """Equal, or known and different."""
    return (
        test if sign == "==" else Joined("and", (ColumnTest(test.column, "known", at=test.at), Joined("not", (test,))))
    )


def leaves_of(where: Where) -> list[ColumnTest]:
    """The tests of a filter, in its order."""
    return [where] if isinstance(where, ColumnTest) else [test for part in where.parts for test in leaves_of(part)]


class ItemColumns:
    """The columns of an item table, prepared for filters: each when it is first asked for.

    Args:
        table: the table.
    """

    def __init__(self, table: ItemTable) -> None:
        self._columns: Mapping[str, tuple[Value, ...]] = {**table.ids, **table.columns}
        self._n, self._read = len(table.items), dict[str, _Column]()

    @property
    def names(self) -> list[str]:
        """The columns that this table has, and those that any may have."""
        return sorted({*COLUMNS, *OFFER, *self._columns})

    def check(self, where: Where, name: str = "where") -> None:
        """Refuse a filter of a column that there is not.

        Raises:
            InputError: there is one.
        """
        names = self.names
        for test in leaves_of(where):
            if test.column not in names:
                said = ", ".join(names)
                raise InputError(f"`{name}` must have one of {said} at character {test.at}, got '{test.column[:20]}'")

    def select(self, where: Where) -> Mask:
        """Which items a filter lets through, bool [n_items]."""
        if isinstance(where, Joined):
            masks = [self.select(part) for part in where.parts]
            if where.how == "not":
                return ~masks[0]
            join = np.logical_and if where.how == "and" else np.logical_or
            found: Mask = join.reduce(masks)
            return found
        column = self.column(where.column)
        if where.how == "known":
            return column.known
        if where.how in _ORDER:
            ordered: Mask = _ORDER[where.how](column.numbers, where.values[0])  # NaN is in no order
            return ordered
        found = np.zeros(self._n, np.bool_)
        for value in where.values:
            if isinstance(value, str):
                found[column.rows(value)] = True
            elif isinstance(value, bool):
                found |= column.said & (column.numbers == value)
            else:
                found |= column.numbers == value
        return found

    def column(self, name: str) -> _Column:
        """A column, of which nothing is known where the table has none of this name."""
        if name not in self._read:
            self._read[name] = _Column(self.values(name))
        return self._read[name]

    def values(self, name: str) -> tuple[Value, ...]:
        """A column as the table has it."""
        return self._columns.get(name, (None,) * self._n)


class _Column:
    """A column's numbers, and where its texts are.

    Attributes:
        known: whether there is a value.
        numbers: float64, NaN where there is none; true is 1, and false 0.
        said: whether it is true or false.
        codes: text -> its number.
        places, ends: the rows that have the text of number c are places[ends[c] : ends[c + 1]].
    """

    def __init__(self, values: tuple[Value, ...]) -> None:
        self.known = np.array([each is not None for each in values], np.bool_)
        self.said = np.array([isinstance(each, bool) for each in values], np.bool_)
        numbers = [float(each) if isinstance(each, (bool, int, float)) else np.nan for each in values]
        self.numbers = np.array(numbers, np.float64)
        codes, rows = dict[str, int](), list[int]()
        found = list[int]()
        for row, value in enumerate(values):
            for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
                found.append(codes.setdefault(text, len(codes)))
                rows.append(row)
        order = np.argsort(np.array(found, np.int32), kind="stable")
        self.codes = codes
        self.places = np.array(rows, np.int32)[order]
        self.ends = np.searchsorted(np.array(found, np.int32)[order], np.arange(len(codes) + 1))

    def rows(self, text: str) -> npt.NDArray[np.int32]:
        """The rows that have a text."""
        code = self.codes.get(text)
        return self.places[:0] if code is None else self.places[self.ends[code] : self.ends[code + 1]]
