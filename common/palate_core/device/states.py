"""States of a device in a masked attempt: each has only what the next steps need.

    Fresh -> Advertised -> Shared -> Checked -> MaskedSent -> Agreed -> Done

A state's `repr` doesn't show its secrets.
"""

from __future__ import annotations

from dataclasses import dataclass

from palate_core.device.checks import Latched
from palate_core.masks.agreement import KeyPair
from palate_core.masks.boxes import Dealt
from palate_core.masks.messages import Advert, Flags
from palate_core.masks.ring_cohort import Cohort, Members


@dataclass(frozen=True, repr=False)
class UnshownNonce:
    """A nonce that was drawn for one toss, and that nobody was shown. Once it is shown it is plain bytes."""

    value: bytes
    commitment: bytes


@dataclass(frozen=True, repr=False)
class Fresh:
    """At most a commitment was sent. `toss` is the last one, with its `nonce` if there is a ring."""

    toss: int
    nonce: UnshownNonce | None


@dataclass(frozen=True, repr=False)
class Advertised:
    """The public keys were sent; nothing that depends on behaviour was."""

    toss: int
    nonce: bytes
    commitment: bytes
    root: bytes
    share_pair: KeyPair
    mask_pair: KeyPair
    self_mask: bytes
    advert: Advert


@dataclass(frozen=True, repr=False)
class _Dealt:
    """From the shares to the masked vector. `boxes` are as they were sent, `made_with` their own keys."""

    toss: int
    cohort: Cohort
    me: int
    neighbours: Members
    share_keys: tuple[bytes, ...]
    mask_keys: tuple[bytes, ...]
    boxes: tuple[bytes, ...]
    made_with: tuple[KeyPair, ...]
    mask_pair: KeyPair
    self_mask: bytes


@dataclass(frozen=True, repr=False)
class Shared(_Dealt):
    """The shares were sent: no other toss can follow."""

    share_pair: KeyPair


@dataclass(frozen=True, repr=False)
class Checked(_Dealt):
    """The neighbours' boxes were opened, and a receipt for them was sent.

    `shares` are those of good boxes, by slot. Once complaints were `answered`, which happens once, `boxes` and
    `made_with` are empty.
    """

    shares: dict[int, Dealt]
    answered: bytes


@dataclass(frozen=True, repr=False)
class MaskedSent:
    """The masked vector was sent, with U1 signed; the neighbours' shares are left."""

    toss: int
    cohort: Cohort
    me: int
    neighbours: Members
    u1: Flags
    shares: dict[int, Dealt]


@dataclass(frozen=True, repr=False)
class Agreed:
    """One list of survivors is signed; no other one ever will be. `signed` is it together with U1."""

    masked: MaskedSent
    toss: int
    survivors: Flags
    signed: Latched


@dataclass(frozen=True)
class Done:
    """Shares were sent, or computing the vector failed: all secrets are dropped."""

    toss: int


State = Fresh | Advertised | Shared | Checked | MaskedSent | Agreed | Done
