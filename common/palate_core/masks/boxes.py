"""Boxes: shares that one device seals for another, so that what is in a box can be shown to anybody if it must be.

    shares -> commit, seal under a key of the box's own, sign -> receiver: open, compare, sign a receipt for all boxes
           -> after a signed complaint: the box's own key -> anybody: open, compare

Each box is made with an X25519 key pair of its own (ECIES). Its private half opens this box and no other, so a sender
can answer a complaint without showing anything else. With each share goes a salted commitment in the clear; the salts
come from the same key agreement. The sender signs it all together with what is needed to judge it: cohort, both ends,
the receiver's key, slot and threshold.

    >>> sender, receiver = SigningKey.generate(), KeyPair.generate()
    >>> label = Label(binding=bytes(98), sender=0, receiver=1, slot=0, degree=4, threshold=3, key=receiver.public)
    >>> box, own = make_box(label, bytes(64), sender)
    >>> check_signed(label, box, sender.public)
    >>> open_box(label, box, receiver) == open_box(label, box, own), open_box(label, box, KeyPair.generate())
    (True, None)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from palate_core.errors import IntegrityError
from palate_core.log.merkle import MerkleTree, verify_inclusion
from palate_core.log.signing import SigningKey
from palate_core.masks.agreement import KEY_BYTES, KeyPair, agree, seal, unseal
from palate_core.masks.messages import BOX_BODY, DIGEST, KEY, PIECE, SALT, SEALED, SHARE, Secret
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import BOX, box_aad, box_info, box_payload, check_signature, share_commitment, sign

BINDING: Final = 98
"""Bytes of a cohort's binding: context, toss, root and seed."""
NONE: Final = b""
"""The leaf of a slot without a box or share."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a box's sender signs beside the box.

    Attributes:
        binding: of the cohort.
        sender: the device that deals.
        receiver: the device that the box is for.
        slot: the receiver's place among the sender's neighbours: the share's index is one more.
        degree: how many shares there are of each secret.
        threshold: how many of them give it.
        key: the receiver's share key.
    """

    binding: bytes
    sender: int
    receiver: int
    slot: int
    degree: int
    threshold: int
    key: bytes

    @classmethod
    def of(cls, cohort: Cohort, *, sender: int, receiver: int, slot: int, key: bytes) -> Self:
        """The label of a box between two neighbours of a cohort."""
        return cls(
            binding=cohort.binding,
            sender=sender,
            receiver=receiver,
            slot=slot,
            degree=cohort.degree,
            threshold=cohort.threshold,
            key=key,
        )

    @property
    def ends(self) -> tuple[int, int]:
        """Sender and receiver."""
        return self.sender, self.receiver

    def payload(self, box: bytes) -> bytes:
        """What the sender signs."""
        place = self.slot, self.degree, self.threshold
        return box_payload(self.binding, self.ends, place, self.key, box[:BOX_BODY])

    def leaf(self, box: bytes) -> bytes:
        """What the receiver signs for: all that the sender has signed, and the signature."""
        return self.payload(box) + box[BOX_BODY:]


@dataclass(frozen=True, repr=False)
class Dealt:
    """What is in a box: a share of each secret, with the salts of their commitments, by `Secret`."""

    shares: tuple[bytes, bytes]
    salts: tuple[bytes, bytes]

    def piece(self, secret: Secret) -> bytes:
        """The share of one of the secrets as it is given."""
        return bytes([secret]) + self.shares[secret] + self.salts[secret]


def make_box(label: Label, shares: bytes, identity: SigningKey) -> tuple[bytes, KeyPair]:
    """Seal and sign a share of each secret for one neighbour.

    **Guarantees:** a key of its own: no two boxes are made with the same key, so opening one opens no other.

    Args:
        label: what is signed with it.
        shares: of the self mask and of the mask key, 64 bytes.
        identity: the sender's signing key.

    Returns:
        The box, and the key pair that it was made with.
    """
    made_with = KeyPair.generate()
    key, salts = _derived(label, made_with, label.key, made_with.public)
    sealed = seal(key, shares, aad=_aad(label))
    commitments = b"".join(map(share_commitment, _halves(shares), salts))
    body = made_with.public + sealed + commitments
    return body + sign(identity, BOX, label.payload(body)), made_with


