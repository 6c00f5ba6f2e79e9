"""Letters: what one device of a masked attempt shares with another: keys for two, and boxes only the other can open."""

from __future__ import annotations

from dataclasses import dataclass

from palate_common.errors import IntegrityError
from palate_common.secagg.agreement import KeyPair, agree, seal, unseal
from palate_common.secagg.messages import SEALED, SHARE
from palate_common.secagg.transcript import box_aad, pair_info, share_digest


@dataclass(frozen=True)
class Letters:
    """The correspondence of device `me` in one attempt."""

    context: bytes
    me: int

    def key(self, role: str, toss: int, own: KeyPair, other: int, public: bytes) -> bytes:
        """64 bytes that this device and another have in common for one role.

        Raises:
            IntegrityError: a public key of low order.
        """
        ends = sorted([(self.me, own.public), (other, public)])
        return agree(own, public, info=pair_info(role, self.context, toss, *ends))

    def seal(self, keys: bytes, root: bytes, other: int, shares: bytes) -> bytes:
        """A box for another device of this cohort: its two shares, and, open, the digests that bind both sides."""
        sealed = seal(_way(keys, self.me, other), shares, aad=box_aad(self.context, root, self.me, other))
        return sealed + _digests(shares)

    def open(self, keys: bytes, root: bytes, other: int, box: bytes) -> bytes | None:
        """What another has sealed for this device; None where the box isn't its, or holds other shares than shown."""
        try:
            shares = unseal(_way(keys, other, self.me), box[:SEALED], aad=box_aad(self.context, root, other, self.me))
        except IntegrityError:
            return None
        return shares if box[SEALED:] == _digests(shares) else None


def _way(keys: bytes, sender: int, receiver: int) -> bytes:
    """The key for one direction: each seals one box."""
    return keys[:32] if sender < receiver else keys[32:]


def _digests(shares: bytes) -> bytes:
    """Of the share of b, and of that of the mask key."""
    return share_digest(shares[:SHARE]) + share_digest(shares[SHARE:])
