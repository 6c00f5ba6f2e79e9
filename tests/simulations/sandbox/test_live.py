"""What a live page sends to browsers, without one."""

from __future__ import annotations

import asyncio
import re

import pytest

from palate_sandbox.page.live import MOST as MOST_STREAMS
from palate_sandbox.page.live import Live, Sections

SECTIONS = ("top", "known", "log")


class Counter:
    """What a page is read from: a number, which the last section shows."""

    def __init__(self) -> None:
        self.number = 0

    def stamp(self) -> tuple[object, ...]:
        return (self.number,)

    def read(self) -> int:
        return self.number


@pytest.fixture
def counter() -> Counter:
    return Counter()


def live_of(counter: Counter) -> Live[int]:
    def sections(shown: int | str) -> Sections:
        return {name: str(shown) if name == "log" else name for name in SECTIONS}

    return Live(counter, sections)


def test_a_browser_that_was_cut_off_gets_what_it_lacks_and_no_more(counter: Counter) -> None:
    page = live_of(counter)
    seen, _ = page.look()

    async def names(since: str) -> list[str]:
        found: list[str] = []
        stream = page.stream(since, lambda: True)
        async for event in stream:
            found += re.findall(r"^event: (.+)$", event, re.MULTILINE)
            if len(found) > len(SECTIONS) or "beat" in found or (since == seen and "log" in found):
                break
        await stream.aclose()
        return found

    assert set(asyncio.run(names(""))) >= set(SECTIONS)
    assert set(asyncio.run(names("another-99"))) >= set(SECTIONS), "of another process"
    counter.number += 1
    assert set(asyncio.run(names(seen))) - {"beat"} <= {"log"}
    page.close()


def test_streams_that_come_at_one_time_are_no_more_than_may_be(counter: Counter) -> None:
    async def together() -> int:
        live = live_of(counter)
        streams = [live.stream("", lambda: True) for _ in range(2 * MOST_STREAMS)]  # each was let in before any began
        for stream in streams:
            await anext(stream)
        found = live._streams
        live.close()
        for stream in streams:
            await stream.aclose()
        assert live._streams == 0
        return found

    assert asyncio.run(together()) == MOST_STREAMS


def test_who_is_no_longer_let_in_gets_nothing_more(counter: Counter) -> None:
    page = live_of(counter)
    page.look()

    async def ends() -> bool:
        async for event in page.stream("", lambda: False):
            assert "beat" not in event
        return True

    assert asyncio.run(asyncio.wait_for(ends(), 20.0))
    page.close()
    assert page.full
