"""Stores: a device's store, the disk that it is on, the events in it, and all that it has then."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.telling import as_text, tables_as_text
from palate_audit.answers.still import still
from palate_client.events import KINDS, Event
from palate_client.store import folder
from palate_client.store.folder import StoreFolder
from palate_client.store.retention import DAY, Limits
from palate_client.store.store import EventStore
from palate_client.store.vault import Caller, Vault

NOW = 1_790_000_000.25
"""A time of made-up stores: an hour that isn't the start of a day."""
ITEMS = ("a", "b", "film 7", "ü" * 3)
PROPS: tuple[Any, ...] = (None, {}, {"price": 3}, {"price": 2.5, "shop": "x"}, {"price": True}, {"price": "4"},
                          {"price": 10**400}, {"why": [1, {"b": [None]}]})  # fmt: skip


@contextmanager
def made_disk(free: int = 2**40, reserve: int = 2**10) -> Iterator[SimpleNamespace]:
    """A disk with so much room, and a small reserve for it."""
    room = SimpleNamespace(free=free, total=2**41, used=0)

    def usage(_: object) -> SimpleNamespace:
        return room

    with mock.patch.object(shutil, "disk_usage", usage), mock.patch.object(folder, "RESERVE", reserve):
        yield room


def made_store(path: Path, clock: Callable[[], float], limits: Limits | None = None) -> EventStore:
    """Open a store; a new one is a copy of one that nothing has happened to, as making them costs."""
    if not path.exists():
        path.mkdir()
        for name, data in _new().items():
            (path / name).write_bytes(data)
    return EventStore(
        StoreFolder(path, Vault(path, "shelf", Caller(bytes(32)))), limits=limits or Limits(), clock=clock
    )


@lru_cache(maxsize=1)
def _new() -> Mapping[str, bytes]:
    """The files of a new store, whose clock isn't set."""
    with made_folder(CaseAnswer()) as path, made_disk(), still("a new store"):
        folder = StoreFolder(path, Vault(path, "shelf", Caller(bytes(32))))
        EventStore(folder, limits=Limits(), clock=float).close()
        with EventStore(folder, limits=Limits(), clock=float) as made, made.transaction(write=True) as connection:
            connection.execute("DELETE FROM meta")
        return {each.name: each.read_bytes() for each in path.iterdir()}


def tell_store(answer: CaseAnswer, events: EventStore) -> None:
    """Tell all that is in a store."""
    with events.transaction() as connection:
        answer.tell(tables_as_text(connection, "meta", "consent", "events"), as_text(events.granted))


def made_event(dice: Dice, now: float, *, imported: bool = False) -> Event:
    """An event that an app might store."""
    kind: Any = dice.one_of(KINDS if dice.chance(0.4) else ("impression", "view", "rate", "purchase"))
    valued = kind == "rate" or (kind in ("view", "play", "purchase") and dice.chance(0.6))
    times = (None, now, now - 0.5, now - 3 * DAY, now + 9.0, now - 800 * DAY, 5.0)
    known = dice.one_of(("i1", "i2", "i3", f"i{dice.whole(4, 99)}"))
    return Event(
        kind,
        dice.one_of(ITEMS),
        time=dice.one_of(times),
        value=dice.whole(1, 5) / (1 if kind in ("rate", "purchase") else 2) if valued else None,
        source=dice.one_of(("online", "offline")),
        id=known if imported or dice.chance(0.4) else "",
        props=dice.one_of(PROPS) if kind == "purchase" or dice.chance(0.4) else None,
    )
