"""Item table: what is public about the items of a model beside their ids: titles, years, kinds, public ids, and more.

    CSV, JSON, a log's titles -> ItemTable -> a file of the published model, which the manifest names -> device, browser

    >>> table = ItemTable.of((ItemFacts("7", "Toy Story", 1995, ids={"imdb": "tt0114709"}), ItemFacts("8")))
    >>> ItemTable.from_bytes(table.to_bytes(), ("7", "8")) == table
    True
    >>> table.titles
    {'7': 'Toy Story (1995)'}

The file is deflated JSON, a column at a time: `{"columns": {"title": [...], ...}, "format": 1, "ids": {"imdb": [...]},
"items": 2}`. Each column has a value for each item of the model, in their order; null: not known. It has a hash in the
manifest, and no version of its own: it is renewed as the latest model is published again, with the same model and
another table, of which devices download the table alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from palate_common.models.compact import deflate, inflate
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json

Value = str | float | int | bool | None | tuple[str, ...]
"""What a further column may have of an item."""

TITLE, YEAR, ALTERNATIVES, KINDS = "title", "year", "alternatives", "kinds"
COLUMNS = (TITLE, YEAR, ALTERNATIVES, KINDS)
"""The columns that every table may have."""
OFFER = ("price", "stock", "from", "until", "region", "age", "picture", "link", "seconds")
"""Further columns that filters know in every table: what a shop says of an item, and how long it is. `from` and `until`
are in seconds since 1970; an item that isn't in stock (false, or 0 and less), or whose time it isn't, is in no list."""
MOST_COLUMNS = 64
"""Columns and schemes of ids at most."""
MOST_TEXT = 2048
"""Characters of a text at most."""
MOST_TEXTS = 100
"""Texts of a list at most, such as an item's other titles."""
MOST_VALUES = 2**23
"""Values at most, and 32 an item and some: a value takes more memory than bytes."""
MOST_NUMBER = 2**53 - 1
"""Largest size of a number: as whole, a browser has it to the last digit."""
MOST_YEAR = 9999
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
"""A column, or a scheme of ids."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_LONE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ItemFacts:
    """What is public about one item.

    Attributes:
        item: its id in the model.
        title: its title; "": not known.
        year: its year, such as that of a film's release; None: not known.
        alternatives: other titles, such as the original one.
        kinds: genres, categories.
        ids: scheme -> public id, such as "imdb" -> "tt0114709".
        more: further columns, for the app.
    """

    item: str
    title: str = ""
    year: int | None = None
    alternatives: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Value] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its title, and the year in brackets; the id of one without a title."""
        return _label(self.title, self.year) if self.title else self.item


@dataclass(frozen=True)
class ItemTable:
    """What is public about the items of a model, a column at a time.

    Attributes:
        items: the ids of the model's items.
        columns: name -> a value for each item, as a file has them: `COLUMNS`, and those for the app; None: not known.
        ids: scheme -> a public id for each item, or None.
    """

    items: tuple[str, ...]
    columns: Mapping[str, tuple[Value, ...]] = field(repr=False)
    ids: Mapping[str, tuple[str | None, ...]] = field(repr=False)

    @classmethod
    def of(cls, facts: Iterable[ItemFacts]) -> ItemTable:
        """The table of some items' facts.

        Raises:
            InputError: a further column has the name of one that every table may have.
        """
        rows = tuple(facts)
        columns: dict[str, tuple[Value, ...]] = {
            TITLE: tuple(each.title or None for each in rows),
            YEAR: tuple(each.year for each in rows),
            ALTERNATIVES: tuple(each.alternatives or None for each in rows),
            KINDS: tuple(each.kinds or None for each in rows),
        }
        for name in sorted({name for each in rows for name in each.more}):
            if name in COLUMNS:
                raise InputError(f"a further column must have another name than {', '.join(COLUMNS)}, got {name!r}")
            columns[name] = tuple(each.more.get(name) for each in rows)
        schemes = sorted({scheme for each in rows for scheme in each.ids})
        ids = {scheme: tuple(each.ids.get(scheme) or None for each in rows) for scheme in schemes}
        return cls(tuple(each.item for each in rows), _known(columns), _known(ids))

    def __iter__(self) -> Iterator[ItemFacts]:
        """The facts of each item, in their order."""
        return map(self._facts, range(len(self.items)))

    def get(self, item: str) -> ItemFacts | None:
        """The facts of an item; None: the table doesn't have it."""
        row = self._rows.get(item)
        return None if row is None else self._facts(row)

    @cached_property
    def titles(self) -> dict[str, str]:
        """Item id -> `ItemFacts.label`, of the items that have a title."""
        titles, years = (self._column(name) for name in (TITLE, YEAR))
        rows = zip(self.items, titles, years, strict=True)
        return {item: _label(str(title), year) for item, title, year in rows if title}

    def over(self, items: Sequence[str]) -> ItemTable:
        """The table of other items: those that it lacks have no facts."""
        return ItemTable.of(self.get(item) or ItemFacts(item) for item in items)

    def to_bytes(self) -> bytes:
        """The table as a file of a published model.

        Raises:
            InputError: a value that no reader takes, or more than one takes.
        """
        value = {"columns": dict(self.columns), "format": 1, "ids": dict(self.ids), "items": len(self.items)}
        data, most = canonical_json(value), most_of_table(len(self.items))
        if len(data) > most:
            raise InputError(f"a table of {len(self.items)} items must be at most {most} bytes, got {len(data)}")
        try:
            read_table(data, self.items)
        except IntegrityError as error:
            raise InputError(str(error)) from None
        return deflate(data)

    @classmethod
    def from_bytes(cls, data: bytes, items: Sequence[str]) -> ItemTable:
        """Read a table.

        Args:
            data: the file.
            items: the ids of the model's items.

        **Guarantees:** a table is bounded before it is parsed: by the number of items.

        Raises:
            IntegrityError: it is no table of these items.
        """
        return read_table(inflate(data, most=most_of_table(len(items)), noun="an item table"), items)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.items)}

    def _column(self, name: str) -> tuple[Value, ...]:
        return self.columns.get(name) or (None,) * len(self.items)

    def _facts(self, row: int) -> ItemFacts:
        has = {name: column[row] for name, column in self.columns.items() if column[row] is not None}
        more = {name: value for name, value in has.items() if name not in COLUMNS}
        ids = {scheme: own for scheme, column in self.ids.items() if (own := column[row]) is not None}
        title, year, alternatives, kinds = (has.get(name) for name in COLUMNS)
        return ItemFacts(
            self.items[row],
            title if isinstance(title, str) else "",
            int(year) if isinstance(year, (int, float)) else None,
            alternatives if isinstance(alternatives, tuple) else (),
            kinds if isinstance(kinds, tuple) else (),
            ids,
            more,
        )


