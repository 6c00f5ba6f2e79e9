"""Exchanges with devices at several edges, over a link that loses what it likes, to edges that are started again."""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate_common.rounds.exchange import Availability, MessageKind, first_body
from palate_server.edge import batches, transport, waiting_room
from palate_server.edge.batches import CLAIM, Frame, pack
from palate_server.edge.transport import EdgeMessenger
from palate_server.edge.waiting_room import OverError, WaitingRoom
from palate_server.rounds.run import Request


class Edges:
    """Edges in a thread of this process, each with its devices: an `EdgeLink`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, homes: Mapping[str, Collection[int]]) -> None:
        self._loop = loop
        self.rooms = {name: WaitingRoom() for name in homes}
        self.names = dict.fromkeys(homes, "")
        self._asked = dict[str, tuple[str, str, Future[bytes]]]()
        self.home = {device: edge for edge, devices in homes.items() for device in devices}
        """Device -> where it asks."""
        self.down, self.dead = set[str](), set[str]()
        """Edges that the link knows no more, and those that it still takes for alive."""
        self.answered = dict[tuple[int, str], bytes]()
        """Each answer by device and exchange: who is asked again answers the same."""
        self.gone_home = dict[int, float]()
        self.silent = set[int]()
        self.on_ask: Callable[[str], str] = lambda edge: ""
        """What becomes of a batch: "lost" on the way there, "unheard" on the way back, or nothing happens to it."""
        lives = [self._live(device) for device in self.home]
        self._ending = asyncio.Event()
        self._devices = asyncio.run_coroutine_threadsafe(self._let_live(lives), loop)

    def edges(self) -> Mapping[str, str]:
        return {edge: name for edge, name in self.names.items() if edge not in self.down}

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        name, fate = secrets.token_hex(4), self.on_ask(edge)
        if fate != "lost" and edge not in self.dead:
            answer = asyncio.run_coroutine_threadsafe(self.rooms[edge].answer(batch), self._loop)
            self._asked[name] = edge, fate, answer
        return name

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        until = time.monotonic() + seconds
        while True:
            done = [each for each in asked if each in self._asked and self._asked[each][2].done()]
            found = list[tuple[str, bytes | None]]()
            for each in done:
                edge, fate, answer = self._asked.pop(each)
                if fate != "unheard":
                    self.names[edge] = self.names.pop(edge) or edge
                    found.append((each, answer.result()))
            if found or time.monotonic() >= until:
                return found
            time.sleep(0.001)

    def restart(self, edge: str) -> None:
        self.rooms[edge] = WaitingRoom()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._devices.result()

    async def _let_live(self, lives: list[Coroutine[Any, Any, None]]) -> None:
        devices = [asyncio.ensure_future(each) for each in lives]
        await self._ending.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # devices, and edges that are still asked
        for each in others:
            each.cancel()
        await asyncio.gather(*devices, *others, return_exceptions=True)

    async def _live(self, device: int) -> None:
        """A device: it asks, answers by what it was asked, and asks on."""
        never: asyncio.Future[None] = self._loop.create_future()
        while device not in self.gone_home:
            room = self.rooms[self.home[device]]
            room.arrive(device, Availability(600.0, 3))
            try:
                found = await room.wait_for_message(device, 0.01, never)
            except OverError:
                continue
            if found is None or device in self.silent:
                await asyncio.sleep(0.001)
            elif found.kind is MessageKind.COME_BACK:
                self.gone_home[device] = found.seconds
            else:
                answer = self.answered.setdefault((device, found.exchange), b"%d answers " % device + found.body)
                room = self.rooms[self.home[device]]  # it may have been started again meanwhile
                room.arrive(device, Availability(600.0, 3))
                room.take(device, found.exchange, answer)


@contextmanager
def edges(**homes: Collection[int]) -> Iterator[Edges]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = Edges(loop, homes)
    try:
        yield made
    finally:
        made.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def seen(messenger: EdgeMessenger, count: int) -> None:
    while len(messenger.online()) < count:
        pass


def request(*to: int, step: int = 1) -> Request:
    return Request(to, {}, lambda device: {"request": b"%d?" % device}, step)


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "COLLECT_SECONDS", 0.05)
    monkeypatch.setattr(transport, "PAUSE", 0.005)
    monkeypatch.setattr(transport, "NEWS", 0.02)
    monkeypatch.setattr(waiting_room, "LOOK_EVERY", 0.001)


def test_devices_of_two_edges_are_asked_each_its_own_and_answer_once() -> None:
    with edges(a=(1, 2, 3), b=(4, 5)) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, 5)
        carrier = messenger.transport([1, 2, 4, 5], timeout=9.0)
        assert carrier.invite(masked=True) == [1, 2, 4, 5]
        found = list(carrier.exchange(request(1, 2, 4, 5)))
        assert sorted(found) == [(device, b"%d answers %d?" % (device, device)) for device in (1, 2, 4, 5)]
        assert messenger.heard == {1, 2, 4, 5}
        assert list(carrier.exchange(request(2))) == [(2, b"2 answers 2?")], "a later step asks fewer"
        assert messenger.transport([1], timeout=9.0) is not None
        assert messenger.heard == set(), "of the latest attempt"


def test_once_enough_are_online_at_some_edges_the_others_are_not_waited_for() -> None:
    with edges(a=(1, 2, 3), b=(4,), c=()) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, 4)
        begun = time.monotonic()
        assert set(messenger.online(wait=60.0, enough=3)) == {1, 2, 3, 4}
        assert time.monotonic() - begun < 30.0


def test_messages_have_their_kind_and_share_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "read_plan", lambda data: type("Signed", (), {"plan": None}))
    monkeypatch.setattr(transport, "vector_bytes", lambda plan: 1000)
    said = list[tuple[MessageKind, bytes, int]]()
    kept = WaitingRoom.wait_for_message

    async def heard(room: WaitingRoom, device: int, *rest: Any) -> Any:
        if (found := await kept(room, device, *rest)) is not None:
            said.append((found.kind, found.body, room.most_of(device, found.exchange) or 0))
        return found

    monkeypatch.setattr(WaitingRoom, "wait_for_message", heard)
    with edges(a=(1,)) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, 1)
        carrier, plan = messenger.transport([1], timeout=9.0), {"plan": b"plan"}
        first = {**plan, "directory": b"list"}
        for each in (
            Request([1], plan),
            Request([1], first, lambda _: {"request": b"keys?"}, 1),
            Request([1], plan, lambda _: {"directory": b"list", "request": b"keys?"}, 1),
            Request([1], {}, lambda _: {"request": b"?"}, 2),
        ):
            list(carrier.exchange(each))
    most = transport.MOST_SMALL + transport.MOST_OF_EACH + 1000
    assert said == [
        (MessageKind.PLAN, b"plan", most),
        *[(MessageKind.MASKED, first_body(b"plan", b"list", b"keys?"), most)] * 2,  # shared or not, it's the same
        (MessageKind.STEP, b"?", most),
    ]


def test_an_edge_that_is_started_again_in_the_middle_of_an_exchange_costs_nobody_an_answer() -> None:
    with edges(a=(1, 2, 3), b=(4, 5, 6)) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, 6)
        link.silent = {3, 6}
        answers = messenger.transport(range(1, 7), timeout=9.0).exchange(request(*range(1, 7)))
        found = [next(answers) for _ in range(4)]
        link.restart("a")
        link.silent = set()
        found += list(answers)
        assert sorted(device for device, _ in found) == [1, 2, 3, 4, 5, 6]


def test_who_does_not_answer_is_waited_for_until_the_time_is_up_and_others_are_not_held_up() -> None:
    with edges(a=(1,), b=(2, 3)) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, 3)
        link.silent = {3}
        answers = messenger.transport([1, 2, 3], timeout=0.2).exchange(request(1, 2, 3))
        assert sorted(device for device, _ in answers) == [1, 2]


@pytest.mark.parametrize("known", [True, False], ids=["still taken for alive", "gone"])
def test_devices_of_an_edge_that_is_killed_are_asked_at_the_one_in_its_place(known: bool) -> None:
    """It is another node to Flower, which notices the end of the former one late."""
    with edges(a=(1,), b=(2, 3)) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, 3)
        carrier = messenger.transport([1, 2, 3], timeout=9.0)
        link.silent = {3}
        answers = carrier.exchange(request(1, 2, 3))
        found = [next(answers), next(answers)]
        (link.dead if known else link.down).add("b")
        link.rooms["c"], link.names["c"] = WaitingRoom(), "b"
        link.home |= {2: "c", 3: "c"}
        link.silent = set()
        found += list(answers)
        assert sorted(device for device, _ in found) == [1, 2, 3]
        assert sorted(device for device, _ in carrier.exchange(request(1, 2, 3, step=2))) == [1, 2, 3]
        seen(messenger, 3)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.integers(1, 9), st.integers(4, 60))
def test_whatever_is_lost_on_the_way_everybody_is_heard_once(
    monkeypatch: pytest.MonkeyPatch, rng: random.Random, count: int, most: int
) -> None:
    """Batches there and back are lost, edges are started again, and requests and answers need several batches."""
    monkeypatch.setattr(batches, "MOST_BATCH", most)
    monkeypatch.setattr(waiting_room, "MOST_BATCH", most)
    devices = range(1, count + 1)
    with edges(a=[each for each in devices if each % 3], b=[each for each in devices if not each % 3]) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, count)
        left = 12

        def fate(edge: str) -> str:
            nonlocal left
            left -= 1
            drawn = rng.choice(["", "", "lost", "unheard", "restart"]) if left > 0 else ""
            if drawn == "restart":
                link.restart(edge)
            return drawn

        link.on_ask = fate
        found = list(messenger.transport(devices, timeout=4.0).exchange(request(*devices)))
        assert sorted(found) == [(device, b"%d answers %d?" % (device, device)) for device in devices]


def test_each_is_sent_home_by_its_edge_and_what_was_asked_last_is_forgotten() -> None:
    with edges(a=(1, 2), b=(3,)) as link:
        messenger = EdgeMessenger(link)
        seen(messenger, 3)
        link.silent = {1}
        assert [device for device, _ in messenger.transport([1], timeout=0.1).exchange(request(1))] == []
        messenger.close()
        assert {room._open for room in link.rooms.values()} == {None}
        link.silent = set()
        messenger.send_home({1: 60.0, 3: 86400.0, 99: 1.0})
        while len(link.gone_home) < 2:
            assert set(messenger.online()) >= {2}
        assert link.gone_home == {1: 60.0, 3: 86400.0}


class Odd:
    """A link to one edge that says what it likes, but who is online, where `head` is of an exchange."""

    def __init__(self, head: dict[str, Any], *frames: Frame, looks: bool) -> None:
        self._head, self._frames, self._looks, self._asked = head, frames, looks, b""

    def edges(self) -> Mapping[str, str]:
        return {"a": "a"}

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        self._asked = batch
        return "1"

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        looked = self._looks and b'"look"' in self._asked
        if looked:
            return [("1", pack({"online": True}, [(1, CLAIM.pack(9000, 3))]))]
        return [("1", pack(self._head, self._frames))]


def test_an_edge_is_heard_only_for_the_devices_that_are_asked_there() -> None:
    head = {"boot": "x", "known": True, "turn": 1}
    messenger = EdgeMessenger(Odd(head, (2, b"unasked"), (1, b"answer"), looks=True))
    assert messenger.online() == {1: Availability(9.0, 3)}
    assert list(messenger.transport([1, 2], timeout=0.1).exchange(request(1, 3))) == [(1, b"answer")]
    messenger = EdgeMessenger(Odd(head, (1, b"answer"), (2, b"unasked"), looks=True))
    assert messenger.online()
    assert list(messenger.transport([1], timeout=0.1).exchange(request(1))) == [], "more answers than devices"


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"boot": "x"},
        {"boot": "x", "known": True},
        {"known": False},
        {"boot": "x", "known": True, "turn": float("inf")},
    ],
)
def test_an_edge_that_says_something_else_is_not_heard(head: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    messenger = EdgeMessenger(Odd(head, looks=True))
    assert messenger.online() == {1: Availability(9.0, 3)}
    assert list(messenger.transport([1], timeout=0.02).exchange(request(1))) == []
    assert "must say what it knows of an exchange" in caplog.text


@pytest.mark.parametrize(
    ("head", "frames"),
    [
        ({}, []),
        ({"online": 7}, []),
        ({"online": True}, [(1, b"")]),
        ({"online": True}, [(1, CLAIM.pack(9000, 3)), (2**32 - 1, CLAIM.pack(9000, 3))]),
    ],
)
def test_an_edge_that_says_something_else_of_who_is_online_is_not_heard(
    head: dict[str, Any], frames: list[Frame], caplog: pytest.LogCaptureFixture
) -> None:
    assert EdgeMessenger(Odd(head, *frames, looks=False)).online() == {}
    assert "must say who is online" in caplog.text
