"""A Merkle tree over an append-only log (RFC 9162, section 2.1; SHA-256), and the proofs a reader checks.

The operator's ledger is such a log. A device holds only the last checkpoint it saw: an inclusion proof shows that the
charge of its round is in the log, a consistency proof that the log was only ever extended.

    >>> tree = MerkleTree([b"a", b"b", b"c"])
    >>> old, new = tree.checkpoint(2), tree.checkpoint()
    >>> verify_inclusion(b"c", index=2, size=3, root=new.root, proof=tree.inclusion_proof(2, 3))
    >>> verify_consistency(
    ...     old_size=2, old_root=old.root, new_size=3, new_root=new.root, proof=tree.consistency_proof(2, 3)
    ... )

Hashes are 64 lower-case hexadecimal digits wherever they leave this module.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palate_core.errors import InputError, IntegrityError

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EMPTY = hashlib.sha256(b"").digest()


@dataclass(frozen=True)
class Checkpoint:
    """The state of a log: how many leaves it has, and the root over them (hexadecimal)."""

    size: int
    root: str


class MerkleTree:
    """The tree over leaves that are only ever appended.

    Keeps every complete subtree's hash, so that an append costs O(1) hashes amortised and a root or proof of any
    earlier size O(log^2 n).
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add a leaf; returns its index."""
        node, height = _leaf_hash(leaf), 0
        while True:
            level = self._levels[height]
            level.append(node)
            if len(level) % 2:
                return self.size - 1
            node = _node_hash(level[-2], level[-1])
            height += 1
            if height == len(self._levels):
                self._levels.append([])

    def root(self, size: int | None = None) -> str:
        """The root over the first `size` leaves (all of them by default).

        Raises:
            InputError: the tree has fewer leaves.
        """
        return self._hash(0, self._known(size)).hex()

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """Size and root over the first `size` leaves (all of them by default).

        Raises:
            InputError: the tree has fewer leaves.
        """
        return Checkpoint(self._known(size), self.root(size))

    def inclusion_proof(self, index: int, size: int) -> tuple[str, ...]:
        """The audit path of leaf `index` in the tree over the first `size` leaves (RFC 9162, 2.1.3.1).

        Raises:
            InputError: `index` isn't below `size`, or the tree has fewer leaves.
        """
        if not 0 <= index < self._known(size):
            raise InputError(f"`index` must be from 0 to {size - 1}, got {index}")
        return tuple(self.subtree(start, end) for start, end in inclusion_ranges(index, size))

    def consistency_proof(self, old: int, new: int) -> tuple[str, ...]:
        """The proof that the first `new` leaves extend the first `old` (RFC 9162, 2.1.4.1); empty from size 0.

        Raises:
            InputError: `old` is above `new`, or the tree has fewer leaves.
        """
        if not 0 <= old <= self._known(new):
            raise InputError(f"`old` must be from 0 to {new}, got {old}")
        return tuple(self.subtree(start, end) for start, end in consistency_ranges(old, new))

    def subtree(self, start: int, end: int) -> str:
        """The hash over the leaves [start, end), a subtree that the RFC's splits can reach.

        Raises:
            InputError: the tree has fewer leaves.
        """
        self._known(end)
        return self._hash(start, end).hex()

    def _known(self, size: int | None) -> int:
        """Refuse a size that the tree hasn't reached; None stands for the present one."""
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise InputError(f"`size` must be from 0 to {self.size}, got {size}")
        return size

    def _hash(self, start: int, end: int) -> bytes:
        """Merkle tree hash of the leaves [start, end)."""
        count = end - start
        if count == 0:
            return _EMPTY
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            return self._levels[height][start >> height]
        middle = start + _split(count)
        return _node_hash(self._hash(start, middle), self._hash(middle, end))


