"""The stages of a masked attempt on the server: what is asked at each, what counts as an answer, what follows.

A stage takes in what its devices answer and, when it is closed, gives the next stage or the result. It checks
everything an honest device would check of another, so that one liar is left out instead of stopping the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from palate_common.errors import InputError, IntegrityError
from palate_common.secagg.agreement import KeyPair, agree
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.directory import Directory
from palate_common.secagg.messages import (
    BOX,
    SHARE,
    SIGNATURE,
    Advert,
    Commit,
    Flags,
    InputRequest,
    Step,
    encode_advert,
    encode_commitments,
    encode_entries,
    pack_flags,
    read_fixed,
    share_body,
)
from palate_common.secagg.packing import Residues, residue_type, unpack
from palate_common.secagg.transcript import (
    ADVERT,
    COMMIT,
    CONSISTENCY,
    MEMBERS,
    AttemptTerms,
    advert_payload,
    check_signature,
    cohort_root,
    commit_payload,
    commitment_to,
    consistency_payload,
    members_payload,
    sign,
)
from palate_common.signing import SigningKey
from palate_common.update import Int64
from palate_server.recovery import Bytes, open_sum


@dataclass(frozen=True)
class Attempt:
    """What every stage knows."""

    terms: AttemptTerms
    directory: Directory
    key: SigningKey


@dataclass(frozen=True)
class Result:
    """The sum of the survivors' vectors, int64 [size], and who they are."""

    total: Int64
    survivors: tuple[int, ...]


class Stage(Protocol):
    """One step of one toss."""

    step: Step
    toss: int
    asked: tuple[int, ...]
    asked_set: frozenset[int]

    def body(self, device: int) -> bytes:
        """What to ask one device."""
        ...

    def accept(self, device: int, body: bytes) -> None:
        """Take in an answer; IntegrityError if it is none."""
        ...

    def close(self) -> Stage | Result:
        """What follows."""
        ...


def first_stage(attempt: Attempt, devices: Sequence[int]) -> Stage:
    """Commit where there is a ring, advertise where there is none."""
    if attempt.terms.committed:
        return _Commit(attempt, 0, devices)
    return _Advertise(attempt, 0, devices, {})


class _Asking:
    """Who is asked, and the floor on how many must answer."""

    step: Step

    def __init__(self, attempt: Attempt, toss: int, asked: Sequence[int]) -> None:
        self.attempt, self.terms, self.toss = attempt, attempt.terms, toss
        self.asked = tuple(asked)
        self.asked_set = frozenset(self.asked)

    def _floor(self, left: int) -> None:
        if left < self.terms.n_min:
            name = self.step.name.lower()
            raise IntegrityError(f"at least {self.terms.n_min} devices must be left after {name}, got {left}")


class _Commit(_Asking):
    """Everybody commits to a nonce."""

    step = Step.COMMIT

    def __init__(self, attempt: Attempt, toss: int, asked: Sequence[int]) -> None:
        super().__init__(attempt, toss, asked)
        self._commitments: dict[int, bytes] = {}

    def body(self, device: int) -> bytes:
        return b""

    def accept(self, device: int, body: bytes) -> None:
        commit = Commit.decode(body)
        payload = commit_payload(self.terms.context, self.toss, device, commit.commitment)
        check_signature(self.attempt.directory.identities[device], COMMIT, payload, commit.signature)
        self._commitments[device] = commit.commitment

    def close(self) -> Stage:
        self._floor(len(self._commitments))
        return _Advertise(self.attempt, self.toss, sorted(self._commitments), self._commitments)


