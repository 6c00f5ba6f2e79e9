"""Graphs: which members are neighbours. Members are positions in the sorted cohort, 0 to n - 1.

    >>> ring = Ring.from_seed(bytes(32), 10)
    >>> ring.order.tolist()
    [5, 4, 6, 8, 1, 0, 3, 7, 2, 9]
    >>> ring.neighbours(1, 4).tolist()
    [6, 8, 0, 3]
    >>> Complete(4).neighbours(2, 3).tolist()
    [0, 1, 3]

A ring is a uniform permutation of the members that nobody could choose: its seed is a hash over nonces that all members
had committed to (Bell et al., CCS 2020, section 3, use a random graph instead). Each member is joined to the k/2
members on each side. For other implementations: the seed is an AES-256 key; the keystream of counter mode from zero is
read as little-endian 64-bit words; member i takes word i, and members are sorted by their words, rising. If two words
are equal, all are dropped and the next n are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from palate_core.errors import InputError

Members = npt.NDArray[np.int64]

_SEED_BYTES = 32


@dataclass(frozen=True, eq=False)
class Ring:
    """Members on a circle, each joined to the nearest ones on both sides.

    **Guarantees:** uniform: over uniform seeds every order of the members is equally likely.
    **Guarantees:** same seed same ring: the order is a function of seed and n, on every machine.
    **Guarantees:** symmetric: if a is a neighbour of b, b is a neighbour of a.

    Attributes:
        order: the member at each position, int64 [n].
        position: the position of each member, int64 [n].
    """

    order: Members
    position: Members

    @classmethod
    def from_seed(cls, seed: bytes, n: int) -> Ring:
        """The ring of a seed.

        Args:
            seed: 32 bytes, used for nothing else.
            n: members, at least 3.

        Raises:
            InputError: another length, or fewer members.
        """
        if len(seed) != _SEED_BYTES:
            raise InputError(f"`seed` must be {_SEED_BYTES} bytes, got {len(seed)}")
        _check_members(n)
        keystream = Cipher(AES(seed), CTR(bytes(16))).encryptor()
        order = _sorted_draw(lambda: np.frombuffer(keystream.update(bytes(8 * n)), "<u8"))
        position = np.empty(n, np.int64)
        position[order] = np.arange(n)
        return cls(order, position)

    def __len__(self) -> int:
        return len(self.order)

    def neighbours(self, member: int, k: int) -> Members:
        """A member's neighbours, int64 [k], by their offset in the ring: -k/2..-1, then 1..k/2."""
        _check_member(member, len(self))
        near: Members = self.order[(self.position[member] + self._offsets(k)) % len(self)]
        return near

    def table(self, k: int) -> npt.NDArray[np.int32]:
        """All members' neighbours, int32 [n, k]."""
        near: Members = self.order[(self.position[:, None] + self._offsets(k)) % len(self)]
        return near.astype(np.int32)

    def gaps(self, alive: npt.NDArray[np.bool_], window: int, limit: int) -> bool:
        """Whether any `window` consecutive positions on the circle have `limit` members or more that aren't alive.

        Args:
            alive: bool [n], by member.
            window: positions, 1 to n.
            limit: members.

        Raises:
            InputError: another shape or type, or a window out of range.
        """
        n = len(self)
        if alive.dtype != np.bool_ or alive.shape != (n,):
            raise InputError(f"`alive` must be bool [{n}], got {alive.dtype} {list(alive.shape)}")
        if not 1 <= window <= n:
            raise InputError(f"`window` must be 1 to {n}, got {window}")
        missing = ~alive[self.order]
        sums = np.cumsum(np.concatenate([[0], missing, missing[: window - 1]]))
        return bool((sums[window:] - sums[:-window] >= limit).any())

    def _offsets(self, k: int) -> Members:
        """The neighbours' distances along the ring."""
        if isinstance(k, bool) or not isinstance(k, int) or k % 2 or not 2 <= k < len(self):
            raise InputError(f"`k` must be an even number from 2 to {len(self) - 1}, got {k!r}")
        return np.concatenate([np.arange(-k // 2, 0), np.arange(1, k // 2 + 1)])


@dataclass(frozen=True)
class Complete:
    """The complete graph: all members are neighbours of each other.

    Attributes:
        n: members, at least 3.
    """

    n: int

    def __post_init__(self) -> None:
        _check_members(self.n)

    def neighbours(self, member: int, k: int) -> Members:
        """All the others in rising order, int64 [k], where k is n - 1."""
        _check_member(member, self.n)
        self._check_degree(k)
        others = np.arange(k, dtype=np.int64)
        others[member:] += 1
        return others

    def table(self, k: int) -> npt.NDArray[np.int32]:
        """All members' neighbours, int32 [n, k]."""
        self._check_degree(k)
        others = np.arange(k, dtype=np.int32)
        return others + (others >= np.arange(self.n, dtype=np.int32)[:, None])

    def _check_degree(self, k: int) -> None:
        """Refuse a number of neighbours other than n - 1."""
        if k != self.n - 1:
            raise InputError(f"`k` must be {self.n - 1} in a complete graph, got {k!r}")


def _sorted_draw(draw: Callable[[], npt.NDArray[np.uint64]]) -> Members:
    """Members sorted by random words, drawn again while two are equal, so that every order is equally likely."""
    while True:
        words = draw()
        order = np.argsort(words, kind="stable")
        if (np.diff(words[order]) != 0).all():
            return order.astype(np.int64)


def _check_members(n: int) -> None:
    """Refuse fewer than three members, whose sum would hide nobody."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 3:
        raise InputError(f"`n` must be a whole number of at least 3, got {n!r}")


def _check_member(member: int, n: int) -> None:
    """Refuse members out of range: numpy would read negative ones from the end."""
    if not 0 <= member < n:
        raise InputError(f"`member` must be 0 to {n - 1}, got {member}")
