"""Stages that open the sum of a masked attempt: masked vectors, agreement on the survivors, shares of secrets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from palate_common.secagg.evidence import ShownBox, ShownPiece
from palate_core.errors import IntegrityError
from palate_core.masks.boxes import NONE, path_of, piece_fits, root_of, tree_of
from palate_core.masks.messages import PIECE, SHARE, SIGNATURE, Flags, Step, pack_flags, read_fixed, split_pieces
from palate_core.masks.packing import PackedSum, Residues
from palate_core.masks.transcript import (
    CONSISTENCY,
    INPUT,
    MEMBERS,
    REVEAL,
    check_signature,
    consistency_payload,
    members_payload,
    reveal_payload,
    sign,
)
from palate_server.secagg.recovery import Wanted, unmask
from palate_server.secagg.shared import Receipts, SharedCohort, shown_receipt, tree_for
from palate_server.secagg.stage import BaseStage, PiecesByMember, Stage, UnmaskedSum, member_of

MOST_DECODED = 2**26
"""Squares of the numbers of shares that an attempt decodes where devices have dealt bad ones, together: some seconds.
Beyond, all of them are named, and the attempt is void."""


class InputStage(BaseStage):
    """Devices get the signed list U1, and send masked vectors, which are added at once."""

    step = Step.INPUT

    def __init__(self, held: SharedCohort, receipts: Receipts) -> None:
        super().__init__(held.attempt, held.toss, held.ids(held.u1))
        self._held, self._receipts = held, receipts
        self._list = pack_flags(held.u1)
        self.signed = members_payload(held.cohort.binding, self._list)
        self._signature = sign(held.attempt.key, MEMBERS, self.signed)
        self._signatures: dict[int, bytes] = {}
        self._sum = PackedSum(self.terms.size, self.terms.bits)
        self._survivors = np.zeros(len(held.cohort), np.bool_)

    def body(self, device: int) -> bytes:
        """U1, signed."""
        return self._list + self._signature

    def accept(self, device: int, body: memoryview) -> None:
        """Add a masked vector to the sum, and keep the signature on the U1 for which it is masked."""
        self.accept_sum({device: bytes(body[-SIGNATURE:])}, body[:-SIGNATURE])

    def accept_sum(self, signatures: Mapping[int, bytes], total: memoryview) -> None:
        """Add the sum of the masked vectors of some devices that were asked, all of it or nothing."""
        for device, signature in signatures.items():
            check_signature(self.attempt.directory.identities[device], INPUT, self.signed, signature)
        self._sum.add(total)
        for device, signature in signatures.items():
            member = member_of(self._held.cohort, device)
            self._signatures[member] = signature
            self._survivors[member] = True

    def close(self) -> Stage:
        """Devices that have shared, but sent no vector, have dropped out: their mask keys will be opened."""
        self.require(int(self._survivors.sum()))
        self._held.openable(self._survivors, "vectors")
        return ConsistencyStage(self._held, self._receipts, self._survivors, self._sum.values(), self._signatures)


class ConsistencyStage(BaseStage):
    """Each survivor signs the list of survivors."""

    step = Step.CONSISTENCY

    def __init__(
        self, held: SharedCohort, receipts: Receipts, survivors: Flags, total: Residues, sharers: dict[int, bytes]
    ) -> None:
        super().__init__(held.attempt, held.toss, held.ids(survivors))
        self._held, self._receipts, self._survivors, self._total = held, receipts, survivors, total
        self._list = pack_flags(survivors)
        self._payload = consistency_payload(held.cohort.binding, pack_flags(held.u1), self._list)
        self._signatures, self._sharers = dict[int, bytes](), sharers

    def body(self, device: int) -> bytes:
        """The list of survivors."""
        return self._list

    def accept(self, device: int, body: memoryview) -> None:
        """Take a signature on exactly this list."""
        signature = bytes(read_fixed("a signature", body, SIGNATURE))
        check_signature(self.attempt.directory.identities[device], CONSISTENCY, self._payload, signature)
        self._signatures[member_of(self._held.cohort, device)] = signature

    def close(self) -> Stage:
        """Devices that have not signed open no shares, but stay in the sum."""
        return UnmaskStage(self._held, self._receipts, self._survivors, self._total, self._signatures, self._sharers)


class UnmaskStage(BaseStage):
    """Devices with enough signers among their neighbours, and in the whole cohort, open their neighbours' shares."""

    step = Step.UNMASK

    def __init__(
        self,
        held: SharedCohort,
        receipts: Receipts,
        survivors: Flags,
        total: Residues,
        signatures: dict[int, bytes],
        sharers: dict[int, bytes],
    ) -> None:
        n = len(held.cohort)
        self._signed = np.zeros(n, np.bool_)
        self._signed[list(signatures)] = True
        ready = self._signed & (self._signed[held.neighbours].sum(axis=1) >= held.cohort.threshold)
        held.openable(ready, "signatures")
        super().__init__(held.attempt, held.toss, held.ids(ready))
        self._held, self._receipts, self._survivors, self._total = held, receipts, survivors, total
        given = np.zeros((n, SIGNATURE), np.uint8)
        for member, signature in (sharers | signatures).items():
            given[member] = np.frombuffer(signature, np.uint8)
        self._signatures = pack_flags(self._signed) + given[self._signed].tobytes()
        self._others = PiecesByMember(given[held.neighbours], (survivors & ~self._signed)[held.neighbours])
        self._owners = held.u1[held.neighbours]
        self._pieces: dict[int, dict[int, bytes]] = {}
        """Member -> slot -> what it has given of that neighbour."""

    def body(self, device: int) -> bytes:
        """All signatures on the survivors; of surviving neighbours without one, their signatures on U1."""
        return self._signatures + self._others[member_of(self._held.cohort, device)]

    def accept(self, device: int, body: memoryview) -> None:
        """Take one share of each neighbour in U1, as it was dealt, with its holder's signature on all of them."""
        held, member = self._held, member_of(self._held.cohort, device)
        slots = np.flatnonzero(self._owners[member]).tolist()
        data = bytes(read_fixed("shares", body, len(slots) * PIECE + SIGNATURE))
        pieces = dict(zip(slots, split_pieces("shares", data[:-SIGNATURE], PIECE), strict=True))
        tree = tree_of([pieces.get(slot, NONE) for slot in range(held.cohort.degree)])
        payload, signature = reveal_payload(held.cohort.binding, root_of(tree)), data[-SIGNATURE:]
        check_signature(self.attempt.directory.identities[device], REVEAL, payload, signature)
        around = held.neighbours[member, slots]
        boxes = map(bytes, held.boxes[around, held.cohort.slots(member)[slots]])
        lost = (~self._survivors[around]).tolist()
        for (slot, piece), box, mask_key in zip(pieces.items(), boxes, lost, strict=True):
            if piece[0] != mask_key:
                raise IntegrityError("each share must be of the secret that is to be opened, got one of the other")
            if not piece_fits(piece, box):
                label, _ = held.received(member, slot)
                receipt = self._receipts[member]
                self.attempt.name(
                    held.scene.record(
                        "share",
                        device,
                        box=ShownBox.of(label, box),
                        receipt=shown_receipt(receipt, tree_for(held, member, receipt), slot),
                        piece=ShownPiece(
                            root=root_of(tree).hex(),
                            signature=signature.hex(),
                            path=tuple(each.hex() for each in path_of(tree, slot)),
                            piece=piece.hex(),
                        ),
                    )
                )
                raise IntegrityError("each share must be the one that was dealt, got another")
        self._pieces[member] = pieces

    def close(self) -> UnmaskedSum:
        """Open the sum; an error if a secret can't be opened."""
        held = self._held
        opened = np.zeros(len(held.cohort), np.bool_)
        opened[list(self._pieces)] = True
        held.openable(opened, "opened shares")
        shares = np.zeros((*held.neighbours.shape, SHARE), np.uint8)
        whole = b"".join(piece for member in sorted(self._pieces) for piece in self._pieces[member].values())
        given = np.frombuffer(whole, np.uint8).reshape(-1, PIECE)[:, 1 : 1 + SHARE]
        shares[self._owners & opened[:, None]] = given
        wanted = Wanted(held, self._survivors, shares, opened)
        secrets = wanted.secrets()
        left = MOST_DECODED
        lost = 0
        for member in wanted.wrong(secrets):
            left -= len(wanted.holders(member)) ** 2
            lost += not self._mend(wanted, secrets, member, decode=left >= 0)  # all are named, whatever is decoded
        if lost:
            raise IntegrityError("each secret must be the advertised one, got another: its device has dealt bad shares")
        total = unmask(self._total, wanted, secrets, bits=self.terms.bits)
        return UnmaskedSum(total, tuple(held.ids(self._survivors)))

    def _mend(self, wanted: Wanted, secrets: dict[int, bytes], member: int, *, decode: bool) -> bool:
        """Find a secret among shares that don't fit together, and name who has dealt them; whether it is found."""
        held = self._held
        holders = wanted.holders(member)
        boxes = {slot: held.received(holder, place) for slot, holder, place in holders}
        signed = [slot for slot, (label, box) in boxes.items() if held.is_signed(label, box)]
        if len(signed) < held.cohort.threshold:
            return False
        chosen = signed[: held.cohort.threshold]
        if wanted.fits(member, found := wanted.combined(member, chosen)):
            secrets[member] = found  # the shares that nobody has signed were wrong
            return True
        pieces = {slot: self._pieces[holder][place] for slot, holder, place in holders}
        dealt = tuple((ShownBox.of(*boxes[slot]), pieces[slot].hex()) for slot in chosen)
        advert = held.adverts[member].encode().hex()
        self.attempt.name(held.scene.record("dealt", int(held.cohort.ids[member]), advert=advert, dealt=dealt))
        if not decode or (mended := wanted.decoded(member, signed)) is None:
            return False
        secrets[member] = mended
        return True
