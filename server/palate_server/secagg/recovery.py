"""Recovery: combines shares to secrets of a masked attempt, and removes the masks from the sum.

Of a survivor the server learns b, of a device that has shared but not survived its mask key, never both. Each share is
the one that its owner has sent: that was checked on arrival. Each secret is checked against its owner's advert, so that
a device which has sent shares of another secret is found, and no wrong sum stays unnoticed. Where few shares of a
secret are wrong, the others give it all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.mechanism.update import Int64
from palate_common.secagg.evidence import secret_fits
from palate_core.errors import IntegrityError
from palate_core.masks.agreement import KeyPair, agree
from palate_core.masks.masking import Masker
from palate_core.masks.messages import Flags, Secret
from palate_core.masks.packing import Residues
from palate_core.masks.shamir import combine
from palate_core.masks.transcript import pair_info
from palate_server.secagg.decoding import combine_all, misfits
from palate_server.secagg.shared import SharedCohort
from palate_server.secagg.stage import Bytes


@dataclass(frozen=True)
class Wanted:
    """The secrets that a sum needs, and the shares that were given of them.

    Attributes:
        held: the cohort.
        survivors: members whose vectors are in the sum.
        shares: shares that each member has given of its neighbours in U1, uint8 [n, k, 32].
        opened: members that have given shares.
    """

    held: SharedCohort
    survivors: Flags
    shares: Bytes
    opened: Flags

    def secrets(self) -> dict[int, bytes]:
        """The secret of each member that takes part, from as many shares as are needed.

        Raises:
            IntegrityError: a secret has fewer shares than the threshold.
        """
        cohort, members = self.held.cohort, np.flatnonzero(self.held.u1)
        around = self.held.neighbours[members]
        held = self.opened[around]
        held &= np.cumsum(held, axis=1) <= cohort.threshold
        fewest = int(held.sum(axis=1).min())
        if fewest < cohort.threshold:
            raise IntegrityError(f"each secret must have {cohort.threshold} shares, got {fewest}")
        found = combine_all(held, self.shares[around, cohort.slot_table()[members]])
        return {member: secret.tobytes() for member, secret in zip(members.tolist(), found, strict=True)}

    def which(self, member: int) -> Secret:
        """Which secret of a member is needed."""
        return Secret.SELF_MASK if self.survivors[member] else Secret.MASK_KEY

    def fits(self, member: int, secret: bytes) -> bool:
        """Whether this is the secret that a member has advertised."""
        return secret_fits(secret, self.which(member), self.held.adverts[member])

    def wrong(self, secrets: dict[int, bytes]) -> list[int]:
        """The members whose secret isn't the advertised one."""
        return [member for member, secret in secrets.items() if not self.fits(member, secret)]

    def holders(self, member: int) -> list[tuple[int, int, int]]:
        """Who has given a share of a member: its slot, the holder, and the slot at which the holder has the member."""
        around, places = self.held.neighbours[member], self.held.cohort.slots(member)
        each = zip(range(len(around)), around.tolist(), places.tolist(), strict=True)
        return [(slot, holder, place) for slot, holder, place in each if self.opened[holder]]

    def combined(self, member: int, slots: Sequence[int]) -> bytes:
        """The secret of a member by the shares of some slots."""
        return combine([slot + 1 for slot in slots], self._rows(member, slots), total=self.held.cohort.degree)

    def decoded(self, member: int, slots: Sequence[int]) -> bytes | None:
        """The secret of a member of whose shares some are wrong; None if it isn't found."""
        threshold, degree = self.held.cohort.threshold, self.held.cohort.degree
        bad = misfits([slot + 1 for slot in slots], self._rows(member, slots), threshold=threshold, total=degree)
        good = [slot for slot, wrong in zip(slots, bad, strict=True) if not wrong]
        if len(good) < threshold:
            return None
        secret = self.combined(member, good[:threshold])
        return secret if self.fits(member, secret) else None

    def _rows(self, member: int, slots: Sequence[int]) -> Bytes:
        """Shares of a member, uint8 [slots, 32]."""
        at = np.asarray(slots, np.intp)
        rows: Bytes = self.shares[self.held.neighbours[member, at], self.held.cohort.slots(member)[at]]
        return rows


def unmask(total: Residues, wanted: Wanted, secrets: dict[int, bytes], *, bits: int) -> Int64:
    """Remove all masks from a sum of masked vectors.

    Args:
        total: the sum, [size]; overwritten.
        wanted: who has survived.
        secrets: the advertised secret of each member.
        bits: the sum is modulo 2^bits.

    Returns:
        The sum, int64 [size], in [-2^(bits-1), 2^(bits-1)).
    """
    held = wanted.held
    masker, self_masks, context = Masker(len(total), bits), list[bytes](), held.attempt.terms.context
    ends = [(device, advert.mask_key) for device, advert in zip(held.cohort.ids.tolist(), held.adverts, strict=True)]
    for member, secret in secrets.items():
        if wanted.survivors[member]:
            self_masks.append(secret)
            continue
        pair = KeyPair.from_private(secret)
        # A survivor has added the pair's mask if it is the lower of the two, otherwise subtracted it.
        added, subtracted = list[bytes](), list[bytes]()
        around: npt.NDArray[np.intp] = held.neighbours[member]
        for other in around[wanted.survivors[around]].tolist():
            info = pair_info("mask", context, held.toss, *sorted((ends[member], ends[other])))
            key = agree(pair, ends[other][1], info=info)[:32]
            (subtracted if other < member else added).append(key)
        masker.apply(total, added=added, subtracted=subtracted)
    masker.apply(total, subtracted=self_masks)
    return _centred(total, bits)


def _centred(total: Residues, bits: int) -> Int64:
    """Convert residues modulo 2^bits to numbers in [-2^(bits-1), 2^(bits-1)): the top bit is the sign."""
    words = total.astype(np.uint64)
    words <<= np.uint64(64 - bits)
    return words.view(np.int64) >> np.int64(64 - bits)
