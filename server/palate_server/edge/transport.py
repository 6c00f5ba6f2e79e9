"""Transport: sends an operation's messages to its devices, which wait at edges.

    Operation -> EdgeMessenger -> EdgeLink -> WaitingRoom of each edge -> DeviceDoor -> devices

An exchange is begun at each edge with the requests of its devices, and then asked for again and again until all have
answered or the time is up. Whatever gets lost on the way, an edge that was started again included, is only asked for
once more: a device answers the same request by the same bytes.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from palate_common.rounds.exchange import Availability, MessageKind, framed
from palate_common.rounds.wire import vector_bytes
from palate_core.errors import IntegrityError
from palate_core.plan import read_plan
from palate_server.edge.batches import (
    CLOSE,
    EXCHANGE,
    HOME,
    IDENTITY_BYTES,
    LOOK,
    MOST_BATCH,
    REGISTER,
    Frame,
    pack,
    split,
    unpack,
)
from palate_server.rounds.run import Request

logger = logging.getLogger("palate")

COLLECT_SECONDS: Final = 10.0
"""The longest that an edge waits for answers before it says what has come."""
MOST_SMALL: Final = 2**16
"""Bytes of an answer beside a vector, and beside what it has for each device of the cohort."""
MOST_OF_EACH: Final = 512
"""Bytes of an answer for each device of the cohort."""
PAUSE: Final = 0.5
"""Seconds between two looks for an edge, while there is none, and before one that failed is asked again."""
NEWS: Final = 3.0
"""Seconds between two looks for an edge that is new."""
GREETING: Final = 60.0
"""Seconds in which an edge may answer for the first time before it is asked again."""
SHARED: Final = 2**32 - 1
"""The number of the frame that is no device's: what all messages begin with."""


class EdgeLink(Protocol):
    """Carries batches to the edges and back; each method raises PalateError once none can be reached any more."""

    def edges(self) -> Mapping[str, str]:
        """The edges that can be asked, each with its name, "" before it has answered anything; the latest named last.

        An edge that was started again may be another one, of the same name.
        """

    def send(self, edge: str, batch: bytes, *, seconds: float) -> str:
        """Ask an edge, which has so many seconds to answer; returns a name of the question."""

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        """The replies to some questions, with their names: none or more, as soon as one is there, or the time is up.

        None in the place of a reply: the question was lost, and no other answer will come.
        """


class Register(Protocol):
    """The enrolled devices, as edges on other hosts need them."""

    def extent(self) -> tuple[int, int]:
        """How many devices there are, and how many of them are revoked: both only grow."""

    def identities(self, since: int, most: int) -> bytes:
        """The identities of devices from a number on, 32 bytes each; at most so many."""

    def revoked(self) -> list[int]:
        """The devices that are revoked."""


