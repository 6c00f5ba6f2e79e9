"""One hostile device among honest ones over several attempts: its possible messages at each step, and their cost.

    >>> life = live("deals rubbish to all", devices=8, n_min=7)
    >>> life.lost, life.named, life.released
    (1, {3}, 1)

All devices are the real implementation; the hostile one changes some messages. After each attempt, devices that are
named as faulty, or have a dispute, are excluded or not invited together again, as in the service.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.secagg.cohort import MaskedCohort
from palate_client.secagg import attempt as masked
from palate_client.secagg.attempt import MaskedDevice
from palate_client.secagg.states import Advertised, Shared
from palate_common.errors import IntegrityError, PalateError
from palate_common.secagg import shamir
from palate_common.secagg.messages import (
    BOX,
    HEADER,
    SEALED,
    SHARE,
    Commit,
    Complaint,
    Header,
    Step,
    pack_flags,
    write,
)
from palate_common.secagg.transcript import (
    ADVERT,
    COMMIT,
    COMPLAINT,
    CONSISTENCY,
    advert_payload,
    commit_payload,
    complaint_payload,
    sign,
)
from palate_server.secagg.disputes import judge_disputes, without_disputes

HOSTILE = 3


@dataclass
class Turn:
    """The state of the hostile device at one step of one attempt."""

    step: Step
    device: MaskedDevice
    request: bytes
    others: Mapping[int, bytes]
    """Others' answers to this step."""
    own: dict[Step, bytes]
    """Its honest answers in this attempt, and remaining ones of the attempt before."""
    rng: np.random.Generator

    def honest(self) -> bytes:
        """The answer of an honest device."""
        return self.device.answer(self.step, self.request)

    def write(self, body: bytes, *, complaint: bool = False, step: Step | None = None) -> bytes:
        """Any body with the device's own header."""
        toss = int.from_bytes(self.request[2:4], "little")
        header = Header(step or self.step, toss, self.device.id, self.device.terms.context)
        return write(header, body, answer=True, complaint=complaint)


Move = Callable[[Turn], bytes | None]


def _parts(how: str, count: int) -> list[int]:
    return {"one": [0], "two": [0, 1], "half": list(range(0, count, 2)), "all": list(range(count))}[how]


