"""A device from its masked vector on: lists of members, signatures on them, and the shares that open a sum."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import flipped, resized
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.masks.devices import LyingServer, asked_for_vector
from palate_audit.answers.seams.masks.worlds import COMPLETE, RING, Shape, copied, rings
from palate_core.errors import InputError
from palate_core.masks.messages import Flags, InputRequest, Step, UnmaskRequest, pack_flags
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import CONSISTENCY, INPUT, MEMBERS, consistency_payload, members_payload, sign


def _fewer(dice: Dice, flags: Flags, least: int, cohort: Cohort, me: int) -> Flags:
    """A list with some fewer, near what must be there, in a row of the ring or not; the device may miss, too."""
    there, found = np.flatnonzero(flags).tolist(), flags.copy()
    gone = dice.shuffled([each for each in there if each != me])
    if cohort._ring is not None and dice.chance(0.6):
        after = int(cohort._ring.position[me]) + dice.whole(1, len(cohort) - 3)
        gone = np.roll(cohort._ring.order, -after).tolist()
    found[gone[: dice.one_of((0, 0, 1, len(there) - least, len(there) - least, len(there) - least + 1))]] = False
    found[me] = dice.chance(0.93)
    return found


def _wrong_inputs(liar: LyingServer, u1: Flags, binding: bytes) -> None:
    """Requests for the vector that must be refused."""
    dice, list_ = liar.dice, pack_flags(u1)
    server = liar.party.server
    bodies = (
        list_ + sign(server, MEMBERS, members_payload(binding, flipped(dice, list_))),
        list_ + sign(liar.party.keys[0], MEMBERS, members_payload(binding, list_)),
        list_ + sign(server, INPUT, members_payload(binding, list_)),
        list_ + sign(server, MEMBERS, members_payload(bytes(98), list_)), list_ + bytes(64), list_,
        list_[:-1] + bytes([list_[-1] | 128]) + sign(server, MEMBERS, members_payload(binding, list_)),
    )  # fmt: skip
    liar.ask(Step.INPUT, dice.one_of(bodies))


def _summed(shape: Shape, dice: Dice, answer: CaseAnswer) -> None:
    """The list of who has shared, the list of survivors, and the shares that open the sum."""
    with rings(shape), ExitStack() as stack:
        liar = LyingServer(dice, answer, shape, Step.INPUT)
        n_min = liar.terms.n_min
        state: Any = liar.device._state
        cohort, me = state.cohort, state.me
        stack.enter_context(mock.patch.object(cohort, "_window_corrupt", dice.whole(0, 2)))  # how long a gap may be
        odd = dice.whole(0, 11)
        if odd < 3:
            vectors: tuple[Any, ...] = (np.zeros(shape.size, np.int32), np.zeros(shape.size + 1, np.int64), None)
            liar.device._vector = partial(_vector, vectors[odd])
        everybody = np.ones(shape.n, np.bool_)
        u1 = _fewer(dice, everybody, n_min, cohort, me)
        if dice.chance(0.6):
            _wrong_inputs(liar, everybody if dice.chance(0.7) else u1, cohort.binding)
        if dice.chance(0.3):
            signature = sign(liar.party.server, MEMBERS, members_payload(cohort.binding, pack_flags(u1)))
            liar.garbled(Step.INPUT, InputRequest(u1, signature).encode())
        if not asked_for_vector(liar, u1):
            u1 = everybody
            asked_for_vector(liar, u1)
        if dice.chance(0.4):
            asked_for_vector(liar, _fewer(dice, everybody, n_min, cohort, me))
            liar.ask(Step.OPEN, bytes(200))
            again = liar.restarted()
            signature = sign(liar.party.server, MEMBERS, members_payload(cohort.binding, pack_flags(everybody)))
            liar.ask(Step.INPUT, InputRequest(everybody, signature).encode(), device=again)
        _opened(liar, cohort, u1, n_min)


def _vector(given: Any) -> Any:
    """What a device computes: an array of another kind or size, or an error of Palate's."""
    if given is None:
        raise InputError("no vector, got `none`")
    return given