def inclusion_ranges(index: int, size: int) -> tuple[tuple[int, int], ...]:
    """The leaves [start, end) under each hash of an inclusion proof, in the proof's order."""
    path: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return tuple(reversed(path))


def consistency_ranges(old: int, new: int) -> tuple[tuple[int, int], ...]:
    """The leaves [start, end) under each hash of a consistency proof, in the proof's order."""
    path: list[tuple[int, int]] = []
    start, end = 0, new
    while 0 < old < end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    if start:  # otherwise this subtree is the old tree itself, whose root the reader has
        path.append((start, end))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, *, index: int, size: int, root: str, proof: Sequence[str]) -> None:
    """Check that a leaf is in the log a checkpoint stands for (RFC 9162, 2.1.3.2).

    Args:
        leaf: the leaf's bytes.
        index: its place in the log.
        size: the checkpoint's number of leaves.
        root: the checkpoint's root, from a source the reader trusts.
        proof: what `MerkleTree.inclusion_proof(index, size)` gave.

    Raises:
        IntegrityError: the proof doesn't show it.
    """
    expected, path = _bytes(root), [_bytes(node) for node in proof]
    _natural(index, size)
    if index >= size:
        raise IntegrityError(f"the leaf must be in the log of size {size}, got index {index}")
    at, last, node = index, size - 1, _leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            raise IntegrityError("the inclusion proof must end at the root, got more hashes")
        if at & 1 or at == last:
            node = _node_hash(sibling, node)
            at, last = _up(at, last)
        else:
            node = _node_hash(node, sibling)
        at, last = at >> 1, last >> 1
    if last or node != expected:
        raise IntegrityError(f"the inclusion proof of leaf {index} must lead to the checkpoint's root, got another")


def verify_consistency(*, old_size: int, old_root: str, new_size: int, new_root: str, proof: Sequence[str]) -> None:
    """Check that a log was only extended between two checkpoints (RFC 9162, 2.1.4.2).

    Args:
        old_size: the earlier number of leaves.
        old_root: the earlier root; at size 0 that of the empty tree.
        new_size: the later number of leaves.
        new_root: the later root.
        proof: what `MerkleTree.consistency_proof(old_size, new_size)` gave.

    Raises:
        IntegrityError: the proof doesn't show it: a leaf was changed, dropped or moved, or the log is a fork.
    """
    old, new, path = _bytes(old_root), _bytes(new_root), [_bytes(node) for node in proof]
    _natural(old_size, new_size)
    fork = IntegrityError(f"the log of size {new_size} must extend the one of size {old_size}, got another log")
    if old_size == new_size or old_size == 0:
        wrong = (old_size == 0 and old != _EMPTY) or (old_size == new_size and old != new)
        if path or wrong:
            raise fork
        return
    if old_size > new_size or not path:
        raise fork
    if old_size & (old_size - 1) == 0:
        path.insert(0, old)
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise fork
        if at & 1 or at == last:
            before, after = _node_hash(sibling, before), _node_hash(sibling, after)
            at, last = _up(at, last)
        else:
            after = _node_hash(after, sibling)
        at, last = at >> 1, last >> 1
    if last or before != old or after != new:
        raise fork


def _up(at: int, last: int) -> tuple[int, int]:
    """Climb while the node is the lone left child that the RFC lifts to its parent's level."""
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at, last


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf; the prefix keeps it apart from a node."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _bytes(text: object) -> bytes:
    """Decode a hash from 64 lower-case hexadecimal digits."""
    if not isinstance(text, str) or not _HASH.fullmatch(text):
        raise IntegrityError(f"a hash must be 64 lower-case hexadecimal digits, got {text!r:.80}")
    return bytes.fromhex(text)


def _natural(*numbers: object) -> None:
    """Refuse sizes and indices that aren't whole numbers from 0."""
    for number in numbers:
        if type(number) is not int or number < 0:
            raise IntegrityError(f"a size or index of a log must be a whole number from 0, got {number!r:.80}")
