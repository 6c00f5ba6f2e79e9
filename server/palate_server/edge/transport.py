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
PAUSE: Final = 0.5
"""Seconds between two looks for an edge, while there is none."""
SHARED: Final = 2**32 - 1
"""The number of the frame that is no device's: what all messages begin with."""


class EdgeLink(Protocol):
    """Carries batches to the edges and back."""

    def edges(self) -> Collection[str]:
        """The edges that can be asked; one that was started again may be another one."""

    def ask(self, batches: Mapping[str, bytes], *, seconds: float) -> Iterable[tuple[str, bytes]]:
        """Ask edges, and yield each one's reply as it comes, for so many seconds at most.

        One that doesn't answer in time yields nothing; it may end earlier where there is another edge meanwhile.

        Raises:
            PalateError: none can be reached any more.
        """


class Edges:
    """The edges that live, and which devices were seen at each of them.

    Args:
        link: carries the batches.
    """

    def __init__(self, link: EdgeLink) -> None:
        self.link = link
        self._name_of: dict[str, str] = {}
        self._edge_of: dict[int, str] = {}

    def live(self, *, look: bool = True) -> set[str]:
        """The edges that can be asked, without those in whose place another one was started.

        Args:
            look: whether to ask who is new.
        """
        there = set(self.link.edges())
        if look and (new := there - self._name_of.keys()):
            self._look(new, wait=0.0, enough=0)
        latest = {name: edge for edge, name in self._name_of.items() if edge in there}
        return {edge for edge in there if latest.get(self._name_of.get(edge, ""), edge) == edge}

    def online(self, *, wait: float, enough: int) -> dict[int, Availability]:
        """The devices that are online, each with what it declares."""
        live = self.live()
        found = self._look(live, wait=wait, enough=-(-enough // max(1, len(live))))
        self._edge_of = {device: edge for device, (edge, _) in found.items()}
        return {device: available for device, (_, available) in found.items()}

    def of(self, device: int, live: set[str]) -> set[str]:
        """The edge at which a device was seen; any that lives, if that one doesn't."""
        edge = self._edge_of.get(device)
        return {edge} if edge in live else live

    def _look(self, edges: Iterable[str], *, wait: float, enough: int) -> dict[int, tuple[str, Availability]]:
        """Ask edges who they are, and who is online there."""
        found = dict[int, tuple[str, Availability]]()
        asked = dict.fromkeys(edges, pack({"ask": LOOK, "wait": wait, "enough": enough}))
        for edge, reply in self.link.ask(asked, seconds=wait + COLLECT_SECONDS):
            head, _ = unpack(reply)
            try:
                name = str(head["name"])
                there = {int(device): Availability(float(stays), int(takes)) for device, stays, takes in head["online"]}
            except (KeyError, ValueError, TypeError, OverflowError):
                raise IntegrityError("an edge must say who is online, got something else") from None
            self._name_of.pop(edge, None)  # the latest to be named is the one that lives
            self._name_of[edge] = name
            found |= {device: (edge, available) for device, available in there.items()}
        return found


class EdgeMessenger:
    """A `MessageTransport` whose devices wait at edges.

    Args:
        link: carries the batches.
    """

    def __init__(self, link: EdgeLink) -> None:
        self._edges = Edges(link)
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
        for _ in self._edges.link.ask(batches, seconds=COLLECT_SECONDS):
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
            live, wait = self._edges.live(), min(COLLECT_SECONDS, seconds)
            for edge in live - desks.keys():
                desks[edge] = _Desk(name, request, [each for each in left if edge in self._edges.of(each, live)], left)
            desks = {edge: desk for edge, desk in desks.items() if edge in live}
            asked = {edge: desk.next_batch(begun, wait) for edge, desk in desks.items() if desk.devices}
            if not asked:
                time.sleep(min(PAUSE, seconds))
            for edge, reply in self._edges.link.ask(asked, seconds=wait + COLLECT_SECONDS):
                for device, answer in desks[edge].read(reply):
                    if device in left:
                        del left[device]
                        self._heard.add(device)
                        yield device, answer


def _kind(request: Request) -> str:
    if request.own is None:
        return MessageKind.PLAN.value
    return (MessageKind.MASKED if request.shared else MessageKind.STEP).value


class _Desk:
    """An exchange at one edge.

    Args:
        name: the exchange.
        request: what is asked.
        devices: the devices that are asked there.
        left: devices that haven't answered anywhere.
    """

    _have: int
    _unsent: Iterator[list[Frame]]
    _frames: list[Frame] | None
    _further: list[Frame] | None

    def __init__(self, name: str, request: Request, devices: list[int], left: Mapping[int, object]) -> None:
        plan, directory = (request.shared.get(name, b"") for name in ("plan", "directory"))
        self._name, self._own, self._devices, self._left = name, request.own, devices, left
        self._shared = plan if request.own is None else first_body(plan, directory, b"") if plan else b""
        self._boot = ""
        self._begin()

    @property
    def devices(self) -> bool:
        """Whether devices that are asked there haven't answered."""
        return any(device in self._left for device in self._devices)

    def next_batch(self, begun: dict[str, Any], wait: float) -> bytes:
        """The next batch to the edge: requests, and with the last of them, or after it, the question for answers."""
        asks = wait if self._further is None else 0.0
        head: dict[str, Any] = {"ask": EXCHANGE, "exchange": self._name, "have": self._have, "wait": asks}
        return pack(head) if self._frames is None else pack(head | begun, [(SHARED, self._shared), *self._frames])

    def read(self, reply: bytes) -> list[Frame]:
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
        self._have, self._unsent = 0, split((device, b"" if own is None else own(device)) for device in left)
        self._frames, self._further = next(self._unsent, None), next(self._unsent, None)
