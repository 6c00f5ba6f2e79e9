"""Rows: what a person did, of all files that a service handed out at once.

    ServiceFile.records -> rows

A file may hold several people, and dates that can be read in two ways: then nothing is read until the person has said
which. The browser's `rows.ts` gives the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from palate_client.history.dates import ORDERS, TOLERANCE, moment, ordered, orders_of
from palate_client.history.files import ServiceFile
from palate_client.history.formats import Left, Row
from palate_core.errors import InputError

MOST_ROWS = 1_000_000
"""Records of all files at most."""
MOST_DATE, MOST_DATES = 40, 200_000
"""Characters of a date, and different dates of a file, at most."""
MOST_PROFILES = 50
"""People of one file at most; a household has five."""


@dataclass
class HistoryReading:
    """The rows of a service's files.

    Args:
        members: the files.
        now: seconds since 1970; a later date is none.
        profile: the person, where a file has several.
        dates: the order of dates that can be read in two ways.

    Attributes:
        questions: what the person has to say before anything is read: `profile` or `dates` -> what they can choose.
        left: why records are no rows -> how many.

    Raises:
        InputError: a file can't be read; its dates are written in several ways; or the answer isn't one of those asked.
    """

    members: Sequence[ServiceFile]
    now: float
    profile: str | None = None
    dates: str | None = None
    questions: Mapping[str, tuple[str, ...]] = field(init=False)
    left: Counter[Left] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.dates is not None and self.dates not in ORDERS:
            raise InputError(f"`dates` must be one of {', '.join(ORDERS)}, got {self.dates!r:.80}")
        people, orders = dict[str, None](), list(ORDERS)
        asked = False
        for member in self.members:
            table = member.table
            if not table.profile and table.dates != "order":
                continue
            texts = dict[str, None]()
            for record in member.records():
                if record is None:
                    continue
                if table.profile and len(people) <= MOST_PROFILES:
                    people[record(table.profile)] = None
                if table.dates == "order" and len(text := table.text_of_time(record)) <= MOST_DATE:
                    texts[text] = None
                if len(texts) > MOST_DATES:
                    raise InputError(f"`path` must have at most {MOST_DATES} different dates, got more")
            if table.dates == "order" and (possible := orders_of(texts)):
                asked, orders = True, [each for each in orders if each in possible]
        questions = dict[str, tuple[str, ...]]()
        if len(people) > MOST_PROFILES:
            raise InputError(f"`path` must have at most {MOST_PROFILES} profiles, got more")
        if self.profile is None and len(people) > 1:
            questions["profile"] = tuple(people)
        if self.profile is not None and self.profile not in people:
            raise InputError(f"`profile` must be one of {', '.join(people) or 'none'}, got {self.profile!r:.80}")
        if asked and self.dates is None:
            if len(orders) != 1:
                questions["dates"] = tuple(orders)
            self.dates = orders[0] if len(orders) == 1 else None
        elif asked and self.dates not in orders:
            raise InputError(f"`dates` must be {' or '.join(orders)} in this file, got {self.dates}")
        self.questions = questions

    def rows(self) -> Iterator[Row]:
        """The rows, file by file; none while there are questions."""
        rated, seen, count = set[str](), set[str](), 0
        for member in () if self.questions else self.members:
            table, at = member.table, lru_cache(maxsize=4096)(partial(self._moment, member.table.dates))
            for record in member.records():
                count += 1
                if count > MOST_ROWS:
                    raise InputError(f"`path` must have at most {MOST_ROWS} records, got more")
                if record is None:
                    self.left["broken"] += 1
                    continue
                if table.profile and self.profile is not None and record(table.profile) != self.profile:
                    continue
                row = table.row(record, at)
                if not isinstance(row, Row):
                    self.left[row] += 1
                    continue
                if table.format in _UNITED:
                    known = f"{row.titles[:1]} {row.year} {row.ids[:1]}"
                    if known in (rated if table.unless == "rated" else seen if table.unless else ()):
                        self.left["repeated"] += 1
                        continue
                    seen.add(known)
                    if row.kind == "rate":
                        rated.add(known)
                yield row

    def _moment(self, how: str, text: str) -> int | None:
        """A time; None: it is none, or lies ahead."""
        found = ordered(text, self.dates or "") if how == "order" else moment(text, how)
        return found if found is not None and found <= self.now + TOLERANCE else None


_UNITED = frozenset({"letterboxd", "trakt"})
"""Services whose files overlap."""
