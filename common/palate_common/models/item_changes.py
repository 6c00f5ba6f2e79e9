"""Item changes: a newer item table as an older one that devices have, and the rows that differ since.

    table, the files before -> files_of -> item-table.z, perhaps item-changes.z -> table_from -> table

The first file stays as it is, so that a device, which has it, downloads the second alone: a price costs some hundred
bytes. Where that would have more than a quarter of the bytes of the whole, the whole is written anew.

    >>> from palate_common.models.item_table import ItemFacts
    >>> old = ItemTable.of(ItemFacts(str(n), f"Title {n * n}", more={"price": n}) for n in range(99))
    >>> new = ItemTable.of([*list(old)[:-1], ItemFacts("98", "Sold"), ItemFacts("new")])
    >>> files = files_of(new, files_of(old, {}))
    >>> sorted(files), table_from(files, new.items) == new
    (['item-changes.z', 'item-table.z'], True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from palate_common.models.compact import deflate, inflate
from palate_common.models.item_table import ItemTable, Value, most_of_table, parse_table, table_of
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json

TABLE, CHANGES = "item-table.z", "item-changes.z"
"""The files of a published model."""
SHARE = 4
"""Changes have at most one in so many bytes of the whole table."""


def files_of(table: ItemTable, former: Mapping[str, bytes]) -> dict[str, bytes]:
    """A table as files of a published model.

    Args:
        table: the table.
        former: the files of the model before it, over the first of these items; {}: there is none.

    Raises:
        InputError: a value that no reader takes, or more than one takes.
    """
    whole = table.to_bytes()
    if (base := former.get(TABLE)) is None:
        return {TABLE: whole}
    try:
        changes = changes_of(table, base)
    except IntegrityError:  # it is of other items, as in a folder that was restored
        return {TABLE: whole}
    if changes is None:
        return {TABLE: base}
    return {TABLE: whole} if len(changes) * SHARE > len(whole) else {TABLE: base, CHANGES: changes}


def changes_of(table: ItemTable, base: bytes) -> bytes | None:
    """What has changed in a table since another, of the first of its items; None: nothing.

    Raises:
        IntegrityError: it is no table of these.
    """
    n_items = len(table.items)
    value = parse_table(inflate(base, most=most_of_table(n_items), noun="an item table"), n_items)
    over = value.get("items") if isinstance(value, dict) else None
    if not _is_count(over):
        raise IntegrityError("an item table must say of how many items it is, got something else")
    had = table_of(value, table.items[:over])
    rows = sorted(_differing(had.columns, table.columns, over) | _differing(had.ids, table.ids, over))
    rows += range(over, n_items)
    if not rows:
        return None

    def of(columns: Mapping[str, tuple[Value, ...]]) -> dict[str, list[Value]]:
        return {name: [column[row] for row in rows] for name, column in columns.items()}

    news = {"columns": of(table.columns), "format": 1, "ids": of(table.ids), "items": len(rows)}
    return deflate(canonical_json({**news, "over": over, "rows": rows}))


def table_from(files: Mapping[str, bytes], items: Sequence[str]) -> ItemTable | None:
    """The table of a published model; None: it has none.

    Args:
        files: the model's files.
        items: the ids of the model's items.

    **Guarantees:** a table is bounded before it is parsed: each file, by the number of items.

    Raises:
        IntegrityError: the files are no table of these items.
    """
    base, changes = files.get(TABLE), files.get(CHANGES)
    if base is None or changes is None:
        return None if base is None else ItemTable.from_bytes(base, items)
    value = parse_table(inflate(changes, most=most_of_table(len(items)), noun="an item table"), len(items))
    given = value if isinstance(value, dict) else {}
    rows, over = given.pop("rows", None), given.pop("over", None)
    if not (_is_count(over) and over <= len(items) and _rise(rows, len(items))):
        raise IntegrityError("changes of an item table must be of rows that rise, and of a table before, got others")
    if not {*range(over, len(items))} <= {*rows}:
        raise IntegrityError("changes of an item table must have each item that it lacks, got fewer")
    had, news = ItemTable.from_bytes(base, items[:over]), table_of(value, [items[row] for row in rows])
    return ItemTable(tuple(items), _put(had.columns, news.columns, rows, items), _put(had.ids, news.ids, rows, items))


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _rise(rows: Any, most: int) -> bool:
    """Whether these are rows below `most`, each above the one before it."""
    whole = isinstance(rows, list) and all(map(_is_count, rows))
    return whole and all(one < other for one, other in zip(rows, [*rows[1:], most], strict=True))


def _differing(one: Mapping[str, tuple[Value, ...]], other: Mapping[str, tuple[Value, ...]], n: int) -> set[int]:
    """The rows of the first n in which columns differ."""
    nothing = (None,) * n
    pairs = ((one.get(name, nothing), other.get(name, nothing)) for name in {*one, *other})
    return {
        row for old, new in pairs for row in range(n) if old[row] != new[row] or type(old[row]) is not type(new[row])
    }


_Each = TypeVar("_Each", bound=Value)


def _put(
    old: Mapping[str, tuple[_Each, ...]],
    new: Mapping[str, tuple[_Each, ...]],
    rows: Sequence[int],
    items: Sequence[str],
) -> dict[str, tuple[_Each, ...]]:
    """Columns with some rows' values in the place of their own; without those in which nothing is known any more."""
    found = {}
    for name in sorted({*old, *new}):
        column: list[Any] = [*old.get(name, ())]
        column += [None] * (len(items) - len(column))
        for place, row in enumerate(rows):
            column[row] = new[name][place] if name in new else None
        if any(each is not None for each in column):
            found[name] = tuple(column)
    return found
