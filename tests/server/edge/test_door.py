"""What devices may say at the door, and what is read of those who may not; by raw ASGI calls, without a socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_common.rounds.exchange import (
    CLOCK_SECONDS,
    PATH,
    SURVEYS,
    Availability,
    ExchangeRequest,
    MessageKind,
    ServerMessage,
)
from palate_core.errors import LockedError
from palate_core.log.signing import SigningKey
from palate_server.edge import door as doors
from palate_server.edge.batches import HOME_IN, pack
from palate_server.edge.door import DeviceDoor
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Standing

VECTORS: Any = json.loads((Path(__file__).parents[3] / "docs" / "vectors" / "exchange.json").read_text())
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private_key_hex"])))
OTHER = SigningKey.generate()
TIME, POPULATION, MOST = 1_790_000_000_000, "readers", 2**20
EXCHANGE = "a" * 32


@dataclass
class Answered:
    """A reply, and how much of the request was read for it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    receives: int = 0
    """How often the body was asked for more, until the door answered."""


@dataclass
class World:
    """A door with three devices, the last of which is revoked, and its clock."""

    now: float = TIME / 1000
    devices: dict[int, Standing] = field(
        default_factory=lambda: {
            7: Standing(KEY.public, False),
            9: Standing(OTHER.public, False),
            10: Standing(KEY.public, True),
        }
    )
    path: str = ""

    def __post_init__(self) -> None:
        self.room = WaitingRoom()
        self.door = DeviceDoor(
            self.room, self, population=POPULATION, path=self.path, most=MOST, clock=lambda: self.now
        )

    def standing(self, device: int) -> Standing | None:
        return self.devices.get(device)

    async def begin(
        self, *devices: int, name: str = EXCHANGE, most: int = 99, message: ServerMessage | None = None
    ) -> None:
        """Ask devices something."""
        said = message or ServerMessage(MessageKind.STEP, name, 70.0, b"request")
        head = {"ask": "exchange", "exchange": said.exchange, "have": 0, "wait": 0.0, "kind": said.kind.value}
        frames = [(2**32 - 1, said.body), *((device, b"") for device in devices)]
        await self.room.answer(pack({**head, "seconds": said.seconds or 70.0, "most": most}, frames))

    async def ask(
        self,
        headers: Mapping[str, str] | Sequence[tuple[str, str]],
        *chunks: bytes | asyncio.Event,
        hold: asyncio.Event | None = None,
        method: str = "POST",
    ) -> Answered:
        """Send a request, whose body comes in chunks; where there is an event, it has to be waited for.

        The other side is gone as soon as it has sent all, so that nobody is held; or once it is let go.
        """
        found, left = Answered(), deque(chunks or (b"",))
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)

        async def receive() -> dict[str, Any]:
            found.receives += not found.status
            while left:
                if isinstance(part := left.popleft(), bytes):
                    return {"type": "http.request", "body": part, "more_body": bool(left)}
                await part.wait()
            if hold is not None:
                await hold.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                found.status = message["status"]
                found.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                found.body += message["body"]

        scope = {"type": "http", "method": method, "path": PATH}
        encoded = [(name.encode(), value.encode("utf-8")) for name, value in pairs]
        await self.door({**scope, "headers": encoded}, receive, send)
        return found


def asked(device: int = 7, *, body: bytes = b"", time: int = TIME, **changes: Any) -> ExchangeRequest:
    """A request; one with a body is an answer."""
    made = ExchangeRequest(device, "", 20.0, Availability(90.5, 3), time)
    if body or changes.get("answers"):
        hashed = hashlib.sha256(body).hexdigest()
        made = replace(made, answers=EXCHANGE, length=len(body), body=hashed)
    return replace(made, **changes)


def signed(request: ExchangeRequest, key: SigningKey = KEY, path: str = PATH) -> dict[str, str]:
    return request.signed(POPULATION, path, key)


def played(scene: Callable[[World], Awaitable[None]], world: World | None = None) -> None:
    async def play() -> None:
        async with asyncio.timeout(20.0):
            await scene(world or World())

    asyncio.run(play())


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_a_refused_request_has_its_status_and_nothing_of_its_body_is_read(case: Any) -> None:
    wanted = {"spelling": 400, "signature": 401}[case["why"]]

    async def scene(world: World) -> None:
        await world.begin(7)
        found = await world.ask(case["headers"], b"\1\2\3")
        version = case["headers"]["palate-version"] != "1"
        assert (found.status, found.receives, found.body) == (426 if version else wanted, 0, b"")
        assert found.headers.get("palate-versions") == ("1-1" if version else None)
        assert world.room.online() == {}

    played(scene)


