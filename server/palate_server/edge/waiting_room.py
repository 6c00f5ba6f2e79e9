"""Waiting room: who is online at an edge, what each device is asked, and what it has answered; all of it in memory.

    DeviceDoor   -> arrive, take, wait_for_message, leave      (what devices do)
    coordinator  -> answer: look, exchange, register, home, close        (see `batches`)

It decides nothing: a coordinator says who is asked what, and judges the answers. It runs in one event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from palate_common.rounds.exchange import Availability, MessageKind, ServerMessage
from palate_core.errors import IntegrityError
from palate_server.edge.batches import (
    CLAIM,
    CLOSE,
    EXCHANGE,
    GONE_SECONDS,
    HOME,
    HOME_IN,
    LOOK,
    MOST_BATCH,
    MOST_LOOK,
    REGISTER,
    Frame,
    pack,
    split,
    unpack,
)
from palate_server.edge.partial_sum import PartialSum
from palate_server.edge.proofs import proven
from palate_server.edge.told_register import ToldRegister

HOME_SECONDS: Final = 30.0
"""Seconds in which a device may fetch that it isn't needed now."""
WAKE_AT_ONCE: Final = 500
"""Devices that are given a message at once: each reply lies in memory until it is sent."""
LOOK_EVERY: Final = 1.0
"""Seconds between two counts of who is online, while somebody waits for a change."""

_MOST: Final = 2**32 - 1

Taken = Literal["yes", "late", "twice"]


class OverError(IntegrityError):
    """Another request of the same device waits now."""


@dataclass
class OpenExchange:
    """An exchange whose answers are awaited.

    Attributes:
        name: its name, 32 hexadecimal digits.
        kind: of its messages.
        seconds: what its messages say: for how long their answers are waited for.
        until: when that is over, on the monotonic clock: nothing is asked and taken any more, and whoever asked may be
            gone.
        most: bytes of the largest answer.
        shared: what the bodies of all messages begin with.
        own: device -> the rest of its message, until it has answered.
        parts: what devices sign beside masked vectors -> the sum of those that have come.
        part: device -> the one that its vector is added to.
        done: devices that have.
        answers: device -> its answer, as long as no turn has it.
        turn: number of the latest turn; its answers are kept until the next one is asked for.
        sent: the answers of that turn; or, with its sum first, what devices have signed whose vectors are in it.
        fresh: bytes of the answers that no turn has.
        news: set when an answer has come.
    """

    name: str
    kind: MessageKind
    seconds: float
    until: float
    most: int
    shared: bytes
    own: dict[int, bytes] = field(default_factory=dict)
    parts: dict[bytes, PartialSum] = field(default_factory=dict)
    part: dict[int, PartialSum] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    answers: dict[int, bytes] = field(default_factory=dict)
    turn: int = 0
    sent: list[Frame] = field(default_factory=list)
    fresh: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, device: int, answer: bytes, identity: str, proof: bytes | None) -> None:
        """Take the answer of a device that is waited for: its vector into a sum, or all of it as it is."""
        del self.own[device]
        self.done.add(device)
        part = self.part.get(device)
        kept = 0 if part is None else part.add(device, answer, identity, proof)
        if not kept:
            self.answers[device] = answer if proof is None else proven(proof, answer)
            kept = len(self.answers[device])
        self.fresh += kept

    def next_turn(self) -> None:
        """Make a turn of the answers that none has had, as far as they make a batch; if there are none, of a sum."""
        found, size = list[Frame](), 0
        for device, data in list(self.answers.items()):
            if found and size + len(data) > MOST_BATCH:
                break
            found.append((device, self.answers.pop(device)))
            size += len(data)
        if not found:
            found = next((frames for part in self.parts.values() if (frames := part.take())), [])
            size = sum(len(data) for _, data in found[1:])
        self.turn, self.sent, self.fresh = self.turn + 1, found, self.fresh - size

    @property
    def ready(self) -> bool:
        """Whether a turn is worth it: all have answered, or what has come makes a batch."""
        return not self.own or self.fresh >= MOST_BATCH


