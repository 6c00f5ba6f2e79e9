"""Item table: what is public about the items of a model beside their ids: titles, years, kinds, public ids, and more.

    CSV, JSON, a log's titles -> ItemTable -> a file of the published model, which the manifest names -> device, browser

    >>> table = ItemTable((ItemFacts("7", "Toy Story", 1995, ids={"imdb": "tt0114709"}), ItemFacts("8")))
    >>> ItemTable.from_bytes(table.to_bytes(), ("7", "8")) == table
    True
    >>> table.titles
    {'7': 'Toy Story (1995)'}

The file is deflated JSON, a column at a time: `{"columns": {"title": [...], ...}, "format": 1, "ids": {"imdb": [...]},
"items": 2}`. Each column has a value for each item of the model, and then of its new items, in their order; null: not
known. It has a hash in the manifest, and no version of its own: it is renewed as the latest model is published again,
with the same model and another table, of which devices download the table alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from palate_common.models.compact import deflate, inflate
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json

Value = str | float | int | bool | None | tuple[str, ...]
"""What a further column may have of an item."""

TITLE, YEAR, ALTERNATIVES, KINDS = "title", "year", "alternatives", "kinds"
COLUMNS = (TITLE, YEAR, ALTERNATIVES, KINDS)
"""The columns that every table may have."""
MOST_COLUMNS = 64
"""Columns and schemes of ids at most."""
MOST_TEXT = 2048
"""Characters of a text at most."""
MOST_TEXTS = 100
"""Texts of a list at most, such as an item's other titles."""
MOST_NUMBER = 2**53
"""Largest size of a number: as whole, a browser has it to the last digit."""
MOST_YEAR = 9999
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
"""A column, or a scheme of ids."""
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
        return self.item if not self.title else self.title if self.year is None else f"{self.title} ({self.year})"


@dataclass(frozen=True)
class ItemTable:
    """What is public about the items of a model.

    Attributes:
        facts: of each item, in the order of the model's items and then of its new items.
    """

    facts: tuple[ItemFacts, ...]

    @cached_property
    def by_item(self) -> Mapping[str, ItemFacts]:
        """Item id -> facts."""
        return {each.item: each for each in self.facts}

    @cached_property
    def titles(self) -> dict[str, str]:
        """Item id -> `ItemFacts.label`, of the items that have a title."""
        return {each.item: each.label for each in self.facts if each.title}

    def over(self, items: Sequence[str]) -> ItemTable:
        """The table of other items: those that it lacks have no facts."""
        known = self.by_item
        return ItemTable(tuple(known.get(item) or ItemFacts(item) for item in items))

    def to_bytes(self) -> bytes:
        """The table as a file of a published model.

        Raises:
            InputError: a value that no reader takes.
        """
        columns: dict[str, list[Any]] = {
            TITLE: [each.title or None for each in self.facts],
            YEAR: [each.year for each in self.facts],
            ALTERNATIVES: [list(each.alternatives) or None for each in self.facts],
            KINDS: [list(each.kinds) or None for each in self.facts],
        }
        for name in sorted({name for each in self.facts for name in each.more}):
            if name in COLUMNS:
                raise InputError(f"a further column must have another name than {', '.join(COLUMNS)}, got {name!r}")
            values = (each.more.get(name) for each in self.facts)
            columns[name] = [list(value) if isinstance(value, tuple) else value for value in values]
        schemes = sorted({scheme for each in self.facts for scheme in each.ids})
        value = {
            "columns": {name: column for name, column in columns.items() if any(each is not None for each in column)},
            "format": 1,
            "ids": {scheme: [each.ids.get(scheme) or None for each in self.facts] for scheme in schemes},
            "items": len(self.facts),
        }
        data = canonical_json(value)
        try:
            read_table(data, [each.item for each in self.facts])
        except IntegrityError as error:
            raise InputError(str(error)) from None
        return deflate(data)

    @classmethod
    def from_bytes(cls, data: bytes, items: Sequence[str]) -> ItemTable:
        """Read a table.

        Args:
            data: the file.
            items: the ids of the model's items, and then of its new items.

        **Guarantees:** a table is bounded before it is parsed: by the number of items.

        Raises:
            IntegrityError: it is no table of these items.
        """
        return read_table(inflate(data, most=most_of_table(len(items)), noun="an item table"), items)


def most_of_table(n_items: int) -> int:
    """Bytes of the largest table of so many items, unpacked."""
    return 2**16 + 4096 * n_items


def read_table(data: bytes, items: Sequence[str]) -> ItemTable:
    """Read a table that was inflated.

    Raises:
        IntegrityError: as `ItemTable.from_bytes`.
    """
    try:
        value = json.loads(data.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise IntegrityError("an item table must be JSON, got something else") from None
    match value:
        case {"columns": dict(columns), "format": 1, "ids": dict(ids), "items": n} if len(value) == 4 and n == len(
            items
        ):
            pass
        case _:
            raise IntegrityError(f"an item table must be of format 1 and {len(items)} items, got something else")
    if len(columns) + len(ids) > MOST_COLUMNS:
        raise IntegrityError(f"an item table must have at most {MOST_COLUMNS} columns, got {len(columns) + len(ids)}")
    absent = [None] * len(items)
    for name, column in (*columns.items(), *ids.items()):
        if not NAME.fullmatch(name):
            raise IntegrityError("a column of an item table must have a name like a_1, got another")
        if not isinstance(column, list) or len(column) != len(items):
            raise IntegrityError(f"column {name} of an item table must have {len(items)} values, got others")
    titles, years = columns.get(TITLE, absent), columns.get(YEAR, absent)
    _check(TITLE, titles, _is_text, f"texts of at most {MOST_TEXT} characters")
    _check(YEAR, years, _is_year, "years")
    for name in (ALTERNATIVES, KINDS):
        _check(name, columns.get(name, absent), _is_texts, f"lists of at most {MOST_TEXTS} texts")
    for name, column in ids.items():
        _check(name, column, _is_text, f"texts of at most {MOST_TEXT} characters")
    more = {name: column for name, column in columns.items() if name not in COLUMNS}
    for name, column in more.items():
        _check(name, column, _is_value, "texts, numbers, true, false or lists of texts")
    lists = (columns.get(name, absent) for name in (ALTERNATIVES, KINDS))
    alternatives, kinds = ([tuple(each or ()) for each in column] for column in lists)
    return ItemTable(
        tuple(
            ItemFacts(
                item,
                titles[row] or "",
                None if years[row] is None else int(years[row]),
                alternatives[row],
                kinds[row],
                {scheme: column[row] for scheme, column in ids.items() if column[row]},
                {name: _value(column[row]) for name, column in more.items() if column[row] is not None},
            )
            for row, item in enumerate(items)
        )
    )


def _no_number(name: str) -> float:
    raise ValueError(name)


def _check(name: str, column: Iterable[Any], fits: Any, what: str) -> None:
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
