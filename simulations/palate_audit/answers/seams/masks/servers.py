"""The server in a masked attempt: at each step, devices that are lost, late, or send and sign what is false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.masks.liars import LyingDevices, Script, lies_at
from palate_audit.answers.seams.masks.worlds import (
    COMPLETE,
    RING,
    Party,
    ResumedAttempt,
    Shape,
    honest,
    rings,
    tell_device,
    tell_server,
)
from palate_client.secagg.states import Checked
from palate_core.masks.boxes import make_box, open_box
from palate_core.masks.messages import BOX_BODY, Step
from palate_core.masks.transcript import AttemptTerms
from palate_server.secagg import sum as sums
from palate_server.secagg.attempt import Unmasking
from palate_server.secagg.shared import SharedCohort

STEPS = (Step.ADVERTISE, Step.SHARE, Step.CHECK, Step.INPUT, Step.CONSISTENCY, Step.UNMASK)


def _lied(
    shape: Shape, steps: tuple[Step, Step | None], scripts: Sequence[Script], dice: Dice, answer: CaseAnswer
) -> None:
    """An attempt that goes on from one of its steps to another, or to the end, with liars at some of them."""
    start, until = steps
    with rings(shape), mock.patch.object(sums, "MOST_DECODED", dice.one_of((sums.MOST_DECODED, 0, 36))):
        played = ResumedAttempt(honest(shape), start, answer)
        stage: Any = played.server._stage
        if shape.ring and start > Step.ADVERTISE:  # how long a gap may be
            cohort = stage._cohort if start is Step.SHARE else stage._held.cohort
            cohort._window_corrupt = dice.one_of((0, 1, 2, 2))
        played.go(LyingDevices(dice, played, dice.one_of(scripts)), until)
    for i in dice.some_of(range(shape.n), 0.2):
        tell_device(answer, played.devices[i])


def _mended(dice: Dice, answer: CaseAnswer) -> None:
    """Shares that were dealt and don't fit together: who is named, and whether the sum is found."""
    shape = dice.one_of((COMPLETE, COMPLETE, RING))
    most = dice.one_of((sums.MOST_DECODED, sums.MOST_DECODED, 35, 36, 61, 71, 72))
    with rings(shape), mock.patch.object(sums, "MOST_DECODED", most):
        played = ResumedAttempt(honest(shape), Step.INPUT, answer)
        stage: Any = played.server._stage
        order = dice.shuffled(range(shape.n))
        for liar in order[: dice.one_of((1, 1, 2))]:
            _deal(dice, played, stage._held, liar)
        gone = {
            Step.INPUT: order[: dice.one_of((0, 0, 0, 0, 1))],
            Step.UNMASK: order[2 : dice.one_of((2, 2, 2, 2, 3, 4))],
        }

        def change(step: Step, answers: dict[int, bytes]) -> list[tuple[int, bytes]]:
            return [(i, answers[i]) for i in answers if i not in gone.get(step, ())]

        played.go(change, None)


def _deal(dice: Dice, played: ResumedAttempt, held: SharedCohort, liar: int) -> None:
    """Let one device have dealt other shares to some, under its commitments and signatures."""
    cohort, party = held.cohort, played.recorded.party
    spare = cohort.degree - cohort.threshold
    many = dice.shuffled(range(cohort.degree))[: dice.one_of((spare, spare + 1, cohort.degree))]
    one = [dice.whole(0, cohort.threshold - 1)]
    for slot in one if dice.chance(0.6) else many:
        holder = int(held.neighbours[liar, slot])
        at = held.neighbours[holder].tolist().index(liar)
        label, _ = held.received(holder, at)
        box, made_with = make_box(label, dice.bytes(64), party.keys[liar])
        device, dealt = played.left(holder), open_box(label, box, made_with)
        if isinstance(device._state, Checked) and dealt is not None:
            device._state = replace(device._state, shares={**device._state.shares, at: dealt})
        signed = dice.chance(0.9)  # or nobody has signed it
        held.boxes[liar, slot] = np.frombuffer(box if signed else box[:BOX_BODY] + bytes(64), np.uint8)


