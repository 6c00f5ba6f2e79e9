"""Recovery: from enough shares to the secrets of a masked attempt, and from those to the sum.

Of a survivor the server learns b, of a device that has shared but not survived its mask key, never both. Every
secret is checked against what its owner has advertised: one bad share would otherwise give a wrong sum unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate_common.errors import IntegrityError
from palate_common.secagg.agreement import KeyPair, agree
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.masking import Masker
from palate_common.secagg.messages import Advert, Flags
from palate_common.secagg.packing import Residues
from palate_common.secagg.shamir import combine_all
from palate_common.secagg.transcript import pair_info
from palate_common.update import Int64

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
) -> Int64:
    """Take every mask off a sum of masked vectors.

    Args:
        total: the sum, [size]; overwritten.
        bits: the sum is modulo 2^bits.
        context: the attempt's.
        toss: the cohort's.
        cohort: who takes part.
        adverts: of the members, in their order.
        neighbours: each member's, intp [n, k].
        u1: who has shared.
        survivors: whose vectors are in the sum.
        shares: what each holder has opened of each of its neighbours in U1, uint8 [n, k, 32].
        opened: which holders have.

    Returns:
        int64 [size], in [-2^(bits-1), 2^(bits-1)).

    Raises:
        IntegrityError: fewer than the threshold of shares, or a secret is not the advertised one.
    """
    masker, self_masks = Masker(len(total), bits), list[bytes]()
    ends = [(device, advert.mask_key) for device, advert in zip(cohort.ids.tolist(), adverts, strict=True)]
    members = np.flatnonzero(u1)
    for member, secret in zip(members.tolist(), _secrets(members, cohort, neighbours, shares, opened), strict=True):
        if survivors[member]:
            self_mask_fits(secret, adverts[member])
            self_masks.append(secret)
            continue
        pair = KeyPair.from_private(secret)
        mask_key_fits(pair, adverts[member])
        # A survivor has added the mask of the pair if it is the lower of the two, else subtracted it.
        added, subtracted = list[bytes](), list[bytes]()
        for other in neighbours[member, survivors[neighbours[member]]].tolist():
            info = pair_info("mask", context, toss, *sorted((ends[member], ends[other])))
            key = agree(pair, ends[other][1], info=info)[:32]
            (subtracted if other < member else added).append(key)
        masker.apply(total, added=added, subtracted=subtracted)
    masker.apply(total, subtracted=self_masks)
    return _centred(total, bits)


def _secrets(
    members: npt.NDArray[np.intp], cohort: Cohort, neighbours: npt.NDArray[np.intp], shares: Bytes, opened: Flags
) -> list[bytes]:
    """The secret of each of some members that its neighbours have opened."""
    around = neighbours[members]
    held = opened[around]
    held &= np.cumsum(held, axis=1) <= cohort.threshold
    fewest = int(held.sum(axis=1).min())
    if fewest < cohort.threshold:
        raise IntegrityError(f"each secret must have {cohort.threshold} shares, got {fewest}")
    secrets = combine_all(held, shares[around, cohort.slot_table()[members]])
    return [secret.tobytes() for secret in secrets]


def self_mask_fits(secret: bytes, advert: Advert) -> None:
    """A wrong b would leave noise on the sum that nobody sees."""
    if hashlib.sha256(secret).digest() != advert.self_digest:
        raise IntegrityError("a self mask must be the advertised one, got another: some device gave a bad share")


def mask_key_fits(pair: KeyPair, advert: Advert) -> None:
    """A wrong mask key would leave the pairs' masks on the sum."""
    if pair.public != advert.mask_key:
        raise IntegrityError("a mask key must be the advertised one, got another: some device gave a bad share")


def _centred(total: Residues, bits: int) -> Int64:
    """Residues modulo 2^bits as numbers in [-2^(bits-1), 2^(bits-1)): the top bit is the sign."""
    words = total.astype(np.uint64)
    words <<= np.uint64(64 - bits)
    return words.view(np.int64) >> np.int64(64 - bits)