def check_signed(label: Label, box: bytes, public: str) -> None:
    """Refuse a box that its sender hasn't signed.

    Raises:
        IntegrityError: the signature doesn't fit.
    """
    check_signature(public, BOX, label.payload(box), box[BOX_BODY:])


def open_box(label: Label, box: bytes, pair: KeyPair) -> Dealt | None:
    """Open a box with the receiver's key pair, or with the one that it was made with.

    **Guarantees:** one verdict: both pairs give the same shares, or None.

    Returns:
        What is in it; None if it can't be opened, or holds something else than it commits to.
    """
    made_with = box[:KEY]
    other = label.key if pair.public == made_with else made_with
    try:
        key, salts = _derived(label, pair, other, made_with)
        shares = unseal(key, box[KEY : KEY + SEALED], aad=_aad(label))
    except IntegrityError:
        return None
    halves = _halves(shares)
    fits = commitments_of(box) == tuple(map(share_commitment, halves, salts))
    return Dealt(halves, salts) if fits else None


def commitments_of(box: bytes) -> tuple[bytes, bytes]:
    """A box's commitments to the share of the self mask and to that of the mask key."""
    at = KEY + SEALED
    return box[at : at + DIGEST], box[at + DIGEST : BOX_BODY]


def piece_fits(piece: bytes, box: bytes) -> bool:
    """Whether a share that is given is the one that its box commits to.

    Raises:
        IntegrityError: it is no piece.
    """
    if len(piece) != PIECE or piece[0] > Secret.MASK_KEY:
        raise IntegrityError(f"a share must be given as {PIECE} bytes of one of two secrets, got {piece[:1]!r}")
    return share_commitment(piece[1 : 1 + SHARE], piece[1 + SHARE :]) == commitments_of(box)[piece[0]]


def tree_of(leaves: Sequence[bytes]) -> MerkleTree:
    """The tree over the boxes, or shares, of all slots, filled up to a power of two."""
    return MerkleTree([*leaves, *[NONE] * (2 ** depth_of(len(leaves)) - len(leaves))])


def root_of(tree: MerkleTree) -> bytes:
    """A tree's root."""
    return bytes.fromhex(tree.root())


def depth_of(slots: int) -> int:
    """Hashes of a path in the tree over this many slots."""
    return (slots - 1).bit_length()


def path_of(tree: MerkleTree, slot: int) -> tuple[bytes, ...]:
    """The hashes that lead from a slot's leaf to the root."""
    return tuple(map(bytes.fromhex, tree.inclusion_proof(slot, tree.size)))


def check_path(leaf: bytes, *, slot: int, slots: int, root: bytes, path: Sequence[bytes]) -> None:
    """Check that a leaf is what somebody has signed for at a slot.

    Raises:
        IntegrityError: it isn't.
    """
    if not 0 <= slot < slots:
        raise IntegrityError(f"a slot must be one of {slots}, got {slot}")
    size = 2 ** depth_of(slots)
    verify_inclusion(leaf, index=slot, size=size, root=root.hex(), proof=[each.hex() for each in path])


def _derived(label: Label, pair: KeyPair, other: bytes, made_with: bytes) -> tuple[bytes, tuple[bytes, bytes]]:
    """The key of a box and the salts of its two commitments."""
    context, toss = label.binding[:32], int.from_bytes(label.binding[32:34], "little")
    agreed = agree(pair, other, info=box_info(context, toss, label.ends, made_with, label.key))
    return agreed[:KEY_BYTES], (agreed[KEY_BYTES : KEY_BYTES + SALT], agreed[KEY_BYTES + SALT :])


def _aad(label: Label) -> bytes:
    return box_aad(label.binding[:32], label.binding[34:66], label.sender, label.receiver)


def _halves(shares: bytes) -> tuple[bytes, bytes]:
    return shares[:SHARE], shares[SHARE:]
