"""Who is online at an edge, what becomes of answers, and what a coordinator is told once more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from palate_common.rounds.exchange import Availability, MessageKind, ServerMessage
from palate_core.errors import IntegrityError
from palate_server.edge import waiting_room
from palate_server.edge.batches import CLAIM, GONE_SECONDS, HOME_IN, Frame, pack, unpack
from palate_server.edge.waiting_room import HOME_SECONDS, OverError, WaitingRoom

FIRST, SECOND = "a" * 32, "5" * 32
SHARED = 2**32 - 1
LONG = 600.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Played:
    """A room with a clock of its own, and what one says to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.room = WaitingRoom(clock=self.clock)

    async def ask(self, head: dict[str, Any], frames: list[Frame] | None = None) -> tuple[dict[str, Any], list[Frame]]:
        return unpack(await self.room.answer(pack(head, frames or [])))

    async def begin(self, *devices: int, name: str = FIRST, have: int = 0, kind: str = "step") -> list[Frame]:
        head = {"ask": "exchange", "exchange": name, "have": have, "wait": 0.0, "kind": kind, "seconds": 70.0}
        frames = [(SHARED, b"all:"), *((device, b"%d" % device) for device in devices)]
        return (await self.ask({**head, "most": 99}, frames))[1]

    async def collect(self, have: int, *, wait: float = 0.0, name: str = FIRST) -> tuple[dict[str, Any], list[Frame]]:
        return await self.ask({"ask": "exchange", "exchange": name, "have": have, "wait": wait})

    def poll(self, device: int, seconds: float = 0.0) -> asyncio.Task[ServerMessage | None]:
        """A device's request: it is there, and waits."""
        self.room.arrive(device, Availability(LONG, 3))
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return asyncio.ensure_future(self.room.wait_for_message(device, seconds, gone))


def played(scene: Callable[[Played], Awaitable[None]]) -> None:
    async def play() -> None:
        async with asyncio.timeout(10.0):
            await scene(Played())

    asyncio.run(play())


