"""Transcript: what the devices and the server of one masked attempt sign, hash and derive keys from.

Both sides make these bytes themselves; a signature or a key made for another attempt, toss, cohort, role or pair of
devices never fits. Every field has a fixed length or is the last one, so no two sets of fields give the same bytes.

    >>> terms = AttemptTerms(context=bytes(32), size=10, bits=20, n_max=12, n_min=9, c_max=1, directory="ab" * 32)
    >>> terms.committed
    False
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from palate_core.cohort_terms import MAX_TOSSES
from palate_core.errors import InputError
from palate_core.log.signing import SigningKey, verify
from palate_core.masks.graph_terms import LARGEST_COMPLETE

COMMIT = "palate/secagg/commit/1"
ADVERT = "palate/secagg/advert/1"
MEMBERS = "palate/secagg/members/1"
INPUT = "palate/secagg/input/1"
CONSISTENCY = "palate/secagg/consistency/1"
BOX = "palate/secagg/box/1"
RECEIPT = "palate/secagg/receipt/1"
OPENING = "palate/secagg/opening/1"
REVEAL = "palate/secagg/reveal/1"

MAX_DEVICES = 2**20

_NONCE = b"palate/secagg/nonce/1\x00"
_ROOT = b"palate/secagg/root/1\x00"
_SEED = b"palate/secagg/seed/1\x00"
_SHARE = b"palate/secagg/share/2\x00"
_SEAL = b"palate/secagg/seal/1\x00"


@dataclass(frozen=True, kw_only=True)
class AttemptTerms:
    """The terms of one masked attempt, fixed before its first message.

    Attributes:
        context: SHA-256 over run, round, attempt, plan, model and ledger checkpoint, 32 bytes.
        size: coordinates of a vector.
        bits: the sum is taken modulo 2^bits, 1 <= bits <= 64.
        n_max: the most devices that may take part.
        n_min: the fewest whose sum may be opened.
        c_max: how many of the cohort, surviving or not, may be corrupt, at least 1.
        directory: hash of the directory, 64 lower-case hexadecimal digits.
        max_tosses: how often the ring's seed may be drawn.

    Raises:
        InputError: a value outside its range.
    """

    context: bytes
    size: int
    bits: int
    n_max: int
    n_min: int
    c_max: int
    directory: str
    max_tosses: int = MAX_TOSSES

    def __post_init__(self) -> None:
        if not isinstance(self.context, bytes) or len(self.context) != 32:
            raise InputError(f"`context` must be 32 bytes, got {self.context!r:.80}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.directory, re.ASCII):
            raise InputError(f"`directory` must be 64 lower-case hexadecimal digits, got {self.directory!r:.80}")
        for name, value, least, most in (
            ("size", self.size, 1, 2**32),
            ("bits", self.bits, 1, 64),
            ("n_max", self.n_max, 3, MAX_DEVICES),
            ("c_max", self.c_max, 1, self.n_max),
            ("n_min", self.n_min, self.c_max + 2, self.n_max),
            ("max_tosses", self.max_tosses, 1, MAX_TOSSES),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"`{name}` must be a whole number in [{least}, {most}], got {value!r}")

    @property
    def committed(self) -> bool:
        """Whether devices first commit to nonces, for the seed of a ring."""
        return self.n_max > LARGEST_COMPLETE


def sign(key: SigningKey, tag: str, payload: bytes) -> bytes:
    """Sign a payload: the signature, 64 bytes."""
    return bytes.fromhex(key.sign(tag, payload))


def check_signature(public: str, tag: str, payload: bytes, signature: bytes) -> None:
    """Check a signature of 64 bytes.

    Raises:
        IntegrityError: it doesn't fit.
    """
    verify(public, tag, payload, signature.hex())


def commitment_to(nonce: bytes) -> bytes:
    """A device's commitment to its nonce, 32 bytes, which it sends before any nonce is revealed."""
    return hashlib.sha256(_NONCE + nonce).digest()


def commit_payload(context: bytes, toss: int, device: int, commitment: bytes) -> bytes:
    """What a device signs when it commits."""
    return context + _u16(toss) + _u32(device) + commitment


