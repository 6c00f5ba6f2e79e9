"""SharedCohort: what all stages after the shares know: the cohort, its boxes, and who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from palate_common.secagg.evidence import Scene, ShownReceipt
from palate_core.errors import IntegrityError
from palate_core.log.merkle import MerkleTree
from palate_core.masks.boxes import BINDING, NONE, Label, check_signed, path_of, root_of, tree_of
from palate_core.masks.messages import Advert, BoxReceipt, Flags
from palate_core.masks.ring_cohort import Cohort
from palate_server.secagg.stage import Attempt, Bytes

Receipts = Mapping[int, BoxReceipt]
"""Member -> the receipt that it has signed."""


@dataclass(frozen=True)
class SharedCohort:
    """The data of all stages after the shares.

    Attributes:
        attempt: the attempt.
        toss: the toss.
        cohort: its members.
        adverts: of the members, in their order.
        neighbours: of each member, intp [n, k].
        shared: the members whose boxes were handed out, bool [n].
        u1: those of them that take part: at first all.
        boxes: of each member for each of its neighbours, uint8 [n, k, BOX_BYTES].
    """

    attempt: Attempt
    toss: int
    cohort: Cohort
    adverts: list[Advert]
    neighbours: npt.NDArray[np.intp]
    shared: Flags
    u1: Flags
    boxes: Bytes

    @property
    def scene(self) -> Scene:
        """Where the records of this toss belong."""
        return Scene(self.cohort.binding)

    def only(self, u1: Flags) -> SharedCohort:
        """The same cohort with fewer members that take part."""
        return replace(self, u1=u1)

    def openable(self, alive: Flags, what: str) -> None:
        """End the attempt if a member's secrets can't be opened, or devices would refuse."""
        fewest = int(alive[self.neighbours[self.u1]].sum(axis=1).min())
        if fewest < self.cohort.threshold:
            raise IntegrityError(
                f"each device must have {self.cohort.threshold} neighbours with {what}, got one with {fewest}"
            )
        if self.cohort.cut(alive):
            raise IntegrityError("too many in a row of the ring are missing")

    def ids(self, members: Flags) -> list[int]:
        """The numbers of the devices of some members."""
        return [int(device) for device in self.cohort.ids[members]]

    def received(self, member: int, slot: int) -> tuple[Label, bytes]:
        """The box that a member has from the neighbour at one of its slots, and what that neighbour signs with it."""
        sender, place = int(self.neighbours[member, slot]), int(self.cohort.slots(member)[slot])
        ends = {"sender": int(self.cohort.ids[sender]), "receiver": int(self.cohort.ids[member])}
        label = Label.of(self.cohort, **ends, slot=place, key=self.adverts[member].share_key)
        return label, self.boxes[sender, place].tobytes()

    def leaves(self, member: int) -> list[bytes]:
        """What a member signs for at each of its slots, nothing where the neighbour hasn't shared: `Label.leaf`.

        All at once, because one by one would be most of what the server does at this step.
        """
        cohort, around, places = self.cohort, self.neighbours[member], self.cohort.slots(member)
        boxes = self.boxes[around, places]
        # All of a label but its sender and slot is the same for each of the member's boxes.
        label = np.frombuffer(self.received(member, 0)[0].payload(b""), np.uint8)
        rows = np.empty((len(around), len(label) + boxes.shape[1]), np.uint8)
        rows[:, : len(label)], rows[:, len(label) :] = label, boxes
        rows[:, BINDING : BINDING + 4] = cohort.ids[around].astype("<u4").view(np.uint8).reshape(-1, 4)
        rows[:, BINDING + 8 : BINDING + 10] = places.astype("<u2").view(np.uint8).reshape(-1, 2)
        whole, width = rows.tobytes(), rows.shape[1]
        shared = self.shared[around].tolist()
        return [whole[at * width : (at + 1) * width] if shared[at] else NONE for at in range(len(around))]

    def is_signed(self, label: Label, box: bytes) -> bool:
        """Whether a box has its sender's signature."""
        try:
            check_signed(label, box, self.attempt.directory.identities[label.sender])
        except IntegrityError:
            return False
        return True

    def empty_unsigned(self, member: int, leaves: list[bytes]) -> list[int]:
        """Empty the slots of a member's leaves whose boxes aren't signed by their senders; returns the slots."""
        found = [
            slot
            for slot, leaf in enumerate(leaves)
            if leaf != NONE and not self.is_signed(*self.received(member, slot))
        ]
        for slot in found:
            leaves[slot] = NONE
        return found


def tree_for(held: SharedCohort, member: int, receipt: BoxReceipt) -> MerkleTree:
    """The tree that a receipt is for; boxes that aren't signed count as none if the root says so."""
    leaves = held.leaves(member)
    tree = tree_of(leaves)
    if root_of(tree) != receipt.root:
        held.empty_unsigned(member, leaves)
        tree = tree_of(leaves)
    return tree


def shown_receipt(receipt: BoxReceipt, tree: MerkleTree, slot: int) -> ShownReceipt:
    """A receipt as evidence shows it."""
    path = tuple(each.hex() for each in path_of(tree, slot))
    return ShownReceipt(receipt=receipt.encode().hex(), degree=len(receipt.accused), slot=slot, path=path)