async def soon() -> None:
    """Let what can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_device_is_asked_once_more_until_it_has_answered_and_then_it_has_answered() -> None:
    async def scene(at: Played) -> None:
        assert await at.begin(7, kind="masked") == []
        for _ in range(2):
            assert await at.poll(7) == ServerMessage(MessageKind.MASKED, FIRST, 70.0, b"all:7")
        assert (at.room.most_of(7, FIRST), at.room.most_of(7, SECOND), at.room.most_of(8, FIRST)) == (99, None, None)
        said = [at.room.take(*each) for each in ((7, SECOND, b"x"), (8, FIRST, b"x"), (7, FIRST, b"7"))]
        assert said == ["late", "late", "yes"]
        assert at.room.take(7, FIRST, b"other") == "twice"
        assert at.room.most_of(7, FIRST) is None
        assert await at.poll(7) is None
        assert (await at.collect(1))[1] == [(7, b"7")]
        await at.ask({"ask": "close"})
        assert at.room.take(7, FIRST, b"7") == "late"

    played(scene)


def test_a_turn_that_was_lost_on_the_way_is_told_again_and_no_other_one() -> None:
    async def scene(at: Played) -> None:
        await at.begin(1, 2)
        at.room.take(1, FIRST, b"one")
        for _ in range(3):
            head, frames = await at.collect(1)
            assert (head["known"], head["turn"], frames) == (True, 2, [(1, b"one")])
        at.room.take(2, FIRST, b"two")
        assert (await at.collect(1))[1] == [(1, b"one")], "what has come since waits for its own turn"
        assert (await at.collect(2))[1] == [(2, b"two")]

    played(scene)


def test_a_question_whose_asker_is_gone_takes_no_answers_along() -> None:
    """Two questions for the same turn wait at once, and the reply to the first is lost."""

    async def scene(at: Played) -> None:
        await at.begin(1)
        lost, asked = asyncio.ensure_future(at.collect(1, wait=5.0)), asyncio.ensure_future(at.collect(1, wait=5.0))
        await soon()
        at.room.take(1, FIRST, b"one")
        assert await asked == await lost
        assert (await asked)[1] == [(1, b"one")]

    played(scene)


def test_who_asks_for_answers_waits_until_all_are_there_or_they_make_a_batch_or_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting_room, "MOST_BATCH", 10)

    async def scene(at: Played) -> None:
        await at.begin(1, 2, 3, 4)
        asked = asyncio.ensure_future(at.collect(1, wait=5.0))
        at.room.take(1, FIRST, b"x" * 9)
        await soon()
        assert not asked.done()
        at.room.take(2, FIRST, b"y" * 9)
        assert (await asked)[1] == [(1, b"x" * 9)], "no more than a batch"
        assert (await at.collect(2, wait=0.01))[1] == [(2, b"y" * 9)]
        asked = asyncio.ensure_future(at.collect(3, wait=5.0))
        await soon()
        for device in (3, 4):
            at.room.take(device, FIRST, b"z")
        assert (await asked)[1] == [(3, b"z"), (4, b"z")]

    played(scene)


def test_requests_come_in_several_batches_and_what_was_answered_is_not_asked_again() -> None:
    async def scene(at: Played) -> None:
        waiting = {device: at.poll(device, 5.0) for device in (1, 2)}
        await soon()
        await at.begin(1)
        assert (await waiting[1]) is not None
        assert not waiting[2].done()
        at.room.take(1, FIRST, b"one")
        assert await at.begin(1, 2, have=1) == [(1, b"one")]
        assert (await waiting[2]) is not None
        assert await at.poll(1) is None

    played(scene)


def test_an_edge_that_was_started_again_knows_no_exchange_and_has_another_name() -> None:
    async def scene(at: Played) -> None:
        await at.begin(1)
        head, _ = await at.collect(0)
        other = Played()
        assert await other.collect(1) == ({"boot": other.room.boot, "known": False}, [])
        assert head["boot"] == at.room.boot != other.room.boot
        await other.begin(1)
        assert (await other.poll(1)) is not None
        await at.begin(2, name=SECOND)
        assert (await at.collect(1))[0]["known"] is False, "a newer exchange is the only one"

    played(scene)


def test_how_long_a_device_stays_runs_down_and_who_asks_no_more_is_gone() -> None:
    async def scene(at: Played) -> None:
        at.room.arrive(1, Availability(90.5, 1))
        held = at.poll(2, 25.0)
        await soon()
        at.clock.now += GONE_SECONDS
        assert at.room.online() == {1: Availability(30.5, 1), 2: Availability(LONG - GONE_SECONDS, 3)}
        at.clock.now += 0.5
        assert set(at.room.online()) == {2}, "one that waits is there"
        at.room.leave(2)
        with pytest.raises(OverError):
            await held
        assert at.room.online() == {}
        at.room.arrive(1, Availability(5.0, 2))
        at.clock.now += 6.0
        assert at.room.online() == {1: Availability(0.0, 2)}
        assert await at.ask({"ask": "look", "wait": 0.0, "enough": 0}) == (
            {"boot": at.room.boot, "online": True},
            [(1, CLAIM.pack(0, 2))],
        )

    played(scene)


def test_a_look_waits_until_enough_are_there_or_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "LOOK_EVERY", 0.001)

    async def scene(at: Played) -> None:
        for number in (1, 2):
            looking = asyncio.ensure_future(at.ask({"ask": "look", "wait": 9.0, "enough": number}))
            await asyncio.sleep(0.01)
            assert not looking.done()
            at.room.arrive(number, Availability(9.0, 3))
            assert len((await looking)[1]) == number
        looking = asyncio.ensure_future(at.ask({"ask": "look", "wait": 9.0, "enough": 3}))
        await asyncio.sleep(0.01)
        at.clock.now += 10.0
        assert (await looking)[1] == [(1, CLAIM.pack(0, 3)), (2, CLAIM.pack(0, 3))]

    played(scene)


def test_after_the_time_of_an_exchange_nobody_is_asked_any_more_and_no_answer_is_taken() -> None:
    async def scene(at: Played) -> None:
        await at.begin(7)
        at.clock.now += 70.0
        assert await at.poll(7) is None
        assert (at.room.most_of(7, FIRST), at.room.take(7, FIRST, b"7")) == (None, "late")

    played(scene)


def test_of_two_requests_of_a_device_the_newer_one_waits() -> None:
    async def scene(at: Played) -> None:
        older = at.poll(7, 5.0)
        await soon()
        newer = at.poll(7, 5.0)
        with pytest.raises(OverError):
            await older
        await at.begin(7)
        assert (await newer) is not None

    played(scene)


def test_who_is_gone_waits_no_more_and_is_woken_no_more() -> None:
    async def scene(at: Played) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        at.room.arrive(7, Availability(LONG, 3))
        waits = asyncio.ensure_future(at.room.wait_for_message(7, 25.0, gone))
        await soon()
        gone.set_result(None)
        assert await waits is None
        await at.begin(7)
        assert (await at.poll(7)) is not None, "it comes back"
        assert await at.room.wait_for_message(8, 25.0, gone) is None, "of one that has left nothing is kept"

    played(scene)


def test_who_is_sent_home_is_told_once_and_only_for_some_time() -> None:
    async def scene(at: Played) -> None:
        waits = at.poll(1, 5.0)
        await soon()
        await at.ask({"ask": "home"}, [(device, HOME_IN.pack(60.5)) for device in (1, 2, 3)])
        told = await waits
        assert told is not None
        assert (told.kind, told.seconds, told.body) == (MessageKind.COME_BACK, 60.5, b"")
        assert set(at.room.online()) == set()
        assert await at.poll(1) is None, "it has come back"
        at.clock.now += HOME_SECONDS
        assert await at.poll(2) is None
        await at.begin(1)
        found = await at.poll(1)
        assert found is not None
        assert found.kind is MessageKind.STEP

    played(scene)


def test_who_is_needed_after_all_is_not_sent_home_in_the_middle_of_it() -> None:
    """It had been told to go before it asked again, and was drawn for the next attempt."""

    async def scene(at: Played) -> None:
        await at.ask({"ask": "home"}, [(7, HOME_IN.pack(60.0))])
        await at.begin(7)
        assert (await at.poll(7)) is not None
        assert at.room.take(7, FIRST, b"7") == "yes"
        assert await at.poll(7) is None

    played(scene)


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"ask": "run"},
        {"ask": "look"},
        {"ask": "look", "wait": "long", "enough": 0},
        {"ask": "look", "wait": 0, "enough": float("inf")},
        {"ask": "home"},
        {"ask": "exchange", "exchange": FIRST},
        {"ask": "exchange", "exchange": FIRST, "have": 0, "wait": 0, "kind": "run", "seconds": 1, "most": 1},
        {"ask": "exchange", "exchange": FIRST, "have": 0, "wait": 0, "kind": "step", "seconds": 1},
    ],
)
def test_what_an_edge_is_asked_for_it_knows_or_refuses(head: dict[str, Any]) -> None:
    async def scene(at: Played) -> None:
        with pytest.raises(IntegrityError, match="must ask for what an edge knows"):
            await at.ask(head, [(SHARED, b"?")] if "most" not in head else [])

    played(scene)


def test_many_are_woken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reply lies in memory until it is sent."""
    monkeypatch.setattr(waiting_room, "WAKE_AT_ONCE", 3)

    async def scene(at: Played) -> None:
        found, most = list[int](), 0
        waiting = [at.poll(device, 9.0) for device in range(10)]
        await soon()
        for each in waiting:
            each.add_done_callback(lambda _: found.append(1))
        begun = asyncio.ensure_future(at.begin(*range(10)))
        while not begun.done():
            before = len(found)
            await asyncio.sleep(0)
            most = max(most, len(found) - before)
        await asyncio.gather(*waiting)
        assert most <= 3

    played(scene)