@dataclass
class _Visitor:
    """A device that is online.

    Attributes:
        available: what it has declared.
        proof: what shows that, see `proofs`.
        at: when, on the monotonic clock.
        held: completed when there is a message for it, while it waits; its result is False if another request took
            over.
    """

    available: Availability
    proof: bytes
    at: float
    held: asyncio.Future[bool] | None = None


class WaitingRoom:
    """The state of an edge.

    Args:
        register: the enrolled devices, of which the coordinator tells; None: the edge has the server's own register.
        clock: returns monotonic seconds.

    Attributes:
        boot: a name that another start of the edge doesn't have.
    """

    def __init__(self, register: ToldRegister | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.boot, self._register = secrets.token_hex(8), register
        self._clock = clock
        self._visitors: dict[int, _Visitor] = {}
        self._home: dict[int, tuple[float, float]] = {}
        self._open: OpenExchange | None = None

    # What devices do

    def arrive(self, device: int, available: Availability, proof: bytes = b"") -> None:
        """A verified request of a device has come."""
        visitor = self._visitors.get(device)
        if visitor is None:
            self._visitors[device] = _Visitor(available, proof, self._clock())
        else:
            visitor.available, visitor.proof, visitor.at = available, proof, self._clock()

    def leave(self, device: int) -> None:
        """A device goes offline; a request of it that waits is over."""
        visitor = self._visitors.pop(device, None)
        if visitor is not None and visitor.held is not None and not visitor.held.done():
            visitor.held.set_result(False)

    def most_of(self, device: int, exchange: str) -> int | None:
        """Bytes of the largest answer of a device to an exchange; None: nobody waits for one of it."""
        found = self._current()
        return found.most if found is not None and found.name == exchange and device in found.own else None

    def why_not(self, device: int, exchange: str) -> Taken:
        """What becomes of an answer that nobody waits for."""
        found = self._open
        return "twice" if found is not None and found.name == exchange and device in found.done else "late"

    def take(self, device: int, exchange: str, answer: bytes, proof: bytes = b"", identity: str = "") -> Taken:
        """Take a device's answer, unless nobody waits for it any more; on another host it goes on with its proof."""
        found = self._open
        if found is None or self.most_of(device, exchange) is None:
            return self.why_not(device, exchange)
        found.take(device, answer, identity, None if self._register is None else proof)
        if found.ready:
            found.news.set()
        return "yes"

    async def wait_for_message(self, device: int, seconds: float, gone: asyncio.Future[Any]) -> ServerMessage | None:
        """The next message to a device; None if none comes in time, or its connection ends.

        Raises:
            OverError: another request of the device waits now.
        """
        visitor = self._visitors.get(device)
        if visitor is None:
            return None
        if visitor.held is not None and not visitor.held.done():
            visitor.held.set_result(False)
        until = self._clock() + seconds
        held: asyncio.Future[bool] | None = None
        try:
            while (found := self._message_to(device)) is None and (left := until - self._clock()) > 0:
                held = visitor.held = asyncio.get_running_loop().create_future()
                await asyncio.wait({held, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if held.done() and not held.result():
                    raise OverError("a request must be the device's newest, got one that another has taken over")
                if not held.done():  # the time is up, or nobody is there any more
                    break
            return found
        finally:
            if visitor.held is held:
                visitor.held = None

    def _message_to(self, device: int) -> ServerMessage | None:
        found, now = self._current(), self._clock()
        if found is not None and (own := found.own.get(device)) is not None:
            return ServerMessage(found.kind, found.name, found.seconds, found.shared + own)
        seconds, until = self._home.pop(device, (0.0, now))
        if now < until:
            self._visitors.pop(device, None)
            return ServerMessage(MessageKind.COME_BACK, secrets.token_hex(16), seconds)
        return None

    def _current(self) -> OpenExchange | None:
        """The exchange whose answers are still waited for."""
        return self._open if self._open is not None and self._clock() < self._open.until else None

    # What the coordinator asks

    async def answer(self, batch: bytes) -> bytes:
        """Answer a coordinator's batch.

        Raises:
            IntegrityError: it is none.
        """
        head, frames = unpack(batch)
        try:
            asked = head["ask"]
            if asked == LOOK:
                return await self._look(float(head["wait"]), int(head["enough"]))
            if asked == EXCHANGE:
                return await self._exchange(head, frames)
            if asked == HOME:
                await self._send_home({device: HOME_IN.unpack(data)[0] for device, data in frames})
            elif asked == CLOSE:
                self._open = None
            elif asked == REGISTER and self._register is not None:
                self._register.hear(int(head["count"]), frames)
            else:
                raise ValueError
        except (KeyError, ValueError, TypeError, OverflowError, struct.error):
            raise IntegrityError("a batch must ask for what an edge knows, got something else") from None
        return pack({"boot": self.boot})

    def online(self) -> dict[int, Availability]:
        """The devices that are online, each with what it declares now; who is gone is forgotten."""
        now, found = self._clock(), dict[int, Availability]()
        for device, visitor in list(self._visitors.items()):
            if visitor.held is None and now - visitor.at > GONE_SECONDS:
                del self._visitors[device]
                continue
            left = max(0.0, visitor.available.stays - (now - visitor.at))
            found[device] = Availability(left, visitor.available.takes)
        return found

    async def _look(self, wait: float, enough: int) -> bytes:
        """Who is online, once that are enough, or the time is up."""
        until = self._clock() + wait
        while len(found := self.online()) < enough and (left := until - self._clock()) > 0:
            await asyncio.sleep(min(left, LOOK_EVERY))
        claims = (
            (device, CLAIM.pack(min(int(1000 * each.stays), _MOST), each.takes) + self._visitors[device].proof)
            for device, each in found.items()
        )
        return pack({"boot": self.boot, "online": True}, next(split(claims, most=MOST_LOOK)))

    async def _exchange(self, head: Mapping[str, Any], frames: list[Frame]) -> bytes:
        """Ask devices, and return what has been answered; the latest turn again, if the coordinator hasn't got it."""
        name, have, wait = str(head["exchange"]), int(head["have"]), float(head["wait"])
        if "kind" in head:
            await self._begin(name, head, frames)
        found = self._open
        if found is None or found.name != name:
            return pack({"boot": self.boot, "known": False})
        if found.turn <= have:
            found.news.clear()
            if not found.ready and wait > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(found.news.wait(), wait)
        if found.turn <= have:  # still: another question for it, whose asker is gone, may have waited, too
            found.next_turn()
        return pack({"boot": self.boot, "known": True, "turn": found.turn}, found.sent)

    async def _begin(self, name: str, head: Mapping[str, Any], frames: list[Frame]) -> None:
        """Begin an exchange with some devices, or add these to it, and wake those that wait."""
        (_, shared), *own = frames
        found, adds = self._open, head.get("adds")
        if found is None or found.name != name:
            kind, seconds, most = MessageKind(head["kind"]), float(head["seconds"]), int(head["most"])
            before = b"" if adds else shared
            found = self._open = OpenExchange(name, kind, seconds, self._clock() + seconds, most, before)
        new = {device: data for device, data in own if device not in found.done}
        found.own |= new
        if adds:
            if shared not in found.parts:
                found.parts[shared] = PartialSum(shared, size=int(adds[0]), bits=int(adds[1]))
            found.part |= dict.fromkeys(new, found.parts[shared])
        for device in new:
            self._home.pop(device, None)
        await self._wake(list(new))

    async def _send_home(self, devices: Mapping[int, float]) -> None:
        until = self._clock() + HOME_SECONDS
        self._home = {device: each for device, each in self._home.items() if self._clock() < each[1]}
        self._home |= {device: (seconds, until) for device, seconds in devices.items()}
        await self._wake(list(devices))

    async def _wake(self, devices: list[int]) -> None:
        for number, device in enumerate(devices):
            visitor = self._visitors.get(device)
            if visitor is not None and visitor.held is not None and not visitor.held.done():
                visitor.held.set_result(True)
            if number % WAKE_AT_ONCE == WAKE_AT_ONCE - 1:
                await asyncio.sleep(0)
