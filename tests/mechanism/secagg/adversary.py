"""Adversary: a lying server with colluding devices, for attacks on a masked attempt.

It has the server's key and all secrets of its colluders, sends each honest device any message, keeps every share that
it receives, and reconstructs secrets from shares. The devices are the real implementation; it gets nothing that they
refuse.
Members and devices have the same numbers here: all devices take part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

import numpy as np

from mechanism.secagg.cohort import MaskedCohort
from palate_common.mechanism.update import Int64
from palate_common.secagg.evidence import secret_fits
from palate_core.device.attempt import MaskedDevice
from palate_core.errors import PalateError
from palate_core.masks.agreement import KeyPair, agree
from palate_core.masks.boxes import Label, open_box, path_of, root_of, tree_of
from palate_core.masks.masking import Masker
from palate_core.masks.messages import (
    BOX_BYTES,
    KEY,
    OPENING,
    PIECE,
    SHARE,
    SIGNATURE,
    Advert,
    BoxReceipt,
    CheckRequest,
    Complaint,
    Flags,
    Header,
    InputRequest,
    Secret,
    Step,
    UnmaskRequest,
    pack_flags,
    read,
    split_pieces,
    write,
)
from palate_core.masks.packing import residue_type, unpack
from palate_core.masks.shamir import combine
from palate_core.masks.transcript import (
    CONSISTENCY,
    INPUT,
    MEMBERS,
    consistency_payload,
    members_payload,
    pair_info,
    sign,
)
from palate_server.secagg.attempt import Unmasking
from palate_server.secagg.recovery import _centred


class Adversary:
    """The server and the devices that collude with it.

    Args:
        world: the cohort it attacks; the attempt is begun, and run honestly up to the shares.
        colluders: devices that reveal all secrets to it and sign anything.

    Attributes:
        refusals: why honest devices did not answer.
    """

    def __init__(self, world: MaskedCohort, colluders: Collection[int] = ()) -> None:
        self.world, self.colluders = world, frozenset(colluders)
        self.server = world.begin()
        while self.server.step < Step.CHECK:
            world.exchange(self.server, {})
        self.read_stage(self.server)
        self._pairs: dict[int, KeyPair] = {i: world.devices[i]._state.mask_pair for i in self.colluders}  # type: ignore[union-attr]
        self.refusals: list[str] = []
        self._inputs: dict[int, bytes] = {}
        self._sharers: dict[int, bytes] = {}
        self._masked_with: dict[int, set[int]] = {}
        self._views: dict[int, tuple[Flags, Flags]] = {}
        self._signatures: dict[int, bytes] = {}
        self._shares: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
        self._u1: dict[int, Flags] = {}

    def with_colluders(self, colluders: Collection[int]) -> Adversary:
        """The same attempt with colluders chosen when the ring is known: the worst case."""
        self.colluders = frozenset(colluders)
        self._pairs = {i: self.world.devices[i]._state.mask_pair for i in self.colluders}  # type: ignore[union-attr]
        return self

    def read_stage(self, server: Unmasking) -> None:
        """Take over the state of an honest server that has all shares."""
        self.held = server._stage._held  # type: ignore[union-attr]  # the stage before inputs
        self.boxes = self.held.boxes
        self.cohort = self.held.cohort
        self.n = len(self.cohort)

    def flags(self, members: Iterable[int]) -> Flags:
        """A list of members, bool [n]."""
        flags = np.zeros(self.n, np.bool_)
        flags[list(members)] = True
        return flags

    def all_but(self, *members: int) -> Flags:
        """The list of all other members."""
        return ~self.flags(members)

    def ask(self, device: int, step: Step, body: bytes, *, machine: MaskedDevice | None = None) -> bytes | None:
        """Send a forged request; return the body of the answer, or None if the device refuses."""
        context = self.world.terms.context
        request = write(Header(step, self.held.toss, device, context), body, answer=False)
        try:
            answer = (machine or self.world.devices[device]).answer(step, request)
        except PalateError as error:
            self.refusals.append(str(error))
            return None
        return read(answer, step=step, device=device, context=context, answer=True)[1]

    def check(
        self, device: int, shared: Flags, *, withheld: Collection[int] = (), forged: dict[int, bytes] | None = None
    ) -> BoxReceipt | None:
        """Hand a device its boxes; those of the `withheld` senders are zeros, and others may be forged."""
        around, slots = self.held.neighbours[device], self.cohort.slots(device)
        boxes = [
            bytes(BOX_BYTES) if sender in withheld else (forged or {}).get(sender, self.boxes[sender, slot].tobytes())
            for sender, slot in zip(around.tolist(), slots.tolist(), strict=True)
            if shared[sender]
        ]
        body = self.ask(device, Step.CHECK, CheckRequest(shared, tuple(boxes)).encode())
        return None if body is None else BoxReceipt.decode(body, k=self.cohort.degree)

    def mask(self, device: int, u1: Flags, *, withheld: Collection[int] = ()) -> None:
        """Ask for a masked vector under any list; the boxes of the `withheld` senders were zeros."""
        around = self.held.neighbours[device]
        receipt = self.check(device, u1, withheld=withheld)
        if receipt is not None and receipt.accused.any():
            self.refusals.append("complains of a box")
        signature = sign(self.world.server, MEMBERS, members_payload(self.cohort.binding, pack_flags(u1)))
        body = self.ask(device, Step.INPUT, InputRequest(u1, signature).encode())
        if body is not None:
            self._inputs[device], self._sharers[device], self._u1[device] = body[:-SIGNATURE], body[-SIGNATURE:], u1
            self._masked_with[device] = {other for other in around.tolist() if u1[other] and other not in withheld}
        if device in self.colluders:
            self._loot(device)

    def open_boxes(
        self, device: int, complaints: Iterable[Complaint], *, machine: MaskedDevice | None = None
    ) -> list[bytes]:
        """Ask a device to open boxes for others; the keys that it shows."""
        body = self.ask(device, Step.OPEN, b"".join(each.encode() for each in complaints), machine=machine)
        return [] if body is None else [each[:KEY] for each in split_pieces("openings", body, OPENING)]

    def forged_complaint(self, holder: int, sender: int, *, receipt: BoxReceipt | None = None) -> Complaint:
        """A complaint of a member's box that its holder hasn't signed, or another receipt, with the true way to it."""
        slot = self.held.neighbours[holder].tolist().index(sender)
        leaves = [Label.leaf(*self.held.received(holder, at)) for at in range(self.cohort.degree)]
        tree = tree_of(leaves)
        accused = np.arange(self.cohort.degree) == slot
        return Complaint(holder, receipt or BoxReceipt(root_of(tree), accused, bytes(SIGNATURE)), path_of(tree, slot))

    def loot_boxes(self, sender: int, holders: Iterable[int], secrets: Iterable[bytes]) -> None:
        """Keep the shares in a member's boxes whose keys are known."""
        for holder, secret in zip(holders, secrets, strict=False):
            label, box = self.held.received(holder, self.held.neighbours[holder].tolist().index(sender))
            dealt = open_box(label, box, KeyPair.from_private(secret))
            if dealt is not None:
                self._shares["self", sender][holder], self._shares["mask", sender][holder] = dealt.shares

    def _loot(self, device: int) -> None:
        """Collect all shares that a colluder holds."""
        for slot, dealt in self.world.devices[device]._state.shares.items():  # type: ignore[union-attr]
            owner = int(self.held.neighbours[device, slot])
            self._shares["self", owner][device], self._shares["mask", owner][device] = dealt.shares

    def agree(self, device: int, survivors: Flags, *, machine: MaskedDevice | None = None) -> None:
        """Ask for a signature on any list of survivors."""
        body = self.ask(device, Step.CONSISTENCY, pack_flags(survivors), machine=machine)
        if body is not None:
            self._signatures[device], self._views[device] = body, (self._u1[device], survivors)

    def open(self, device: int, *, dead_too: bool = False, machine: MaskedDevice | None = None) -> None:
        """Ask for shares, with signatures on the device's own view; colluders sign whatever is needed."""
        if device not in self._views or device in self.colluders:
            return
        u1, survivors = self._views[device]
        payload = consistency_payload(self.cohort.binding, pack_flags(u1), pack_flags(survivors))
        around = self.held.neighbours[device].tolist()
        signatures = {}
        for other in range(self.n):
            if other in self.colluders:
                signatures[other] = sign(self.world.identities[other], CONSISTENCY, payload)
            elif other in self._views and all(map(np.array_equal, self._views[other], (u1, survivors))):
                signatures[other] = self._signatures[other]
        chosen = [other for other in signatures if survivors[other] or dead_too]
        request = UnmaskRequest(
            self.flags(chosen),
            tuple(signatures[other] for other in chosen),
            tuple(self._sharer(other, u1) for other in around if survivors[other] and other not in chosen),
        )
        body = self.ask(device, Step.UNMASK, request.encode(), machine=machine)
        if body is None:
            return
        owners = [other for other in around if other in self._masked_with[device]]
        pieces = split_pieces("shares", body[:-SIGNATURE], PIECE, len(owners))
        for owner, piece in zip(owners, pieces, strict=True):
            kind = "self" if piece[0] == Secret.SELF_MASK else "mask"
            self._shares[kind, owner][device] = piece[1 : 1 + SHARE]

    def _sharer(self, device: int, u1: Flags) -> bytes:
        """A device's signature on U1: its own, or a colluder's on any list."""
        if device in self.colluders:
            payload = members_payload(self.cohort.binding, pack_flags(u1))
            return sign(self.world.identities[device], INPUT, payload)
        return self._sharers.get(device, bytes(SIGNATURE))

    def secret(self, kind: str, owner: int) -> bytes | None:
        """The secret that the collected shares reconstruct, or None."""
        if owner in self.colluders:
            return self._pairs[owner].private_bytes() if kind == "mask" else None
        around = self.held.neighbours[owner].tolist()
        found = self._shares[kind, owner]
        points = [slot for slot, holder in enumerate(around) if holder in found][: self.cohort.threshold]
        if len(points) < self.cohort.threshold:
            return None
        rows = np.stack([np.frombuffer(found[around[slot]], np.uint8) for slot in points])
        secret = combine([slot + 1 for slot in points], rows, total=self.cohort.degree)
        advert: Advert = self.held.adverts[owner]
        which = Secret.SELF_MASK if kind == "self" else Secret.MASK_KEY
        return secret if secret_fits(secret, which, advert) else None

    def recover(self, group: Collection[int]) -> Int64 | None:
        """The sum of some devices' vectors without masks, or None if a mask's key isn't known."""
        terms = self.world.terms
        total = np.zeros(terms.size, residue_type(terms.bits))
        masker = Masker(terms.size, terms.bits)
        for device in group:
            self_mask = self.secret("self", device)
            if device not in self._inputs or self_mask is None:
                return None
            total += unpack(self._inputs[device], terms.size, terms.bits)
            masker.subtract(total, self_mask)
            for other in self._masked_with[device]:
                if other in group and device in self._masked_with[other]:
                    continue
                key = self._pair_mask(device, other)
                if key is None:
                    return None
                (masker.subtract if device < other else masker.add)(total, key)
        return _centred(total, terms.bits)

    def _pair_mask(self, one: int, other: int) -> bytes | None:
        """The key of a pair's mask, from either known mask key."""
        for owner, peer in ((one, other), (other, one)):
            secret = self.secret("mask", owner)
            if secret is not None:
                ends = [(at, self.held.adverts[at].mask_key) for at in sorted((one, other))]
                info = pair_info("mask", self.world.terms.context, self.held.toss, *ends)
                return agree(KeyPair.from_private(secret), self.held.adverts[peer].mask_key, info=info)[:32]
        return None

    def wins(self, group: Collection[int]) -> bool:
        """Whether the adversary has the exact sum of these devices' vectors."""
        found = self.recover(group)
        return found is not None and np.array_equal(found, self.world.sum_of(group))

    def ring(self) -> list[int]:
        """The members in ring order."""
        around = [0]
        while len(around) < self.n:
            around.append(int(self.held.neighbours[around[-1], self.cohort.degree // 2]))
        return around
