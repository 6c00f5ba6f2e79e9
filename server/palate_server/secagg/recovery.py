"""Recovery: combines shares to secrets of a masked attempt, and removes the masks from the sum.

Of a survivor the server learns b, of a device that has shared but not survived its mask key, never both. Each share is
the one that its owner has sent: that was checked on arrival. Each secret is checked against its owner's advert, so that
a device which has sent shares of another secret is found, and no wrong sum stays unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate_common.errors import IntegrityError
from palate_common.mechanism.update import Int64
from palate_common.secagg.agreement import KeyPair, agree
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.masking import Masker
from palate_common.secagg.messages import Advert, Flags
from palate_common.secagg.packing import Residues
from palate_common.secagg.shamir import combine_all
from palate_common.secagg.transcript import pair_info

Bytes = npt.NDArray[np.uint8]


def open_sum(
    total: Residues,
    *,
    bits: int,
    context: bytes,
    toss: int,
    cohort: Cohort,
    adverts: Sequence[Advert],
    neighbours: npt.NDArray[np.intp],
    u1: Flags,
    survivors: Flags,
    shares: Bytes,
    opened: Flags,
) -> tuple[Int64, list[int]]:
    """Remove all masks from a sum of masked vectors.

    Args:
        total: the sum, [size]; overwritten.
        bits: the sum is modulo 2^bits.
        context: the context of the attempt.
        toss: the toss of the cohort.
        cohort: the members of the attempt.
        adverts: adverts of the members, in their order.
        neighbours: neighbours of each member, intp [n, k].
        u1: members that have shared.
        survivors: members whose vectors are in the sum.
        shares: shares that each member has opened of its neighbours in U1, uint8 [n, k, 32].
        opened: members that have opened shares.

    Returns:
        The sum, int64 [size], in [-2^(bits-1), 2^(bits-1)), and the members whose secret isn't the advertised one; if
        there are any, the sum is wrong.

    Raises:
        IntegrityError: a secret has fewer shares than the threshold.
    """
    masker, self_masks, liars = Masker(len(total), bits), list[bytes](), list[int]()
    ends = [(device, advert.mask_key) for device, advert in zip(cohort.ids.tolist(), adverts, strict=True)]
    members = np.flatnonzero(u1)
    for member, secret in zip(members.tolist(), _secrets(members, cohort, neighbours, shares, opened), strict=True):
        if survivors[member]:
            if not self_mask_fits(secret, adverts[member]):
                liars.append(member)
            self_masks.append(secret)
            continue
        pair = KeyPair.from_private(secret)
        if not mask_key_fits(pair, adverts[member]):
            liars.append(member)
        # A survivor has added the pair's mask if it is the lower of the two, otherwise subtracted it.
        added, subtracted = list[bytes](), list[bytes]()
        for other in neighbours[member, survivors[neighbours[member]]].tolist():
            info = pair_info("mask", context, toss, *sorted((ends[member], ends[other])))
            key = agree(pair, ends[other][1], info=info)[:32]
            (subtracted if other < member else added).append(key)
        masker.apply(total, added=added, subtracted=subtracted)
    masker.apply(total, subtracted=self_masks)
    return _centred(total, bits), liars


def _secrets(
    members: npt.NDArray[np.intp], cohort: Cohort, neighbours: npt.NDArray[np.intp], shares: Bytes, opened: Flags
) -> list[bytes]:
    """The secrets of some members, from the shares that their neighbours have opened."""
    around = neighbours[members]
    held = opened[around]
    held &= np.cumsum(held, axis=1) <= cohort.threshold
    fewest = int(held.sum(axis=1).min())
    if fewest < cohort.threshold:
        raise IntegrityError(f"each secret must have {cohort.threshold} shares, got {fewest}")
    secrets = combine_all(held, shares[around, cohort.slot_table()[members]])
    return [secret.tobytes() for secret in secrets]


def self_mask_fits(secret: bytes, advert: Advert) -> bool:
    """Whether this is the advertised b: another one would leave an unnoticed error in the sum."""
    return hashlib.sha256(secret).digest() == advert.self_digest


def mask_key_fits(pair: KeyPair, advert: Advert) -> bool:
    """Whether this is the advertised mask key: another one would leave masks in the sum."""
    return pair.public == advert.mask_key


def _centred(total: Residues, bits: int) -> Int64:
    """Convert residues modulo 2^bits to numbers in [-2^(bits-1), 2^(bits-1)): the top bit is the sign."""
    words = total.astype(np.uint64)
    words <<= np.uint64(64 - bits)
    return words.view(np.int64) >> np.int64(64 - bits)