class Edges:
    """The edges that live, and which devices were seen at each of them.

    Args:
        link: carries the batches.
        register: given to edges that have none of their own.
    """

    def __init__(self, link: EdgeLink, register: Register | None = None) -> None:
        self.link, self._register = link, register
        self._edge_of: dict[int, str] = {}
        self._told = set[str]()
        self._greeted: dict[str, tuple[str, float]] = {}

    def live(self, *, look: bool = True) -> set[str]:
        """The edges that have answered, without those in whose place another one was started.

        Args:
            look: whether to ask who is new.
        """
        there = self.link.edges()
        if look and (new := [edge for edge, name in there.items() if not name]):
            self._greet(new)
            there = self.link.edges()
        self._told &= there.keys()
        return set({name: edge for edge, name in there.items() if name}.values())

    def online(self, *, wait: float, enough: int) -> dict[int, Availability]:
        """The devices that are online, each with what it declares.

        Each edge waits for its share. Once enough are there, wherever they are, the others are asked as they are.
        """
        live, found = self.live(), dict[int, tuple[str, Availability]]()
        rest = set(live)
        share = pack({"ask": LOOK, "wait": wait, "enough": -(-enough // max(1, len(live)))})
        for edge, reply in self.ask(dict.fromkeys(live, share), seconds=wait + COLLECT_SECONDS):
            rest.remove(edge)
            found |= {device: (edge, available) for device, available in self._note(edge, reply).items()}
            if len(found) >= enough:
                break
        else:
            rest.clear()  # those that don't answer
        now = pack({"ask": LOOK, "wait": 0.0, "enough": 0})
        for edge, reply in self.ask(dict.fromkeys(rest, now), seconds=COLLECT_SECONDS):
            found |= {device: (edge, available) for device, available in self._note(edge, reply).items()}
        self._edge_of = {device: edge for device, (edge, _) in found.items()}
        return {device: available for device, (_, available) in found.items()}

    def of(self, device: int, live: set[str]) -> set[str]:
        """The edge at which a device was seen; any that lives, if that one doesn't."""
        edge = self._edge_of.get(device)
        return {edge} if edge in live else live

    def ask(self, batches: Mapping[str, bytes], *, seconds: float) -> Iterator[tuple[str, bytes]]:
        """Ask edges, and yield each one's reply as it comes; ends early where there is another edge meanwhile."""
        if not batches:
            return
        until, before = time.monotonic() + seconds, self.link.edges().keys()
        waiting = {self.link.send(edge, batch, seconds=seconds): edge for edge, batch in batches.items()}
        while waiting and (left := until - time.monotonic()) > 0 and self.link.edges().keys() <= before:
            for asked, reply in self.link.replies(waiting, seconds=min(NEWS, left)):
                edge = waiting.pop(asked)
                if reply is not None:
                    yield edge, reply

    def _greet(self, edges: Collection[str]) -> None:
        """Let edges answer anything; it is waited for when one is seen for the first time."""
        now, look = time.monotonic(), pack({"ask": LOOK, "wait": 0.0, "enough": 0})
        before = {edge for edge, _ in self._greeted.values()}
        self._greeted = {
            asked: (edge, until) for asked, (edge, until) in self._greeted.items() if edge in edges and now < until
        }
        for edge in set(edges) - {edge for edge, _ in self._greeted.values()}:
            self._greeted[self.link.send(edge, look, seconds=GREETING)] = edge, now + GREETING
        until = now if before.issuperset(edges) else now + COLLECT_SECONDS
        while self._greeted:
            left = until - time.monotonic()
            for asked, reply in self.link.replies(self._greeted, seconds=max(0.0, left)):
                edge, _ = self._greeted.pop(asked)
                if reply is not None:
                    self._note(edge, reply)
            if left <= 0:
                return

    def _note(self, edge: str, reply: bytes) -> dict[int, Availability]:
        """Who is online at an edge, by its reply to a look; it is told what it hasn't got of the register."""
        try:
            there, known = _read_look(reply)
        except IntegrityError as error:
            logger.warning("%s", error)
            return {}
        if known is not None:
            self._bring_up(edge, *known)
        return there

    def _bring_up(self, edge: str, count: int, revoked: int) -> None:
        """Give an edge what it hasn't got of the register."""
        if self._register is None:
            return
        (numbers, out), most = self._register.extent(), MOST_BATCH // IDENTITY_BYTES
        head: dict[str, Any] = {"ask": REGISTER, "count": numbers}
        if edge not in self._told:  # what it has may be of a server that was restored since
            count, revoked = 0, -1
        parts = [pack(head, [(since, self._register.identities(since, most))]) for since in range(count, numbers, most)]
        if revoked != out:
            parts.append(pack(head | {"revoked": self._register.revoked()}))
        if all(list(self.ask({edge: part}, seconds=COLLECT_SECONDS)) for part in parts):  # until one isn't heard
            self._told.add(edge)


class EdgeMessenger:
    """A `MessageTransport` whose devices wait at edges.

    Args:
        link: carries the batches.
        register: given to edges that have none of their own.
    """

    def __init__(self, link: EdgeLink, register: Register | None = None) -> None:
        self._edges = Edges(link, register)
        self.heard: set[int] = set()
        """The devices that have answered anything in the latest attempt."""

    def online(self, *, wait: float = 0.0, enough: int = 1) -> Mapping[int, Availability]:
        """The devices that are online, each with what it has declared.

        Args:
            wait: seconds for which it may take until enough are.
            enough: how many that are.
        """
        return self._edges.online(wait=wait, enough=enough)

    def transport(self, cohort: Collection[int], *, timeout: float) -> EdgeTransport:
        """The transport for an attempt's messages to a cohort."""
        self.heard.clear()
        return EdgeTransport(self._edges, cohort, timeout=timeout, heard=self.heard)

    def send_home(self, devices: Mapping[int, float]) -> None:
        """Tell each device in how many seconds to sync again."""
        told, live = dict[str, list[list[float]]](), self._edges.live()
        for device, seconds in devices.items():
            for edge in self._edges.of(device, live):
                told.setdefault(edge, []).append([device, seconds])
        self._tell({edge: pack({"ask": HOME, "devices": each}) for edge, each in told.items()})

    def close(self) -> None:
        """Let each edge forget the exchange that it has."""
        self._tell(dict.fromkeys(self._edges.live(look=False), pack({"ask": CLOSE})))

    def _tell(self, batches: Mapping[str, bytes]) -> None:
        for _ in self._edges.ask(batches, seconds=COLLECT_SECONDS):
            pass


class EdgeTransport:
    """A `Transport` to a cohort whose devices wait at edges.

    Args:
        edges: where they wait.
        cohort: the devices to ask.
        timeout: seconds to wait for the answers of an exchange, which devices are told with the plan.
        heard: takes the devices that answer.
    """

    def __init__(self, edges: Edges, cohort: Collection[int], *, timeout: float, heard: set[int]) -> None:
        self._edges, self._cohort, self._timeout, self._heard = edges, cohort, timeout, heard
        self._most = MOST_SMALL + MOST_OF_EACH * len(cohort)
        self._vector = 0

    def invite(self, *, masked: bool) -> Collection[int]:
        """The cohort."""
        return list(self._cohort)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Send a request, and yield the answers as they come, each device's first.

        The devices of an edge that doesn't live any more are asked wherever they may come.
        """
        if plan := request.shared.get("plan"):
            self._vector = vector_bytes(read_plan(plan).plan)
        begun = {"kind": _kind(request), "seconds": self._timeout, "most": self._most + self._vector}
        name, left = secrets.token_hex(16), dict.fromkeys(request.to)
        until, desks = time.monotonic() + self._timeout, dict[str, _Desk]()
        while left and (seconds := until - time.monotonic()) > 0:
            live = self._edges.live()
            for edge in live - desks.keys():
                desks[edge] = _Desk(name, request, [each for each in left if edge in self._edges.of(each, live)], left)
            desks = {edge: desk for edge, desk in desks.items() if edge in live}
            for edge, desk in desks.items():
                if desk.is_due():
                    wait = min(COLLECT_SECONDS, seconds)
                    desk.ask(self._edges.link, edge, desk.next_batch(begun, wait), seconds=wait + COLLECT_SECONDS)
            waiting = {desk.asked: desk for desk in desks.values() if desk.asked}
            if not waiting:
                time.sleep(min(PAUSE, seconds))
                continue
            for asked, reply in self._edges.link.replies(waiting, seconds=min(NEWS, seconds)):
                for device, answer in waiting[asked].hear(reply):
                    if device in left:
                        del left[device]
                        self._heard.add(device)
                        yield device, answer


def _read_look(reply: bytes) -> tuple[dict[int, Availability], tuple[int, int] | None]:
    """Who is online at an edge, and how much of the register it has, if it has none of its own.

    Raises:
        IntegrityError: it says something else.
    """
    head, _ = unpack(reply)
    try:
        there = {int(device): Availability(float(stays), int(takes)) for device, stays, takes in head["online"]}
        known = head.get("register")
        numbers, revoked = (0, 0) if known is None else map(int, known)
        if min(numbers, *there, 0) < 0 or max(there, default=0) >= SHARED:
            raise ValueError
        return there, None if known is None else (numbers, revoked)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise IntegrityError("an edge must say who is online, got something else") from None


def _kind(request: Request) -> str:
    if request.own is None:
        return MessageKind.PLAN.value
    return (MessageKind.MASKED if request.shared else MessageKind.STEP).value


def _body(values: Mapping[str, bytes]) -> bytes:
    """What a message of a masked attempt has of these values: what all have of it, or what one has after that."""
    named = (framed(values[name]) for name in ("plan", "directory") if name in values)
    return b"".join(named) + values.get("request", b"")


class _Desk:
    """An exchange at one edge.

    Args:
        name: the exchange.
        request: what is asked.
        devices: the devices that are asked there.
        left: devices that haven't answered anywhere.

    Attributes:
        asked: the question that is under way; "" while there is none.
    """

    _have: int
    _unsent: Iterator[list[Frame]]
    _frames: list[Frame] | None
    _further: list[Frame] | None

    def __init__(self, name: str, request: Request, devices: list[int], left: Mapping[int, object]) -> None:
        self._name, self._own, self._devices, self._left = name, request.own, dict.fromkeys(devices), left
        self._shared = request.shared["plan"] if request.own is None else _body(request.shared)
        self._boot, self.asked, self._next = "", "", 0.0
        self._begin()

    def is_due(self) -> bool:
        """Whether the edge is to be asked: no question is under way, and devices there haven't answered."""
        if time.monotonic() < self._next:
            return False
        return any(device in self._left for device in self._devices)

    def ask(self, link: EdgeLink, edge: str, batch: bytes, *, seconds: float) -> None:
        """Ask the edge; if no reply comes in so many seconds, it is due again."""
        self.asked, self._next = link.send(edge, batch, seconds=seconds), time.monotonic() + seconds

    def hear(self, reply: bytes | None) -> list[Frame]:
        """The answers of a reply by devices that are asked there; what was lost is asked again after a pause."""
        self.asked, self._next = "", 0.0
        try:
            if reply is not None:
                return [(device, answer) for device, answer in self._read(reply) if device in self._devices]
        except IntegrityError as error:
            logger.warning("%s", error)
        self._next = time.monotonic() + PAUSE
        return []

    def next_batch(self, begun: dict[str, Any], wait: float) -> bytes:
        """The next batch to the edge: requests, and with the last of them, or after it, the question for answers."""
        asks = wait if self._further is None else 0.0
        head: dict[str, Any] = {"ask": EXCHANGE, "exchange": self._name, "have": self._have, "wait": asks}
        return pack(head) if self._frames is None else pack(head | begun, [(SHARED, self._shared), *self._frames])

    def _read(self, reply: bytes) -> list[Frame]:
        """The answers of a reply; notes whether the edge must be asked anew."""
        head, frames = unpack(reply)
        try:
            boot, known = str(head["boot"]), bool(head["known"])
            turn = int(head["turn"]) if known else 0
        except (KeyError, ValueError, TypeError, OverflowError):
            raise IntegrityError("an edge must say what it knows of an exchange, got something else") from None
        if not known or (self._boot and boot != self._boot):
            self._boot = ""
            self._begin()
        else:
            self._boot = boot
            self._have = max(self._have, turn)
            self._frames, self._further = self._further, next(self._unsent, None)  # it has the latest ones
        return frames

    def _begin(self) -> None:
        """Begin anew, with the requests to who hasn't answered, in lists that fit in a batch."""
        own, left = self._own, (device for device in self._devices if device in self._left)
        self._have, self._unsent = 0, split((device, b"" if own is None else _body(own(device))) for device in left)
        self._frames, self._further = next(self._unsent, None), next(self._unsent, None)