_Column = TypeVar("_Column", bound=tuple[Value, ...])


def _known(columns: Mapping[str, _Column]) -> dict[str, _Column]:
    """The columns in which something is known."""
    return {name: column for name, column in columns.items() if any(each is not None for each in column)}


def _label(title: str, year: Value) -> str:
    return title if year is None else f"{title} ({year})"


def most_of_table(n_items: int) -> int:
    """Bytes of the largest table of so many items, unpacked."""
    return min(2**16 + 4096 * n_items, 2**26)


def read_table(data: bytes, items: Sequence[str]) -> ItemTable:
    """Read a table that was inflated.

    Raises:
        IntegrityError: as `ItemTable.from_bytes`.
    """
    return table_of(parse_table(data, len(items)), items)


def parse_table(data: bytes, n_items: int) -> Any:
    """The JSON of a table of at most so many items, which is bounded before it is parsed.

    Raises:
        IntegrityError: it is larger, or no JSON.
    """
    bare, most = _STRING.sub(b"", data), min(2**12 + 32 * n_items, MOST_VALUES)
    if sum(map(bare.count, (b",", b"[", b"{"))) > most:
        raise IntegrityError(f"an item table of {n_items} items must have at most {most} values, got more")
    try:
        return json.loads(data.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise IntegrityError("an item table must be JSON, got something else") from None


def table_of(value: Any, items: Sequence[str]) -> ItemTable:
    """The table of its JSON.

    Raises:
        IntegrityError: as `ItemTable.from_bytes`.
    """
    match value:
        case {"columns": dict(columns), "format": 1, "ids": dict(ids), "items": n} if n == len(items):
            whole = len(value) == 4 and not isinstance(n, bool) and not isinstance(value["format"], bool)
        case _:
            whole = False
    if not whole:
        raise IntegrityError(f"an item table must be of format 1 and {len(items)} items, got something else")
    if len(columns) + len(ids) > MOST_COLUMNS:
        raise IntegrityError(f"an item table must have at most {MOST_COLUMNS} columns, got {len(columns) + len(ids)}")
    for name, column in (*columns.items(), *ids.items()):
        if not NAME.fullmatch(name):
            raise IntegrityError("a column of an item table must have a name like a_1, got another")
        if not isinstance(column, list) or len(column) != len(items):
            raise IntegrityError(f"column {name} of an item table must have {len(items)} values, got others")
    for name, column in columns.items():
        fits, what = _FITS.get(name, (_is_value, "texts, numbers, true, false or lists of texts"))
        _check(name, column, fits, what)
    for name, column in ids.items():
        _check(name, column, _is_text, _FITS[TITLE][1])
    if YEAR in columns:
        columns[YEAR] = [None if each is None else int(each) for each in columns[YEAR]]  # 1999.0 is 1999 to a browser
    known = {name: tuple(map(_value, column)) for name, column in sorted(columns.items())}
    return ItemTable(tuple(items), _known(known), _known({name: tuple(column) for name, column in sorted(ids.items())}))


def _no_number(name: str) -> float:
    raise ValueError(name)


def _check(name: str, column: Iterable[Any], fits: Callable[[Any], bool], what: str) -> None:
    for value in column:
        if value is not None and not fits(value):
            raise IntegrityError(f"column {name} of an item table must have {what}, got another value")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT and not _LONE.search(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_TEXTS and all(map(_is_text, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST_NUMBER


def _is_year(value: Any) -> bool:
    return _is_number(value) and value == int(value) and abs(value) <= MOST_YEAR


def _is_value(value: Any) -> bool:
    return isinstance(value, bool) or _is_number(value) or _is_text(value) or _is_texts(value)


def _value(value: Any) -> Value:
    found: Value = tuple(value) if isinstance(value, list) else value
    return found


_FITS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    TITLE: (_is_text, f"texts of at most {MOST_TEXT} characters"),
    YEAR: (_is_year, "years"),
    ALTERNATIVES: (_is_texts, f"lists of at most {MOST_TEXTS} texts"),
    KINDS: (_is_texts, f"lists of at most {MOST_TEXTS} texts"),
}
