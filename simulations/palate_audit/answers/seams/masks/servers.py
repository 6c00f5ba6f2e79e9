"""The server in a masked attempt: at each step, devices that are lost, late, or send and sign what is false."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.masks.signed import flipped, resized
from palate_audit.answers.seams.masks.worlds import (
    COMPLETE,
    RING,
    Party,
    Played,
    Shape,
    honest,
    rings,
    tell_device,
    tell_server,
)
from palate_client.secagg.states import Checked, Shared
from palate_common.rounds.wire import REFUSED
from palate_common.secagg.boxes import NONE, Label, make_box, open_box, root_of, tree_of
from palate_common.secagg.messages import (
    BOX_BODY,
    HEADER,
    OPENING,
    PIECE,
    SIGNATURE,
    Advert,
    BoxReceipt,
    CheckRequest,
    Step,
    pack_flags,
    split_pieces,
)
from palate_common.secagg.transcript import (
    ADVERT,
    COMMIT,
    CONSISTENCY,
    INPUT,
    RECEIPT,
    REVEAL,
    AttemptTerms,
    advert_payload,
    commit_payload,
    opening_payload,
    receipt_payload,
    reveal_payload,
    sign,
)
from palate_common.secagg.transcript import BOX as BOX_TAG
from palate_common.secagg.transcript import OPENING as OPENING_TAG
from palate_server.secagg import sum as sums
from palate_server.secagg.attempt import Unmasking
from palate_server.secagg.shared import SharedCohort

STEPS = (Step.ADVERTISE, Step.SHARE, Step.CHECK, Step.INPUT, Step.CONSISTENCY, Step.UNMASK)


class _Liar:
    """What one device may sign instead of its honest answer, when it was asked and has answered."""

    def __init__(
        self, dice: Dice, played: Played, i: int, answers: dict[int, bytes], hows: Sequence[str], friends: Sequence[int]
    ) -> None:
        device, answer = played.left(i), answers[i]
        self.how, self.friends = dice.one_of(hows), friends
        self.dice, self.device, self.before = dice, device, played.states[i]
        self.request, self.others = played.server.request(i), answers
        self.head, self.body = answer[:HEADER], answer[HEADER:]
        self.toss, self.context = int.from_bytes(answer[2:4], "little"), device.terms.context
        self.sign: Callable[[str, bytes], bytes] = partial(sign, device._identity)

    def commit(self) -> bytes:
        """A commitment to a nonce that it won't show."""
        commitment = self.dice.bytes(32)
        payload = commit_payload(self.context, self.toss, self.device.id, commitment)
        return commitment + self.sign(COMMIT, payload)

    def advertise(self) -> bytes:
        """Other keys, another nonce or digest."""
        dice, committed = self.dice, self.device.terms.committed
        own = Advert.decode(self.body, committed=committed)
        another = Advert.decode(self.others[dice.one_of([*self.others])][HEADER:], committed=committed)
        others: list[dict[str, bytes]] = [
            {"nonce": dice.bytes(len(own.nonce))}, {"self_digest": dice.bytes(32)}, {"share_key": bytes(32)},
            {"mask_key": own.share_key}, {"mask_key": bytes([9]) + bytes(31)}, {"mask_key": b"\xff" * 32},
            {"mask_key": another.mask_key}, {"share_key": another.mask_key},
        ]  # fmt: skip
        own = replace(own, **dice.one_of(others))
        payload = advert_payload(self.context, self.toss, self.request[HEADER:], self.device.id, own.body)
        return own.body + self.sign(ADVERT, payload)

    def _slots(self, k: int) -> list[int]:
        """Some slots of its neighbours; those of its friends where it is about signatures."""
        state: Any = self.device._state
        names = state.cohort.ids[state.neighbours].tolist()
        friends = [slot for slot, device in enumerate(names) if device in self.friends]
        if self.how in ("unsigned", "all boxes") and friends:
            return friends
        if self.how == "victim":  # all friends the same
            return [min((device, slot) for slot, device in enumerate(names) if slot not in friends)[1]]
        return self.dice.shuffled(range(k))[: self.dice.one_of((1, 1, 2, 3, k))]

    def share(self) -> bytes:
        """Boxes with something else in them, for one, two, or all; it opens what it has sent."""
        dice, state = self.dice, self.device._state
        if not isinstance(state, Shared):
            raise TypeError("boxes must have been made")
        boxes, keys, names = list(state.boxes), list(state.made_with), state.cohort.ids[state.neighbours].tolist()
        start, length = {"rubbish": (32, 80), "false": (112 + dice.one_of((0, 16)), 16), "low": (0, 32),
                         "other key": (0, 31)}.get(self.how, (0, 0))  # fmt: skip
        for slot in self._slots(len(boxes)):
            ends = {"sender": self.device.id, "receiver": names[slot]}
            label = Label.of(state.cohort, **ends, slot=slot, key=state.share_keys[slot])
            if self.how == "shares":
                boxes[slot], keys[slot] = make_box(label, dice.bytes(64), self.device._identity)
            body = bytearray(boxes[slot][:BOX_BODY])
            body[start : start + length] = bytes(length) if self.how == "low" else dice.bytes(length)
            signature = bytes(64) if self.how == "unsigned" else self.sign(BOX_TAG, label.payload(bytes(body)))
            boxes[slot] = bytes(body) + signature
        self.device._state = replace(state, boxes=tuple(boxes), made_with=tuple(keys))
        return b"".join(boxes)

    def check(self) -> bytes:
        """Complaints of good boxes and of none, or a receipt for other boxes."""
        dice, state = self.dice, self.device._state
        receipt = BoxReceipt.decode(self.body, k=state.cohort.degree)  # type: ignore[union-attr]
        accused, root = receipt.accused.copy(), receipt.root
        if self.how == "root":
            root = dice.bytes(32)
        else:
            root = self._all_boxes() if self.how == "all boxes" else root
            accused[self._slots(len(accused))] = True
        payload = receipt_payload(state.cohort.binding, root, pack_flags(accused))  # type: ignore[union-attr]
        return BoxReceipt(root, accused, self.sign(RECEIPT, payload)).encode()

    def _all_boxes(self) -> bytes:
        """The root over all boxes that it was handed, also those that their senders haven't signed."""
        state: Any = self.device._state
        cohort, names = state.cohort, state.cohort.ids[state.neighbours].tolist()
        request = CheckRequest.decode(self.request[HEADER:], n=len(cohort))
        slots, key = np.flatnonzero(request.shared[state.neighbours]).tolist(), self.before.share_pair.public  # type: ignore[union-attr]
        leaves = [NONE] * cohort.degree
        for slot, box in zip(slots, request.boxes, strict=True):
            ends, place = {"sender": names[slot], "receiver": self.device.id}, int(cohort.slots(state.me)[slot])
            leaves[slot] = Label.of(cohort, **ends, slot=place, key=key).leaf(box)
        return root_of(tree_of(leaves))

    def open(self) -> bytes:
        """Openings by other keys, or without a signature."""
        dice, made = self.dice, list[bytes]()
        cohort, width = self.device._state.cohort, (len(self.request) - HEADER) // (len(self.body) // OPENING)  # type: ignore[union-attr]
        for at, opening in enumerate(split_pieces("openings", self.body, OPENING)):
            receiver = int.from_bytes(self.request[HEADER + at * width :][:4], "little")
            good = self.how != "other" or (at and dice.chance(0.5))
            secret = opening[:32] if good else dice.bytes(32)
            payload = opening_payload(cohort.binding, receiver, secret)
            made.append(secret + (self.sign(OPENING_TAG, payload) if self.how != "unsigned" else bytes(64)))
        return b"".join(made)

    def input(self) -> bytes:
        """Another vector under the same list, or a signature on another one."""
        vector, signature = self.body[:-SIGNATURE], self.body[-SIGNATURE:]
        lists = (vector, flipped(self.dice, vector[:-1]) + vector[-1:], vector[:-1] + b"\xff", vector + b"\0")
        other = self.dice.one_of((signature, self.sign(INPUT, b"another list"), self.sign(CONSISTENCY, b"")))
        return self.dice.one_of(lists) + other

    def consistency(self) -> bytes:
        """A signature on another list."""
        return self.sign(CONSISTENCY, self.dice.bytes(5))

    def unmask(self) -> bytes:
        """Shares that aren't those it was dealt, or said to be of the other secret."""
        dice, masked = self.dice, self.before.masked  # type: ignore[union-attr]
        pieces = [bytearray(piece) for piece in split_pieces("shares", self.body[:-SIGNATURE], PIECE)]
        how, at = dice.one_of(("share", "salt", "which", "none")), dice.whole(0, len(pieces) - 1)
        if how == "which":
            pieces[at][0] ^= dice.one_of((1, 1, 2))
        else:
            pieces[at][1 if how == "share" else 40] ^= 1
        leaves = [NONE] * masked.cohort.degree
        for slot, piece in zip(masked.shares, pieces, strict=True):
            leaves[slot] = bytes(piece)
        root = root_of(tree_of(leaves)) if how != "none" else dice.bytes(32)
        return b"".join(leaves) + self.sign(REVEAL, reveal_payload(masked.cohort.binding, root))


