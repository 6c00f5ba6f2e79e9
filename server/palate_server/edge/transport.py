"""Transport: sends an operation's messages to its devices, which wait at edges.

    Operation -> EdgeMessenger -> EdgeLink -> WaitingRoom of each edge -> DeviceDoor -> devices

An exchange is begun at each edge with the requests of its devices, and then asked for again and again until all have
answered or the time is up. Whatever gets lost on the way, an edge that was started again included, is only asked for
once more: a device answers the same request by the same bytes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from palate_common.rounds.exchange import Availability, MessageKind, first_body
from palate_common.rounds.wire import vector_bytes
from palate_core.errors import IntegrityError
from palate_core.plan import read_plan
from palate_server.edge.batches import CLOSE, EXCHANGE, HOME, LOOK, Frame, pack, split, unpack
from palate_server.rounds.run import Request

COLLECT_SECONDS: Final = 10.0
"""The longest that an edge waits for answers before it says what has come."""
MOST_SMALL: Final = 2**16
"""Bytes of an answer beside a vector, and beside what it has for each device of the cohort."""
MOST_OF_EACH: Final = 512
"""Bytes of an answer for each device of the cohort."""
SHARED: Final = 2**32 - 1
"""The number of the frame that is no device's: what all messages begin with."""


class EdgeLink(Protocol):
    """Carries batches to the edges and back."""

    def edges(self) -> Collection[str]:
        """The names of the edges that can be asked."""

    def ask(self, batches: Mapping[str, bytes], *, seconds: float) -> Iterable[tuple[str, bytes]]:
        """Ask edges, and yield each one's reply as it comes, for so many seconds at most.

        One that doesn't answer in time yields nothing.

        Raises:
            PalateError: none can be reached any more.
        """


class EdgeMessenger:
    """A `MessageTransport` whose devices wait at edges.

    Args:
        link: carries the batches.
    """

    def __init__(self, link: EdgeLink) -> None:
        self._link = link
        self._edge_of: dict[int, str] = {}
        self.heard: set[int] = set()
        """The devices that have answered anything in the latest attempt."""

    def online(self, *, wait: float = 0.0) -> Mapping[int, Availability]:
        """The devices that are online, each with what it has declared.

        Args:
            wait: seconds for which it may take until another device is online than the last time.
        """
        found = dict[int, Availability]()
        edge_of = dict[int, str]()
        asked = dict.fromkeys(self._link.edges(), pack({"ask": LOOK, "wait": wait}))
        for edge, reply in self._link.ask(asked, seconds=wait + COLLECT_SECONDS):
            for device, stays, takes in unpack(reply)[0]["online"]:
                found[device], edge_of[device] = Availability(stays, takes), edge
        self._edge_of = edge_of
        return found

    def transport(self, cohort: Collection[int], *, timeout: float) -> EdgeTransport:
        """The transport for an attempt's messages to a cohort."""
        self.heard.clear()
        return EdgeTransport(self._link, self._edge_of, cohort, timeout=timeout, heard=self.heard)

    def send_home(self, devices: Mapping[int, float]) -> None:
        """Tell each device in how many seconds to sync again."""
        told = dict[str, list[list[float]]]()
        for device, seconds in devices.items():
            if (edge := self._edge_of.get(device)) is not None:
                told.setdefault(edge, []).append([device, seconds])
        self._tell({edge: pack({"ask": HOME, "devices": each}) for edge, each in told.items()})

    def close(self) -> None:
        """Let each edge forget the exchange that it has."""
        self._tell(dict.fromkeys(self._link.edges(), pack({"ask": CLOSE})))

    def _tell(self, batches: Mapping[str, bytes]) -> None:
        for _ in self._link.ask(batches, seconds=COLLECT_SECONDS):
            pass