def advert_payload(context: bytes, toss: int, root: bytes, device: int, body: bytes) -> bytes:
    """What a device signs when it advertises: the cohort's root if there is one, and nonce, keys and SHA-256(b)."""
    return context + _u16(toss) + bytes([len(root)]) + root + _u32(device) + body


def members_payload(binding: bytes, u1: bytes) -> bytes:
    """What the server signs, and each device when it masks: who has shared (U1), one list for the whole cohort."""
    return binding + u1


def consistency_payload(binding: bytes, u1: bytes, survivors: bytes) -> bytes:
    """What a device signs before it opens anything: who has shared and who has survived."""
    return binding + u1 + survivors


def box_payload(binding: bytes, ends: tuple[int, int], place: tuple[int, int, int], key: bytes, body: bytes) -> bytes:
    """What the sender of a box signs: everything that is needed to judge it later.

    Args:
        binding: of the cohort.
        ends: sender and receiver.
        place: the share's slot, the number of shares, and how many of them give the secret.
        key: the receiver's share key, for which the box was made.
        body: the box itself.
    """
    return binding + _u32(ends[0]) + _u32(ends[1]) + b"".join(_u16(value) for value in place) + key + body


def receipt_payload(binding: bytes, root: bytes, accused: bytes) -> bytes:
    """What a device signs of the boxes it was handed: the root of their tree, and the bitmap of those that are none."""
    return binding + root + accused


def opening_payload(binding: bytes, receiver: int, secret: bytes) -> bytes:
    """What a device signs when it opens one of its boxes: for whom it was, and the private key it was made with."""
    return binding + _u32(receiver) + secret


def reveal_payload(binding: bytes, root: bytes) -> bytes:
    """What a device signs when it gives its shares: the root of their tree."""
    return binding + root


def share_commitment(share: bytes, salt: bytes) -> bytes:
    """A dealer's commitment to a share, 16 bytes. It exposes whoever deals or gives another share.

    The salt is 16 bytes that only dealer and holder know, so the commitment says nothing about the share. Whoever finds
    two shares of one commitment has dealt both; to find a second one of somebody else's takes 2^128 hashes.
    """
    return hashlib.sha256(_SHARE + salt + share).digest()[:16]


def cohort_root(context: bytes, toss: int, entries: bytes) -> bytes:
    """Hash that identifies a cohort, over its commitments, or without these its adverts, by rising id: 32 bytes."""
    return hashlib.sha256(_ROOT + context + _u16(toss) + entries).digest()


def ring_seed(context: bytes, root: bytes, nonces: Sequence[bytes]) -> bytes:
    """The seed of the ring: uniform if one nonce is, because all were committed to before any was shown, 32 bytes."""
    return hashlib.sha256(_SEED + context + root + b"".join(nonces)).digest()


def cohort_binding(context: bytes, toss: int, root: bytes, seed: bytes) -> bytes:
    """Prefix that ties later signatures to one cohort of one toss of one attempt, 98 bytes."""
    return context + _u16(toss) + root + seed


def pair_info(role: str, context: bytes, toss: int, lower: tuple[int, bytes], higher: tuple[int, bytes]) -> bytes:
    """The `info` of a key between two devices; (id, public key) of the lower id comes first, then of the higher."""
    ends = _u32(lower[0]) + _u32(higher[0]) + lower[1] + higher[1]
    return f"palate/secagg/{role}/1".encode() + b"\x00" + context + _u16(toss) + ends


def box_aad(context: bytes, root: bytes, sender: int, receiver: int) -> bytes:
    """Associated data of a sealed box: a box for another device, direction or cohort doesn't open."""
    return context + root + _u32(sender) + _u32(receiver)


def box_info(context: bytes, toss: int, ends: tuple[int, int], made_with: bytes, key: bytes) -> bytes:
    """The `info` of a box's key and salts: sender and receiver, the key it was made with, the receiver's share key."""
    return _SEAL + context + _u16(toss) + _u32(ends[0]) + _u32(ends[1]) + made_with + key


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