def _sent(dice: Dice, played: Played, answers: dict[int, bytes], i: int, lie: bytes) -> bytes | None:
    """What a device sends instead: in most cases signed, else broken on its way."""
    good, moments = answers[i], [*played.recorded.moments.values()]
    if dice.chance(0.75):
        return lie
    kinds: tuple[bytes | None, ...] = (
        None, resized(dice, good), flipped(dice, good), REFUSED, good[:HEADER] + resized(dice, good[HEADER:]),
        good[:-1] + bytes([good[-1] ^ 1]), dice.one_of([*answers.values()]), dice.one_of(moments).answers[i],
        dice.one_of(moments).answers[i], good[:2] + bytes([good[2] ^ 1]) + good[3:],
        good[:1] + bytes([good[1] - 1]) + good[2:], good[:1] + bytes([good[1] + 1]) + good[2:], good[:39],
    )  # fmt: skip
    return dice.one_of(kinds)


HOWS: dict[Step, tuple[str, ...]] = {
    Step.SHARE: ("rubbish", "rubbish", "false", "low", "other key", "unsigned", "shares"),
    Step.CHECK: ("root", "all boxes", "victim", "victim", "", "", ""),
    Step.OPEN: ("", "", "other", "other", "unsigned"),
}
"""How liars lie at a step."""


