"""What edges on other hosts say of devices counts only as far as the devices have signed it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palate_common.rounds.exchange import PATH, Availability, ExchangeRequest
from palate_core.log.signing import SigningKey
from palate_server.edge import transport
from palate_server.edge.batches import CLAIM, Frame, pack, unpack
from palate_server.edge.proofs import MOST_PROOF, STALE, Proofs, proof_of, proven
from palate_server.edge.told_register import ToldRegister
from palate_server.edge.transport import EdgeMessenger
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Enrolments
from palate_server.rounds.run import Request

NOW = 1_800_000_000_000
KEYS = [SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in range(1, 6)]
DECLARED = Availability(90.5, 3)


def signed(
    device: int, *, time: int = NOW, answers: str = "", body: bytes = b"", by: int | None = None, population: str = "p",
    path: str = PATH,
) -> bytes:  # fmt: skip
    """The proof of a request of a device's."""
    made = ExchangeRequest(device, answers, 20.0, DECLARED, time, len(body), hashlib.sha256(body).hexdigest())
    return proof_of(made.signed(population, path, KEYS[device if by is None else by]))


def claims(*devices: int, at: int = NOW, left: int = 90_000) -> list[Frame]:
    return [(device, CLAIM.pack(left, 3) + signed(device, time=at)) for device in devices]


class Hosts:
    """An `EdgeLink` to the server's own edge and those on other hosts; what each says, to a look and to an exchange."""

    def __init__(self) -> None:
        self.looks: dict[str, list[Frame]] = {"own": [], "north": [], "south": []}
        self.answers: dict[str, Callable[[str, list[int]], list[Frame]]] = {}
        self.names = {"own": "edge", "north": "north", "south": "south/1"}
        self.asked: dict[str, list[str]] = {}
        self.silent = set[str]()
        self._questions = dict[str, tuple[str, bytes]]()
        self._turn = 0

    def edges(self) -> Mapping[str, str]:
        return self.names

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        name = str(len(self._questions))
        self._questions[name] = edge, batch
        self.asked.setdefault(edge, []).append(unpack(batch)[0]["ask"])
        return name

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        found = {each: self._questions[each] for each in asked if self._questions[each][0] not in self.silent}
        self.names |= {edge: self.names[edge] or edge for edge, _ in found.values()}
        return [(each, self._reply(*said)) for each, said in found.items()]

    def _reply(self, edge: str, batch: bytes) -> bytes:
        head, frames = unpack(batch)
        if head["ask"] == "look":
            return pack({"online": True}, self.looks.get(edge, []))
        if head["ask"] != "exchange":
            return pack({})
        self._turn += 1
        said = self.answers.get(edge, lambda *_: [])(head["exchange"], [device for device, _ in frames[1:]])
        return pack({"boot": edge, "known": True, "turn": self._turn}, said)


@pytest.fixture
def register() -> Iterable[Enrolments]:
    with Enrolments(":memory:") as made:
        for key in KEYS:
            made.enrol(made.invite(now=0.0, hours=1.0), identity=key.public, now=1.0)
        yield made


@pytest.fixture
def clock() -> dict[str, float]:
    return {"now": NOW / 1000}


@pytest.fixture
def messenger(register: Enrolments, clock: dict[str, float]) -> tuple[Hosts, EdgeMessenger]:
    hosts = Hosts()
    return hosts, EdgeMessenger(hosts, Proofs(register, "p", clock=lambda: clock["now"]))


def request(*to: int) -> Request:
    return Request(to, {}, lambda device: {"request": b"?"}, 1)