def test_a_conversation_of_the_vectors_has_their_replies() -> None:
    steps = VECTORS["conversation"]

    def message(step: Any) -> ServerMessage:
        return ServerMessage.read(step["reply_headers"], bytes.fromhex(step["reply_hex"]))

    async def scene(world: World) -> None:
        first, second = message(steps[1]), message(steps[4])
        before: dict[int, Callable[[], Awaitable[Any]]] = {
            1: lambda: world.begin(7, message=first),
            2: lambda: world.room.answer(pack({"ask": "close"})),
            3: lambda: world.begin(7, message=first),
            5: lambda: world.room.answer(pack({"ask": "close"})),
        }
        for number, step in enumerate(steps):
            if number in before:
                await before[number]()
            hold = asyncio.Event()
            asking = asyncio.ensure_future(world.ask(step["headers"], bytes.fromhex(step["body_hex"]), hold=hold))
            for _ in range(5):
                await asyncio.sleep(0)
            if number == 4:
                await world.begin(7, message=second)
            if number == 5:
                await world.room.answer(pack({"ask": "home"}, [(7, HOME_IN.pack(600.0))]))
            if step["status"] == 204:
                hold.set()  # the time is up
            found = await asking
            said = {name: value for name, value in found.headers.items() if name.startswith("palate-")}
            if number == 5:
                said["palate-exchange"] = step["reply_headers"]["palate-exchange"]  # any will do: nobody answers it
            if said.get("palate-kind") == "step":
                said["palate-seconds"] = "0.000"  # it says nothing there
            assert (found.status, said) == (step["status"], step["reply_headers"]), number
            assert found.body.hex() == step["reply_hex"]
        assert world.room.online() == {}

    played(scene)


def test_a_request_is_for_the_place_that_it_was_signed_for() -> None:
    """Where several populations share a name, and nginx passes the rest of the path on."""

    async def scene(world: World) -> None:
        assert (await world.ask(signed(asked()))).status == 401
        assert (await world.ask(signed(asked(), path=f"/p/shop{PATH}"))).status == 204

    played(scene, World(path="/p/shop"))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"device": 8}, 401),
        ({"device": 9_999_999_999}, 401),
        ({"device": 10}, 403),
        ({"device": 9}, 401),
        ({"time": TIME + int(1000 * CLOCK_SECONDS) + 1}, 401),
        ({"time": TIME - int(1000 * CLOCK_SECONDS) - 1}, 401),
        ({"time": TIME + int(1000 * CLOCK_SECONDS), "available": Availability(), "wait": 0.0}, 204),
        ({"answers": EXCHANGE, "length": MOST + 1}, 413),
        ({"answers": EXCHANGE, "length": 100}, 413),
    ],
)
def test_who_may_not_is_refused_before_a_byte_is_read(change: dict[str, Any], status: int) -> None:
    async def scene(world: World) -> None:
        await world.begin(7)
        found = await world.ask(signed(asked(**change)), b"x" * (status == 413))
        assert (found.status, found.receives) == (status, 0)

    played(scene)


def test_what_a_revoked_device_would_be_told_an_impostor_is_not() -> None:
    async def scene(world: World) -> None:
        for device in (8, 10):
            assert (await world.ask(signed(asked(device), OTHER))).status == 401

    played(scene)


def test_a_request_is_taken_once_and_a_devices_time_only_grows() -> None:
    async def scene(world: World) -> None:
        await world.begin(7)
        request = signed(asked(body=b"mine"))
        found = [await world.ask(request, b"mine") for _ in range(2)]
        assert [(each.status, each.receives > 0) for each in found] == [(204, True), (401, False)]
        assert (await world.ask(signed(asked(time=TIME - 1)))).status == 401
        assert (await world.ask(signed(asked(9, time=TIME - 1), OTHER))).status == 204, "of that device"
        again = await world.ask(signed(asked(body=b"mine", time=TIME + 1)), b"mine")
        assert again.headers["palate-taken"] == "twice"

    played(scene)