@dataclass(frozen=True)
class _Script:
    """What goes wrong: how liars lie at some steps, how many they are, and how many devices are gone from the first."""

    hows: Mapping[Step, Sequence[str]]
    liars: tuple[int, ...] = (1, 1, 2)
    gone: tuple[int, ...] = (0, 0, 0, 0, 0, 1, 1, 2)


def _at(*steps: Step, gone: tuple[int, ...] = (0, 0, 0, 0, 0, 1, 1, 2)) -> _Script:
    """Lies of any kind at some steps."""
    return _Script({step: HOWS.get(step, ("",)) for step in steps}, gone=gone)


class _Changes:
    """Liars, and devices that are gone; late, repeated and unasked answers at each step."""

    def __init__(self, dice: Dice, played: Played, script: _Script) -> None:
        self.dice, self.played, self.hows = dice, played, {Step.OPEN: HOWS[Step.OPEN], **script.hows}
        some, liars = dice.shuffled(range(len(played.devices))), dice.one_of(script.liars)
        self.liars, self.gone = some[:liars], some[liars : liars + dice.one_of(script.gone)]
        self.before: list[tuple[int, bytes]] = []

    def __call__(self, step: Step, answers: dict[int, bytes]) -> list[tuple[int, bytes]]:
        """What the server receives, in any order."""
        dice, sent = self.dice, dict[int, bytes | None](answers)
        if step is Step.OPEN:  # honest ones may be lost here, too
            sent = {i: data for i, data in sent.items() if dice.chance(0.8)}
        # Who is found out at the receipts gives no shares: then the others lie.
        for i in self.liars[:1] if step is Step.CHECK and Step.UNMASK in self.hows else self.liars:
            if i in answers and step in self.hows:
                liar = _Liar(dice, self.played, i, answers, self.hows[step], self.liars)
                lie: bytes = getattr(liar, step.name.lower())()
                sent[i] = _sent(dice, self.played, answers, i, liar.head + lie)
        received = dice.shuffled([(i, data) for i, data in sent.items() if data is not None and i not in self.gone])
        extra = [(i, data) for i, data in received if dice.chance(0.1)] + dice.some_of(self.before, 0.1)
        self.before = received
        return [*received, *extra, *((99, data) for _, data in extra[:1])]


