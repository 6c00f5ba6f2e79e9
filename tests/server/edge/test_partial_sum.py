"""Masked vectors that edges add up: the same sum, whatever is lost on the way, and what a false edge can do to it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_common.rounds.exchange import PATH, Availability, ExchangeRequest
from palate_core.device.attempt import MaskedDevice
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import SIGNATURE, Step, step_of
from palate_core.masks.packing import pack as packed
from palate_core.masks.packing import unpack as unpacked
from palate_core.masks.transcript import AttemptTerms
from palate_core.noise_share import NoisedVector
from palate_server.edge import transport
from palate_server.edge.batches import EXCHANGE, LOOK, SHARED, Frame, pack, unpack
from palate_server.edge.proofs import Proofs, proof_of, proven
from palate_server.edge.told_register import ToldRegister
from palate_server.edge.transport import EdgeMessenger
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Enrolments
from palate_server.rounds.run import masked_request
from palate_server.secagg.subcohorts import Subcohorts

NUMBERS, BITS = 11, 21
SERVER = SigningKey.generate()
KEYS = [SigningKey.generate() for _ in range(13)]
"""Of devices 0 to 12; those from 12 on take part in nothing."""
COHORT = range(12)
VECTORS = np.random.default_rng(5).integers(-9, 10, (len(COHORT), NUMBERS))
REGISTER = Enrolments(":memory:")
for _key in KEYS:
    REGISTER.enrol(REGISTER.invite(now=0.0, hours=1.0), identity=_key.public, now=1.0)


class Hosts:
    """An `EdgeLink` to edges on three hosts, at each of which every third device waits; nothing takes time there."""

    def __init__(self, subcohorts: int) -> None:
        self.rooms = {name: self._room() for name in ("east", "north", "south")}
        self.home = {device: sorted(self.rooms)[device % 3] for device in range(len(KEYS))}
        self.said = dict[tuple[int, str], tuple[bytes, bytes]]()
        """(device, exchange) -> its answer, and the proof of it."""
        self.lie: Callable[[str, list[Frame]], list[Frame]] = lambda edge, frames: frames
        """What an edge says in the place of what it has heard."""
        self.exchange = ""
        self.sums = list[list[int]]()
        """Who was in each sum that was sent."""
        self.fate: Callable[[str], str] = lambda edge: ""
        self._replies, self._looks = dict[str, bytes | None](), set[str]()
        self._time = 1000 * 1_800_000_000
        members = [COHORT[place::subcohorts] for place in range(subcohorts)]
        made = [Directory({each: KEYS[each].public for each in part}) for part in members]
        beside = tuple(each.own_hash for each in made) if subcohorts > 1 else ()
        self.directories = [replace(each, beside=beside) for each in made]
        n = len(members[0])
        self.terms = AttemptTerms(
            context=secrets.token_bytes(32), size=NUMBERS, bits=BITS, n_max=n, n_min={12: 8, 6: 5}[n], c_max=1,
            directory=self.directories[0].hash,
        )  # fmt: skip
        self.devices = {
            device: MaskedDevice(
                self.terms, id=device, identity=KEYS[device], directory=directory, server_key=SERVER.public,
                vector=lambda device=device: NoisedVector(VECTORS[device]), latch=lambda *_: None,
            )
            for directory in self.directories
            for device in directory.identities
        }  # fmt: skip

    def _room(self) -> WaitingRoom:
        told = ToldRegister()
        told.hear(len(KEYS), [(0, REGISTER.identities(0, len(KEYS))), (SHARED, b"")])
        return WaitingRoom(told)

    def edges(self) -> Mapping[str, str]:
        return {name: name for name in self.rooms}

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        head, frames = unpack(batch)
        name, fate = secrets.token_hex(4), self.fate(edge) if head["ask"] == EXCHANGE else ""
        if fate == "restart":
            self.rooms[edge] = self._room()
        if fate == "lost":
            self._replies[name] = None
            return name
        room = self.rooms[edge]
        reply = asyncio.run(room.answer(pack(head | {"wait": 0.0}, frames)))
        if head["ask"] == LOOK:
            self._looks.add(name)
        if head["ask"] == EXCHANGE:
            said, found = unpack(reply)
            if found and found[0][0] == SHARED:
                self.sums.append([device for device, _ in found[1:]])
            reply, self.exchange = pack(said, self.lie(edge, found)), str(head["exchange"])
            if not found:
                CLOCK.sleep(max(head["wait"] / 10, 0.1))  # a tenth of what is left alone would never come to its end
            self._live(edge, room)
        self._replies[name] = None if fate == "unheard" else reply
        return name

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        """Those to a look before others, which may have been asked earlier, and wait."""
        there = [each for each in asked if each in self._replies]
        found = [(each, self._replies.pop(each)) for each in [e for e in there if e in self._looks] or there]
        CLOCK.sleep(0.0 if found else seconds)
        return found

    def signed(self, device: int, answers: str, body: bytes, by: int | None = None) -> bytes:
        """The proof of a request of a device's."""
        self._time += 1
        digest = hashlib.sha256(body).hexdigest() if answers else ExchangeRequest(0, "", 0.0, Availability(), 1).body
        asked = ExchangeRequest(device, answers, 9.0, Availability(900.0, 3), self._time, len(body), digest)
        return proof_of(asked.signed("p", PATH, KEYS[device if by is None else by]))

    def _live(self, edge: str, room: WaitingRoom) -> None:
        """Let the devices that wait at an edge answer what they are asked."""
        for device in [each for each, home in self.home.items() if home == edge]:
            if (found := room._message_to(device)) is not None:
                key = device, found.exchange
                if key not in self.said:
                    answer = self.devices[device].answer(step_of(found.body), found.body)
                    self.said[key] = answer, self.signed(device, found.exchange, answer)
                room.take(device, found.exchange, *self.said[key], KEYS[device].public)


