"""Checks: what a device verifies before each step of a masked attempt.

A rule refuses. Its docstring says which attack of a lying server it prevents; if one is missing, the attacks in the
tests recover one device's vector, or the sum of a few.

What several rules allow together is a frozen type, which the next step demands: `NeighbourKeys`, `CheckedList`,
`SignedList`, `Latched`, `Verified`, `AgreedList`. Only the functions at the end make one, each after all of its rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from secrets import SystemRandom

from palate_core.errors import IntegrityError, RefusedError
from palate_core.masks.boxes import Dealt, check_path
from palate_core.masks.directory import Directory
from palate_core.masks.messages import Advert, Complaint, Flags, pack_flags
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import (
    ADVERT,
    CONSISTENCY,
    INPUT,
    MEMBERS,
    RECEIPT,
    AttemptTerms,
    advert_payload,
    check_signature,
    commitment_to,
    members_payload,
    receipt_payload,
)


def next_toss(toss: int, last: int, *, terms: AttemptTerms) -> None:
    """Refuse a repeated toss, or too many: the server could draw rings until one suits it."""
    if not last < toss < terms.max_tosses:
        raise RefusedError(f"a toss must be above {last} and below {terms.max_tosses}, got {toss}")


def same_toss(toss: int, current: int) -> None:
    """Refuse a record of another toss: it belongs to other keys."""
    if toss != current:
        raise IntegrityError(f"a record must be of toss {current}, got {toss}")


def known_members(ids: Sequence[int], *, directory: Directory, terms: AttemptTerms) -> None:
    """Refuse a device that is named twice or isn't in the directory: one attacker could count as several devices."""
    if not all(first < second for first, second in pairwise(ids)):
        raise IntegrityError("a cohort must name each device once, by rising id, got another order")
    if others := [device for device in ids if device not in directory.identities]:
        raise IntegrityError(f"a cohort must be of the {len(directory)} devices of the directory, got {others[0]}")
    if not terms.n_min <= len(ids) <= terms.n_max:
        raise RefusedError(f"a cohort must have {terms.n_min} to {terms.n_max} devices, got {len(ids)}")


def same_root(root: bytes, signed: bytes) -> None:
    """Refuse another list of commitments than the signed one: after seeing nonces the server could choose the ring."""
    if root != signed:
        raise RefusedError("the cohort must be the one whose root this device has signed, got another")


def own_entry(found: object, own: object) -> None:
    """Refuse a cohort without this device's own entry: somebody else would be in its place."""
    if found != own:
        raise RefusedError("the cohort must hold this device's own entry, got another or none")