def _lied(
    shape: Shape, steps: tuple[Step, Step | None], scripts: Sequence[_Script], dice: Dice, answer: Answer
) -> None:
    """An attempt that goes on from one of its steps to another, or to the end, with liars at some of them."""
    start, until = steps
    with rings(shape), mock.patch.object(sums, "MOST_DECODED", dice.one_of((sums.MOST_DECODED, 0, 36))):
        played = Played(honest(shape), start, answer)
        stage: Any = played.server._stage
        if shape.ring and start > Step.ADVERTISE:  # how long a gap may be
            cohort = stage._cohort if start is Step.SHARE else stage._held.cohort
            cohort._window_corrupt = dice.one_of((0, 0, 1, 2))
        played.go(_Changes(dice, played, dice.one_of(scripts)), until)
    for i in dice.some_of(range(shape.n), 0.2):
        tell_device(answer, played.devices[i])


def _mended(dice: Dice, answer: Answer) -> None:
    """Shares that were dealt and don't fit together: who is named, and whether the sum is found."""
    shape, most = dice.one_of((COMPLETE, RING)), dice.one_of((sums.MOST_DECODED, 0, 35, 36, 61, 71, 72))
    with rings(shape), mock.patch.object(sums, "MOST_DECODED", most):
        played = Played(honest(shape), Step.INPUT, answer)
        stage: Any = played.server._stage
        order = dice.shuffled(range(shape.n))
        for liar in order[: dice.one_of((1, 1, 2))]:
            _deal(dice, played, stage._held, liar)
        gone = {Step.INPUT: order[: dice.one_of((0, 0, 1))], Step.UNMASK: order[2 : dice.one_of((2, 2, 3, 4))]}

        def change(step: Step, answers: dict[int, bytes]) -> list[tuple[int, bytes]]:
            return [(i, answers[i]) for i in answers if i not in gone.get(step, ())]

        played.go(change, None)


def _deal(dice: Dice, played: Played, held: SharedCohort, liar: int) -> None:
    """Let one device have dealt other shares to some, under its commitments and signatures."""
    cohort, party = held.cohort, played.recorded.party
    spare = cohort.degree - cohort.threshold
    for slot in dice.shuffled(range(cohort.degree))[: dice.one_of((1, 1, 2, spare, spare + 1, cohort.degree))]:
        holder = int(held.neighbours[liar, slot])
        at = held.neighbours[holder].tolist().index(liar)
        label, _ = held.received(holder, at)
        box, made_with = make_box(label, dice.bytes(64), party.keys[liar])
        device, dealt = played.left(holder), open_box(label, box, made_with)
        if isinstance(device._state, Checked) and dealt is not None:
            device._state = replace(device._state, shares={**device._state.shares, at: dealt})
        signed = dice.chance(0.8)  # or nobody has signed it
        held.boxes[liar, slot] = np.frombuffer(box if signed else box[:BOX_BODY] + bytes(64), np.uint8)


def _whole(dice: Dice, answer: Answer) -> None:
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
        away = {i: dice.one_of((*STEPS, None, None, None, None)) for i in range(n)}
        ended = None
        while not server.finished and ended is None:
            step, requests = server.step, server.requests()
            answer.tell(step.name, list(requests.items()))
            for i, request in requests.items():
                if away[i] is None or step < away[i]:  # type: ignore[operator]
                    answer.tell(server.receive(i, devices[i].answer(step, request)))
            ended = answer.tried(server.close)
            tell_server(answer, server)
        if ended is None:
            answer.tell(party.vectors[list(server.survivors)].sum(axis=0) - server.total)
        party = replace(party, terms=replace(party.terms, context=dice.bytes(32)))


def _tossed(dice: Dice, answer: Answer) -> None:
    """A ring that is drawn again while a nonce is missing, as often as it may be."""
    with rings(RING):
        party = honest(RING).party
        party = replace(party, terms=replace(party.terms, context=dice.bytes(32), max_tosses=dice.whole(1, 3), n_min=6))
        server, devices = party.unmasking(), [party.device(i) for i in range(RING.n)]
        answer.tell(server.requests())
        ended = None
        while not server.finished and ended is None and server.step < Step.SHARE:
            quiet = dice.shuffled(server.asked)[: dice.one_of((0, 1, 1, 2))]
            for i in server.asked:
                given = devices[i].answer(server.step, server.request(i))
                if i not in quiet:
                    server.receive(i, given)
            ended = answer.tried(server.close)
            tell_server(answer, server)
            if ended is None:
                answer.tell(server.step.name, server.requests())