class _Advertise(_Asking):
    """Nonces are shown and keys advertised; one nonce missing, and the seed is drawn again without its owner."""

    step = Step.ADVERTISE

    def __init__(self, attempt: Attempt, toss: int, asked: Sequence[int], commitments: dict[int, bytes]) -> None:
        super().__init__(attempt, toss, asked)
        self._commitments = commitments
        listed = encode_commitments([(device, commitments[device]) for device in asked] if commitments else [])
        self._root = cohort_root(self.terms.context, toss, listed) if commitments else b""
        self._adverts: dict[int, Advert] = {}
        self._keys: set[bytes] = set()
        self._probe = KeyPair.generate()

    def body(self, device: int) -> bytes:
        return self._root

    def accept(self, device: int, body: bytes) -> None:
        advert = Advert.decode(body, committed=self.terms.committed)
        if self.terms.committed and commitment_to(advert.nonce) != self._commitments[device]:
            raise IntegrityError("a nonce must fit its commitment, got another")
        payload = advert_payload(self.terms.context, self.toss, self._root, device, advert.body)
        check_signature(self.attempt.directory.identities[device], ADVERT, payload, advert.signature)
        keys = {advert.share_key, advert.mask_key}
        if len(keys) < 2 or keys & self._keys:
            raise IntegrityError("all public keys must be distinct, got one twice")
        for key in keys:
            agree(self._probe, key, info=b"probe")  # refuses points of low order
        self._keys |= keys
        self._adverts[device] = advert

    def close(self) -> Stage:
        self._floor(len(self._adverts))
        left = sorted(self._adverts)
        if self.terms.committed and len(left) < len(self.asked):
            if self.toss + 1 >= self.terms.max_tosses:
                raise IntegrityError(f"every nonce must be shown within {self.terms.max_tosses} tosses, got fewer")
            return _Commit(self.attempt, self.toss + 1, left)
        return _Share(self.attempt, self.toss, left, self._commitments, self._adverts, self._root)


class _Share(_Asking):
    """The cohort is fixed; each device seals shares of its secrets to its neighbours."""

    step = Step.SHARE

    def __init__(
        self,
        attempt: Attempt,
        toss: int,
        asked: Sequence[int],
        commitments: dict[int, bytes],
        adverts: dict[int, Advert],
        root: bytes,
    ) -> None:
        super().__init__(attempt, toss, asked)
        self._adverts = [adverts[device] for device in asked]
        self._lines = [encode_advert(device, adverts[device]) for device in asked]
        nonces = [advert.nonce for advert in self._adverts] if commitments else []
        entries = [(device, commitments[device], adverts[device].nonce) for device in asked] if commitments else []
        self._entries = encode_entries(entries)
        root = root or cohort_root(self.terms.context, toss, b"".join(self._lines))
        try:
            self._cohort = Cohort(self.terms, toss=toss, ids=asked, root=root, nonces=nonces)
        except InputError as error:
            raise IntegrityError(f"the cohort is too small for these terms: {error}") from None
        n, k = len(self._cohort), self._cohort.degree
        self._neighbours = np.stack([self._cohort.neighbours(member) for member in range(n)])
        self._boxes = np.zeros((n, k, BOX), np.uint8)
        self._shared = np.zeros(n, np.bool_)

    def body(self, device: int) -> bytes:
        if not self.terms.committed:
            return share_body(b"", self._lines)
        around = self._neighbours[_member(self._cohort, device)]
        return share_body(self._entries, [self._lines[other] for other in around])

    def accept(self, device: int, body: bytes) -> None:
        n_boxes = self._cohort.degree
        member = _member(self._cohort, device)
        self._boxes[member] = _pieces("shares", body, n_boxes, BOX)
        self._shared[member] = True

    def close(self) -> Stage:
        self._floor(int(self._shared.sum()))
        held = Held(self.attempt, self.toss, self._cohort, self._adverts, self._neighbours, self._shared)
        held.openable(self._shared, "shares")
        return _Input(held, self._boxes)


@dataclass(frozen=True)
class Held:
    """What every stage after the shares knows: the cohort, its adverts, who is whose neighbour, and U1."""

    attempt: Attempt
    toss: int
    cohort: Cohort
    adverts: list[Advert]
    neighbours: npt.NDArray[np.intp]
    u1: Flags

    def openable(self, alive: Flags, what: str) -> None:
        """Go no further where a member's secrets could not be opened, or devices would refuse."""
        fewest = int(alive[self.neighbours[self.u1]].sum(axis=1).min())
        if fewest < self.cohort.threshold:
            raise IntegrityError(
                f"each device must have {self.cohort.threshold} neighbours with {what}, got one with {fewest}"
            )
        if self.cohort.cut(alive):
            raise IntegrityError("too many in a row of the ring are missing")

    def ids(self, members: Flags) -> list[int]:
        """The devices behind a list of members."""
        return self.cohort.ids[members].tolist()


