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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Protocol

from palate_common.rounds.exchange import Availability, MessageKind, framed
from palate_common.rounds.wire import vector_bytes
from palate_core.errors import IntegrityError
from palate_core.plan import read_plan
from palate_server.edge.batches import (
    CLAIM,
    CLOSE,
    EXCHANGE,
    HOME,
    HOME_IN,
    LOOK,
    MOST_BATCH,
    MOST_HEAD,
    MOST_LOOK,
    SHARED,
    Frame,
    pack,
    split,
    unpack,
)
from palate_server.edge.partial_sum import answer_bytes
from palate_server.edge.proofs import MOST_PROOF, Proofs
from palate_server.edge.told_register import next_part
from palate_server.folder.edges import OWN
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
"""Seconds in which an edge may answer for the first time, or to a part of the register, before it is asked again: then
it has twice as many."""
MOST_GROWTH: Final = 5
"""How often that is doubled."""
MOST_SAID: Final = 32
"""Edges that are greeted, or told of the register, at once; a grant registers fewer nodes in the first time."""
_NOW: Final = pack({"ask": LOOK, "wait": 0.0, "enough": 0})


class EdgeLink(Protocol):
    """Carries batches to the edges and back; each method raises PalateError once none can be reached any more."""

    def edges(self) -> Mapping[str, str]:
        """The edges that can be asked, each with its name, "" before it has answered anything; the latest named last.

        An edge that was started again may be another one, of the same name.
        """

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        """Ask an edge, which has so many seconds and bytes to answer; returns a name of the question."""

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        """The replies to some questions, with their names: none or more, as soon as one is there, or the time is up.

        None in the place of a reply: the question was lost, and no other answer will come.
        """


@dataclass(frozen=True)
class _Seen:
    """A device at an edge: when it signed that, in milliseconds since 1970, and what it declares."""

    edge: str
    time: int
    available: Availability


