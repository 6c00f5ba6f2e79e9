"""Hashes that somebody vouches for, and the first entry of a log that contradicts them.

A root, an entry and every hash of a proof stand for a stretch of the log. Those that fit clear their entries; of those
that don't, each has a bad entry in it. What is left is the first bad entry, or the few that it must be among.

    >>> from palate_common.records.merkle import MerkleTree
    >>> tree = MerkleTree([b"a", b"b", b"c"])
    >>> known = of_inclusion(b"b", 1, 3, tree.root(), tree.inclusion_proof(1, 3), by="the extract")
    >>> first_bad([b"a", b"b", b"x"], known), first_bad([b"a", b"b", b"c"], known)
    (range(2, 3), range(0, 0))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palate_common.records.merkle import MerkleTree, consistency_ranges, inclusion_ranges


@dataclass(frozen=True)
class Known:
    """The hash over the entries [start, end), and who says so."""

    start: int
    end: int
    hash: str
    by: str


def of_root(size: int, root: str, *, by: str) -> list[Known]:
    """What a checkpoint stands for."""
    return [Known(0, size, root, by)]


def of_inclusion(leaf: bytes, index: int, size: int, root: str, proof: Sequence[str], *, by: str) -> list[Known]:
    """What an entry with its inclusion proof stands for; the proof is verified elsewhere."""
    found = [Known(0, size, root, by), Known(index, index + 1, MerkleTree([leaf]).root(), by)]
    ranges = inclusion_ranges(index, size)
    return found + [Known(*place, node, by) for place, node in zip(ranges, proof, strict=False)]


def of_consistency(old: int, new: int, proof: Sequence[str], *, by: str) -> list[Known]:
    """What a consistency proof stands for; it is verified elsewhere."""
    return [Known(*place, node, by) for place, node in zip(consistency_ranges(old, new), proof, strict=False)]


def first_bad(leaves: Sequence[bytes], known: Iterable[Known]) -> range:
    """The entries among which the first bad one is; empty if every hash fits.

    Args:
        leaves: the log that is looked at, from its first entry.
        known: hashes that are trusted, also of entries that the log doesn't have.
    """
    tree, good, wrong = MerkleTree(leaves), set[int](), list[Known]()
    every = sorted(set(known), key=lambda node: node.end)
    for node in every:
        if node.end <= tree.size and tree.subtree(node.start, node.end) == node.hash:
            good.update(range(node.start, node.end))
        elif node.end <= tree.size:
            wrong.append(node)
    longest = max((node.end for node in every), default=0)
    if not wrong:
        return range(tree.size, tree.size + 1) if longest > tree.size else range(0)
    # The smallest stretch that ends first holds a bad entry; none before its first uncleared one is known to be.
    suspects = [at for at in range(wrong[0].end) if at not in good]
    return range(suspects[0], suspects[-1] + 1) if suspects else range(wrong[0].start, wrong[0].end)


def first_uncleared(leaves: Sequence[bytes], known: Iterable[Known]) -> int:
    """The first entry that no fitting hash vouches for."""
    tree, good = MerkleTree(leaves), set[int]()
    for node in known:
        if node.end <= tree.size and tree.subtree(node.start, node.end) == node.hash:
            good.update(range(node.start, node.end))
    return next(at for at in range(tree.size + 1) if at not in good)


def named(entries: range) -> str:
    """The entries of `first_bad` in words."""
    if len(entries) == 1:
        return f"entry {entries[0]}"
    return f"one of the entries {entries[0]} to {entries[-1]}"
