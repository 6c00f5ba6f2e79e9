"""PairwiseChannels: encryption between two devices of a masked attempt: pairwise keys, and boxes under them."""

from __future__ import annotations

from dataclasses import dataclass

from palate_common.errors import IntegrityError
from palate_common.secagg.agreement import KeyPair, agree, seal, unseal
from palate_common.secagg.messages import SEALED, SHARE
from palate_common.secagg.transcript import box_aad, pair_info, share_digest


@dataclass(frozen=True)
class PairwiseChannels:
    """The channels of device `me` in one attempt."""

    context: bytes
    me: int

    def key(self, role: str, toss: int, own: KeyPair, other: int, public: bytes) -> bytes:
        """Derive 64 bytes of key that this device and another one share for one role.

        Raises:
            IntegrityError: the public key has low order.
        """
        ends = sorted([(self.me, own.public), (other, public)])
        return agree(own, public, info=pair_info(role, self.context, toss, *ends))

    def seal(self, keys: bytes, root: bytes, other: int, shares: bytes) -> bytes:
        """Make a box for another device of this cohort: its two shares, encrypted, and their digests in plain text."""
        sealed = seal(_way(keys, self.me, other), shares, aad=box_aad(self.context, root, self.me, other))
        return sealed + _digests(shares)

    def open(self, keys: bytes, root: bytes, other: int, box: bytes) -> bytes | None:
        """The shares in a box for this device; None if it can't be decrypted, or its digests don't match."""
        try:
            shares = unseal(_way(keys, other, self.me), box[:SEALED], aad=box_aad(self.context, root, other, self.me))
        except IntegrityError:
            return None
        return shares if box[SEALED:] == _digests(shares) else None


def _way(keys: bytes, sender: int, receiver: int) -> bytes:
    """The key for one direction: it encrypts only one box."""
    return keys[:32] if sender < receiver else keys[32:]


def _digests(shares: bytes) -> bytes:
    """Digests of the share of b and of the share of the mask key."""
    return share_digest(shares[:SHARE]) + share_digest(shares[SHARE:])
