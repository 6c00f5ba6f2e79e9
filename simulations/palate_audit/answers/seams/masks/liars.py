"""Liars: devices that are lost, late, or sign what is false, at each step of a masked attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import flipped, resized
from palate_audit.answers.seams.masks.worlds import (
    ResumedAttempt,
)
from palate_client.secagg.states import Shared
from palate_common.rounds.wire import REFUSED
from palate_core.masks.boxes import NONE, Label, make_box, root_of, tree_of
from palate_core.masks.messages import (
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
from palate_core.masks.transcript import (
    ADVERT,
    COMMIT,
    CONSISTENCY,
    INPUT,
    RECEIPT,
    REVEAL,
    advert_payload,
    commit_payload,
    opening_payload,
    receipt_payload,
    reveal_payload,
    sign,
)
from palate_core.masks.transcript import BOX as BOX_TAG
from palate_core.masks.transcript import OPENING as OPENING_TAG


class LyingDevice:
    """What one device may sign instead of its honest answer, when it was asked and has answered."""

    def __init__(
        self,
        dice: Dice,
        played: ResumedAttempt,
        i: int,
        answers: dict[int, bytes],
        hows: Sequence[str],
        friends: Sequence[int],
    ) -> None:
        device, answer = played.left(i), answers[i]
        self.before: Any = played.states[i]
        self.how, self.friends = dice.one_of(hows), friends
        self.dice, self.device = dice, device
        self.request, self.others = played.server.request(i), answers
        self.head, self.body = answer[:HEADER], answer[HEADER:]
        self.toss, self.context = int.from_bytes(answer[2:4], "little"), device.terms.context
        self.sign: Callable[[str, bytes], bytes] = partial(sign, device._identity)

    @property
    def state(self) -> Any:
        """Where the device is since it has answered."""
        return self.device._state

    def commit(self) -> bytes:
        """A commitment to a nonce that it won't show; or one that it hasn't signed."""
        commitment = self.dice.bytes(32)
        payload = commit_payload(self.context, self.toss, self.device.id, commitment)
        return commitment + (bytes(64) if self.how == "unsigned" else self.sign(COMMIT, payload))

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
        state = self.state
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
        dice, state = self.dice, self.state
        receipt = BoxReceipt.decode(self.body, k=state.cohort.degree)
        accused, root = receipt.accused.copy(), receipt.root
        if self.how == "root":
            root = dice.bytes(32)
        else:
            root = self._all_boxes() if self.how == "all boxes" else root
            accused[self._slots(len(accused))] = True
        payload = receipt_payload(state.cohort.binding, root, pack_flags(accused))
        return BoxReceipt(root, accused, self.sign(RECEIPT, payload)).encode()

    def _all_boxes(self) -> bytes:
        """The root over all boxes that it was handed, also those that their senders haven't signed."""
        state = self.state
        cohort, names = state.cohort, state.cohort.ids[state.neighbours].tolist()
        request = CheckRequest.decode(self.request[HEADER:], n=len(cohort))
        slots, key = np.flatnonzero(request.shared[state.neighbours]).tolist(), self.before.share_pair.public
        leaves = [NONE] * cohort.degree
        for slot, box in zip(slots, request.boxes, strict=True):
            ends, place = {"sender": names[slot], "receiver": self.device.id}, int(cohort.slots(state.me)[slot])
            leaves[slot] = Label.of(cohort, **ends, slot=place, key=key).leaf(box)
        return root_of(tree_of(leaves))

    def open(self) -> bytes:
        """Openings by other keys, or without a signature."""
        dice, made = self.dice, list[bytes]()
        cohort, width = self.state.cohort, (len(self.request) - HEADER) // (len(self.body) // OPENING)
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
        dice, masked = self.dice, self.before.masked
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


def _sent(dice: Dice, played: ResumedAttempt, answers: dict[int, bytes], i: int, lie: bytes) -> bytes | None:
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
    Step.COMMIT: ("", "unsigned"),
    Step.SHARE: ("rubbish", "rubbish", "false", "low", "other key", "unsigned", "shares"),
    Step.CHECK: ("root", "all boxes", "victim", "victim", "", "", ""),
    Step.OPEN: ("", "", "other", "other", "unsigned"),
}
"""How liars lie at a step."""


@dataclass(frozen=True)
class Script:
    """What goes wrong: how liars lie at some steps, how many they are, and how many devices are gone from the first."""

    hows: Mapping[Step, Sequence[str]]
    liars: tuple[int, ...] = (1, 1, 2)
    gone: tuple[int, ...] = (0, 0, 0, 0, 0, 1, 1, 2)


def lies_at(*steps: Step, gone: tuple[int, ...] = (0, 0, 0, 0, 0, 1, 1, 2)) -> Script:
    """Lies of any kind at some steps."""
    return Script({step: HOWS.get(step, ("",)) for step in steps}, gone=gone)


class LyingDevices:
    """Liars, and devices that are gone; late, repeated and unasked answers at each step."""

    def __init__(self, dice: Dice, played: ResumedAttempt, script: Script) -> None:
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
                liar = LyingDevice(dice, self.played, i, answers, self.hows[step], self.liars)
                lie: bytes = getattr(liar, step.name.lower())()
                sent[i] = _sent(dice, self.played, answers, i, liar.head + lie)
        received = dice.shuffled([(i, data) for i, data in sent.items() if data is not None and i not in self.gone])
        extra = [(i, data) for i, data in received if dice.chance(0.1)] + dice.some_of(self.before, 0.1)
        self.before = received
        return [*received, *extra, *((99, data) for _, data in extra[:1])]
