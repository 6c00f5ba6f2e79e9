"""Masked vectors at edges that add them up, and at edges that don't: bytes to the coordinator, and what each side uses.

devices -> WaitingRoom of each edge -> EdgeTransport -> InputStage; without Flower, whose work goes with the bytes
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from palate_common.rounds.exchange import PATH, Availability, ExchangeRequest
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import BOX_BYTES, Header, Step, write
from palate_core.masks.packing import packed_bytes
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import INPUT, AttemptTerms, sign
from palate_server.edge.batches import EXCHANGE, SHARED, pack, unpack
from palate_server.edge.proofs import Proofs, proof_of
from palate_server.edge.told_register import ToldRegister
from palate_server.edge.transport import EdgeMessenger
from palate_server.edge.waiting_room import WaitingRoom
from palate_server.folder.enrolments import Enrolments
from palate_server.rounds.run import Request
from palate_server.secagg.shared import SharedCohort
from palate_server.secagg.stage import Attempt
from palate_server.secagg.subcohorts import Subcohorts
from palate_server.secagg.sum import InputStage

DEVICES, NUMBERS, BITS = 300, 100_000, 30


class _Attempt(Subcohorts):
    """An attempt that is at its input stage.

    Args:
        stage: the stage.
    """

    def __init__(self, stage: InputStage) -> None:
        self._stage, self.terms = stage, stage.terms

    def signed(self, device: int) -> bytes:
        """What each device signs with its vector."""
        return self._stage.signed

    def receive_sum(self, signatures: Mapping[int, bytes], total: bytes) -> bool:
        """Take a sum."""
        self._stage.accept_sum(signatures, memoryview(total))
        return True


class Hosts:
    """An `EdgeLink` to edges on other hosts, of whose work and bytes it keeps count; their devices answer at once."""

    def __init__(self, edges: int, keys: list[SigningKey], register: Enrolments, signed: bytes) -> None:
        self._keys, self._signed, self._vector = keys, signed, os.urandom(packed_bytes(NUMBERS, BITS))
        self.rooms, self.spent, self.others, self.bytes = dict[str, WaitingRoom](), 0.0, 0.0, 0
        self._replies, self._loop = dict[str, bytes](), asyncio.new_event_loop()
        for number in range(edges):
            told = ToldRegister()
            told.hear(len(keys), [(0, register.identities(0, len(keys))), (SHARED, b"")])
            self.rooms[str(number)] = WaitingRoom(told)
        for device in range(len(keys)):
            self._home(device).arrive(device, Availability(900.0, 3), self._proof(device, "", b""))

    def edges(self) -> Mapping[str, str]:
        return {name: name for name in self.rooms}

    def send(self, edge: str, batch: bytes, *, seconds: float, most: int) -> str:
        began, (head, frames), name = time.thread_time(), unpack(batch), secrets.token_hex(4)
        reply = self._loop.run_until_complete(self.rooms[edge].answer(pack(head | {"wait": 0.0}, frames)))
        self._replies[name], self.bytes = reply, self.bytes + len(reply)
        self.spent += time.thread_time() - began
        for device, _ in frames[1:] if head["ask"] == EXCHANGE else ():
            self._answer(device, head["exchange"])
        return name

    def replies(self, asked: Collection[str], *, seconds: float) -> Iterable[tuple[str, bytes | None]]:
        return [(each, self._replies.pop(each)) for each in asked if each in self._replies]

    def _answer(self, device: int, exchange: str) -> None:
        began, key = time.thread_time(), self._keys[device]
        said = write(Header(Step.INPUT, 0, device, self._signed[:32]), self._vector, answer=True)
        answer = said + sign(key, INPUT, self._signed)
        proof, devices = self._proof(device, exchange, answer), time.thread_time()
        self._home(device).take(device, exchange, answer, proof, key.public)
        self.spent += time.thread_time() - devices
        self.others += devices - began

    def _home(self, device: int) -> WaitingRoom:
        return self.rooms[str(device % len(self.rooms))]

    def _proof(self, device: int, answers: str, body: bytes) -> bytes:
        digest, now = hashlib.sha256(body).hexdigest(), int(1000 * time.time())
        asked = ExchangeRequest(device, answers, 9.0, Availability(900.0, 3), now, len(body), digest)
        return proof_of(asked.signed("p", PATH, self._keys[device]))


def sums(edges: int, *, adds: bool) -> dict[str, Any]:
    """The input step of a cohort, whose devices wait at so many edges."""
    keys, server = [SigningKey.generate() for _ in range(DEVICES)], SigningKey.generate()
    with Enrolments(":memory:") as register:
        for key in keys:
            register.enrol(register.invite(now=0.0, hours=1.0), identity=key.public, now=1.0)
        directory = register.directory(range(DEVICES))
        stage = _stage(directory, server)
        hosts = Hosts(edges, keys, register, stage.signed)
        messenger = EdgeMessenger(hosts, Proofs(register, "p"), adds=lambda _: adds)
        messenger.online()
        carrier = messenger.transport(range(DEVICES), timeout=600.0)
        carrier._vector = packed_bytes(NUMBERS, BITS)  # as the plan says in an attempt's first exchange

        hosts.spent, hosts.bytes, hosts.others = 0.0, 0, 0.0
        began = time.thread_time()
        for device, answer in carrier.exchange(
            Request(range(DEVICES), {}, lambda _: {"request": b"?"}, 6, _Attempt(stage))
        ):
            stage.accept(device, memoryview(answer)[40:])
        total = stage._sum.values()
        spent = time.thread_time() - began - hosts.spent - hosts.others
    return {
        "edges": edges, "adds": adds, "bytes": hosts.bytes, "coordinator": spent, "edge": hosts.spent / edges,
        "heard": int(stage._survivors.sum()),
        "same": bool(np.array_equal(total, DEVICES * _unpacked(hosts._vector) % 2**BITS)),
    }  # fmt: skip


def _unpacked(vector: bytes) -> Any:
    from palate_core.masks.packing import unpack as numbers

    return numbers(vector, NUMBERS, BITS).astype(np.uint64)


def _stage(directory: Directory, server: SigningKey) -> InputStage:
    """The server's input stage of a cohort in which nobody has cheated; the boxes, which it doesn't need, are empty."""
    terms = AttemptTerms(
        context=bytes(32), size=NUMBERS, bits=BITS, n_max=DEVICES, n_min=DEVICES - DEVICES // 10, c_max=DEVICES // 10,
        directory=directory.hash,
    )  # fmt: skip
    ids = list(directory.identities)
    cohort = Cohort(terms, toss=0, ids=ids, root=bytes(32), nonces=[os.urandom(32) for _ in ids])
    there = np.ones(DEVICES, np.bool_)
    boxes = np.zeros((DEVICES, cohort.degree, BOX_BYTES), np.uint8)
    held = SharedCohort(Attempt(terms, directory, server), 0, cohort, [], cohort.table(), there, there, boxes)
    return InputStage(held, {})
