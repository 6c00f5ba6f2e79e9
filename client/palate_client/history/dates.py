"""Dates: moments of a file, as a service writes them. What can be read in two ways is not read.

    a cell -> seconds since 1970

    >>> moment("2021-12-15", "iso"), moment("15 Jun 2007, 22:30", "words"), moment("1704067200000", "ms")
    (1639526400, 1181946600, 1704067200)
    >>> orders_of(["12/04/2022", "24/12/2021"]), orders_of(["4/5/25", "4/6/25"])
    (('day first',), ('day first', 'month first'))

A date alone is its first second in UTC. A service that writes dates by the country of an account has one order in a
whole file, which a day above 12 tells; without one the person is asked. The browser's `dates.ts` reads the same.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable
from datetime import date
from functools import lru_cache

from palate_core.errors import InputError

ORDERS = {"day first": (0, 1, 2), "month first": (1, 0, 2), "year first": (2, 1, 0)}
"""Order of a date -> the places of day, month and year in it."""
EARLIEST, EARLIEST_PLAY = -2_208_988_800, 978_307_200
"""1900 and 2001: what is before wasn't read or seen, and what is before wasn't played with a service that counts."""
TOLERANCE = 2 * 86_400
"""Seconds after now that a time may be, as another time zone's date is: anything later was written wrongly."""

_ISO = re.compile(
    r"(\d{4})(-(?=\d\d-\d\d(?!\d))|/|\. ?)(\d{1,2})\2(\d{1,2})\.?"
    r"(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?)? ?(Z|UTC|([+-])(\d{2}):?(\d{2}))?",
    re.ASCII,
)
_WORDS = re.compile(r"(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}),? (\d{2}):(\d{2})", re.ASCII)
_ORDERED = re.compile(r"(\d{1,4})([./-])( ?)(\d{1,2})\2\3(\d{1,4})\.?", re.ASCII)
_ISO_SHAPE = ("iso", "", False)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = date(1970, 1, 1).toordinal()


def moment(text: str, how: str) -> int | None:
    """Seconds since 1970; None: it is no such moment.

    Args:
        text: the cell.
        how: "iso", "words" such as 15 Jun 2007, 22:30 in UTC, or "s" or "ms" since 1970.
    """
    if how in ("s", "ms"):
        if not (text.isascii() and text.isdigit() and len(text) <= 16):
            return None
        number = int(text) // (1000 if how == "ms" else 1)
        return number if number >= EARLIEST_PLAY else None
    if how == "words":
        words = _WORDS.fullmatch(text)
        if words is None or words[2] not in _MONTHS:
            return None
        return _at(int(words[3]), _MONTHS.index(words[2]) + 1, int(words[1]), int(words[4]), int(words[5]), 0)
    iso = _ISO.fullmatch(text)
    if iso is None:
        return None
    year, _, month, day, hour, minute, second, _, sign, hours, minutes = iso.groups()
    found = _at(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    if found is None or sign is None:
        return found
    away = int(hours) * 3600 + int(minutes) * 60
    return found - away if sign == "+" else found + away


def orders_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The orders that all dates of a file can have; none if they are ISO 8601.

    Raises:
        InputError: they are written in several ways, as a spreadsheet leaves them.
    """
    shapes, written = set[tuple[str, str, bool]](), set[tuple[int, bool]]()
    possible = dict.fromkeys(ORDERS)
    for text in dict.fromkeys(texts):
        if moment(text, "iso") is not None:
            shapes.add(_ISO_SHAPE)
            continue
        parts = _ORDERED.fullmatch(text)
        if parts is None or len(parts[1]) > 2 or len(parts[5]) == 3:
            continue  # no date: the row is left out
        shapes.add((parts[2], parts[3], len(parts[5]) == 4))
        for place, cell in enumerate((parts[1], parts[4])):
            if cell[0] == "0" or len(cell) == 1:
                written.add((place, len(cell) == 1))  # 03 or 3
        for order in tuple(possible):
            if not _may_be(order, parts[2] + parts[3]) or ordered(text, order) is None:
                del possible[order]
    if len(shapes) > 1 or len(written) > len(dict(written)) or (not possible and shapes):
        raise InputError(
            "the dates of a file must be written in one way, got several, as after a spreadsheet has saved it: "
            "take the file as the service gave it"
        )
    return () if shapes <= {_ISO_SHAPE} else tuple(possible)


def ordered(text: str, order: str) -> int | None:
    """Seconds since 1970 of a date in an order, or in ISO 8601; None: it is none."""
    parts = _ORDERED.fullmatch(text)
    if parts is None or order not in ORDERS:
        return moment(text, "iso")
    cells = parts[1], parts[4], parts[5]
    day, month, year = (cells[place] for place in ORDERS[order])
    if len(year) not in (2, 4) or len(day) > 2:
        return moment(text, "iso")
    return _at(int(year) + (2000 if len(year) == 2 else 0), int(month), int(day), 0, 0, 0)


def _may_be(order: str, separator: str) -> bool:
    """Whether anybody writes dates with this separator in this order: 24.01.23, 24. 01. 23, 23. 1. 24., 1/24/23."""
    if order == "month first":
        return separator in "/-"
    return order == "day first" or separator == ". "


def _at(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    days = _days(year, month, day)
    if days is None or hour > 23 or minute > 59 or second > 60:
        return None
    found = days * 86_400 + hour * 3600 + minute * 60 + second
    return found if found >= EARLIEST else None


@lru_cache(maxsize=4096)
def _days(year: int, month: int, day: int) -> int | None:
    """Days since 1970; None: there is no such day."""
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]):
        return None
    return date(year, month, day).toordinal() - _EPOCH