def nonces_fit(entries: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Refuse a nonce that doesn't fit its commitment: its owner could choose the ring after seeing the others."""
    for device, commitment, nonce in entries:
        if commitment_to(nonce) != commitment:
            raise IntegrityError(f"each nonce must fit its commitment, got another for device {device}")


def expected_adverts(found: Sequence[int], expected: Sequence[int]) -> None:
    """Refuse neighbours that the seed doesn't give: the server could choose corrupt devices."""
    if list(found) != list(expected):
        raise RefusedError("the adverts must be those of this device's neighbours, got others")


def advert_nonces(adverts: Sequence[tuple[int, Advert]], nonces: dict[int, bytes]) -> None:
    """Refuse an advert with another nonce than in the list: its owner has seen another list, with other neighbours."""
    for device, advert in adverts:
        if advert.nonce != nonces.get(device):
            raise RefusedError(f"an advert must carry the nonce of the list, got another for device {device}")


def signed_adverts(
    adverts: Sequence[tuple[int, Advert]], *, context: bytes, toss: int, root: bytes, directory: Directory
) -> None:
    """Refuse a key without its owner's signature: if it is the server's, the server can read all shares sent to it."""
    for device, advert in adverts:
        payload = advert_payload(context, toss, root, device, advert.body)
        check_signature(directory.identities[device], ADVERT, payload, advert.signature)


def distinct_keys(keys: Collection[bytes]) -> None:
    """Refuse a key that occurs twice: two pairs would have the same mask, or a device could open another one's box."""
    if len(set(keys)) != len(keys):
        raise RefusedError("all public keys must be distinct, got one twice")


def listed(flags: Flags, me: int) -> None:
    """Refuse a list without this device: it would reveal its neighbours' secrets for a sum that it isn't in."""
    if not flags[me]:
        raise RefusedError("this device must be in the list, got one without it")


def enough(flags: Flags, *, terms: AttemptTerms) -> None:
    """Refuse a list that is too short: the sum would not hide one device, and have less noise than was charged."""
    if int(flags.sum()) < terms.n_min:
        raise RefusedError(f"a list must have at least {terms.n_min} devices, got {int(flags.sum())}")


def no_cut(cohort: Cohort, flags: Flags) -> None:
    """Refuse long gaps in the ring: with corrupt devices they could split it into arcs, each with its own sum."""
    if cohort.cut(flags):
        raise RefusedError("too many in a row of the ring are missing")


def signed_members(cohort: Cohort, u1: bytes, signature: bytes, *, server_key: str) -> None:
    """Refuse a list without the server's signature: it would be no evidence against the server."""
    check_signature(server_key, MEMBERS, members_payload(cohort.binding, u1), signature)


def every_box(sharers: Collection[int], good: Mapping[int, Dealt]) -> dict[int, Dealt]:
    """Refuse a list with a neighbour without a good box: by withholding boxes a server could split the ring.

    Returns the shares in the boxes of those in the list.
    """
    if not good.keys() >= set(sharers):
        raise RefusedError("each neighbour in the list must have sent a good box, got one without")
    return {slot: good[slot] for slot in sharers}


def few_openings(complaints: Sequence[Complaint], *, terms: AttemptTerms) -> None:
    """Refuse to open boxes for one device twice, or for more than may be corrupt: their shares add up to a secret."""
    receivers = {each.device for each in complaints}
    if len(receivers) != len(complaints) or len(receivers) > terms.c_max:
        raise RefusedError(f"a device opens boxes for at most {terms.c_max} others, each once, got {len(complaints)}")


def complained_of(complaint: Complaint, *, slot: int, binding: bytes, public: str) -> None:
    """Refuse to open a box without its receiver's signed complaint: an honest one's share would be shown."""
    if not complaint.receipt.accused[slot]:
        raise RefusedError("a box is opened for a device that complains of it, got a receipt without a complaint")
    receipt = complaint.receipt
    payload = receipt_payload(binding, receipt.root, pack_flags(receipt.accused))
    check_signature(public, RECEIPT, payload, receipt.signature)


def own_box(complaint: Complaint, *, slot: int, leaf: bytes) -> None:
    """Refuse a complaint of another box: a server makes an honest device complain of a box that it has made itself."""
    receipt = complaint.receipt
    check_path(leaf, slot=slot, slots=len(receipt.accused), root=receipt.root, path=complaint.path)


def latched_openings(latch: Callable[[str, str], None], digest: str) -> None:
    """Store durably which complaints were answered: no others ever are, also after a restart; and none after input."""
    latch("open", digest)


def still_there(survivors: Flags, u1: Flags) -> None:
    """Refuse a survivor that hasn't shared: nobody could remove its masks."""
    if (survivors & ~u1).any():
        raise IntegrityError("the survivors must be of those who have shared, got others")


def latched(latch: Callable[[str, str], None], step: str, digest: str) -> None:
    """Store what is signed durably: a second signature, after a restart, could open both secrets of one device."""
    latch(step, digest)


def same_sharers(
    others: Sequence[int], signatures: Sequence[bytes], *, binding: bytes, u1: bytes, keys: Directory
) -> None:
    """Refuse survivors that saw another list of sharers: they masked with few, which the server could declare lost."""
    if len(signatures) != len(others):
        raise RefusedError(f"{len(others)} more survivors must have signed this list, got {len(signatures)}")
    for device, signature in zip(others, signatures, strict=True):
        check_signature(keys.identities[device], INPUT, members_payload(binding, u1), signature)


def surviving_signers(signers: Flags, survivors: Flags) -> None:
    """Refuse signatures of devices that haven't survived: corrupt ones would sign any list that the server wants."""
    if (signers & ~survivors).any():
        raise RefusedError("only survivors' signatures count, got another's")


def enough_signers(signers: int, threshold: int) -> None:
    """Refuse too few signers: two different lists can't both reach the threshold, and open both secrets of a device."""
    if signers < threshold:
        raise RefusedError(f"at least {threshold} neighbours must have signed the same, got {signers}")


def draw(n: int, me: int, size: int) -> set[int]:
    """Sample other members of a cohort of `n`, uniformly and without repetition; nobody can predict the draw."""
    return {member + (member >= me) for member in SystemRandom().sample(range(n - 1), size)}


def enough_of_cohort(agreeing: int, quorum: int) -> None:
    """Refuse too few sampled signers: parts of the ring with different lists could open a sum with too little noise."""
    if agreeing < quorum:
        raise RefusedError(f"at least {quorum} of the members sampled must have signed the same, got {agreeing}")


def signed_survivors(
    signers: Collection[int], signatures: Mapping[int, bytes], *, payload: bytes, cohort: Cohort, keys: Directory
) -> None:
    """Refuse members that signed another list: they would open another sum."""
    for member in signers:
        check_signature(keys.identities[cohort.ids[member]], CONSISTENCY, payload, signatures[member])


@dataclass(frozen=True)
class NeighbourKeys:
    """The neighbours' public keys, by slot: signed by their owners for this list, and none of them twice."""

    names: tuple[int, ...]
    share_keys: tuple[bytes, ...]
    mask_keys: tuple[bytes, ...]


@dataclass(frozen=True)
class CheckedList:
    """A list of members that this device is in, which is long enough and doesn't cut the ring."""

    flags: Flags

    @property
    def packed(self) -> bytes:
        """The list as it is signed."""
        return pack_flags(self.flags)


@dataclass(frozen=True)
class SignedList(CheckedList):
    """Such a list, of those who have shared, that the server has signed."""


@dataclass(frozen=True)
class Latched:
    """What this device may sign at a step, also after a restart: it is stored, and nothing else ever will be."""

    payload: bytes


@dataclass(frozen=True)
class Verified:
    """Members whose signatures under this device's own list were verified."""

    members: frozenset[int]


@dataclass(frozen=True)
class AgreedList:
    """The survivors that enough neighbours, and enough of the members sampled, have signed as this device has."""

    survivors: Flags


def neighbour_keys(
    adverts: Sequence[tuple[int, Advert]],
    *,
    names: Sequence[int],
    own: Sequence[bytes],
    context: bytes,
    toss: int,
    root: bytes,
    directory: Directory,
) -> NeighbourKeys:
    """The keys for which a device makes its boxes and its masks, of the neighbours `names`."""
    expected_adverts([device for device, _ in adverts], names)
    signed_adverts(adverts, context=context, toss=toss, root=root, directory=directory)
    distinct_keys([*own, *(key for _, advert in adverts for key in (advert.share_key, advert.mask_key))])
    share_keys, mask_keys = zip(*((advert.share_key, advert.mask_key) for _, advert in adverts), strict=True)
    return NeighbourKeys(names=tuple(names), share_keys=share_keys, mask_keys=mask_keys)


def checked_list(flags: Flags, *, me: int, cohort: Cohort, terms: AttemptTerms) -> CheckedList:
    """A list of members whose sum may be opened, with this device in it: of sharers, or of survivors."""
    listed(flags, me)
    enough(flags, terms=terms)
    no_cut(cohort, flags)
    return CheckedList(flags=flags)


def signed_list(u1: CheckedList, signature: bytes, *, cohort: Cohort, server_key: str) -> SignedList:
    """The list of sharers with which a device masks."""
    signed_members(cohort, u1.packed, signature, server_key=server_key)
    return SignedList(flags=u1.flags)


def latch_payload(latch: Callable[[str, str], None], step: str, payload: bytes) -> Latched:
    """What a device signs at a step, stored before."""
    latched(latch, step, hashlib.sha256(payload).hexdigest())
    return Latched(payload=payload)


def verified_signers(
    signers: Set[int], signatures: Mapping[int, bytes], *, payload: bytes, cohort: Cohort, keys: Directory
) -> Verified:
    """The members that have signed this device's own list."""
    signed_survivors(signers, signatures, payload=payload, cohort=cohort, keys=keys)
    return Verified(members=frozenset(signers))


def neighbours_agree(verified: Verified, neighbours: Set[int], *, threshold: int) -> Verified:
    """The same, once there are enough neighbours among them."""
    enough_signers(len(verified.members & neighbours), threshold)
    return verified


def quorum_agrees(near: Verified, far: Verified, sampled: Set[int], *, quorum: int, survivors: Flags) -> AgreedList:
    """The survivors whose sum a device opens: those that it has signed, as enough of the members sampled have."""
    enough_of_cohort(len((near.members | far.members) & sampled), quorum)
    return AgreedList(survivors=survivors)