class Clock:
    """Time that goes on only while the coordinator waits for something."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "time", CLOCK)


def attempt_at(hosts: Hosts, *, adds: Collection[str]) -> Subcohorts:
    """A whole attempt."""
    messenger = EdgeMessenger(
        hosts, Proofs(REGISTER, "p", clock=lambda: 1_800_000_000.0), adds=lambda name: name in adds
    )
    carrier = messenger.transport(COHORT, timeout=200.0)
    for device, edge in hosts.home.items():
        hosts.rooms[edge].arrive(device, Availability(900.0, 3), hosts.signed(device, "", b""))
    messenger.online()
    attempt = Subcohorts(hosts.terms, hosts.directories, SERVER)
    while not attempt.finished:
        for device, answer in carrier.exchange(masked_request(attempt, {})):
            attempt.receive(device, answer)
        attempt.close()
    return attempt


def whole(attempt: Subcohorts) -> list[int]:
    """The sum of all sub-cohorts."""
    return sum(machine.total for machine in attempt.opened).tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("subcohorts", [1, 2])
@pytest.mark.parametrize("adds", [("east", "north", "south"), ("north",), ()])
def test_sums_of_three_edges_are_the_sum_of_the_whole(adds: tuple[str, ...], subcohorts: int) -> None:
    hosts = Hosts(subcohorts)
    assert whole(attempt_at(hosts, adds=adds)) == VECTORS.sum(axis=0).tolist()
    assert sorted(each for some in hosts.sums for each in some) == [
        each for each in COHORT if hosts.home[each] in adds
    ], "each vector is in one sum, where the edge may add"
    assert len(hosts.sums) == len(adds) * subcohorts


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 2))
def test_whatever_is_lost_on_the_way_each_vector_is_added_once(rng: random.Random, subcohorts: int) -> None:
    hosts, left = Hosts(subcohorts), 30

    def fate(edge: str) -> str:
        nonlocal left
        left -= 1
        return rng.choice(["", "", "lost", "unheard", "restart"]) if left > 0 else ""

    hosts.fate = fate
    assert whole(attempt_at(hosts, adds=("east", "north"))) == VECTORS.sum(axis=0).tolist()


def test_a_device_that_goes_to_another_edge_in_an_exchange_is_asked_there() -> None:
    hosts, asked = Hosts(1), 0

    def fate(edge: str) -> str:
        nonlocal asked
        asked += edge == "east"
        if asked == 3 and hosts.home[0] == "east":
            hosts.home[0] = "north"
            hosts.rooms["north"].arrive(0, Availability(900.0, 3), hosts.signed(0, "", b""))
        return ""

    hosts.fate = fate
    assert whole(attempt_at(hosts, adds=("east", "north", "south"))) == VECTORS.sum(axis=0).tolist()
    assert hosts.home[0] == "north"
    assert 0 in hosts.sums[[set(each) >= {1, 4} for each in hosts.sums].index(True)], "its vector is added there, too"


def _changed(frames: list[Frame], place: int, change: Callable[[bytes], bytes]) -> list[Frame]:
    return [(each, change(data) if at == place else data) for at, (each, data) in enumerate(frames)]


def _proven(hosts: Hosts, frames: list[Frame], **changes: Any) -> list[Frame]:
    """A sum whose first device has another proof."""
    device, data = frames[1]
    exchange = hosts.exchange
    given = {"answers": exchange, "body": hosts.said[device, exchange][0], "by": device, **changes}
    proof = hosts.signed(device, given["answers"], given["body"], given["by"])
    return [frames[0], (device, proof + b"\n\n" + data[-SIGNATURE:]), *frames[2:]]


def _elsewhere(hosts: Hosts, frames: list[Frame]) -> list[Frame]:
    answer, proof = hosts.said[0, hosts.exchange]
    return [*frames, (0, proof + b"\n\n" + answer[-SIGNATURE:])]


LIES: dict[str, Callable[[Hosts, list[Frame]], list[Frame]]] = {
    "an altered signature": lambda _, it: _changed(it, 1, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "no signature": lambda _, it: _changed(it, 1, lambda data: data[:-SIGNATURE]),
    "another's signature": lambda _, it: _changed(it, 1, lambda data: data[:-SIGNATURE] + it[2][1][-SIGNATURE:]),
    "no proof": lambda _, it: _changed(it, 1, lambda data: data[-SIGNATURE:]),
    "a proof of another exchange": lambda hosts, it: _proven(hosts, it, answers="0" * 32),
    "a proof of another length": lambda hosts, it: _proven(hosts, it, body=b"x"),
    "a proof that another has signed": lambda hosts, it: _proven(hosts, it, by=12),
    "a device twice": lambda _, it: [*it, it[1]],
    "a device that isn't asked": lambda _, it: [*it, (12, it[1][1])],
    "a device that was heard elsewhere": _elsewhere,
    "nobody's vector": lambda _, it: it[:1],
    "a sum that is too short": lambda _, it: _changed(it, 0, lambda data: data[:-1]),
    "a sum with padding": lambda _, it: _changed(it, 0, lambda data: data[:-1] + b"\xff"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_sum_that_its_devices_have_not_all_signed_for_is_refused_and_costs_them_alone(lie: str) -> None:
    hosts = Hosts(1)

    def said(edge: str, frames: list[Frame]) -> list[Frame]:
        return LIES[lie](hosts, frames) if edge == "north" and frames and frames[0][0] == SHARED else frames

    hosts.lie = said
    _without_north(hosts, attempt_at(hosts, adds=("east", "north", "south")))


def test_an_edge_that_may_not_add_is_not_heard_with_a_sum() -> None:
    hosts = Hosts(1)

    def lie(edge: str, frames: list[Frame]) -> list[Frame]:
        if edge != "north" or not frames or frames[0][1].partition(b"\n\n")[2][1] != 128 + Step.INPUT:
            return frames
        total = packed(np.zeros(NUMBERS, np.uint32), BITS)
        return [(SHARED, total), *((each, proven(proof, answer[-SIGNATURE:])) for each, proof, answer in parts(frames))]

    def parts(frames: list[Frame]) -> Iterable[tuple[int, bytes, bytes]]:
        for device, data in frames:
            proof, _, answer = data.partition(b"\n\n")
            yield device, proof, answer

    hosts.lie = lie
    _without_north(hosts, attempt_at(hosts, adds=("east", "south")))


def _without_north(hosts: Hosts, found: Subcohorts) -> None:
    (machine,), others = found.opened, [each for each in COHORT if hosts.home[each] != "north"]
    assert list(machine.survivors) == others
    assert whole(found) == VECTORS[others].sum(axis=0).tolist()


def test_what_an_edge_adds_to_its_sum_nobody_can_know() -> None:
    """Why others than the server's own add only where the operator says so."""
    hosts = Hosts(1)

    def lie(edge: str, frames: list[Frame]) -> list[Frame]:
        if edge != "north" or not frames or frames[0][0] != SHARED:
            return frames
        total = unpacked(frames[0][1], NUMBERS, BITS)
        total[3] += 1000
        return [(SHARED, packed(total, BITS)), *frames[1:]]

    hosts.lie = lie
    found = attempt_at(hosts, adds=("east", "north", "south"))
    off = np.array(whole(found)) - VECTORS.sum(axis=0)
    assert off.tolist() == [1000 if place == 3 else 0 for place in range(NUMBERS)]