def _spoiled(how: str, width: int, start: int, length: int) -> Move:
    """The honest answer with `length` bytes of some pieces changed."""

    def move(turn: Turn) -> bytes:
        answer = bytearray(turn.honest())
        for piece in _parts(how, (len(answer) - HEADER) // width):
            at = HEADER + piece * width + start
            answer[at : at + length] = turn.rng.bytes(length)
        return bytes(answer)

    return move


def _deals(how: str) -> Move:
    """Valid boxes with shares of another secret: on no polynomial, or all on another one."""

    def move(turn: Turn) -> bytes:
        real = shamir.split

        def split(secret: bytes, *, shares: int, threshold: int) -> Any:
            if how == "another secret":
                return real(os.urandom(len(secret)), shares=shares, threshold=threshold)
            dealt = real(secret, shares=shares, threshold=threshold)
            for share in _parts(how, shares):
                dealt[share] = turn.rng.integers(0, 256, dealt.shape[1], np.uint8)
            return dealt

        with mock.patch.object(masked, "split", split):
            return turn.honest()

    return move


def _advertises(what: str) -> Move:
    """A valid, signed advert of something else than the device has."""

    def move(turn: Turn) -> bytes:
        answer = turn.honest()
        state = turn.device._state
        if not isinstance(state, Advertised):
            raise PalateError("an advert must have been made")
        changed = {
            "another digest": {"self_digest": hashlib.sha256(b"another").digest()},
            "another mask key": {"mask_key": bytes([9]) + bytes(31)},
            "a key of low order": {"share_key": bytes(32)},
            "one key twice": {"share_key": state.advert.mask_key},
        }[what]
        own = replace(state.advert, **changed)
        payload = advert_payload(turn.device.terms.context, state.toss, state.root, turn.device.id, own.body)
        own = replace(own, signature=sign(turn.device._identity, ADVERT, payload))
        turn.device._state = replace(state, advert=own)
        return answer[:HEADER] + own.encode()

    return move


def _complains(how: str) -> Move:
    """A signed complaint about neighbours whose boxes are valid."""

    def move(turn: Turn) -> bytes:
        state = turn.device._state
        if not isinstance(state, Shared):
            return turn.write(os.urandom(65), complaint=True)
        n = len(state.cohort)
        u1 = turn.request[HEADER : HEADER + -(-n // 8)]
        accused = np.zeros(len(state.neighbours), np.bool_)
        accused[_parts(how, len(accused)) if how != "nobody" else []] = True
        payload = complaint_payload(state.cohort.binding, u1, pack_flags(accused))
        body = Complaint(accused, sign(turn.device._identity, COMPLAINT, payload)).encode()
        return turn.write(body, complaint=True)

    return move


def _commits_to_another(turn: Turn) -> bytes:
    """A signed commitment to a nonce that no device knows."""
    turn.honest()
    commitment, toss = os.urandom(32), int.from_bytes(turn.request[2:4], "little")
    payload = commit_payload(turn.device.terms.context, toss, turn.device.id, commitment)
    return turn.write(Commit(commitment, sign(turn.device._identity, COMMIT, payload)).encode())


def _signs_another_list(turn: Turn) -> bytes:
    turn.honest()
    return turn.write(sign(turn.device._identity, CONSISTENCY, b"another list"))


def _flipped(at: int) -> Move:
    def move(turn: Turn) -> bytes:
        answer = bytearray(turn.honest())
        answer[at] ^= 4
        return bytes(answer)

    return move


ANYWHERE: dict[str, Move] = {
    "is silent": lambda turn: None,
    "sends random bytes": lambda turn: turn.rng.bytes(200),
    "sends nothing": lambda turn: b"",
    "cuts its answer": lambda turn: turn.honest()[:-1],
    "sends a byte too many": lambda turn: turn.honest() + b"\0",
    "sends random bytes under its header": lambda turn: turn.write(turn.rng.bytes(len(turn.honest()) - HEADER)),
    "sends another's answer": lambda turn: next(iter(turn.others.values())),
    "sends its answer of the attempt before": lambda turn: turn.own.get(turn.step, b"none"),
    "sends its answer to the step before": lambda turn: turn.own.get(Step(max(1, turn.step - 1)), b"none"),
    "writes another toss": _flipped(2),
    "breaks its last byte": _flipped(-1),
    "complains of one": _complains("one"),
}
"""Moves that are possible at every step."""

PLANS: dict[str, dict[Step, Move]] = {
    **{f"{name} at {step.name.lower()}": {step: move} for name, move in ANYWHERE.items() for step in Step},
    **{f"advertises {what}": {Step.ADVERTISE: _advertises(what)}
       for what in ("another digest", "another mask key", "a key of low order", "one key twice")},
    "advertises another mask key and is lost": {
        Step.ADVERTISE: _advertises("another mask key"), Step.INPUT: ANYWHERE["is silent"]},
    **{f"deals rubbish to {how}": {Step.SHARE: _spoiled(how, BOX, 0, SEALED)} for how in ("one", "two", "half", "all")},
    **{f"deals false digests to {how}": {Step.SHARE: _spoiled(how, BOX, SEALED, 16)} for how in ("one", "half", "all")},
    **{f"deals wrong shares to {how}": {Step.SHARE: _deals(how)} for how in ("one", "half", "all")},
    **{f"deals wrong shares to {how} and is lost": {Step.SHARE: _deals(how), Step.INPUT: ANYWHERE["is silent"]}
       for how in ("one", "half")},
    "deals another secret": {Step.SHARE: _deals("another secret")},
    "deals another secret and is lost": {Step.SHARE: _deals("another secret"), Step.INPUT: ANYWHERE["is silent"]},
    **{f"deals rubbish to one and is lost at {step.name.lower()}":
       {Step.SHARE: _spoiled("one", BOX, 0, SEALED), step: ANYWHERE["is silent"]}
       for step in (Step.INPUT, Step.CONSISTENCY, Step.UNMASK)},
    "deals rubbish to one and gives wrong shares": {
        Step.SHARE: _spoiled("one", BOX, 0, SEALED), Step.UNMASK: _spoiled("all", SHARE, 0, SHARE)},
    **{f"complains of {how}": {Step.INPUT: _complains(how)} for how in ("nobody", "half", "all")},
    "commits to another nonce": {Step.COMMIT: _commits_to_another},
    "signs another list": {Step.CONSISTENCY: _signs_another_list},
    **{f"gives wrong shares of {how}": {Step.UNMASK: _spoiled(how, SHARE, 0, SHARE)} for how in ("one", "half", "all")},
}  # fmt: skip
"""The moves of one hostile device, in every attempt that it is invited to."""
POISON = {"advertises another mask key"}
"""Plans that make the sum wrong, which is undetectable: any vector could do the same."""


@dataclass
class Life:
    """The results of several attempts.

    Attributes:
        lost: charged attempts that released nothing.
        released: attempts that released an exact sum.
        named: devices that are excluded.
        tosses: rings that were drawn again.
        disputes: pairs with an open dispute at the end.
        met: attempts that the hostile device was invited to.
    """

    lost: int = 0
    released: int = 0
    tosses: int = 0
    met: int = 0
    named: set[int] = field(default_factory=set)
    disputes: set[tuple[int, int]] = field(default_factory=set)


def live(
    plan: str,
    *,
    devices: int,
    n_min: int,
    c_max: int = 1,
    n_max: int | None = None,
    attempts: int = 2,
    seed: int = 0,
) -> Life:
    """Run several attempts with one hostile device.

    Args:
        plan: its moves, a key of `PLANS`.
        devices: number of devices; all are invited that are not excluded.
        n_min: fewest devices that must remain.
        c_max: how many corrupt devices are tolerated.
        n_max: above 250 the devices form a ring.
        attempts: number of attempts; one more follows after the hostile device was named.
        seed: of the changed bytes.

    Raises:
        PalateError: a sum isn't exact, or an honest device refuses.
    """
    world = MaskedCohort(devices, n_min=n_min, c_max=c_max, n_max=n_max or devices, size=3)
    life, rng, own = Life(), np.random.default_rng(seed), dict[Step, bytes]()
    for _ in range(attempts):
        over = HOSTILE in life.named
        invited = without_disputes({i: i for i in range(devices) if i not in life.named}, life.disputes)
        server = world.begin(sorted(invited))
        life.met += HOSTILE in invited
        try:
            while not server.finished:
                life.tosses += server.step is Step.COMMIT
                _exchange(world, server, PLANS[plan], rng, own)
        except IntegrityError:
            life.lost += 1
        else:
            life.released += 1
            if plan not in POISON and server.total.tolist() != world.sum_of(server.survivors).tolist():
                raise PalateError("a sum must be exact, got another")
        life.tosses -= n_max is not None
        named, life.disputes = judge_disputes(server.conduct, life.disputes, most=c_max, lost=not server.finished)
        life.named |= named
        if over:
            break
    return life


def _exchange(world: MaskedCohort, server: Any, plan: Mapping[Step, Move], rng: Any, own: dict[Step, bytes]) -> None:
    """One step: the hostile device answers last, after it has seen the others' answers."""
    step, answers = server.step, dict[int, bytes]()
    for i in server.asked:
        if i != HOSTILE:
            answers[i] = world.devices[i].answer(step, server.request(i))
    if HOSTILE in server.asked:
        turn = Turn(step, world.devices[HOSTILE], server.request(HOSTILE), answers, own, rng)
        try:
            answer = plan[step](turn) if step in plan else turn.honest()
        except PalateError:
            answer = None  # its earlier moves leave it nothing to answer
        if answer is not None:
            own[step] = answer
            answers[HOSTILE] = answer
    for i, answer in answers.items():
        server.receive(i, answer)
    server.close()