class _Input(_Asking):
    """U1 is fixed and signed, the boxes are handed out; masked vectors come in and are added at once."""

    step = Step.INPUT

    def __init__(self, held: Held, boxes: Bytes) -> None:
        super().__init__(held.attempt, held.toss, held.ids(held.u1))
        self._held, self._boxes = held, boxes
        u1 = pack_flags(held.u1)
        self._signature = sign(held.attempt.key, MEMBERS, members_payload(held.cohort.binding, u1))
        self._total: Residues = np.zeros(self.terms.size, residue_type(self.terms.bits))
        self._survivors = np.zeros(len(held.cohort), np.bool_)

    def body(self, device: int) -> bytes:
        held = self._held
        member = _member(held.cohort, device)
        around, slots = held.neighbours[member], held.cohort.slots(member)
        inside = held.u1[around]
        boxes = self._boxes[around[inside], slots[inside]].tobytes()
        return InputRequest(held.u1, self._signature, (boxes,)).encode()

    def accept(self, device: int, body: bytes) -> None:
        values = unpack(body, self.terms.size, self.terms.bits)
        self._total += values
        self._survivors[_member(self._held.cohort, device)] = True

    def close(self) -> Stage:
        self._floor(int(self._survivors.sum()))
        self._held.openable(self._survivors, "vectors")
        return _Consistency(self._held, self._survivors, self._total)


class _Consistency(_Asking):
    """Each survivor signs the one list of survivors."""

    step = Step.CONSISTENCY

    def __init__(self, held: Held, survivors: Flags, total: Residues) -> None:
        super().__init__(held.attempt, held.toss, held.ids(survivors))
        self._held, self._survivors, self._total = held, survivors, total
        self._list = pack_flags(survivors)
        self._payload = consistency_payload(held.cohort.binding, pack_flags(held.u1), self._list)
        self._signatures: dict[int, bytes] = {}

    def body(self, device: int) -> bytes:
        return self._list

    def accept(self, device: int, body: bytes) -> None:
        signature = read_fixed("a signature", body, SIGNATURE)
        check_signature(self.attempt.directory.identities[device], CONSISTENCY, self._payload, signature)
        self._signatures[_member(self._held.cohort, device)] = signature

    def close(self) -> Stage:
        return _Unmask(self._held, self._survivors, self._total, self._signatures)


class _Unmask(_Asking):
    """Whoever has enough signers around it opens its neighbours' shares."""

    step = Step.UNMASK

    def __init__(self, held: Held, survivors: Flags, total: Residues, signatures: dict[int, bytes]) -> None:
        n = len(held.cohort)
        self._signed = np.zeros(n, np.bool_)
        self._signed[list(signatures)] = True
        ready = self._signed & (self._signed[held.neighbours].sum(axis=1) >= held.cohort.threshold)
        held.openable(ready, "signatures")
        super().__init__(held.attempt, held.toss, held.ids(ready))
        self._held, self._survivors, self._total, self._signatures = held, survivors, total, signatures
        self._shares = np.zeros((n, held.cohort.degree, SHARE), np.uint8)
        self._opened = np.zeros(n, np.bool_)

    def body(self, device: int) -> bytes:
        around = self._held.neighbours[_member(self._held.cohort, device)]
        signers = self._signed[around]
        return pack_flags(signers) + b"".join(self._signatures[other] for other in around[signers].tolist())

    def accept(self, device: int, body: bytes) -> None:
        held = self._held
        member = _member(held.cohort, device)
        inside = held.u1[held.neighbours[member]]
        self._shares[member, inside] = _pieces("shares", body, int(inside.sum()), SHARE)
        self._opened[member] = True

    def close(self) -> Result:
        held = self._held
        self._held.openable(self._opened, "opened shares")
        total = open_sum(
            self._total,
            bits=self.terms.bits,
            context=self.terms.context,
            toss=self.toss,
            cohort=held.cohort,
            adverts=held.adverts,
            neighbours=held.neighbours,
            u1=held.u1,
            survivors=self._survivors,
            shares=self._shares,
            opened=self._opened,
        )
        return Result(total, tuple(held.ids(self._survivors)))


def _member(cohort: Cohort, device: int) -> int:
    """The index of a device that was asked, so is in the cohort."""
    member = cohort.member(device)
    if member is None:
        raise IntegrityError(f"device {device} must be in the cohort, got one outside it")
    return member


def _pieces(name: str, body: bytes, count: int, width: int) -> Bytes:
    """A body of equal pieces, uint8 [count, width]."""
    return np.frombuffer(read_fixed(name, body, count * width), np.uint8).reshape(count, width)