def _begun(dice: Dice, answer: Answer) -> None:
    """Who is invited at all, and what an attempt says before it has begun and after it has ended."""
    shape = dice.one_of((COMPLETE, RING))
    with rings(shape):
        party = honest(shape).party
        n = shape.n
        some = dice.shuffled(range(n))
        for invited in (None, some[: shape.n_min], some[: shape.n_min - 1], [*range(n), n], [-1, *range(1, n)], [], some,
                        [*some[1:], n], [*some, *some], set(some)):  # fmt: skip
            server = answer.tried(Unmasking, party.terms, party.directory, party.server, invited=invited)
            if isinstance(server, Unmasking):
                answer.tell(server.invited, server.asked, server.step.name, server.finished, server.requests())
                tell_server(answer, server)
        for changed in ({"directory": "ab" * 32}, {"n_max": shape.n + 1}, {"n_max": shape.n_min}, {"n_min": 9}):
            terms = Answer().tried(replace, party.terms, **changed)
            if isinstance(terms, AttemptTerms):
                answer.tell(type(answer.tried(Unmasking, terms, party.directory, party.server)).__name__)
        played = Played(honest(shape), dice.one_of(STEPS), answer)
        for i in (0, 5, 9, 99):
            answer.of(played.server.request, i)
        answer.of(played.server.collect, {})
        answer.of(lambda: played.server.step)
        answer.of(played.server.close)
        answer.of(played.server.requests)
        answer.of(played.server.receive, 0, b"")
        tell_server(answer, played.server)


MANY = (0, 1, 2, 3)
THROUGH = (_Script({Step.CHECK: ("", "victim"), Step.UNMASK: ("",)}, (2,), (0,)),)
CHECKED = (_at(Step.CHECK),)
LATE = (_at(Step.INPUT), _at(Step.CONSISTENCY), _at(Step.UNMASK), _at(Step.UNMASK), _at(Step.INPUT, Step.UNMASK))
SHARED = (
    _at(Step.SHARE, gone=(0,)),
    _Script({Step.SHARE: ("rubbish", "false")}, (1, 2), (0,)),
    _Script({Step.SHARE: ("low", "shares")}, (1, 2), (0,)),
    _Script({Step.SHARE: ("unsigned",), Step.CHECK: ("all boxes",)}, (2, 3), (0,)),
    _Script({Step.SHARE: ("unsigned",), Step.CHECK: ("", "victim")}, (2,), (0,)),
    _Script({Step.CHECK: ("",)}, (1, 2), (1,)),
)
RINGED = (*SHARED, _Script({}, (0,), (2,)))

BEGINNING = (Step.COMMIT, Step.SHARE)
ADVERTS = (Step.ADVERTISE, Step.SHARE)
BOXES = (Step.SHARE, Step.INPUT)
RECEIPTS = (Step.CHECK, Step.INPUT)
REST = (Step.CHECK, None)

SEAMS = (
    Seam("server: who is invited, and where it ends", _begun, 12),
    Seam("server: whole attempts of few", _whole, 12),
    Seam("server: tosses", _tossed, 6),
    Seam("server: commitments", partial(_lied, RING, BEGINNING, (_at(Step.COMMIT, gone=MANY),)), 6),
    Seam("server: adverts", partial(_lied, COMPLETE, ADVERTS, (_at(Step.ADVERTISE, gone=MANY),)), 18),
    Seam("server: adverts in a ring", partial(_lied, RING, ADVERTS, (_at(Step.ADVERTISE, gone=MANY),)), 12),
    Seam("server: boxes", partial(_lied, COMPLETE, BOXES, SHARED), 24),
    Seam("server: boxes in a ring", partial(_lied, RING, BOXES, RINGED), 12),
    Seam("server: receipts and openings", partial(_lied, COMPLETE, RECEIPTS, CHECKED), 18),
    Seam("server: receipts and openings in a ring", partial(_lied, RING, RECEIPTS, CHECKED), 12),
    Seam("server: vectors, lists and shares", partial(_lied, COMPLETE, REST, LATE), 18),
    Seam("server: vectors, lists and shares in a ring", partial(_lied, RING, REST, LATE), 12),
    Seam("server: from the receipts to the sum", partial(_lied, COMPLETE, REST, THROUGH), 6),
    Seam("server: shares that don't fit together", _mended, 12),
)