class EdgeTransport:
    """A `Transport` to a cohort whose devices wait at edges.

    Args:
        link: carries the batches.
        edge_of: device -> the edge at which it was seen last.
        cohort: the devices to ask.
        timeout: seconds to wait for the answers of an exchange, which devices are told with the plan.
        heard: takes the devices that answer.
    """

    def __init__(
        self,
        link: EdgeLink,
        edge_of: Mapping[int, str],
        cohort: Collection[int],
        *,
        timeout: float,
        heard: set[int],
    ) -> None:
        self._link, self._edge_of, self._cohort = link, edge_of, cohort
        self._timeout, self._heard = timeout, heard
        self._most = MOST_SMALL + MOST_OF_EACH * len(cohort)
        self._vector = 0

    def invite(self, *, masked: bool) -> Collection[int]:
        """The cohort."""
        return list(self._cohort)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Send a request, and yield the answers as they come."""
        if plan := request.shared.get("plan"):
            self._vector = vector_bytes(read_plan(plan).plan)
        begun = {"kind": self._kind(request), "seconds": self._timeout, "most": self._most + self._vector}
        desks = self._desks(request)
        until = time.monotonic() + self._timeout
        while desks and (left := until - time.monotonic()) > 0:
            wait = min(COLLECT_SECONDS, left)
            asked = {edge: desk.next_batch(begun, wait) for edge, desk in desks.items()}
            for edge, reply in self._link.ask(asked, seconds=wait + COLLECT_SECONDS):
                desk = desks[edge]
                for device, answer in desk.read(reply):
                    self._heard.add(device)
                    yield device, answer
            desks = {edge: desk for edge, desk in desks.items() if not desk.over}

    def _kind(self, request: Request) -> str:
        if request.own is None:
            return MessageKind.PLAN.value
        return (MessageKind.MASKED if request.shared else MessageKind.STEP).value

    def _desks(self, request: Request) -> dict[str, _Desk]:
        """What each edge is to ask."""
        name, plan = secrets.token_hex(16), request.shared.get("plan", b"")
        shared = plan if request.own is None else first_body(plan, b"") if plan else b""
        devices = dict[str, list[int]]()
        edges = set(self._link.edges())
        for device in request.to:
            edge = self._edge_of.get(device, "")
            if edge in edges:
                devices.setdefault(edge, []).append(device)
        return {edge: _Desk(name, shared, request, each) for edge, each in devices.items()}


class _Desk:
    """An exchange at one edge.

    Args:
        name: the exchange.
        shared: what all messages begin with.
        request: makes the rest of each.
        devices: the edge's devices.

    Attributes:
        over: whether all of them have answered.
    """

    def __init__(self, name: str, shared: bytes, request: Request, devices: list[int]) -> None:
        self._name, self._shared, self._request = name, shared, request
        self._left = dict.fromkeys(devices)
        self._boot, self.over = "", False
        self._begin()

    def next_batch(self, begun: dict[str, Any], wait: float) -> bytes:
        """The next batch to the edge: requests, and with the last of them, or after it, the question for answers."""
        frames, self._frames = self._frames, next(self._unsent, None)
        asks = wait if self._frames is None else 0.0
        head: dict[str, Any] = {"ask": EXCHANGE, "exchange": self._name, "have": self._have, "wait": asks}
        return pack(head) if frames is None else pack(head | begun, [(SHARED, self._shared), *frames])

    def read(self, reply: bytes) -> Iterator[Frame]:
        """The answers of a reply, each device's first; notes whether the edge must be asked anew."""
        head, frames = unpack(reply)
        try:
            boot, known = str(head["boot"]), bool(head["known"])
            turn = int(head["turn"]) if known else 0
        except (KeyError, ValueError, TypeError):
            raise IntegrityError("an edge must say what it knows of an exchange, got something else") from None
        if not known or (self._boot and boot != self._boot):
            self._boot = ""
            self._begin()
        else:
            self._boot = boot
            self._have = max(self._have, turn)
        for device, answer in frames:
            if device in self._left:
                del self._left[device]
                yield device, answer
        self.over = not self._left

    def _begin(self) -> None:
        """Begin anew, with the requests to who hasn't answered, in lists that fit in a batch."""
        own, left = self._request.own, (device for device in list(self._left) if device in self._left)
        self._have, self._unsent = 0, split((device, b"" if own is None else own(device)) for device in left)
        self._frames = next(self._unsent, None)