class Edges:
    """The edges that live, and which devices were seen at each of them.

    Args:
        link: carries the batches.
        proofs: judges what edges on other hosts say of devices, and has the register that they are told; None: there
            are none on other hosts.
        adds: whether an edge, by name, may add up masked vectors, of which the coordinator then sees their sum alone.
    """

    def __init__(self, link: EdgeLink, proofs: Proofs | None, adds: Callable[[str], bool]) -> None:
        self.link, self._proofs, self._adds = link, proofs, adds
        self._at: dict[int, _Seen] = {}
        self._own, self.adding = set[str](), set[str]()
        self._told: dict[str, tuple[int, int]] = {}
        self._tries: dict[str, int] = {}
        self._saying: dict[str, tuple[str, float, tuple[int, int] | None]] = {}

    def live(self, *, wait: float = 0.0) -> set[str]:
        """The edges that have answered, without those in whose place another one was started; asks who is new.

        Args:
            wait: seconds for which the first one may take to answer.
        """
        there = self.link.edges()
        self._say(there)
        self._hear(0.0 if any(there.values()) else wait)
        there = self.link.edges()
        self._own = {edge for edge, name in there.items() if name == OWN}
        self.adding = {edge for edge, name in there.items() if name and self._adds(name)}
        self._told = {edge: each for edge, each in self._told.items() if edge in there}
        self._tries = {edge: each for edge, each in self._tries.items() if edge in there}
        return set({name: edge for edge, name in there.items() if name}.values())

    def online(self, *, wait: float, enough: int) -> dict[int, Availability]:
        """The devices that are online, each with what it declares.

        Each edge waits for its share. Once enough are there, wherever they are, the others are asked as they are.
        """
        live, found = self.live(wait=COLLECT_SECONDS), dict[int, _Seen]()
        rest = set(live)
        share = pack({"ask": LOOK, "wait": wait, "enough": -(-enough // max(1, len(live)))})
        for edge, reply in self.ask(dict.fromkeys(live, share), seconds=wait + COLLECT_SECONDS):
            rest.remove(edge)
            self._note(found, edge, reply)
            if len(found) >= enough:
                break
        else:
            rest.clear()  # those that don't answer
        for edge, reply in self.ask(dict.fromkeys(rest, _NOW), seconds=COLLECT_SECONDS):
            self._note(found, edge, reply)
        if self._proofs is not None:
            self._proofs.forget()
        self._at = found
        return {device: each.available for device, each in found.items()}

    def of(self, device: int, live: set[str]) -> set[str]:
        """The edge at which a device was seen; any that lives, if that one doesn't."""
        seen = self._at.get(device)
        return {seen.edge} if seen is not None and seen.edge in live else live

    def look(self, live: set[str]) -> dict[str, str]:
        """Ask edges who is there, without waiting for it: the questions, each with its edge, for `moved`."""
        seconds, most = 2 * COLLECT_SECONDS, self._most_look()
        return {self.link.send(edge, _NOW, seconds=seconds, most=most): edge for edge in live}

    def moved(self, edge: str, reply: bytes | None, among: Collection[int]) -> list[int]:
        """Those of some devices that came to an edge after they were seen at another, by its reply to a look."""
        former, self._at = self._at, dict(self._at)
        if reply is not None:
            self._note(self._at, edge, reply)
        return [each for each in among if each in former and former[each].edge != edge == self._at[each].edge]

    def ask(self, batches: Mapping[str, bytes], *, seconds: float) -> Iterator[tuple[str, bytes]]:
        """Ask edges small things, and yield each one's reply as it comes; one that is gone isn't waited for."""
        until, most = time.monotonic() + seconds, self._most_look()
        waiting = {self.link.send(edge, batch, seconds=seconds, most=most): edge for edge, batch in batches.items()}
        while waiting and (left := until - time.monotonic()) > 0:
            for asked, reply in self.link.replies(waiting, seconds=min(NEWS, left)):
                edge = waiting.pop(asked)
                if reply is not None:
                    yield edge, reply
            if waiting:
                live = self.live()
                waiting = {asked: edge for asked, edge in waiting.items() if edge in live}

    def answer_of(self, edge: str, device: int, exchange: str, data: bytes, added: int | None = None) -> bytes:
        """A device's answer, as an edge forwards it; what it has signed with a vector, if its edge has added that.

        Raises:
            IntegrityError: the edge is on another host, and the device hasn't signed that; or it may not add.
        """
        if added is not None and edge not in self.adding:
            raise IntegrityError("an edge must be let add before it sends a sum, got one that isn't")
        if self._proofs is None or edge in self._own:
            return data
        return self._proofs.answered(device, exchange, data, added)

    def _say(self, there: Mapping[str, str]) -> None:
        """Greet nodes that have no name yet, and tell edges on other hosts the next part of the register.

        Who doesn't answer has longer each time, and gives way to others: a false edge may have nodes without end.
        """
        now, extent = time.monotonic(), None if self._proofs is None else self._proofs.register.extent()
        self._saying = {asked: each for asked, each in self._saying.items() if each[0] in there and now < each[1]}
        waited = {edge for edge, _, _ in self._saying.values()}
        due = [
            (self._tries.get(edge, 0), edge)
            for edge, name in there.items()
            if edge not in waited and name != OWN and (not name or extent not in (None, self._told.get(edge)))
        ]
        for times, edge in sorted(due)[:MOST_SAID]:
            if len(self._saying) >= MOST_SAID:
                longest = max(self._saying, key=lambda asked: self._tries.get(self._saying[asked][0], 0))
                if self._tries.get(self._saying[longest][0], 0) <= times + 1:
                    break
                del self._saying[longest]
            seconds, part, told = GREETING * 2 ** min(times, MOST_GROWTH), _NOW, None
            if there[edge] and self._proofs is not None:
                part, told = next_part(self._proofs.register, self._told.get(edge))
            self._tries[edge] = times + 1
            asked = self.link.send(edge, part, seconds=seconds, most=self._most_look())
            self._saying[asked] = edge, now + seconds, told

    def _hear(self, seconds: float) -> None:
        """Hear what has been answered to that; for so many seconds, unless somebody has."""
        for asked, reply in self.link.replies(list(self._saying), seconds=seconds) if self._saying else ():
            edge, _, told = self._saying.pop(asked)
            if reply is not None:
                self._tries.pop(edge, None)
                if told is not None:
                    self._told[edge] = told

    def _most_look(self) -> int:
        """Bytes of the reply to a look."""
        most = MOST_LOOK if self._proofs is None else MOST_PROOF * self._proofs.register.extent()[0]
        return MOST_HEAD + 2 * min(MOST_LOOK, most)

    def _note(self, found: dict[int, _Seen], edge: str, reply: bytes) -> None:
        """Note who is online at an edge, by its reply to a look; of two edges a device is at its latest."""
        try:
            for device, seen in self._read_look(edge, reply).items():
                if device not in found or found[device].time < seen.time:
                    found[device] = seen
        except IntegrityError as error:
            logger.warning("%s", error)

    def _read_look(self, edge: str, reply: bytes) -> dict[int, _Seen]:
        """Who is online at an edge.

        Raises:
            IntegrityError: it says something else, or what a device hasn't signed.
        """
        head, frames = unpack(reply, most=None if self._proofs is None else self._proofs.register.extent()[0])
        if head.get("online") is not True or any(len(data) < CLAIM.size or device == SHARED for device, data in frames):
            raise IntegrityError("an edge must say who is online, got something else")
        found = dict[int, _Seen]()
        for device, data in frames:
            left, takes = CLAIM.unpack_from(data)
            if self._proofs is None:
                found[device] = _Seen(edge, 0, Availability(left / 1000, takes))
            elif (asked := self._proofs.presence(device, data[CLAIM.size :])) is not None:
                said = asked.available
                found[device] = _Seen(edge, asked.time, Availability(min(left / 1000, said.stays), said.takes))
        return found


class EdgeMessenger:
    """A `MessageTransport` whose devices wait at edges.

    Args:
        link: carries the batches.
        proofs: see `Edges`.
        adds: see `Edges`; by default the server's own may.
    """

    def __init__(self, link: EdgeLink, proofs: Proofs | None = None, adds: Callable[[str], bool] = OWN.__eq__) -> None:
        self._edges = Edges(link, proofs, adds)
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
        told, live = dict[str, list[Frame]](), self._edges.live()
        for device, seconds in devices.items():
            for edge in self._edges.of(device, live):
                told.setdefault(edge, []).append((device, HOME_IN.pack(seconds)))
        self._tell({edge: pack({"ask": HOME}, each) for edge, each in told.items()})

    def close(self) -> None:
        """Let each edge forget the exchange that it has."""
        self._tell(dict.fromkeys(self._edges.live(), pack({"ask": CLOSE})))

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
        answer = self._most + self._vector
        begun = {"kind": _kind(request), "seconds": self._timeout, "most": answer}
        most = MOST_HEAD + MOST_BATCH + answer + 2 * MOST_PROOF * len(self._cohort)
        name, left = secrets.token_hex(16), dict.fromkeys(request.to)
        until, desks = time.monotonic() + self._timeout, dict[str, _Desk]()
        # A vector that is asked for elsewhere could come twice: in a sum of which it can't be taken off.
        stays = request.attempt is not None and any(map(request.attempt.signed, request.to))
        quiet, looks = time.monotonic(), dict[str, str]()
        while left and (seconds := until - time.monotonic()) > 0:
            live = self._edges.live()
            for edge in live - desks.keys():
                there = [each for each in left if edge in self._edges.of(each, live)]
                desks[edge] = _Desk(name, request, there, left, adds=edge in self._edges.adding)
            desks = {edge: desk for edge, desk in desks.items() if edge in live}
            for edge, desk in desks.items():
                if desk.is_due():
                    wait = min(COLLECT_SECONDS, seconds)
                    desk.ask(self._edges.link, edge, desk.next_batch(begun, wait), wait + COLLECT_SECONDS, most)
            if not stays and len(live) > 1 and time.monotonic() > quiet + 2 * COLLECT_SECONDS:
                quiet, looks = time.monotonic(), self._edges.look(live)
            waiting = {desk.asked: edge for edge, desk in desks.items() if desk.asked} | looks
            if not waiting:
                time.sleep(min(PAUSE, seconds))
                continue
            for asked, reply in self._edges.link.replies(waiting, seconds=min(NEWS, seconds)):
                edge = waiting[asked]
                if looks.pop(asked, None):
                    if edge in desks and (moved := self._edges.moved(edge, reply, left)):
                        desks[edge].add(moved)
                    continue
                heard = desks[edge].hear(reply)
                if heard:
                    quiet = time.monotonic()
                try:
                    if heard and heard[0][0] == SHARED:
                        self._take_sum(request, edge, name, heard, left)
                        continue
                    for device, data in heard:
                        if device in left:
                            found = self._edges.answer_of(edge, device, name, data)
                            del left[device]
                            self._heard.add(device)
                            yield device, found
                except IntegrityError as error:  # the edge is false: the rest of the reply isn't looked at
                    logger.warning("%s", error)
                    desks[edge].put_off()

    def _take_sum(self, request: Request, edge: str, name: str, frames: list[Frame], left: dict[int, None]) -> None:
        """Take a sum of vectors whose devices have all signed for them, and none was heard before; or nothing of it.

        Raises:
            IntegrityError: the edge is false.
        """
        ((_, total), *each), attempt = frames, request.attempt
        devices = {device for device, _ in each}
        if not devices & left.keys():  # it was heard, and is told again
            return
        if attempt is None or not devices <= left.keys() or len(devices) < len(each):
            raise IntegrityError("a sum must be of devices that are asked and weren't heard, each once, got others")
        length = answer_bytes(attempt.terms.size, attempt.terms.bits)
        signatures = {device: self._edges.answer_of(edge, device, name, data, length) for device, data in each}
        if not attempt.receive_sum(signatures, total):
            raise IntegrityError("a sum must be of vectors that its devices have signed for, got another")
        for device in devices:
            del left[device]
        self._heard |= devices


def _kind(request: Request) -> str:
    if request.own is None:
        return MessageKind.PLAN.value
    return (MessageKind.MASKED if request.shared else MessageKind.STEP).value


def _body(values: Mapping[str, bytes]) -> bytes:
    """What a message of a masked attempt has of these values: what all have of it, or what one has after that."""
    named = (framed(values[name]) for name in ("plan", "directory") if name in values)
    return b"".join(named) + values.get("request", b"")


_Part = tuple[dict[str, Any], list[Frame]]
"""What a batch with requests has in its head beside what all have, and its frames."""


class _Desk:
    """An exchange at one edge.

    Args:
        name: the exchange.
        request: what is asked.
        devices: the devices that are asked there.
        left: devices that haven't answered anywhere.
        adds: whether the edge adds up masked vectors.

    Attributes:
        asked: the question that is under way; "" while there is none.
    """

    _have: int
    _unsent: Iterator[_Part]
    _part: _Part | None
    _sent: _Part | None
    _further: _Part | None

    def __init__(
        self, name: str, request: Request, devices: Iterable[int], left: Mapping[int, object], *, adds: bool
    ) -> None:
        self._name, self._own, self._devices, self._left = name, request.own, dict.fromkeys(devices), left
        self._adding = request.attempt if adds else None
        self._shared = request.shared["plan"] if request.own is None else _body(request.shared)
        self._boot, self.asked, self._next = "", "", 0.0
        self._begin()

    def is_due(self) -> bool:
        """Whether the edge is to be asked: no question is under way, and devices there haven't answered."""
        if time.monotonic() < self._next:
            return False
        return any(device in self._left for device in self._devices)

    def ask(self, link: EdgeLink, edge: str, batch: bytes, seconds: float, most: int) -> None:
        """Ask the edge; if no reply comes in so many seconds, it is due again."""
        self.asked, self._next = link.send(edge, batch, seconds=seconds, most=most), time.monotonic() + seconds

    def hear(self, reply: bytes | None) -> list[Frame]:
        """The answers of a reply by devices that are asked there, or its sum; what was lost is asked again, later."""
        self.asked, self._next = "", 0.0
        try:
            if reply is not None:
                frames = self._read(reply)
                if frames and frames[0][0] == SHARED:
                    return frames
                return [(device, answer) for device, answer in frames if device in self._devices]
        except IntegrityError as error:
            logger.warning("%s", error)
        self.put_off()
        return []

    def put_off(self) -> None:
        """Ask the edge after a pause: what it said is of no use, and it could say it again at once."""
        self._next = time.monotonic() + PAUSE

    def next_batch(self, begun: dict[str, Any], wait: float) -> bytes:
        """The next batch to the edge: requests, and with the last of them, or after it, the question for answers."""
        asks = wait if self._further is None else 0.0
        head: dict[str, Any] = {"ask": EXCHANGE, "exchange": self._name, "have": self._have, "wait": asks}
        self._sent = self._part
        return pack(head) if self._part is None else pack(head | begun | self._part[0], self._part[1])

    def add(self, devices: list[int]) -> None:
        """Ask more devices there."""
        self._devices |= dict.fromkeys(devices)
        self._unsent = chain(filter(None, (self._part, self._further)), self._unsent, self._parts(devices))
        self._part, self._further = next(self._unsent, None), next(self._unsent, None)

    def _read(self, reply: bytes) -> list[Frame]:
        """The answers of a reply; notes whether the edge must be asked anew."""
        head, frames = unpack(reply, most=len(self._devices) + (self._adding is not None))
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
            if self._sent is self._part:  # it has that; others may have come while it was on the way
                self._part, self._further = self._further, next(self._unsent, None)
        return frames

    def _begin(self) -> None:
        """Begin anew, with the requests to who hasn't answered, in parts that fit in a batch."""
        self._have, self._unsent = 0, self._parts(self._devices)
        self._part, self._further = next(self._unsent, None), next(self._unsent, None)

    def _parts(self, devices: Iterable[int]) -> Iterator[_Part]:
        """The parts with the requests to some devices; of those whose vectors are added up each by what is signed."""
        own, adding, groups = self._own, self._adding, dict[bytes, list[int]]()
        for device in devices:
            if device in self._left:
                groups.setdefault(b"" if adding is None else adding.signed(device), []).append(device)
        for signed, group in groups.items():
            adds = {"adds": [adding.terms.size, adding.terms.bits]} if adding is not None and signed else {}
            for frames in split((device, b"" if own is None else _body(own(device))) for device in group):
                yield adds, [(SHARED, signed or self._shared), *frames]
