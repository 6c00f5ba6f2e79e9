"""Event: one thing the user did with an item. The first step of the path on a device.

    Event -> EventStore -> Interests -> user vector

    >>> Event("rate", "film-7", value=4)
    Event(kind='rate', item='film-7', time=None, value=4.0, source='online', id='', props=None)
    >>> Event("like", "film-7", value=4)
    Traceback (most recent call last):
    palate_core.errors.InputError: `value` must be left out for like, got 4

What a kind means is in `palate_common.kinds`, how much an event counts in `palate_common.weighting`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, get_args

from palate_common.kinds import KINDS, MOST, NAME, OWN, EventKind
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json, digest

Source = Literal["online", "offline"]

SOURCES: tuple[Source, ...] = get_args(Source)
RATES = (KINDS["rate"].least, KINDS["rate"].most)
"""The lowest and the highest rating."""
HISTORY = "history-"
"""How the id of an event begins that came with a history of another service."""
MAX_ITEM, MAX_ID, MAX_PROPS, MAX_DEPTH = 512, 128, 4096, 16
"""The most characters of an item id and of an event id, bytes of properties as JSON, and levels of their nesting."""


class Tracked(StrEnum):
    """What was done with an event. Only `STORED` is true. In JSON it is its text."""

    STORED = "stored"
    """It is in the store, and stays there if the process is killed now."""
    DUPLICATE = "duplicate"
    """The store has it already: the same id, or the same item, kind and rating at most the time window apart."""
    NO_CONSENT = "no consent"
    """The user has not agreed to `store`; nothing was kept."""
    LIMITED = "limited"
    """The limit of events for its day is reached; nothing was kept."""
    TOO_OLD = "too old"
    """Its own time is older than the store keeps events; nothing was kept."""
    FAILED = "failed"
    """The machine could not keep it (a full disk, a locked or damaged file); `Device.problem` says why."""

    def __bool__(self) -> bool:
        return self is Tracked.STORED


@dataclass(frozen=True, slots=True)
class Event:
    """One thing the user did.

    Attributes:
        kind: what was done: one of `palate_common.kinds.KINDS`, or one that the device's weighting declares.
        item: the item's id in the app's catalogue; of a `search` what was looked for.
        time: when, in seconds since 1970 or as a `datetime` with a time zone; None: now. Kept as seconds.
        value: as its kind says; `rate` needs one. A purchase's price is its property `amount`, the seconds that a whole
            play takes are its property `length`.
        source: in the app ("online"), or elsewhere ("offline"), as at a shop's till.
        id: the app's own id of the event; an id is stored only once. Left out, the store makes one.
        props: other properties that the app wants to keep, as JSON, nested at most 16 deep.

    Raises:
        InputError: a kind, source or value that doesn't exist, or something too long or too deep.
    """

    kind: EventKind
    item: str
    time: float | datetime | None = None
    value: float | None = None
    source: Source = "online"
    id: str = ""
    props: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not _is_kind(self.kind):
            raise _no_kind(KINDS, self.kind)
        if self.source not in SOURCES:
            raise InputError(f"`source` must be online or offline, got {self.source!r:.80}")
        _check_text("item", self.item, 1, MAX_ITEM)
        if self.id != "":
            _check_text("id", self.id, 1, MAX_ID)
        if self.value is not None or KINDS.get(self.kind, OWN).needed:
            object.__setattr__(self, "value", _value(self.kind, self.value))
        if self.time is not None:
            object.__setattr__(self, "time", seconds(self.time))
        if self.props is not None:
            _check_props(self.props)


def event_from(fields: Mapping[str, Any]) -> Event:
    """Make an event of the members of a JSON object; a time may be ISO 8601 with a time zone.

    Without an id it gets the hash of its content as one, so that a file that is read twice is stored once.

    Raises:
        InputError: a member is missing, unknown or out of range.
    """
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise InputError(f"an event must have no other members than {', '.join(FIELDS)}, got {unknown[0]!r:.80}")
    missing = [name for name in ("kind", "item") if fields.get(name) is None]
    if missing:
        raise InputError(f"an event must have `{missing[0]}`, got {', '.join(map(str, fields)) or 'nothing'!s:.80}")
    given = {name: value for name, value in fields.items() if value is not None}
    if isinstance(given.get("time"), str):
        given["time"] = _moment(given["time"])
    event = Event(**given)
    return event if event.id else Event(**{**given, "id": f"content-{digest(canonical_json(_plain(event)))[:32]}"})


def check_kind(event: Event, known: Collection[str]) -> None:
    """Refuse an event of a kind that the device doesn't record, such as one with a typing mistake.

    Raises:
        InputError: its kind is not among those that are `known`, such as `Weighting.known`.
    """
    if event.kind not in known:
        raise _no_kind(known, event.kind)


def kept_event(*members: object) -> Event:
    """Make an event of its members in order, as a store has them. They were checked when it was stored.

    Raises:
        InputError: a kind that doesn't exist.
    """
    if not _is_kind(members[0]):
        raise _no_kind(KINDS, members[0])
    event = object.__new__(Event)
    for name, member in zip(FIELDS, members, strict=True):
        object.__setattr__(event, name, member)
    return event


def event_line(event: Event) -> str:
    """The event as one line of JSON, as `event_from` reads it; members without a value are left out."""
    return json.dumps(_plain(event) | ({"id": event.id} if event.id else {}), ensure_ascii=False)


FIELDS = ("kind", "item", "time", "value", "source", "id", "props")


def seconds(time: float | datetime) -> float:
    """Seconds since 1970.

    Raises:
        InputError: a `datetime` without a time zone, or a number that is no time.
    """
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise InputError(f"`time` must have a time zone, got {time.isoformat()}: write it as UTC or with an offset")
        return time.timestamp()
    if isinstance(time, bool) or not isinstance(time, int | float) or not -1e11 < time < 1e11:
        raise InputError(f"`time` must be seconds since 1970, or a datetime with a time zone, got {time!r:.80}")
    return float(time)


def check_items(name: str, ids: object) -> None:
    """Refuse a single id where several are expected: its letters would be taken for ids."""
    if ids is not None and (isinstance(ids, str | bytes) or not isinstance(ids, Iterable)):
        raise InputError(f"`{name}` must be item ids, such as a list of them, got {ids!r:.80}")


def _plain(event: Event) -> dict[str, Any]:
    """The event's members without its id, as JSON values."""
    values = (event.kind, event.item, event.time, event.value, event.source)
    content = {name: value for name, value in zip(FIELDS, values, strict=False) if value is not None}
    return content if event.props is None else content | {"props": dict(event.props)}


