"""Stages that find out who has dealt well, before anybody masks: receipts for boxes, and openings after complaints.

A receiver that complains of a box is right, or lies: the box's own key tells. Who is found out is left out, and the
attempt goes on. A box that its sender hasn't signed is none, and its sender is left out as if it had sent nothing.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from palate_common.secagg.evidence import ShownBox
from palate_core.errors import IntegrityError
from palate_core.masks.agreement import KeyPair, check_public
from palate_core.masks.boxes import NONE, open_box, path_of, root_of, tree_of
from palate_core.masks.messages import KEY, OPENING, BoxReceipt, Complaint, Flags, Step, pack_flags, split_pieces
from palate_core.masks.transcript import OPENING as OPENING_TAG
from palate_core.masks.transcript import RECEIPT, check_signature, opening_payload, receipt_payload
from palate_server.secagg.shared import Receipts, SharedCohort, shown_receipt, tree_for
from palate_server.secagg.stage import BaseStage, Stage, member_of
from palate_server.secagg.sum import InputStage


class CheckStage(BaseStage):
    """Devices get the boxes that their neighbours have made for them, and sign for them."""

    step = Step.CHECK

    def __init__(self, held: SharedCohort) -> None:
        super().__init__(held.attempt, held.toss, held.ids(held.u1))
        self._held = held
        self._list = pack_flags(held.u1)
        self._receipts: dict[int, BoxReceipt] = {}
        self._unsigned = np.zeros(len(held.cohort), np.bool_)
        """Members of whose boxes one isn't signed."""

    def body(self, device: int) -> bytes:
        """Who has shared, and this device's boxes."""
        held, member = self._held, member_of(self._held.cohort, device)
        around = held.neighbours[member]
        shared = held.u1[around]
        boxes = held.boxes[around[shared], held.cohort.slots(member)[shared]]
        return self._list + bytes(boxes.tobytes())

    def accept(self, device: int, body: memoryview) -> None:
        """Take a receipt for exactly the boxes that this device was handed."""
        held, member = self._held, member_of(self._held.cohort, device)
        receipt = BoxReceipt.decode(bytes(body), k=held.cohort.degree)
        payload = receipt_payload(held.cohort.binding, receipt.root, pack_flags(receipt.accused))
        check_signature(self.attempt.directory.identities[device], RECEIPT, payload, receipt.signature)
        leaves = held.leaves(member)
        if root_of(tree_of(leaves)) != receipt.root:
            unsigned = held.empty_unsigned(member, leaves)
            self._unsigned[held.neighbours[member, unsigned]] = True
            if root_of(tree_of(leaves)) != receipt.root:
                raise IntegrityError("a receipt must be for the boxes that were handed out, got one for others")
        self._receipts[member] = receipt
        for slot in np.flatnonzero(receipt.accused).tolist():
            if leaves[slot] == NONE and self.attempt.name(
                held.scene.record("complaint", device, receipt=shown_receipt(receipt, tree_of(leaves), slot))
            ):
                del self._receipts[member]
                raise IntegrityError("a complaint must be of a box, got one of none")

    def close(self) -> Stage:
        """Leave out who has not signed for its boxes; ask those of whom others complain to open them."""
        held, answered = self._held, np.zeros(len(self._held.cohort), np.bool_)
        answered[list(self._receipts)] = True
        left = answered & ~self._unsigned
        pending: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for member, receipt in self._receipts.items():
            for slot in np.flatnonzero(receipt.accused).tolist():
                sender = int(held.neighbours[member, slot])
                if left[sender]:
                    pending[sender].append((member, slot))
        for sender in [*pending]:
            if self._spoiled(sender, pending[sender]):
                del pending[sender]
                left[sender] = False
        if pending:
            return OpenStage(held, left, self._receipts, pending)
        return begin_input(held, left, self._receipts)

    def _spoiled(self, sender: int, complaints: list[tuple[int, int]]) -> bool:
        """Whether one of the boxes complained of is signed and can't be opened by anybody; then its sender is named."""
        held = self._held
        for member, slot in complaints:
            label, box = held.received(member, slot)
            if not held.is_signed(label, box):
                return True  # its receiver had to see that, and signed for it
            try:
                check_public(box[:KEY])
            except IntegrityError:
                return self.attempt.name(held.scene.record("box", label.sender, box=ShownBox.of(label, box)))
        return False


