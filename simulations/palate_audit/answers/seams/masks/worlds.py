"""Worlds: masked attempts that were played once, honestly, and can be gone on with from each of their steps.

A case changes what one side sends at one step. What follows from it is real; a device whose request is the same as in
the honest attempt, and that is where it was there, gives the answer that it gave there, so that a case costs little.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seams.masks.arithmetic import lowered
from palate_audit.answers.seams.masks.signed import signers
from palate_audit.answers.still import still
from palate_audit.secagg.cohort import Latch
from palate_client.secagg.attempt import MaskedDevice
from palate_client.secagg.states import State
from palate_common.mechanism.update import Int64
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Step
from palate_core.masks.transcript import AttemptTerms
from palate_server.secagg.attempt import Unmasking

RINGS: dict[str, Any] = {"largest": 5, "failure": 5.0, "abort": 2.3}
"""Bounds with which ten devices form a ring of six neighbours."""


@dataclass(frozen=True)
class Shape:
    """The numbers of a world.

    Attributes:
        n: devices, all of the directory.
        n_min: fewest whose sum may be opened.
        c_max: how many may be corrupt.
        ring: whether they form a ring.
        size: of a vector.
        bits: of the modulus.
        tosses: how often the ring may be drawn.
    """

    n: int
    n_min: int
    c_max: int = 1
    ring: bool = False
    size: int = 3
    bits: int = 24
    tosses: int = 3


COMPLETE, RING = Shape(7, 5), Shape(10, 8, c_max=2, ring=True, size=5, bits=40)
"""The two that most cases are played in: two may be lost in each."""


@dataclass
class Party:
    """Everybody in a world: their keys, and what they have agreed on."""

    shape: Shape
    keys: list[SigningKey]
    server: SigningKey
    terms: AttemptTerms
    directory: Directory
    vectors: Int64

    @classmethod
    def of(cls, shape: Shape, dice: Dice, context: bytes) -> Party:
        """A world with keys of its own."""
        keys = signers(shape.n + 1)
        directory = Directory(tuple(key.public for key in keys[:-1]))
        bound = min(2**62, max(1, 2 ** (shape.bits - 1) // shape.n - 1))
        vectors = dice.wholes(0, 2 * bound, shape.n * shape.size).reshape(shape.n, shape.size) - bound
        terms = AttemptTerms(
            context=context, size=shape.size, bits=shape.bits, n_max=shape.n, n_min=shape.n_min, c_max=shape.c_max,
            directory=directory.hash, max_tosses=shape.tosses,
        )  # fmt: skip
        return cls(shape, keys[:-1], keys[-1], terms, directory, vectors)

    def device(self, i: int) -> MaskedDevice:
        """A device at its start."""
        return MaskedDevice(
            self.terms, id=i, identity=self.keys[i], directory=self.directory, server_key=self.server.public,
            vector=partial(self.vectors.__getitem__, i), latch=Latch(),
        )  # fmt: skip

    def unmasking(self, invited: list[int] | None = None) -> Unmasking:
        """The server at its start."""
        return Unmasking(self.terms, self.directory, self.server, invited=invited)


@dataclass(frozen=True)
class HonestStep:
    """The beginning of a step, and what was sent in it."""

    step: Step
    server: Unmasking
    devices: list[MaskedDevice]
    requests: Mapping[int, bytes]
    answers: Mapping[int, bytes]


@dataclass(frozen=True)
class RecordedAttempt:
    """An attempt that was played."""

    party: Party
    moments: Mapping[Step, HonestStep]
    last: list[MaskedDevice] = field(repr=False)


@contextmanager
def rings(shape: Shape) -> Iterator[None]:
    """The bounds of a world."""
    with ExitStack() as stack:
        if shape.ring:
            stack.enter_context(lowered(**RINGS))
        yield


@cache
def honest(shape: Shape) -> RecordedAttempt:
    """An attempt in which everybody is honest and nobody is lost. It is the same whichever case asks for it first."""
    dice = Dice(f"an honest attempt\n{shape}", 0)
    with still(f"an honest attempt\n{shape}"), rings(shape):
        party = Party.of(shape, dice, dice.bytes(32))
        server, devices = party.unmasking(), [party.device(i) for i in range(shape.n)]
        moments = dict[Step, HonestStep]()
        while not server.finished:
            step, before, requests = server.step, copied_server(server), server.requests()
            held = [copied(device) for device in devices]
            answers = {i: devices[i].answer(step, request) for i, request in requests.items()}
            moments[step] = HonestStep(step, before, held, requests, answers)
            server.collect(answers)
    return RecordedAttempt(party, moments, devices)


def copied(device: MaskedDevice) -> MaskedDevice:
    """A device that goes its own way from here; states never change, and latches do."""
    other = copy.copy(device)
    other._answers = dict(device._answers)
    other._latch = Latch(dict(device._latch.held))  # type: ignore[attr-defined]  # it is one
    return other


def copied_server(server: Unmasking) -> Unmasking:
    """A server that goes its own way from here. Its key and the directory are the same."""
    attempt = server._current.attempt  # type: ignore[attr-defined]  # every stage has one
    return copy.deepcopy(server, {id(each): each for each in (attempt.key, attempt.directory)})


class ResumedAttempt:
    """An attempt that goes on from a moment of an honest one, and tells all that is sent and kept.

    Args:
        recorded: the honest one.
        step: where it leaves it.
        answer: what is told.
    """

    def __init__(self, recorded: RecordedAttempt, step: Step, answer: CaseAnswer) -> None:
        moment = recorded.moments[step]
        self.recorded, self.answer = recorded, answer
        self.server, self.devices = copied_server(moment.server), [copied(device) for device in moment.devices]
        self._same = set(range(len(self.devices)))
        """Devices that are where they were in the honest attempt."""
        self.states = dict[int, State]()
        """Where each device was before it answered."""

    def ask(self, i: int, request: bytes) -> bytes:
        """What a device answers to the server's present request.

        Raises:
            PalateError: it refuses.
        """
        step = self.server.step
        moment = self.recorded.moments.get(step)
        if moment is not None and i in self._same and moment.requests.get(i) == request:
            after = [each.devices for each in self.recorded.moments.values() if each.step > step]
            self.devices[i] = copied((after or [self.recorded.last])[0][i])
            return moment.answers[i]
        self._same.discard(i)
        return self.devices[i].answer(step, request)

    def left(self, i: int) -> MaskedDevice:
        """A device that goes its own way from now on."""
        self._same.discard(i)
        return self.devices[i]

    def go(self, change: Callable[[Step, dict[int, bytes]], list[tuple[int, bytes]]], until: Step | None) -> None:
        """Go on to a step, or to the end; `change` has the honest answers and gives what the server receives."""
        server, answer = self.server, self.answer
        while not server.finished and (until is None or server.step < until):
            step, requests = server.step, server.requests()
            answer.tell(step.name, server.asked, list(requests.values()))
            answers, self.states = dict[int, bytes](), {i: self.devices[i]._state for i in requests}
            for i, request in requests.items():
                try:
                    answers[i] = self.ask(i, request)
                except PalateError as error:
                    answer.tell(i, error)
            for i, data in change(step, answers):
                answer.tell(i, server.receive(i, data))
            closed = answer.tried(server.close)
            tell_server(answer, server)
            if closed is not None:
                answer.of(lambda: server.step)
                return
        if not server.finished:
            answer.tell(server.step.name, server.asked, list(server.requests().values()))


def tell_server(answer: CaseAnswer, server: Unmasking) -> None:
    """All that a server says of its attempt."""
    conduct = server.conduct
    answer.tell(server.invited, server.finished, {step.name: count for step, count in server.counts.items()})
    answer.tell(dict(server.dropped), conduct.unsigned, conduct.unrevealed, conduct.named, conduct.offenders)
    answer.tell({device: record.to_bytes() for device, record in conduct.evidence.items()})
    answer.of(lambda: server.total)
    answer.of(lambda: server.survivors)


def tell_device(answer: CaseAnswer, device: MaskedDevice) -> None:
    """Where a device is, and what it has latched."""
    latch: Any = device._latch
    answer.tell(type(device._state).__name__, latch.held, device._vector is None, device._state.toss)


def members(chosen: list[int], n: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A list of members, bool [n]."""
    flags = np.zeros(n, np.bool_)
    flags[chosen] = True
    return flags