def _whole(dice: Dice, answer: CaseAnswer) -> None:
    """Two attempts in one process: few devices, some of them invited, and lost at any step."""
    n = dice.one_of((3, 3, 4, 4, 5))
    shape = Shape(
        n, dice.one_of((n, max(3, n - 1))), size=dice.whole(1, 40), bits=dice.one_of((1, 8, 31, 32, 33, 62, 63, 64))
    )
    party = Party.of(shape, dice, dice.bytes(32))
    for _ in range(dice.one_of((1, 2))):
        invited = sorted(dice.shuffled(range(n))[: dice.one_of((n, n, n, n - 1, 2))])
        server = answer.tried(party.unmasking, dice.one_of((None, invited, [*invited, *invited[:1]])))
        if not isinstance(server, Unmasking):
            continue
        devices = [party.device(i) for i in range(n)]
        never = Step.UNMASK + 1
        away = {i: dice.one_of((*STEPS, never, never, never, never)) for i in range(n)}
        ended = None
        while not server.finished and ended is None:
            step, requests = server.step, server.requests()
            answer.tell(step.name, list(requests.items()))
            for i, request in requests.items():
                if step < away[i]:
                    answer.tell(server.receive(i, devices[i].answer(step, request)))
            ended = answer.tried(server.close)
            tell_server(answer, server)
        if ended is None:
            answer.tell(party.vectors[list(server.survivors)].sum(axis=0) - server.total)
        party = replace(party, terms=replace(party.terms, context=dice.bytes(32)))


def _tossed(dice: Dice, answer: CaseAnswer) -> None:
    """A ring that is drawn again while a nonce is missing, as often as it may be."""
    with rings(RING):
        party = honest(RING).party
        party = replace(party, terms=replace(party.terms, context=dice.bytes(32), max_tosses=dice.whole(1, 3), n_min=6))
        server, devices = party.unmasking(), [party.device(i) for i in range(RING.n)]
        answer.tell(server.requests())
        ended, before = None, dict[tuple[Step, int], bytes]()
        while not server.finished and ended is None and server.step < Step.SHARE:
            quiet = dice.shuffled(server.asked)[: dice.one_of((0, 1, 1, 2))]
            for i in server.asked:
                given = devices[i].answer(server.step, server.request(i))
                if (server.step, i) in before:  # of the toss before
                    answer.tell(server.receive(i, before[server.step, i]))
                if i not in quiet:
                    before[server.step, i] = given
                    answer.tell(server.receive(i, given))
            ended = answer.tried(server.close)
            tell_server(answer, server)
            if ended is None:
                answer.tell(server.step.name, server.requests())


def _begun(dice: Dice, answer: CaseAnswer) -> None:
    """Who is invited at all, and what an attempt says before it has begun and after it has ended."""
    shape = dice.one_of((COMPLETE, RING))
    with rings(shape):
        party = honest(shape).party
        n = shape.n
        some = dice.shuffled(range(n))
        few, less = some[: shape.n_min], some[: shape.n_min - 1]
        for invited in (None, few, less, [*range(n), n], [-1, *range(1, n)], [], some, [*some[1:], n], [*some, *some]):
            server = answer.tried(Unmasking, party.terms, party.directory, party.server, invited=invited)
            if isinstance(server, Unmasking):
                answer.tell(server.invited, server.asked, server.step.name, server.finished, server.requests())
                tell_server(answer, server)
        for changed in ({"directory": "ab" * 32}, {"n_max": shape.n + 1}, {"n_max": shape.n_min}, {"n_min": 9}):
            terms = CaseAnswer().tried(replace, party.terms, **changed)
            if isinstance(terms, AttemptTerms):
                answer.tell(type(answer.tried(Unmasking, terms, party.directory, party.server)).__name__)
        played = ResumedAttempt(honest(shape), dice.one_of(STEPS), answer)
        for i in (0, 5, 9, 99):
            answer.of(played.server.request, i)
        answer.of(played.server.collect, {})
        answer.of(lambda: played.server.step)
        answer.of(played.server.close)
        answer.of(played.server.requests)
        answer.of(played.server.receive, 0, b"")
        tell_server(answer, played.server)