def _opened(liar: LyingServer, cohort: Cohort, u1: Flags, n_min: int) -> None:
    """From the survivors on."""
    dice, me, answer = liar.dice, liar.device, liar.answer
    member = cohort.member(liar.me) or 0
    survivors = _fewer(dice, u1, n_min, cohort, member)
    strangers = np.flatnonzero(~u1).tolist()
    if dice.chance(0.5):  # as many survivors, of whom some haven't shared
        swapped = u1.copy()
        swapped[[each for each in np.flatnonzero(u1).tolist() if each != member][: len(strangers)]] = False
        swapped[strangers] = True
        liar.ask(Step.CONSISTENCY, dice.one_of((pack_flags(swapped), pack_flags(swapped), pack_flags(~u1 | survivors),
                 resized(dice, pack_flags(survivors)), pack_flags(survivors)[:-1] + b"\xff")))  # fmt: skip
    if not liar.ask(Step.CONSISTENCY, pack_flags(survivors)):
        survivors = u1
        liar.ask(Step.CONSISTENCY, pack_flags(survivors))
    if dice.chance(0.3):
        liar.ask(Step.CONSISTENCY, pack_flags(_fewer(dice, u1, n_min, cohort, member)))
        again = copied(liar.recorded.moments[Step.CONSISTENCY].devices[liar.me])
        again._latch = me._latch
        liar.ask(Step.CONSISTENCY, pack_flags(_fewer(dice, u1, n_min, cohort, member)), device=again)
    if dice.chance(0.3):
        liar.garbled(Step.CONSISTENCY, pack_flags(survivors))
        liar.garbled(Step.UNMASK, _unmasked(liar, cohort, u1, survivors))
    for _ in range(dice.one_of((1, 2, 3, 4))):
        liar.ask(Step.UNMASK, _unmasked(liar, cohort, u1, survivors))
    answer.tell(len(me._answers))


def _unmasked(liar: LyingServer, cohort: Cohort, u1: Flags, survivors: Flags) -> bytes:
    """Signatures of the survivors, in most cases with something wrong in them."""
    dice, member, keys = liar.dice, cohort.member(liar.me) or 0, liar.party.keys
    around = cohort.neighbours(member)
    signers = survivors.copy()
    there = dice.shuffled([each for each in around.tolist() if survivors[each]])
    far = dice.shuffled([each for each in np.flatnonzero(survivors).tolist() if each not in there and each != member])
    spare = len(there) - cohort.threshold
    signers[there[: max(0, dice.one_of((0, 0, 0, 1, spare, spare + 1)))]] = False
    signers[far[: dice.one_of((0, 0, 1, 2, len(far)))]] = False
    signers[member] = dice.chance(0.8)
    how = dice.one_of(
        ("", "", "", "near", "far", "far", "far", "own", "lost", "other", "fewer", "more", "order", "list", "tag")
    )
    if how == "lost" and not survivors.all():
        signers[np.flatnonzero(~survivors)[0]] = True
    payload = consistency_payload(cohort.binding, pack_flags(u1), pack_flags(survivors))
    others = [each for each in around.tolist() if survivors[each] and not signers[each]]
    wrong = {"near": there[-1:], "far": far[-1:], "own": [member], "other": others[-1:]}.get(how, [])
    signed = [
        bytes(64) if each in wrong else sign(keys[each], CONSISTENCY, payload)
        for each in np.flatnonzero(signers).tolist()
    ]
    list_ = pack_flags(u1 if how != "list" else ~u1)
    tag = CONSISTENCY if how == "tag" else INPUT
    more = [
        bytes(64) if each in wrong else sign(keys[each], tag, members_payload(cohort.binding, list_)) for each in others
    ]
    more = (
        more[:-1] if how == "fewer" else [*more, bytes(64)] if how == "more" else more[::-1] if how == "order" else more
    )
    return UnmaskRequest(signers, tuple(signed), tuple(more)).encode()


SEAMS = (
    Seam("device: vectors, lists and shares", partial(_summed, COMPLETE), 30),
    Seam("device: vectors, lists and shares in a ring", partial(_summed, RING), 30),
)
