"""Formats: what the files of each service have where, as data, and the rows that their records are.

    record -> FileFormat.row -> Row, or why it is none

The tables are `formats.json` beside this module, which the browser's `formats.ts` reads, too. A table says by which
columns it is known, what its records mean, and which are left out:

    needs, exact        columns, or members of JSON, that a file has; whether it has no others
    columns             those of a file without a header
    name                how a file's name starts, where two files have the same columns
    kind                the event that a record is; none without a verdict
    rating              the column of a verdict, with the best one: it makes the event a `rate`
    seconds, least      the column of a duration, with its unit, and the shortest that counts
    count               columns of a quantity
    titles              columns of a title, and of others; the first that is found counts
    parts, brackets     a title may be of an episode; it may have a series in brackets
    year, ids           columns of the year; scheme -> columns of a public id, with what of it is the id
    time, undated       columns of the time, of which the first that isn't empty counts; whether there may be none
    dates               how a time is written, see `dates.py`
    keep, drop, blank   column -> values, of which one must, or must not, be there; columns that must be empty
    profile             the column of the person
    unless              "any" row, or one with a verdict, of an earlier file, which has the same title already
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple, get_args

from palate_client.events import RATES
from palate_client.history.dates import moment
from palate_common.kinds import Kind

MOST_TITLE = 512
"""The most characters of a title, and of an id."""
_NUMBER = re.compile(r"\d{1,15}(?:[.,]\d{1,6})?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,4}):(\d{2}):(\d{2})", re.ASCII)
_YEAR = re.compile(r"[12]\d{3}", re.ASCII)
_IN_BRACKETS = re.compile(r" *\([^()]*\)$")

Left = Literal["broken", "other", "short", "no date", "no title", "repeated"]
"""Why a record is no row: cells too many or too few; not seen, read or bought; too short a time; no date that can be
read; nothing to find it by; a title that an earlier file has."""
LEFT: tuple[Left, ...] = get_args(Left)


class Row(NamedTuple):
    """What a person did, by a service's file.

    Attributes:
        kind: the kind of event.
        titles: titles of the item; the first that is found counts.
        year: its year.
        ids: scheme and public id, the surest first.
        time: seconds since 1970; None: the file doesn't say.
        value: as an event's.
    """

    kind: Kind
    titles: tuple[str, ...]
    year: int | None
    ids: tuple[tuple[str, str], ...]
    time: int | None
    value: float | None


@dataclass(frozen=True)
class FileFormat:
    """What one file of a service has where; see above."""

    format: str
    of: str
    needs: Sequence[str]
    kind: Kind | None
    json: bool = False
    exact: bool = False
    columns: Sequence[str] = ()
    name: str = ""
    titles: Sequence[Sequence[str]] = ()
    parts: bool = False
    brackets: bool = False
    year: Sequence[str] = ()
    ids: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    time: Sequence[str] = ()
    dates: str = "iso"
    undated: bool = False
    rating: tuple[str, float] | None = None
    seconds: tuple[str, str] | None = None
    least: float = 0.0
    count: Sequence[str] = ()
    keep: Mapping[str, Collection[str]] = field(default_factory=dict)
    drop: Mapping[str, Collection[str]] = field(default_factory=dict)
    blank: Sequence[str] = ()
    profile: str = ""
    unless: str = ""

    def fits(self, name: str, has: Collection[str]) -> bool:
        """Whether a file of this name, with these columns or members, is such a file."""
        if self.name and not re.search(self.name, name, re.IGNORECASE):
            return False
        if self.json:
            return all(each in has for each in self.needs)
        if self.columns:
            return len(has) == len(self.columns) and moment(tuple(has)[-1].strip(), self.dates) is not None
        header = {column(each) for each in has}
        return header >= set(self.needs) and (not self.exact or len(header) == len(self.needs) == len(has))

    def text_of_time(self, record: Callable[[str], str]) -> str:
        """What the record has for its time; empty: nothing."""
        for each in self.time:
            if text := record(each):
                return text
        return ""

    def row(self, record: Callable[[str], str], at: Callable[[str], int | None]) -> Row | Left:
        """The row that a record is, or why it is none.

        Args:
            record: the record.
            at: reads a time.
        """
        for each, values in self.keep.items():
            if record(each).lower() not in values:
                return "other"
        for each, values in self.drop.items():
            if record(each).lower() in values:
                return "other"
        for each in self.blank:
            if record(each):
                return "other"
        kind, value = self._event(record)
        if kind is None:
            return "other"
        if self.seconds is not None and (value is None or value < self.least):
            return "short"
        text = self.text_of_time(record)
        time = at(text) if text else None
        if time is None and (text or not self.undated):
            return "no date"
        titles, ids = self._titles(record), self._ids(record)
        if not titles and not ids:
            return "no title"
        year = None if not self.year else next((int(y) for y in map(record, self.year) if _YEAR.fullmatch(y)), None)
        return Row(kind, titles, year, ids, time, value)

    def _event(self, record: Callable[[str], str]) -> tuple[Kind | None, float | None]:
        if self.rating is not None:
            name, best = self.rating
            verdict = _number(record(name)) or 0.0
            if 0 < verdict <= best:
                return "rate", min(max(verdict * RATES[1] / best, RATES[0]), RATES[1])
        if self.seconds is not None:
            return self.kind, _seconds(record(self.seconds[0]), self.seconds[1])
        if self.count:
            found = next((number for each in map(record, self.count) if (number := _number(each))), 0.0)
            return (self.kind if found >= 1 else None), float(int(found))
        return self.kind, None

    def _titles(self, record: Callable[[str], str]) -> tuple[str, ...]:
        found = list[str]()
        for columns in self.titles:
            parts = list(map(record, columns))
            if "" not in parts:
                found.append(" - ".join(parts)[:MOST_TITLE])
        if self.brackets and found and (bare := _IN_BRACKETS.sub("", found[0])):
            found.append(bare)
        if self.parts and found:
            # "Show: Season 1: Episode" in any language: the show is what stands before at least two more parts.
            parts = found[0].split(": ")
            found += [": ".join(parts[:end]) for end in range(len(parts) - 2, 0, -1)]
        return tuple(found)

    def _ids(self, record: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
        found = list[tuple[str, str]]()
        for scheme, ways in self.ids.items():
            for way in ways:
                text = record(way[0])
                if text and len(way) > 1:
                    inside = _pattern(way[1]).search(text)
                    text = inside[1] if inside else ""
                if text:
                    found.append((scheme, text[:MOST_TITLE]))
                    break
        return tuple(found)


def column(name: str) -> str:
    """A column's name as tables have it: in small, and without the user's name that lastfmstats adds behind a "#"."""
    return name.strip().lower().partition("#")[0]


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.ASCII)


def _number(text: str) -> float | None:
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def _seconds(text: str, unit: str) -> float | None:
    if unit == "clock":
        clock = _CLOCK.fullmatch(text)
        return None if clock is None else float(int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3]))
    number = _number(text)
    return None if number is None else number / 1000


def _tables() -> tuple[FileFormat, ...]:
    text = resources.files("palate_client.history").joinpath("formats.json").read_text("utf-8")
    found: list[dict[str, Any]] = json.loads(text)
    return tuple(FileFormat(**each) for each in found)


TABLES = _tables()
"""The tables, in the order in which files of a zip file are read."""
