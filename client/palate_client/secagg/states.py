"""Where a device stands in a masked attempt: each state holds what the next step needs, and nothing longer.

    Fresh -> Advertised -> Shared -> Masked -> Agreed -> Done

States never show what they hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate_common.secagg.agreement import KeyPair
from palate_common.secagg.cohort import Cohort, Members
from palate_common.secagg.messages import Advert, Flags


@dataclass(frozen=True, repr=False)
class Fresh:
    """Nothing said yet. `toss` is the last one, `nonce` and `commitment` the current one's where there is a ring."""

    toss: int = -1
    nonce: bytes = b""
    commitment: bytes = b""


@dataclass(frozen=True, repr=False)
class Advertised:
    """The keys are known to the server, and nothing that depends on behaviour."""

    toss: int
    nonce: bytes
    commitment: bytes
    root: bytes
    share_pair: KeyPair
    mask_pair: KeyPair
    self_mask: bytes
    advert: Advert


@dataclass(frozen=True, repr=False)
class Shared:
    """Shares are out: no way back to another toss."""

    toss: int
    cohort: Cohort
    me: int
    neighbours: Members
    mask_keys: tuple[bytes, ...]
    box_keys: tuple[bytes, ...]
    mask_pair: KeyPair
    self_mask: bytes


@dataclass(frozen=True, repr=False)
class MaskedSent:
    """The masked vector is out; what is left are the neighbours' shares."""

    toss: int
    cohort: Cohort
    me: int
    neighbours: Members
    u1: Flags
    shares: dict[int, bytes]


@dataclass(frozen=True, repr=False)
class Agreed:
    """One list of survivors is signed, and no other ever will be."""

    masked: MaskedSent
    toss: int
    survivors: Flags


@dataclass(frozen=True)
class Done:
    """The shares are out, or a complaint is, or making the vector failed: every secret is dropped."""

    toss: int


State = Fresh | Advertised | Shared | MaskedSent | Agreed | Done