MANY = (0, 1, 2, 3)


THROUGH = (Script({Step.CHECK: ("", "victim"), Step.UNMASK: ("",)}, (2,), (0,)),)


CHECKED = (lies_at(Step.CHECK),)


LATE = (
    lies_at(Step.INPUT),
    lies_at(Step.CONSISTENCY),
    lies_at(Step.UNMASK),
    lies_at(Step.UNMASK),
    lies_at(Step.INPUT, Step.UNMASK),
)


SHARED = (
    lies_at(Step.SHARE, gone=(0,)),
    Script({Step.SHARE: ("rubbish", "false")}, (1, 2), (0,)),
    Script({Step.SHARE: ("low", "shares")}, (1, 2), (0,)),
    Script({Step.SHARE: ("unsigned",), Step.CHECK: ("all boxes",)}, (2, 3), (0,)),
    Script({Step.SHARE: ("unsigned",), Step.CHECK: ("", "victim")}, (2,), (0,)),
    Script({Step.CHECK: ("",)}, (1, 2), (1,)),
)


RINGED = (*SHARED, Script({}, (0,), (1, 2)))


LATE_IN_A_RING = tuple(replace(script, gone=(0, 0, 1, 1, 2)) for script in LATE)


BEGINNING = (Step.COMMIT, Step.SHARE)


ADVERTS = (Step.ADVERTISE, Step.SHARE)


BOXES = (Step.SHARE, Step.INPUT)


RECEIPTS = (Step.CHECK, Step.INPUT)


REST = (Step.CHECK, None)


LAST = (Step.INPUT, None)


SEAMS = (
    Seam("server: who is invited, and where it ends", _begun, 12),
    Seam("server: whole attempts of few", _whole, 12),
    Seam("server: tosses", _tossed, 6),
    Seam("server: commitments", partial(_lied, RING, BEGINNING, (lies_at(Step.COMMIT, gone=MANY),)), 12),
    Seam("server: adverts", partial(_lied, COMPLETE, ADVERTS, (lies_at(Step.ADVERTISE, gone=MANY),)), 18),
    Seam("server: adverts in a ring", partial(_lied, RING, ADVERTS, (lies_at(Step.ADVERTISE, gone=MANY),)), 12),
    Seam("server: boxes", partial(_lied, COMPLETE, BOXES, SHARED), 24),
    Seam("server: boxes in a ring", partial(_lied, RING, BOXES, RINGED), 12),
    Seam("server: receipts and openings", partial(_lied, COMPLETE, RECEIPTS, CHECKED), 18),
    Seam("server: receipts and openings in a ring", partial(_lied, RING, RECEIPTS, CHECKED), 12),
    Seam("server: vectors, lists and shares", partial(_lied, COMPLETE, REST, LATE), 18),
    Seam("server: vectors, lists and shares in a ring", partial(_lied, RING, REST, LATE_IN_A_RING), 12),
    Seam("server: lost vectors", partial(_lied, COMPLETE, LAST, (Script({}, (0,), (1, 1, 2)),)), 12),
    Seam("server: lost vectors in a ring", partial(_lied, RING, LAST, (Script({}, (0,), (0, 1)),)), 6),
    Seam("server: from the receipts to the sum", partial(_lied, COMPLETE, REST, THROUGH), 6),
    Seam("server: shares that don't fit together", _mended, 18),
)
