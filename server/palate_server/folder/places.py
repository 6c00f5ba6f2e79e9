"""Places: at which of a server's SuperLinks each device's node is, from public numbers alone.

    node key -> MurmurHash2, as nginx's split_clients -> one of 1,000 slots -> rendezvous hash -> place of a SuperLink

The gateway, the enrolment and a restart find the same place without asking each other. One more SuperLink takes an
equal share from each of the others, and no node moves between two that stay; one fewer moves only its own.

A node's number has its place in it, so that the numbers of two SuperLinks never collide: what the SuperLink calls
`n` is `place * NODES + n` here. A device knows the SuperLink's number only. The first SuperLink has place 0, so that
the numbers of a server with only one are the SuperLink's own.

>>> number_at(1, 7) == NODES + 7, split(NODES + 7)
(True, (1, 7))
>>> [place_of_slot(number, 1) for number in (0, 1, 999)]
[0, 0, 0]
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from typing import Final

NODES: Final = 2**64
"""How many numbers a SuperLink has for its nodes."""
SLOTS: Final = 1000
"""Number of slots, each of which belongs to one SuperLink: a tenth of a per cent of all keys, at random."""
_WIDTH: Final = 0xFFFFFFFF * (10_000 // SLOTS) // 10_000  # as nginx rounds the bounds of its parts
_FACTOR, _SHIFT, _MASK = 0x5BD1E995, 24, 0xFFFFFFFF


def number_at(place: int, number: int) -> int:
    """A node's number in the register, from the number that the SuperLink of a place has given it."""
    return place * NODES + number


def split(node: int) -> tuple[int, int]:
    """The place of a node, and its number at the SuperLink there, from its number in the register."""
    return divmod(node, NODES)


def place_of(node_key: str, count: int) -> int:
    """The place of a node's SuperLink.

    Args:
        node_key: the node's public key, PEM, as its device sends it with each request.
        count: number of SuperLinks.
    """
    return 0 if count == 1 else place_of_header(b64encode(node_key.encode()), count)


def place_of_header(value: bytes, count: int) -> int:
    """The same, from the value of the header in which a device sends its key."""
    return place_of_slot(min(murmur(value) // _WIDTH, SLOTS - 1), count)


@cache
def place_of_slot(slot: int, count: int) -> int:
    """The place to which a slot belongs: rendezvous hashing (Thaler, Ravishankar 1998, "Using name-based mappings")."""

    def weight(place: int) -> bytes:
        return hashlib.sha256(f"palate/place/1 {slot} {place}".encode()).digest()

    return max(range(count), key=weight)


def murmur(data: bytes) -> int:
    """MurmurHash2 of 32 bits, seed 0 (Appleby 2008), by which nginx splits clients."""
    value, whole = len(data), len(data) & ~3
    for at in range(0, whole, 4):
        part = int.from_bytes(data[at : at + 4], "little") * _FACTOR & _MASK
        part = (part ^ part >> _SHIFT) * _FACTOR & _MASK
        value = value * _FACTOR & _MASK ^ part
    if data[whole:]:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _MASK
    value = (value ^ value >> 13) * _FACTOR & _MASK
    return value ^ value >> 15
