"""Hostile devices among honest ones over several attempts: their possible messages at each step, and their cost.

    >>> life = live("deals rubbish to all", devices=8, n_min=7)
    >>> life.lost, life.named, life.released
    (0, {3: 'box'}, 2)

All devices are the real implementation; hostile ones change some messages. After each attempt, devices that are named
are excluded, as in the service.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np

from mechanism.secagg.cohort import MaskedCohort
from palate_common.secagg.evidence import FaultEvidence, check
from palate_core.device import attempt as masked
from palate_core.device.attempt import MaskedDevice
from palate_core.device.states import Advertised, Agreed, Shared
from palate_core.errors import IntegrityError, PalateError
from palate_core.masks import shamir
from palate_core.masks.boxes import NONE, Label, root_of, tree_of
from palate_core.masks.messages import (
    BOX_BODY,
    HEADER,
    KEY,
    OPENING,
    PIECE,
    SEALED,
    SHARE,
    SIGNATURE,
    BoxReceipt,
    Commit,
    Complaint,
    Header,
    Step,
    pack_flags,
    split_pieces,
    write,
)
from palate_core.masks.transcript import (
    ADVERT,
    BOX,
    COMMIT,
    CONSISTENCY,
    RECEIPT,
    REVEAL,
    advert_payload,
    commit_payload,
    opening_payload,
    receipt_payload,
    reveal_payload,
    sign,
)
from palate_core.masks.transcript import OPENING as OPENING_TAG
from palate_server.secagg.attempt import Unmasking

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

    def write(self, body: bytes, *, step: Step | None = None) -> bytes:
        """Any body with the device's own header."""
        toss = int.from_bytes(self.request[2:4], "little")
        header = Header(step or self.step, toss, self.device.id, self.device.terms.context)
        return write(header, body, answer=True)


Move = Callable[[Turn], bytes | None]


def _parts(how: str, count: int) -> list[int]:
    return {"one": [0], "two": [0, 1], "half": list(range(0, count, 2)), "all": list(range(count))}[how]


def _boxes(how: str, start: int, length: int, *, signed: bool = True, key: bool = False) -> Move:
    """The honest boxes with `length` bytes of some changed, signed as they are then."""

    def move(turn: Turn) -> bytes:
        turn.honest()
        state = turn.device._state
        if not isinstance(state, Shared):
            raise PalateError("boxes must have been made")
        boxes, names = list(state.boxes), state.cohort.ids[state.neighbours].tolist()
        for slot in _parts(how, len(boxes)):
            box = bytearray(boxes[slot])
            box[start : start + length] = bytes(length) if key else turn.rng.bytes(length)
            if signed:
                ends = {"sender": turn.device.id, "receiver": names[slot]}
                label = Label.of(state.cohort, **ends, slot=slot, key=state.share_keys[slot])
                box[BOX_BODY:] = sign(turn.device._identity, BOX, label.payload(bytes(box)))
            boxes[slot] = bytes(box)
        turn.device._state = replace(state, boxes=tuple(boxes))
        return turn.write(b"".join(boxes))

    return move


def _gives(how: str, *, other: bool = False) -> Move:
    """Signed shares that aren't those it was dealt, or said to be of the other secret."""

    def move(turn: Turn) -> bytes:
        state = turn.device._state
        answer = turn.honest()
        if not isinstance(state, Agreed):
            raise PalateError("a list must have been signed")
        pieces = [bytearray(piece) for piece in split_pieces("shares", answer[HEADER:-SIGNATURE], PIECE)]
        for at in _parts(how, len(pieces)):
            if other:
                pieces[at][0] ^= 1
            else:
                pieces[at][1 : 1 + SHARE] = turn.rng.bytes(SHARE)
        leaves = [NONE] * state.masked.cohort.degree
        for slot, piece in zip(state.masked.shares, pieces, strict=True):
            leaves[slot] = bytes(piece)
        payload = reveal_payload(state.masked.cohort.binding, root_of(tree_of(leaves)))
        return turn.write(b"".join(leaves) + sign(turn.device._identity, REVEAL, payload))

    return move


