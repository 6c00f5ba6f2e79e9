"""Columns: which column of a file is the user, the item, the kind, the value and the time.

Second step of reading: from a header to the position of each canonical field. Names are compared without case,
punctuation and RecBole's type suffix, so `userId`, `User_ID` and `user_id:token` are the same name.

    >>> find_columns(["userId", "movieId", "rating", "title"])
    {'user_id': 0, 'item_id': 1, 'value': 2}
    >>> find_columns(["u", "product"], {"user_id": "u"})
    {'user_id': 0, 'item_id': 1}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from palate_core.errors import InputError

REQUIRED = ("user_id", "item_id")
FIELDS = (*REQUIRED, "kind", "value", "timestamp", "domain")

ColumnMap = Mapping[str, "str | int | None"]
"""Canonical field -> name of the column, its position in a file without a header, or None to leave the field out.

The domain of an item is never detected, because a column called `domain` may describe events.
"""

_NAMES = {
    "user_id": "user userid uid visitor visitorid customer customerid household householdid member memberid "
    "person personid reviewer reviewerid account accountid",
    "item_id": "item itemid iid movie movieid product productid sku stockcode asin parentasin article articleid "
    "content contentid news newsid song songid track trackid artist artistid book bookid isbn video videoid "
    "business businessid game gameid recipe recipeid",
    "kind": "kind event eventtype eventname action actiontype behavior behaviortype behaviour interaction",
    "value": "value rating weight quantity score stars count playcount plays overall",
    "timestamp": "timestamp time ts date datetime unixtime unixreviewtime createdat eventtime eventtimestamp "
    "transactiontimestamp invoicedate",
}
KNOWN_NAMES = {name: canonical for canonical, names in _NAMES.items() for name in names.split()}


def find_columns(header: Sequence[object], columns: ColumnMap | None = None) -> dict[str, int]:
    """Place each canonical field in a header.

    Args:
        header: the names of the columns, in order.
        columns: explicit choices, which beat detection; `{"value": None}` leaves a field out.

    Returns:
        Canonical field -> position in `header`, in the order of `FIELDS`; optional fields may be absent.

    Raises:
        InputError: a required field is missing, a name is ambiguous, or a choice names no column.
    """
    names = [str(name).strip() for name in header]
    chosen = dict(columns or {})
    check_fields(chosen)
    places: dict[str, int] = {}
    for canonical, wanted in chosen.items():
        if wanted is not None:
            places[canonical] = _named(names, header, canonical, wanted)
    candidates: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        found = KNOWN_NAMES.get(_plain(name))
        if found and found not in chosen and position not in places.values():
            candidates.setdefault(found, []).append(position)
    for canonical, positions in candidates.items():
        if len(positions) > 1:
            found_names = ", ".join(show(names[position]) for position in positions)
            hint = f"columns={{'{canonical}': {names[positions[0]]!r}}}"
            raise InputError(f"`{canonical}` must be one column, got {found_names}; choose, for example {hint}")
        places[canonical] = positions[0]
    missing = [canonical for canonical in REQUIRED if canonical not in places]
    if missing:
        found_names = ", ".join(show(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
        raise InputError(
            f"`columns` must give {' and '.join(missing)}, got a table with {found_names or 'no columns'}: "
            f"name one by `data.columns.{missing[0]}`"
        )
    return {canonical: places[canonical] for canonical in FIELDS if canonical in places}


def unread(header: Sequence[object], places: Mapping[str, int]) -> tuple[str, ...]:
    """The names of the columns that are no field."""
    return tuple(str(name) for place, name in enumerate(header) if place not in places.values())


def positions(columns: ColumnMap | None) -> dict[str, int] | None:
    """The positions of fields in a file WITHOUT a header: every choice is a position; None when there is a header.

    Raises:
        InputError: positions are mixed with names, negative, repeated, or leave out a required field.
    """
    given = {canonical: wanted for canonical, wanted in (columns or {}).items() if wanted is not None}
    places = {canonical: place for canonical, place in given.items() if isinstance(place, int)}
    if not places:
        return None
    check_fields(given)
    if len(places) != len(given) or min(places.values()) < 0 or len(set(places.values())) != len(places):
        raise InputError(f"`columns` must be names, or distinct positions from 0, got {show(str(dict(given)))}")
    missing = [canonical for canonical in REQUIRED if canonical not in places]
    if missing:
        raise InputError(f"`columns` must give {' and '.join(missing)}, got positions of {', '.join(places)}")
    return places


def check_fields(columns: Mapping[str, object]) -> None:
    """Raise InputError unless every key is a canonical field."""
    unknown = [canonical for canonical in columns if canonical not in FIELDS]
    if unknown:
        raise InputError(f"`columns` must map {', '.join(FIELDS)}, got {', '.join(map(show, unknown))}")


def show(text: str) -> str:
    """A name from a file, made printable and short for a one-line message."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return repr(printable[:40] + "..." if len(printable) > 40 else printable)


def _named(names: Sequence[str], header: Sequence[object], canonical: str, wanted: str | int) -> int:
    """The position of the one column called `wanted`."""
    exact = [position for position, name in enumerate(header) if name == wanted]
    loose = [position for position, name in enumerate(names) if name == str(wanted) or _untyped(name) == str(wanted)]
    found = exact or loose
    if len(found) != 1:
        state = "no such column" if not found else f"{len(found)} columns of that name"
        listed = ", ".join(map(show, names[:12]))
        raise InputError(f"`columns` must name one column for {canonical}, got {wanted!r}: {state} among {listed}")
    return found[0]


def _untyped(name: str) -> str:
    """A RecBole name without its type: `user_id:token` -> `user_id`."""
    return name.partition(":")[0]


def _plain(name: str) -> str:
    """A name reduced to its letters and digits."""
    return re.sub(r"[^a-z0-9]", "", _untyped(name).casefold())
