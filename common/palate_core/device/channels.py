"""PairwiseChannels: the keys that two devices of a masked attempt share."""

from __future__ import annotations

from dataclasses import dataclass

from palate_core.masks.agreement import KeyPair, agree
from palate_core.masks.transcript import pair_info


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
