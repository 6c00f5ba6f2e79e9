"""Preview: what an imported history would add, before anything is stored.

    file -> HistoryReading -> rows -> ItemMatcher over the model's table -> HistoryPreview -> EventStore, or nothing

    preview = device.import_history("letterboxd-anna.zip")
    print(preview)                           # 812 films, 36 not in the catalogue, 11 to confirm, 40 too old
    report = preview.store(confirmed=preview.to_confirm)
    device.forget_import(report.id)          # as if it had never been there

**Guarantees:** of a file only item, kind, time and value are kept, of items of the catalogue alone; an event has an id
made of these, so that the same file again, or a later one with more in it, adds only what is new; the events of one
call are stored together or not at all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from palate_client.events import HISTORY, Event, Tracked
from palate_client.history.files import members_of
from palate_client.history.formats import LEFT, Left, Row
from palate_client.history.rows import HistoryReading
from palate_client.store.store import EventStore
from palate_common.kinds import EventKind
from palate_common.models.item_matching import ItemMatcher
from palate_common.models.item_table import ItemTable
from palate_core.errors import InputError

MOST_UNKNOWN = 1000
"""The most titles that `unknown_titles` names."""

_Key = tuple[EventKind, str, int | None]
"""Kind, item and time: a second event of the same is the same."""


@dataclass(frozen=True)
class Suggestion:
    """A title that is perhaps of an item, which the person confirms.

    Attributes:
        title: the title in the file.
        year: the year there.
        item: the item that is meant if it is confirmed as it is; `dataclasses.replace` takes another of `items`.
        items: all that it may be.
        events: how many events it is about.
    """

    title: str
    year: int | None
    item: str
    items: tuple[str, ...]
    events: int


@dataclass(frozen=True)
class HistoryReport:
    """What became of the events of an import.

    Attributes:
        id: the import's number, for `Device.forget_import`; None: nothing was stored.
        stored: events that were stored.
        duplicates: events that were there.
        too_old: events that are older than `keep_history_days`.
        too_many: the oldest events, above half of `max_events`.
        not_stored: events without consent to `store`.
    """

    id: int | None
    stored: int
    duplicates: int
    too_old: int
    too_many: int
    not_stored: int


@dataclass(frozen=True)
class Import:
    """An import that is in the store.

    Attributes:
        id: its number.
        service: where the history is from, such as "letterboxd".
        time: when it was imported, seconds since 1970.
        events: how many of its events are left.
    """

    id: int
    service: str
    time: float
    events: int


@dataclass(frozen=True)
class HistoryPreview:
    """What a file would add.

    Attributes:
        service: where the file is from, such as "letterboxd".
        of: what its items are, such as "films".
        questions: what to ask the person before anything is read: an argument of `import_history`, `profile` or
            `dates` -> what they can choose.
        events: how many events are of items of the catalogue for sure.
        items: how many items those are.
        unknown: how many titles are not in the catalogue.
        unknown_titles: the first of them.
        to_confirm: titles that are perhaps in the catalogue, those with most events first, those of several items last.
        too_old: how many of `events` are older than `keep_history_days`.
        too_many: how many more are above half of `max_events`, the oldest.
        left: why records of the file are no events -> how many; see `LEFT`.
    """

    service: str
    of: str
    questions: Mapping[str, tuple[str, ...]]
    events: int
    items: int
    unknown: int
    unknown_titles: tuple[str, ...] = field(repr=False)
    to_confirm: tuple[Suggestion, ...] = field(repr=False)
    too_old: int
    too_many: int
    left: Mapping[Left, int]
    _store: EventStore = field(repr=False)
    _sure: Mapping[_Key, float | None] = field(repr=False)
    _perhaps: Mapping[tuple[str, int | None], Mapping[tuple[EventKind, int | None], float | None]] = field(repr=False)

    def __str__(self) -> str:
        if self.questions:
            return f"asks for {' and '.join(self.questions)}"
        numbers = {
            self.of: self.items,
            "not in the catalogue": self.unknown,
            "to confirm": len(self.to_confirm),
            "too old": self.too_old,
            "too many": self.too_many,
        }
        return ", ".join(f"{number} {what}" for what, number in numbers.items() if number or what == self.of)

    def store(self, confirmed: Iterable[Suggestion] = (), *, into: int | None = None) -> HistoryReport:
        """Store the events of the catalogue's items, and those that the person has confirmed, in one transaction.

        Args:
            confirmed: those of `to_confirm` that are right.
            into: the import of the same service that they are added to; None: a new one.

        Raises:
            InputError: there are questions, or something is confirmed that wasn't suggested.
            PalateError: the store can't be written; nothing was stored.
        """
        if self.questions:
            raise InputError(f"`{next(iter(self.questions))}` must be said first: import the file again with it")
        events, known = dict(self._sure), {(each.title, each.year): each.items for each in self.to_confirm}
        for each in confirmed:
            if each.item not in known.get((each.title, each.year), ()):
                raise InputError(f"`confirmed` must be of `to_confirm`, got {each.title!r:.80} as {each.item!r:.80}")
            for (kind, time), value in self._perhaps[each.title, each.year].items():
                events.setdefault((kind, each.item, time), value)
        kept, too_old, too_many = _within(events, self._store)
        number, outcomes = self._store.add_history([_event(key, events[key]) for key in kept], self.service, into=into)
        counts = Counter(outcomes)
        return HistoryReport(
            id=number,
            stored=counts[Tracked.STORED],
            duplicates=counts[Tracked.DUPLICATE],
            too_old=too_old + counts[Tracked.TOO_OLD],
            too_many=too_many,
            not_stored=counts[Tracked.NO_CONSENT],
        )


def preview_history(
    store: EventStore, table: ItemTable, path: Path, *, profile: str | None = None, dates: str | None = None
) -> HistoryPreview:
    """Read a file, and find its items; see `Device.import_history`."""
    with members_of(path) as members:
        service, reading = members[0].table, HistoryReading(members, store.clock(), profile, dates)
        rows = reading.rows()
        found = preview_rows(store, RowMatcher(table), rows, service.format, of=service.of, parts=service.parts)
    left = {why: reading.left[why] for why in LEFT if reading.left[why]}
    return replace(found, questions=reading.questions, left=left)


def preview_rows(
    store: EventStore, matcher: RowMatcher, rows: Iterable[Row], service: str, *, of: str, parts: bool = False
) -> HistoryPreview:
    """Find the items of rows.

    Args:
        store: where the events would be stored.
        matcher: finds items.
        rows: what the person did.
        service: where they are from.
        of: what its items are.
        parts: whether a title may be of an episode.
    """
    sure: dict[_Key, float | None] = {}
    perhaps: dict[tuple[str, int | None], dict[tuple[EventKind, int | None], float | None]] = {}
    suggested: dict[tuple[str, int | None], tuple[str, ...]] = {}
    unknown, named = set[int](), dict[str, None]()
    for row in rows:
        item, title, items = matcher.find(row.titles, row.year, row.ids)
        if item is not None:
            sure.setdefault((row.kind, item, row.time), row.value)
        elif items:
            suggested.setdefault((title, row.year), items)
            perhaps.setdefault((title, row.year), {}).setdefault((row.kind, row.time), row.value)
        else:
            title = row.titles[-1] if parts else title  # the show, not each of its episodes
            unknown.add(hash((title, row.year)))
            if len(named) < MOST_UNKNOWN:
                named[title] = None
    _, too_old, too_many = _within(sure, store)
    found = [
        Suggestion(title, year, items[0], items, len(perhaps[title, year]))
        for (title, year), items in suggested.items()
    ]
    return HistoryPreview(
        service=service,
        of=of,
        questions={},
        events=len(sure),
        items=len({item for _, item, _ in sure}),
        unknown=len(unknown),
        unknown_titles=tuple(named),
        to_confirm=tuple(sorted(found, key=lambda each: (len(each.items) > 1, -each.events))),
        too_old=too_old,
        too_many=too_many,
        left={},
        _store=store,
        _sure=sure,
        _perhaps=perhaps,
    )


class RowMatcher:
    """The items of a table, by what a row says; what was asked before is known."""

    def __init__(self, table: ItemTable) -> None:
        self._matcher = ItemMatcher(table)
        self._titled = lru_cache(maxsize=2**15)(self._matcher.match)  # a show of many episodes
        self.find = lru_cache(maxsize=2**15)(self._find)

    def _find(
        self, titles: tuple[str, ...], year: int | None, ids: tuple[tuple[str, str], ...]
    ) -> tuple[str | None, str, tuple[str, ...]]:
        """The item, if it is sure; otherwise the title that was found, or else the first, and the items it may be."""
        known, first = dict(ids), titles[0] if titles else " ".join(ids[0])
        perhaps: tuple[str, tuple[str, ...]] = (first, ())
        for title in titles or ("",):
            match = self._matcher.match(title, year, known) if known else self._titled(title, year)
            if match.sure:
                return match.item, title, ()
            if match.items and not perhaps[1]:
                perhaps = title, match.items
        return None, *perhaps


def _within(events: Mapping[_Key, object], store: EventStore) -> tuple[list[_Key], int, int]:
    """The events that are kept, oldest first; how many are too old; and how many of the oldest are too many.

    An import takes at most half of the store, so that it never displaces what the person did in the app.
    """
    young = [key for key in events if key[2] is None or key[2] >= store.oldest]
    young.sort(key=lambda key: (key[2] is not None, key[2] or 0))
    most = int(store.limits.max_events) // 2
    return young[-most:], len(events) - len(young), max(len(young) - most, 0)


def _event(key: _Key, value: float | None) -> Event:
    """The event, with an id that is the same for the same thing."""
    kind, item, time = key
    content = f"{kind}\n{item}\n{'' if time is None else time}".encode()
    return Event(kind, item, time, value, "offline", HISTORY + hashlib.sha256(content).hexdigest()[:32])