def test_a_forged_request_does_not_use_up_a_devices_time() -> None:
    async def scene(world: World) -> None:
        assert (await world.ask(signed(asked(time=TIME + 1000), OTHER))).status == 401
        assert (await world.ask(signed(asked()))).status == 204

    played(scene)


def test_of_the_devices_whose_times_are_remembered_the_latest_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "MOST_TIMES", 1)

    async def scene(world: World) -> None:
        assert (await world.ask(signed(asked()))).status == 204
        assert (await world.ask(signed(asked()))).status == 401
        assert (await world.ask(signed(asked(9), OTHER))).status == 204
        assert (await world.ask(signed(asked(9), OTHER))).status == 401
        assert len(world.door._times) == 1

    played(scene)


@pytest.mark.parametrize(
    ("chunks", "taken"),
    [
        ((b"an answer",), True),
        ((b"an", b" ", b"", b"answer"), True),
        ((b"an answer", b""), True),
        ((b"an answes",), False),
        ((b"an answer ",), False),
        ((b"an answer", b" "), False),
        ((b"an answe",), False),
        ((b"",), False),
    ],
)
def test_a_body_is_what_was_signed_or_nothing(chunks: tuple[bytes, ...], taken: bool) -> None:
    async def scene(world: World) -> None:
        await world.begin(7)
        found = await world.ask(signed(asked(body=b"an answer")), *chunks)
        assert (found.status, found.headers.get("palate-taken")) == ((204, "yes") if taken else (400, None))
        assert world.room.most_of(7, EXCHANGE) == (None if taken else 99), "it may answer yet"

    played(scene)


def test_an_empty_answer_is_an_answer() -> None:
    async def scene(world: World) -> None:
        await world.begin(7)
        assert (await world.ask(signed(asked(answers=EXCHANGE)))).headers["palate-taken"] == "yes"

    played(scene)


def test_headers_are_there_once_and_what_has_no_length_goes_nowhere() -> None:
    async def scene(world: World) -> None:
        right = list(signed(asked()).items())
        for name, value in right:
            assert (await world.ask([*right, (name, value)])).status == 400, name
        chunked = [each for each in right if each[0] != "content-length"] + [("transfer-encoding", "chunked")]
        assert (await world.ask(chunked, b"x")).status == 400
        assert (await world.ask([*right, ("accept", "a"), ("accept", "b")])).status == 204, "of ours"
        assert (await world.ask(right, method="GET")).status == 405

    played(scene)


