"""Live: renders the page's sections, and tells who looks on which have changed, by server-sent events.

    files of the server folder -> a stamp, four times a second -> Board -> sections -> those that changed -> browsers

Nothing is read while nobody looks on. A section has the number of its last change, so that a browser that was cut off
asks for what it lacks, and no more.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from jinja2 import TemplateError

from palate_server.service.problems import BROKEN

LOOK = 0.25
"""Seconds between two looks at the stamp."""
ANYWAY = 10.0
"""Seconds after which the board is read though no file has changed: times pass, parts end."""
BEAT = 10.0
"""Seconds after which a silent stream says that it is there."""
MOST = 32
"""The most streams at one time."""

Sections = Mapping[str, str]
"""Name of a section -> its HTML."""
Shown = TypeVar("Shown", covariant=True)


class BoardSource(Protocol[Shown]):
    """What a board is read from."""

    def stamp(self) -> tuple[object, ...]:
        """What changes whenever the board may: cheap to read several times a second."""

    def read(self) -> Shown:
        """Read the board."""


class Live(Generic[Shown]):
    """The sections of one board, as they change.

    Args:
        reader: reads the board.
        render: makes the sections of a board; of a text, that the board can't be read.
    """

    def __init__(self, reader: BoardSource[Shown], render: Callable[[Shown | str], Sections]) -> None:
        self._reader, self._render = reader, render
        self._epoch, self._version = secrets.token_hex(4), 0
        self._sections: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()
        self._stamp: tuple[object, ...] | None = None
        self._read_at, self._lasted = -ANYWAY, 0.0
        self._closed, self._streams = False, 0
        self._watching: asyncio.Task[None] | None = None
        self._news: asyncio.Event | None = None

    @property
    def full(self) -> bool:
        """Whether no further stream is let in."""
        return self._streams >= MOST or self._closed

    def close(self) -> None:
        """End all streams, within a look."""
        self._closed = True

    def look(self) -> tuple[str, Sections]:
        """Read what has changed: the id of the present state, and all sections. For a thread."""
        with self._lock:
            stamp, now = self._reader.stamp(), time.monotonic()
            if stamp != self._stamp or now - self._read_at > ANYWAY:
                self._stamp, self._read_at = stamp, now
                self._take(self._sections_now())
                self._lasted = time.monotonic() - now
            return self._id(self._version), {name: html for name, (_, html) in self._sections.items()}

    async def stream(self, seen: str, admitted: Callable[[], bool]) -> AsyncIterator[str]:
        """The events of one browser.

        Args:
            seen: the id of the state that it has.
            admitted: whether its session lasts; asked at each beat.
        """
        if self.full:  # others came between the look at it and this
            yield "retry: 10000\n\n"
            return
        self._streams += 1
        try:
            yield "retry: 1000\n\n"
            version, beat = self._number(seen), time.monotonic()
            while not self._closed:
                news = self._ensure_watched()
                changed = sorted((at, name, html) for name, (at, html) in self._sections.items() if at > version)
                for at, name, html in changed:
                    version = at
                    yield _event(name, html, self._id(at))
                if changed or time.monotonic() - beat > BEAT:
                    beat = time.monotonic()
                    if not await asyncio.to_thread(admitted):
                        return
                    yield f"event: beat\ndata: {int(time.time())}\n\n"
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), 1.0)
        finally:
            self._streams -= 1

    def _ensure_watched(self) -> asyncio.Event:
        """The event of the next news; what sets it is started if it doesn't run."""
        if self._news is None or self._watching is None or self._watching.done():
            self._news = asyncio.Event()
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        return self._news

    async def _watch(self) -> None:
        """Look until nobody looks on any more."""
        while self._streams and not self._closed:
            before = self._version
            await asyncio.to_thread(self.look)
            if self._version != before and self._news is not None:
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.sleep(max(LOOK, self._lasted))
        if self._news is not None:
            self._news.set()

    def _sections_now(self) -> Sections:
        try:
            return self._render(self._reader.read())
        except (*BROKEN, TemplateError) as error:
            return self._render(f"{type(error).__name__}: {error}")

    def _take(self, sections: Sections) -> None:
        for name, html in sections.items():
            if self._sections.get(name, (0, ""))[1] != html:
                self._version += 1
                self._sections[name] = self._version, html

    def _id(self, version: int) -> str:
        return f"{self._epoch}-{version}"

    def _number(self, seen: str) -> int:
        """The version of an id; 0 if it is another process's."""
        epoch, _, number = seen.partition("-")
        return int(number) if epoch == self._epoch and number.isascii() and number.isdecimal() else 0


def _event(name: str, html: str, number: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"id: {number}\nevent: {name}\n{lines}\n"