def _opens_otherwise(turn: Turn) -> bytes:
    """Signed openings by another key than the boxes were made with."""
    state, answer = turn.device._state, turn.honest()
    cohort, depth = state.cohort, (state.cohort.degree - 1).bit_length()  # type: ignore[union-attr]  # after the shares
    asked = Complaint.decode_all(turn.request[HEADER:], k=cohort.degree, depth=depth, most=cohort.degree)
    made = []
    for each in asked[: (len(answer) - HEADER) // OPENING]:
        secret = turn.rng.bytes(KEY)
        payload = opening_payload(cohort.binding, each.device, secret)
        made.append(secret + sign(turn.device._identity, OPENING_TAG, payload))
    return turn.write(b"".join(made))


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
        if turn.step is not Step.CHECK or not isinstance(state, Shared):
            return turn.write(turn.rng.bytes(32) + b"\1" + turn.rng.bytes(SIGNATURE))
        receipt = BoxReceipt.decode(turn.honest()[HEADER:], k=state.cohort.degree)
        accused = receipt.accused.copy()
        accused[_parts(how, len(accused))] = True
        payload = receipt_payload(state.cohort.binding, receipt.root, pack_flags(accused))
        return turn.write(BoxReceipt(receipt.root, accused, sign(turn.device._identity, RECEIPT, payload)).encode())

    return move


def _signs_for_others(turn: Turn) -> bytes:
    """A receipt for other boxes than it was handed."""
    state = turn.device._state
    honest = turn.honest()
    if not isinstance(state, Shared):
        raise PalateError("shares must have been sent")
    receipt, root = BoxReceipt.decode(honest[HEADER:], k=state.cohort.degree), os.urandom(32)
    payload = receipt_payload(state.cohort.binding, root, pack_flags(receipt.accused))
    return turn.write(BoxReceipt(root, receipt.accused, sign(turn.device._identity, RECEIPT, payload)).encode())


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
    **{f"deals rubbish to {how}": {Step.SHARE: _boxes(how, KEY, SEALED)} for how in ("one", "two", "half", "all")},
    **{f"deals false commitments to {how}": {Step.SHARE: _boxes(how, KEY + SEALED, 16)}
       for how in ("one", "half", "all")},
    **{f"deals boxes without a key to {how}": {Step.SHARE: _boxes(how, 0, KEY, key=True)} for how in ("one", "all")},
    "deals boxes with another key": {Step.SHARE: _boxes("two", 0, KEY - 1)},
    **{f"signs no box for {how}": {Step.SHARE: _boxes(how, BOX_BODY, 8, signed=False)} for how in ("one", "all")},
    **{f"deals wrong shares to {how}": {Step.SHARE: _deals(how)} for how in ("one", "half", "all")},
    **{f"deals wrong shares to {how} and is lost": {Step.SHARE: _deals(how), Step.INPUT: ANYWHERE["is silent"]}
       for how in ("one", "half")},
    "deals another secret": {Step.SHARE: _deals("another secret")},
    "deals another secret and is lost": {Step.SHARE: _deals("another secret"), Step.INPUT: ANYWHERE["is silent"]},
    **{f"deals rubbish to one and is lost at {step.name.lower()}":
       {Step.SHARE: _boxes("one", KEY, SEALED), step: ANYWHERE["is silent"]}
       for step in (Step.CHECK, Step.OPEN)},
    "deals rubbish to two and opens otherwise": {Step.SHARE: _boxes("two", KEY, SEALED), Step.OPEN: _opens_otherwise},
    "deals rubbish to two and opens with random bytes": {
        Step.SHARE: _boxes("two", KEY, SEALED), Step.OPEN: ANYWHERE["sends random bytes under its header"]},
    **{f"complains of {how}": {Step.CHECK: _complains(how)} for how in ("one", "half", "all")},
    "complains of one and is lost": {Step.CHECK: _complains("one"), Step.INPUT: ANYWHERE["is silent"]},
    "deals rubbish to one and complains of all": {
        Step.SHARE: _boxes("one", KEY, SEALED), Step.CHECK: _complains("all")},
    "signs for other boxes": {Step.CHECK: _signs_for_others},
    "commits to another nonce": {Step.COMMIT: _commits_to_another},
    "signs another list": {Step.CONSISTENCY: _signs_another_list},
    **{f"gives wrong shares of {how}": {Step.UNMASK: _gives(how)} for how in ("one", "half", "all")},
    "gives shares of the other secret": {Step.UNMASK: _gives("one", other=True)},
}  # fmt: skip
"""The moves of one hostile device, in every attempt that it is invited to."""
POISON = {"advertises another mask key"}
"""Plans that make the sum wrong, which is undetectable: any vector could do the same."""
NAMED = {
    "nonce": ("commits to another nonce",),
    "advert": ("advertises a key of low order", "advertises one key twice"),
    "box": (*(f"deals rubbish to {how}" for how in ("one", "two", "half", "all")),
            *(f"deals false commitments to {how}" for how in ("one", "half", "all")),
            *(f"deals boxes without a key to {how}" for how in ("one", "all"))),
    "opening": ("deals boxes with another key", "deals rubbish to two and opens otherwise"),
    "complaint": (*(f"complains of {how}" for how in ("one", "half", "all")), "complains of one and is lost",
                  "complains of one at check", "deals rubbish to one and complains of all"),
    "share": tuple(f"gives wrong shares of {how}" for how in ("one", "half", "all")),
    "dealt": (*(f"deals wrong shares to {how}" for how in ("one", "half", "all")),
              *(f"deals wrong shares to {how} and is lost" for how in ("one", "half")),
              "deals another secret", "deals another secret and is lost",
              "advertises another digest", "advertises another mask key and is lost"),
}  # fmt: skip
"""Kind of evidence -> the plans in which the hostile device signs what is false; it is named by that."""