def test_what_comes_too_late_is_read_away_and_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while others that are read have all the memory."""
    monkeypatch.setattr(doors, "AT_ONCE", 1)

    async def scene(world: World) -> None:
        await world.begin(9)
        go_on = asyncio.Event()
        slow = asyncio.ensure_future(world.ask(signed(asked(9, body=b"slow"), OTHER), b"sl", go_on, b"ow"))
        await asyncio.sleep(0)
        late = await world.ask(signed(asked(body=b"large" * 99)), b"large" * 98, b"large")
        assert (late.status, late.headers["palate-taken"]) == (204, "late")
        longer = await world.ask(signed(asked(body=b"large", time=TIME + 1)), b"large", b"r", b"x" * 99)
        assert (longer.status, longer.receives) == (400, 2)
        go_on.set()
        assert (await slow).headers["palate-taken"] == "yes"

    played(scene)


def test_bodies_have_so_much_memory_together_and_one_after_the_other_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "AT_ONCE", 10)

    async def scene(world: World) -> None:
        world.devices |= {device: Standing(OTHER.public, False) for device in range(20, 25)}
        await world.begin(*range(20, 25))
        bodies = {20: b"1234", 21: b"123456", 22: b"1234567", 23: b"12", 24: b"123"}
        go_on, answers = {device: asyncio.Event() for device in bodies}, dict[int, asyncio.Task[Answered]]()
        for device, body in bodies.items():
            request = signed(asked(device, body=body), OTHER)
            answers[device] = asyncio.ensure_future(world.ask(request, body[:1], go_on[device], body[1:]))
            await asyncio.sleep(0)

        async def reads() -> list[int]:
            for _ in range(9):
                await asyncio.sleep(0)
            return [device for device in bodies if world.door._reading.get(device) and device in begun()]

        def begun() -> set[int]:
            waiting = {size for size, turn in world.door._space._queue if not turn.done()}
            return {
                device for device, body in bodies.items() if len(body) not in waiting and not answers[device].done()
            }

        assert await reads() == [20, 21]
        go_on[20].set()
        assert await reads() == [21], "the next one needs more, and nobody overtakes it"
        go_on[21].set()
        assert await reads() == [22, 23]
        answers[22].cancel()
        assert await reads() == [23, 24]
        for each in go_on.values():
            each.set()
        for device in (20, 21, 23, 24):
            assert (await answers[device]).headers["palate-taken"] == "yes"
        assert world.door._space._left == 10

    played(scene)


def test_a_slow_body_is_given_up_and_a_newer_one_of_the_device_is_read_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(world: World) -> None:
        await world.begin(7)
        never = asyncio.Event()
        dead = asyncio.ensure_future(world.ask(signed(asked(body=b"mine")), b"m", never))
        await asyncio.sleep(0.01)
        found = await world.ask(signed(asked(body=b"mine", time=TIME + 1)), b"mine")
        assert found.headers["palate-taken"] == "yes"
        assert (await dead).status == 408
        monkeypatch.setattr(doors, "BODY_SECONDS", 0.01)
        await world.begin(7, name="5" * 32)
        late = signed(asked(body=b"mine", time=TIME + 2, answers="5" * 32))
        found = await world.ask(late, b"m", never)
        assert (found.status, world.room.most_of(7, "5" * 32)) == (408, 99)
        assert world.door._reading == {}

    played(scene)


def test_who_is_gone_in_the_middle_of_a_body_or_of_the_wait_is_answered_nothing_and_kept_no_place() -> None:
    async def scene(world: World) -> None:
        await world.begin(7)
        gone, hold = asyncio.Event(), asyncio.Event()
        cut = asyncio.ensure_future(world.ask(signed(asked(body=b"mine")), b"m", gone))
        waits = asyncio.ensure_future(world.ask(signed(asked(9), OTHER), hold=hold))
        await asyncio.sleep(0.01)
        assert set(world.room.online()) == {9}
        gone.set()
        hold.set()
        assert ((await cut).status, (await waits).status) == (0, 204)
        assert (world.door._space._left, world.door._reading) == (doors.AT_ONCE, {})
        assert world.room._visitors[9].held is None

    played(scene)


def test_of_two_requests_the_newer_one_waits_and_what_the_older_brought_is_taken() -> None:
    async def scene(world: World) -> None:
        await world.begin(7)
        hold = asyncio.Event()
        older = asyncio.ensure_future(world.ask(signed(asked(body=b"mine")), b"mine", hold=hold))
        await asyncio.sleep(0.01)
        newer = asyncio.ensure_future(world.ask(signed(asked(time=TIME + 1)), hold=hold))
        found = await older
        assert (found.status, found.headers["palate-taken"]) == (409, "yes")
        await world.begin(7, name="5" * 32)
        assert (await newer).headers["palate-exchange"] == "5" * 32

    played(scene)


def test_presence_is_what_the_latest_request_declares_and_who_leaves_is_gone() -> None:
    async def scene(world: World) -> None:
        await world.ask(signed(asked(available=Availability(5.0, SURVEYS))))
        assert {device: each.takes for device, each in world.room.online().items()} == {7: SURVEYS}
        found = await world.ask(signed(asked(wait=0.0, available=Availability(), time=TIME + 1)))
        assert (found.status, world.room.online()) == (204, {})

    played(scene)


def test_a_register_that_cannot_be_read_is_not_the_devices_fault() -> None:
    async def scene(world: World) -> None:
        def fail(device: int) -> Standing | None:
            raise LockedError("the register must be free")

        world.standing = fail  # type: ignore[method-assign]
        assert (await world.ask(signed(asked()))).status == 503

    played(scene)


@pytest.mark.parametrize("body", [b"", b"mine"])
def test_who_is_there_when_the_edge_is_stopped_is_told_to_come_again(body: bytes) -> None:
    """And is no error, of which a log would have a page for each device."""

    async def scene(world: World) -> None:
        await world.begin(7) if body else None
        there = asyncio.ensure_future(world.ask(signed(asked(body=body)), body[:1] + b"", asyncio.Event()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not there.done()
        there.cancel()
        found = await there
        assert (found.status, found.headers.get("palate-taken"), found.body) == (503, None, b"")

    played(scene)
