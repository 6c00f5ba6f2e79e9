"""Stages that open the sum of a masked attempt: masked vectors, agreement on the survivors, shares of secrets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.errors import IntegrityError
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.messages import (
    SHARE,
    SIGNATURE,
    Advert,
    Complaint,
    Flags,
    Step,
    pack_flags,
    read_fixed,
    split_pieces,
)
from palate_common.secagg.packing import PackedSum, Residues
from palate_common.secagg.transcript import (
    COMPLAINT,
    CONSISTENCY,
    INPUT,
    MEMBERS,
    check_signature,
    complaint_payload,
    consistency_payload,
    members_payload,
    share_digest,
    sign,
)
from palate_server.secagg.recovery import Bytes, open_sum
from palate_server.secagg.stage import Attempt, BaseStage, PiecesByMember, Stage, UnmaskedSum, member_of


@dataclass(frozen=True)
class SharedCohort:
    """The data of all stages after the shares: the cohort, its adverts, its neighbours, U1, and digests of the shares.

    `digests` are uint8 [n, k, 2, 16], of the two shares that each member has from each of its neighbours.
    """

    attempt: Attempt
    toss: int
    cohort: Cohort
    adverts: list[Advert]
    neighbours: npt.NDArray[np.intp]
    u1: Flags
    digests: Bytes

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


class InputStage(BaseStage):
    """Devices get the signed list U1 and their boxes, and send masked vectors, which are added at once."""

    step = Step.INPUT

    def __init__(self, held: SharedCohort, boxes: Bytes) -> None:
        super().__init__(held.attempt, held.toss, held.ids(held.u1))
        self._held, self._boxes = held, boxes
        self._boxes_for = PiecesByMember(boxes[held.neighbours, held.cohort.slot_table()], held.u1[held.neighbours])
        self._list = pack_flags(held.u1)
        self._payload = members_payload(held.cohort.binding, self._list)
        self._signature = sign(held.attempt.key, MEMBERS, self._payload)
        self._signatures: dict[int, bytes] = {}
        self._sum = PackedSum(self.terms.size, self.terms.bits)
        self._survivors = np.zeros(len(held.cohort), np.bool_)

    def body(self, device: int) -> bytes:
        """U1, signed, and the boxes that this device's neighbours have encrypted to it."""
        return self._list + self._signature + self._boxes_for[member_of(self._held.cohort, device)]

    def accept(self, device: int, body: memoryview) -> None:
        """Add a masked vector to the sum, and keep the signature on the U1 for which it is masked."""
        vector, signature = body[:-SIGNATURE], bytes(body[-SIGNATURE:])
        check_signature(self.attempt.directory.identities[device], INPUT, self._payload, signature)
        self._sum.add(vector)
        member = member_of(self._held.cohort, device)
        self._signatures[member] = signature
        self._survivors[member] = True

    def complain(self, device: int, body: memoryview) -> None:
        """Record a device's complaint about boxes. The device has dropped out; which of the two lies isn't known."""
        held, member = self._held, member_of(self._held.cohort, device)
        complaint = Complaint.decode(bytes(body), k=held.cohort.degree)
        payload = complaint_payload(held.cohort.binding, self._list, bytes(body[:-SIGNATURE]))
        check_signature(self.attempt.directory.identities[device], COMPLAINT, payload, complaint.signature)
        accused = held.neighbours[member, complaint.accused]
        if not len(accused) or not held.u1[accused].all():
            raise IntegrityError("a complaint must be of neighbours in the list, got one of nobody or of others")
        self.attempt.conduct.complaints |= {(device, int(held.cohort.ids[other])) for other in accused}

    def close(self) -> Stage:
        """Devices that have shared, but sent no vector, have dropped out: their mask keys will be opened."""
        self.require(int(self._survivors.sum()))
        self._held.openable(self._survivors, "vectors")
        return ConsistencyStage(self._held, self._survivors, self._sum.values(), self._signatures)


class ConsistencyStage(BaseStage):
    """Each survivor signs the list of survivors."""

    step = Step.CONSISTENCY

    def __init__(self, held: SharedCohort, survivors: Flags, total: Residues, sharers: dict[int, bytes]) -> None:
        super().__init__(held.attempt, held.toss, held.ids(survivors))
        self._held, self._survivors, self._total = held, survivors, total
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
        return UnmaskStage(self._held, self._survivors, self._total, self._signatures, self._sharers)


class UnmaskStage(BaseStage):
    """Devices with enough signers among their neighbours, and in the whole cohort, open their neighbours' shares."""

    step = Step.UNMASK

    def __init__(
        self,
        held: SharedCohort,
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
        self._held, self._survivors, self._total = held, survivors, total
        given = np.zeros((n, SIGNATURE), np.uint8)
        for member, signature in (sharers | signatures).items():
            given[member] = np.frombuffer(signature, np.uint8)
        self._signatures = pack_flags(self._signed) + given[self._signed].tobytes()
        self._others = PiecesByMember(given[held.neighbours], (survivors & ~self._signed)[held.neighbours])
        self._owners = held.u1[held.neighbours]
        # Of the two digests, the one of the share that is to be opened.
        self._digests = np.where(survivors[held.neighbours][..., None], held.digests[:, :, 0], held.digests[:, :, 1])
        self._bodies: dict[int, bytes] = {}

    def body(self, device: int) -> bytes:
        """All signatures on the survivors; of surviving neighbours without one, their signatures on U1."""
        return self._signatures + self._others[member_of(self._held.cohort, device)]

    def accept(self, device: int, body: memoryview) -> None:
        """Take one share of each neighbour in U1: the one that it got, otherwise it would have complained."""
        member = member_of(self._held.cohort, device)
        digests = self._digests[member, self._owners[member]]
        shares = bytes(read_fixed("shares", body, len(digests) * SHARE))
        if b"".join(share_digest(share) for share in split_pieces("shares", shares, SHARE)) != digests.tobytes():
            raise IntegrityError("each share must be the one that was dealt, got another")
        self._bodies[member] = shares

    def close(self) -> UnmaskedSum:
        """Open the sum; an error if a secret is wrong."""
        held = self._held
        opened = np.zeros(len(held.cohort), np.bool_)
        opened[list(self._bodies)] = True
        held.openable(opened, "opened shares")
        shares = np.zeros((*held.neighbours.shape, SHARE), np.uint8)
        whole = b"".join(self._bodies[member] for member in sorted(self._bodies))
        shares[self._owners & opened[:, None]] = np.frombuffer(whole, np.uint8).reshape(-1, SHARE)
        total, liars = open_sum(
            self._total,
            bits=self.terms.bits,
            context=self.terms.context,
            toss=self.toss,
            cohort=held.cohort,
            adverts=held.adverts,
            neighbours=held.neighbours,
            u1=held.u1,
            survivors=self._survivors,
            shares=shares,
            opened=opened,
        )
        if liars:
            self.attempt.conduct.offenders.update(int(held.cohort.ids[member]) for member in liars)
            raise IntegrityError("each secret must be the advertised one, got another: its device has dealt bad shares")
        return UnmaskedSum(total, tuple(held.ids(self._survivors)))