@dataclass(frozen=True)
class _Asked:
    """A complaint that a device is asked to answer."""

    member: int
    slot: int
    complaint: bytes


class OpenStage(BaseStage):
    """Who is complained of opens the box: then it is seen which of the two has lied."""

    step = Step.OPEN

    def __init__(
        self,
        held: SharedCohort,
        left: Flags,
        receipts: Receipts,
        pending: Mapping[int, list[tuple[int, int]]],
    ) -> None:
        super().__init__(held.attempt, held.toss, [int(held.cohort.ids[sender]) for sender in sorted(pending)])
        self._held, self._left, self._receipts, self._pending = held, left, receipts, pending
        most, random = held.attempt.terms.c_max, secrets.SystemRandom()
        # Devices open boxes for c_max others at most: of more complaints one is an honest device's.
        chosen = {sender: random.sample(each, min(most, len(each))) for sender, each in pending.items()}
        asking = {member for each in chosen.values() for member, _ in each}
        self._trees = {member: tree_for(held, member, receipts[member]) for member in asking}
        self._asked = {
            sender: [_Asked(member, slot, self._complaint(member, slot)) for member, slot in each]
            for sender, each in chosen.items()
        }
        self._liars, self._settled = set[int](), set[int]()

    def body(self, device: int) -> bytes:
        """The complaints of this device's boxes, signed."""
        return b"".join(each.complaint for each in self._asked[member_of(self._held.cohort, device)])

    def accept(self, device: int, body: memoryview) -> None:
        """Open the boxes: a bad one names its sender, a good one its receiver."""
        held, sender = self._held, member_of(self._held.cohort, device)
        asked = self._asked[sender]
        openings = split_pieces("openings", bytes(body), OPENING, len(asked))
        for each, opening in zip(asked, openings, strict=True):
            receiver, secret = int(held.cohort.ids[each.member]), opening[:KEY]
            payload = opening_payload(held.cohort.binding, receiver, secret)
            check_signature(self.attempt.directory.identities[device], OPENING_TAG, payload, opening[KEY:])
        for each, opening in zip(asked, openings, strict=True):
            if self._judge(device, each, opening[:KEY], opening[KEY:]):
                raise IntegrityError("a box must be good, got one that its own key doesn't open")
        self._settled.add(sender)

    def close(self) -> Stage:
        """Leave out who is named, and of whom a complaint is left: the box was not opened."""
        left = self._left.copy()
        left[list(self._liars)] = False
        for sender, complaints in self._pending.items():
            open_ = {member for member, _ in complaints} - self._liars
            if sender not in self._settled or open_:
                left[sender] = False
        return begin_input(self._held, left, self._receipts)

    def _judge(self, device: int, each: _Asked, secret: bytes, signature: bytes) -> bool:
        """Whether the sender has lied; otherwise its receiver has, and is named."""
        held, scene = self._held, self._held.scene
        label, box = held.received(each.member, each.slot)
        shown, opened = ShownBox.of(label, box), KeyPair.from_private(secret)
        if opened.public != box[:KEY]:
            self.attempt.name(
                scene.record("opening", device, box=shown, secret=secret.hex(), signature=signature.hex())
            )
            return True
        if open_box(label, box, opened) is None:
            self.attempt.name(scene.record("box", device, box=shown, secret=secret.hex()))
            return True
        receipt = shown_receipt(self._receipts[each.member], self._trees[each.member], each.slot)
        self.attempt.name(scene.record("complaint", label.receiver, box=shown, secret=secret.hex(), receipt=receipt))
        self._liars.add(each.member)
        return False

    def _complaint(self, member: int, slot: int) -> bytes:
        """A complaint as its sender is shown it."""
        device = int(self._held.cohort.ids[member])
        return Complaint(device, self._receipts[member], path_of(self._trees[member], slot)).encode()


def begin_input(held: SharedCohort, left: Flags, receipts: Receipts) -> Stage:
    """Ask for vectors of those who are left."""
    left = left & held.u1
    if int(left.sum()) < held.attempt.terms.n_min:
        raise IntegrityError(
            f"at least {held.attempt.terms.n_min} devices must be left after check, got {int(left.sum())}"
        )
    fewer = held.only(left)
    fewer.openable(left, "good boxes")
    return InputStage(fewer, receipts)
