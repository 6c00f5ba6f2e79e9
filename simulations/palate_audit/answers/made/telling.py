"""Telling: what the seams of a device's files have in common: a folder, a clock, a store, and how it is told."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made import asking
from palate_audit.answers.still import still
from palate_client.events import KINDS, Event
from palate_client.store import folder
from palate_client.store.activity import Past
from palate_client.store.folder import StoreFolder
from palate_client.store.retention import DAY, Limits
from palate_client.store.store import EventStore
from palate_client.store.vault import Caller, Vault
from palate_common.errors import PalateError

NOW = 1_790_000_000.25
"""A time of made-up stores: an hour that isn't the start of a day."""
ITEMS = ("a", "b", "film 7", "ü" * 3)
PATH = re.compile(r"(?<![^\s`'])/\S+")
"""Where a file is, in an error's text."""
PROPS: tuple[Any, ...] = (None, {}, {"price": 3}, {"price": 2.5, "shop": "x"}, {"price": True}, {"price": "4"},
                          {"price": 10**400}, {"why": [1, {"b": [None]}]})  # fmt: skip


def exact(value: Any) -> str:
    """A value as text, each real number with all its digits: nothing was computed with it."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.tolist()}"
    if isinstance(value, Past):
        return exact(value.active) + exact(value.bought)
    return repr(sorted(value) if isinstance(value, set | frozenset) else value)


def asked(answer: CaseAnswer, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call, and tell what it raises, without paths; returns what it gives."""
    try:
        return call(*args, **named)
    except (PalateError, OSError, sqlite3.Error) as error:
        said = PATH.sub("", asking.placeless(str(error).encode()).decode()) if isinstance(error, PalateError) else ""
        answer.tell(type(error).__name__, NAMED.findall(said))
        return None


def told(answer: CaseAnswer, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call, and tell what comes back, exactly."""
    found = asked(answer, call, *args, **named)
    answer.tell(exact(found))
    return found


@contextmanager
def place() -> Iterator[Path]:
    """A folder in memory."""
    with asking.folder() as made:
        yield made


class MadeClock:
    """Unix time that stands still until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now


@contextmanager
def disk(free: int = 2**40, reserve: int = 2**10) -> Iterator[SimpleNamespace]:
    """A disk with so much room, and a small reserve for it."""
    room = SimpleNamespace(free=free, total=2**41, used=0)

    def usage(_: object) -> SimpleNamespace:
        return room

    with mock.patch.object(shutil, "disk_usage", usage), mock.patch.object(folder, "RESERVE", reserve):
        yield room


def opened(path: Path, clock: Callable[[], float], limits: Limits | None = None) -> EventStore:
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
    with place() as path, disk(), still("a new store"):
        folder = StoreFolder(path, Vault(path, "shelf", Caller(bytes(32))))
        EventStore(folder, limits=Limits(), clock=float).close()
        with EventStore(folder, limits=Limits(), clock=float) as made, made.transaction(write=True) as connection:
            connection.execute("DELETE FROM meta")
        return {each.name: each.read_bytes() for each in path.iterdir()}


def dump(connection: sqlite3.Connection, *tables: str) -> str:
    """All rows of some tables."""
    return repr([connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables])  # noqa: S608


def kept(answer: CaseAnswer, events: EventStore) -> None:
    """Tell all that is in a store."""
    with events.transaction() as connection:
        answer.tell(dump(connection, "meta", "consent", "events"), exact(events.granted))


def names(path: Path) -> list[tuple[str, bool]]:
    """Files of a folder, and which of them have bytes."""
    return sorted((each.name, each.stat().st_size > 0) for each in path.iterdir() if not each.name.endswith("-shm"))


def event(dice: Dice, now: float, *, imported: bool = False) -> Event:
    """An event that an app might store."""
    kind: Any = dice.one_of(KINDS if dice.chance(0.4) else ("impression", "view", "rate", "purchase"))
    valued = kind == "rate" or (kind in ("view", "play", "purchase") and dice.chance(0.6))
    times = (None, now, now - 0.5, now - 3 * DAY, now + 9.0, now - 800 * DAY, 5.0)
    known = dice.one_of(("i1", "i2", "i3", f"i{dice.whole(4, 99)}"))
    return Event(
        kind,
        dice.one_of(ITEMS),
        time=dice.one_of(times),
        value=dice.whole(1, 5) / (1 if kind == "rate" else 2) if valued else None,
        source=dice.one_of(("online", "offline")),
        id=known if imported or dice.chance(0.4) else "",
        props=dice.one_of(PROPS) if kind == "purchase" or dice.chance(0.4) else None,
    )