@dataclass
class Life:
    """The results of several attempts.

    Attributes:
        lost: charged attempts that released nothing.
        released: attempts that released an exact sum.
        named: devices that are excluded -> the kind of the evidence.
        evidence: the records, as bytes.
        tosses: rings that were drawn again.
        met: attempts that a hostile device was invited to.
    """

    lost: int = 0
    released: int = 0
    tosses: int = 0
    met: int = 0
    named: dict[int, str] = field(default_factory=dict)
    evidence: dict[int, bytes] = field(default_factory=dict)


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
    """Run several attempts with one hostile device, `HOSTILE`; see `play`."""
    return play({HOSTILE: plan}, devices=devices, n_min=n_min, c_max=c_max, n_max=n_max, attempts=attempts, seed=seed)


def play(
    plans: Mapping[int, str],
    *,
    devices: int,
    n_min: int,
    c_max: int = 1,
    n_max: int | None = None,
    attempts: int = 2,
    lost: float = 0.0,
    seed: int = 0,
) -> Life:
    """Run several attempts with hostile devices.

    Args:
        plans: hostile device -> its moves, a key of `PLANS`.
        devices: number of devices; all are invited that are not excluded.
        n_min: fewest devices that must remain.
        c_max: how many corrupt devices are tolerated.
        n_max: above 250 the devices form a ring.
        attempts: number of attempts; one more follows after all that can be named are.
        lost: the chance of each honest device to be lost in an attempt, at any of its steps.
        seed: of the changed bytes and the losses.

    Raises:
        PalateError: a sum isn't exact, an honest device refuses, or a record of evidence doesn't hold.
    """
    world = MaskedCohort(devices, n_min=n_min, c_max=c_max, n_max=n_max or devices, size=3)
    life, rng, own = Life(), np.random.default_rng(seed), {device: dict[Step, bytes]() for device in plans}
    for _ in range(attempts):
        over = life.named.keys() >= plans.keys()
        invited = sorted(set(range(devices)) - life.named.keys())
        server = world.begin(invited)
        life.met += any(device in invited for device in plans)
        steps = list(Step) if n_max else list(Step)[1:]
        away = {i: steps[rng.integers(len(steps))] for i in invited if i not in plans and rng.random() < lost}
        try:
            while not server.finished:
                life.tosses += server.step is Step.COMMIT
                _exchange(world, server, plans, away, rng, own)
        except IntegrityError:
            life.lost += 1
        else:
            life.released += 1
            poisoned = POISON.intersection(plans.values())
            if not poisoned and server.total.tolist() != world.sum_of(server.survivors).tolist():
                raise PalateError("a sum must be exact, got another")
        life.tosses -= n_max is not None
        for device, record in server.conduct.evidence.items():
            data = record.to_bytes()
            if check(FaultEvidence.from_bytes(data), world.directory) != device:
                raise PalateError("evidence must hold by itself, got a record that doesn't")
            life.named[device], life.evidence[device] = record.kind, data
        if over:
            break
    return life


def _exchange(
    world: MaskedCohort,
    server: Unmasking,
    plans: Mapping[int, str],
    away: Mapping[int, Step],
    rng: np.random.Generator,
    own: Mapping[int, dict[Step, bytes]],
) -> None:
    """One step: hostile devices answer last, after they have seen the others' answers."""
    step, answers = server.step, dict[int, bytes]()
    for i in server.asked:
        if i not in plans and step < away.get(i, len(Step) + 1):
            answers[i] = world.devices[i].answer(step, server.request(i))
    honest = dict(answers)
    for i in server.asked:
        if i not in plans:
            continue
        moves = PLANS[plans[i]]
        turn = Turn(step, world.devices[i], server.request(i), honest, own[i], rng)
        try:
            answer = moves[step](turn) if step in moves else turn.honest()
        except PalateError:
            answer = None  # its earlier moves leave it nothing to answer
        if answer is not None:
            own[i][step] = answers[i] = answer
    for i, answer in answers.items():
        server.receive(i, answer)
    server.close()