def _moment(text: str) -> datetime:
    """A time in ISO 8601; a date alone is its first second in UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"`time` must be seconds since 1970 or ISO 8601, got {text!r:.80}") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None and len(text) == len("2026-01-31") else time


def _is_kind(kind: object) -> bool:
    return isinstance(kind, str) and NAME.fullmatch(kind) is not None


def _no_kind(known: Iterable[str], kind: object) -> InputError:
    return InputError(f"`kind` must be one of {', '.join(known)}, or one that `preset` declares, got {kind!r:.80}")


def _value(kind: str, value: object) -> float:
    means = KINDS.get(kind, OWN)
    if not means.value:
        raise InputError(f"`value` must be left out for {kind}, got {value!r:.80}")
    bounds = ", a number from 0" if means.least == 0 and means.most == MOST and not means.whole else ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not means.least <= value <= means.most:
        raise InputError(f"`value` of {kind} must be {means.value}{bounds}, got {value!r:.80}")
    if means.whole and value != int(value):
        raise InputError(f'`value` of {kind} must be {means.value}, got {value!r:.80}: a price is props["amount"]')
    return float(value)


def _check_props(props: object) -> None:
    """Refuse properties that are no JSON object, too large, or nested too deep for a JSON reader's stack."""
    if not isinstance(props, Mapping):
        raise InputError(f"`props` must be a JSON object, got {props!r:.80}")
    level: list[object] = [props]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _inner(each)]
        if len(level) > MAX_PROPS:
            raise InputError(f"`props` must be at most {MAX_PROPS} bytes of JSON, got more")
    if any(isinstance(each, Mapping | list | tuple) for each in level):
        raise InputError(f"`props` must be nested at most {MAX_DEPTH} deep, got more levels")
    if len(canonical_json(dict(props))) > MAX_PROPS:
        raise InputError(f"`props` must be at most {MAX_PROPS} bytes of JSON, got more")


def _inner(value: object) -> Iterable[object]:
    """The values one level deeper."""
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()


def _check_text(name: str, text: object, least: int, most: int) -> None:
    if not isinstance(text, str) or not least <= len(text) <= most:
        raise InputError(f"`{name}` must be text of {least} to {most} characters, got {text!r:.80}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"`{name}` must be valid text, got a lone surrogate in {text!r:.80}") from None