def test_a_device_is_where_it_signed_last_and_takes_part_in_what_it_signed(messenger: Any) -> None:
    hosts, asking = messenger
    hosts.looks |= {"own": claims(0, 1), "north": claims(1, 2, at=NOW + 1), "south": claims(2, 3, left=1000)}
    assert asking.online() == {
        **dict.fromkeys((0, 1, 2), Availability(90.0, 3)),
        3: Availability(1.0, 3),
    }
    assert [asking._edges.of(device, {"own", "north", "south"}) for device in range(4)] == [
        {"own"},
        {"north"},
        {"north"},
        {"south"},
    ]
    hosts.looks = {"north": [(0, CLAIM.pack(2**32 - 1, 0) + signed(0, time=NOW + 9))]}
    assert asking.online() == {0: DECLARED}, "not longer than it has signed, and for what it has signed"


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"x" * 300,
        signed(3, by=4),
        signed(4),
        signed(3, population="q"),
        signed(3, path="/other"),
        signed(3).replace(b"90500", b"99999"),
        signed(3) + b"\n",
        signed(3) + b"0" * MOST_PROOF,
        b"\xff" * 300,
    ],
    ids=["none", "other", "key", "device", "population", "path", "stay", "line", "long", "bytes"],
)
def test_an_edge_that_claims_a_device_without_its_word_is_not_heard_at_all(
    messenger: Any, lie: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An honest one has verified them."""
    hosts, asking = messenger
    hosts.looks |= {
        "own": claims(0, 1),
        "north": [*claims(2), (3, CLAIM.pack(90_000, 3) + lie), *claims(1, at=NOW + 1)],
    }
    assert set(asking.online()) == {0, 1}
    assert asking._edges.of(1, {"own", "north"}) == {"own"}
    assert caplog.text


def test_of_devices_that_it_has_met_a_lying_edge_claims_none_that_went_elsewhere_or_was_there_long_ago(
    messenger: Any, clock: dict[str, float]
) -> None:
    hosts, asking = messenger
    hosts.looks["north"] = claims(0, 1, 2)
    assert set(asking.online()) == {0, 1, 2}
    clock["now"] += 30.0
    hosts.looks["south"] = claims(1, at=NOW + 30_000)
    asking.online()
    hosts.looks["south"] = []  # it has gone from there
    assert set(asking.online()) == {0, 2}, "what it signed before doesn't bring it back"
    clock["now"] = NOW / 1000 + STALE + 0.1
    hosts.looks["north"] += [(7, claims(0)[0][1].replace(b"\n0\n", b"\n7\n")), *claims(3, at=NOW + 10**7)]
    assert asking.online() == {}, "nor a time that is long over, or far ahead, or a number that nobody has"
    assert asking._edges._proofs._latest.keys() == {1}, "what says nothing any more is forgotten"


LIES: Mapping[str, Callable[[str], bytes]] = {
    "another body": lambda exchange: proven(signed(1, answers=exchange, body=b"right"), b"wrong"),
    "another device": lambda exchange: proven(signed(2, answers=exchange, body=b"wrong"), b"wrong"),
    "another exchange": lambda exchange: proven(signed(1, answers="a" * 32, body=b"old"), b"old"),
    "a request that answers nothing": lambda exchange: proven(signed(1), b""),
    "no proof": lambda exchange: b"bare",
}


@pytest.mark.parametrize("lie", LIES)
def test_an_edge_on_another_host_answers_for_no_device(messenger: Any, lie: str, caplog: Any) -> None:
    hosts, asking = messenger
    hosts.looks |= {"own": claims(0), "north": claims(1, 2, 4)}

    def four(exchange: str) -> Frame:
        return 4, proven(signed(4, answers=exchange, body=b"four"), b"four")

    hosts.answers = {
        "own": lambda exchange, devices: [(0, b"zero")] if devices else [],
        "north": lambda exchange, devices: [(1, LIES[lie](exchange)), four(exchange)] if devices else [],
    }
    assert set(asking.online()) == {0, 1, 2, 4}
    assert list(asking.transport(range(5), timeout=0.05).exchange(request(0, 1, 2, 4))) == [(0, b"zero")]
    assert caplog.text
    hosts.answers["north"] = lambda exchange, devices: [four(exchange)] if devices else []
    assert list(asking.transport(range(5), timeout=0.05).exchange(request(1, 4))) == [(4, b"four")]


def test_a_room_on_another_host_forwards_what_devices_have_signed() -> None:
    async def scene() -> None:
        for told in (None, ToldRegister()):
            room = WaitingRoom(told)
            room.arrive(1, DECLARED, b"earlier")
            room.arrive(1, DECLARED, b"proof")
            _, frames = unpack(await room.answer(pack({"ask": "look", "wait": 0.0, "enough": 1})))
            (device, claim), *others = frames
            assert (device, claim[CLAIM.size :], others) == (1, b"proof", [])
            head = {"ask": "exchange", "exchange": "e", "have": 0, "wait": 0.0}
            begun = {"kind": "step", "seconds": 9.0, "most": 9}
            await room.answer(pack(head | begun, [(2**32 - 1, b""), (1, b"")]))
            assert room.take(1, "e", b"answer", b"proof") == "yes"
            _, frames = unpack(await room.answer(pack(head | {"have": 1})))
            assert frames == [(1, b"answer" if told is None else b"proof\n\nanswer")]

    asyncio.run(scene())


def test_nodes_that_say_nothing_hold_nobody_up_and_are_asked_ever_more_rarely(
    messenger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a grant may register nodes without end."""
    hosts, asking = messenger
    monkeypatch.setattr(transport, "GREETING", 0.0)
    now = [0.0]
    monkeypatch.setattr(transport.time, "monotonic", lambda: now.__setitem__(0, now[0] + 0.01) or now[0])
    hosts.looks["own"] = claims(0)
    asking.online(wait=9.0)
    hosts.silent = {str(number) for number in range(100)}
    hosts.names |= dict.fromkeys(hosts.silent, "")
    hosts.asked.clear()
    begun = now[0]
    assert set(asking.online(wait=9.0)) == {0}
    assert now[0] - begun < 1.0, "nobody waits for them, and none of them ends a look"
    assert sum(map(len, (hosts.asked.get(each, []) for each in hosts.silent))) <= 5 * transport.MOST_SAID
    hosts.names["zz"] = ""
    for _ in range(1 + len(hosts.silent) // transport.MOST_SAID):
        asking.online()
    assert hosts.asked["zz"], "one that is new has its turn all the same"


def test_an_edge_that_answers_late_for_the_first_time_is_heard(messenger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy a reply takes half a minute."""
    hosts, asking = messenger
    now = [0.0]
    monkeypatch.setattr(transport.time, "monotonic", lambda: now.__setitem__(0, now[0] + 0.01) or now[0])
    hosts.looks |= {"own": claims(0), "late": claims(1)}
    hosts.names["late"] = ""
    hosts.silent = {"late"}
    assert set(asking.online()) == {0}
    now[0] += 50.0
    hosts.silent = set()
    assert set(asking.online(enough=9)) == {0, 1}
    assert hosts.asked["late"].count("look") == 2, "it was greeted once"
