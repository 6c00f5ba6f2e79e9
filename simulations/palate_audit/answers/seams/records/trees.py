"""Trees: the Merkle tree of a log, its proofs, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.changes import altered
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_common.records import tiles
from palate_core.errors import IntegrityError
from palate_core.log import merkle
from palate_core.log.merkle import Checkpoint, MerkleTree


def _proofs(dice: Dice, answer: CaseAnswer, proof: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """A proof, and others that are like it."""
    other = dice.bytes(32).hex()
    at = dice.whole(0, max(0, len(proof) - 1))
    yield from (proof, proof[1:], proof[:-1], (*proof, other), (other, *proof), proof[::-1], ())
    yield from (
        (*proof[:at], other, *proof[at + 1 :]),
        (*proof[:at], *proof[at + 1 :]),
        (*proof[:at], *proof[at : at + 1], *proof[at:]),
    )
    yield tuple(each.upper() for each in proof)
    yield (*proof[:-1], dice.one_of((None, 5, b"", "", other[:-1], other + "0", other + "\n", "\u0660" * 64)))


def _merkle(dice: Dice, answer: CaseAnswer) -> None:
    """Roots and proofs of a log at sizes, and proofs that were changed."""
    size = dice.one_of((*range(71), *range(10), 127, 128, 129, 130))
    leaves = [dice.one_of((b"", b"same", b"\x01" * 32, b"%d" % place)) for place in range(size)]
    tree = MerkleTree(leaves[: size // 2])
    for leaf in leaves[size // 2 :]:
        answer.tell(tree.append(leaf), tree.size)
    answer.tell(tree.root())
    for _ in range(2):
        new, old = dice.whole(0, size), dice.whole(0, size)
        new, old = max(new, old), min(new, old)
        tell_result(answer, tree.checkpoint, dice.one_of((new, None, size, size + 1, -1)))
        tell_result(answer, tree.inclusion_proof, dice.one_of((-1, new, new - 1, old)), new)
        tell_result(answer, tree.consistency_proof, dice.one_of((new + 1, -1, old)), dice.one_of((new, size + 1)))
        tell_result(answer, tree.subtree, old, old)
        answer.tell(merkle.consistency_ranges(old, new))
        roots = tree.root(old), tree.root(new)
        proof = tree.consistency_proof(old, new)
        for each in _proofs(dice, answer, proof):
            tell_result(
                answer,
                merkle.verify_consistency,
                old_size=old,
                old_root=roots[0],
                new_size=new,
                new_root=roots[1],
                proof=each,
            )
        other = dice.one_of((dice.bytes(32).hex(), MerkleTree().root(), roots[1], roots[0].upper(), 7))
        for sizes, pair in (
            ((old, new), (other, roots[1])), ((old, new), (roots[0], other)), ((new, old), roots[::-1]),
            ((old + 1, new), roots),
            ((old, new + 1), roots), ((old - 1, new), roots), ((old, new - 1), roots),
            ((old, old), (roots[0], roots[0])),
            ((0, new), (MerkleTree().root(), roots[1])), ((0, new), roots), ((new, new), roots),
            ((dice.one_of((True, 1.0, "1", None, -1)), new), roots), ((old, dice.one_of((True, 2.0, -1))), roots),
        ):  # fmt: skip
            path = dice.one_of((proof, ()))
            tell_result(
                answer,
                merkle.verify_consistency,
                old_size=sizes[0],
                old_root=pair[0],
                new_size=sizes[1],
                new_root=pair[1],
                proof=path,
            )
        if not new:
            continue
        index = dice.one_of((0, new - 1, dice.whole(0, new - 1)))
        included = tree.inclusion_proof(index, new)
        for each in _proofs(dice, answer, included):
            tell_result(
                answer, merkle.verify_inclusion, leaves[index], index=index, size=new, root=roots[1], proof=each
            )
        for leaf, place, last, root in (
            (leaves[index] + b"x", index, new, roots[1]), (leaves[index], index + 1, new, roots[1]),
            (leaves[index], new, new, roots[1]),
            (leaves[index], index - 1, new, roots[1]), (leaves[index], index, new + 1, roots[1]),
            (leaves[index], index, new - 1, roots[1]),
            (leaves[index], index, new, other), (leaves[index], True, new, roots[1]),
            (leaves[index], index, float(new), roots[1]),
            (leaves[index], index, 2 * new, roots[1]),
        ):  # fmt: skip
            tell_result(answer, merkle.verify_inclusion, leaf, index=place, size=last, root=root, proof=included)


@cache
def long_tree() -> tuple[MerkleTree, tuple[bytes, ...]]:
    """A log that is longer than two files of it."""
    leaves = tuple(b"leaf %d" % (place * place) for place in range(600))
    return MerkleTree(leaves), leaves


def _tiles(dice: Dice, answer: CaseAnswer) -> None:
    """A log as files, whole and in parts, and what is read from files that were changed."""
    tree, leaves = long_tree()
    size = dice.one_of((0, 1, 2, 5, 100, 255, 256, 257, 258, 300, 511, 512, 513, 600))
    for index in (dice.whole(0, 10**7), dice.one_of((0, 7, 999, 1000, 1001, 999_999, 10**6, 1_234_067))):
        answer.tell(tiles.tile_path(dice.one_of(("entries", 0, 1, 2)), index, dice.one_of((1, 17, 255, 256))))
    long = dice.one_of((size, size, 65535, 65536, 65537, 70000, 2**17 + 1))
    answer.tell(list(tiles.tiles_of(long, dice.one_of((0, long, long - 1, long // 2, 256, 255)) % (long + 1))))
    there: dict[str, bytes] = {}
    for level, index, width in tiles.tiles_of(size):
        there[tiles.tile_path(level, index, width)] = tell_result(answer, tiles.tile, tree, level, index, width)
        if level == 0:
            whole = dice.chance(0.2) and (index + 1) * 256 <= 600
            width = 256 if whole else width
            there[tiles.tile_path("entries", index, width)] = tiles.pack_entries(
                leaves[index * 256 : index * 256 + width]
            )
    answer.tell(there)
    tell_result(answer, tiles.tile, tree, 0, 2, dice.one_of((88, 89)))
    changed = dice.one_of(sorted(there)) if there and dice.chance(0.5) else ""
    if changed:
        there[changed] = altered(dice, there[changed])

    def fetch(path: str, most: int) -> bytes:
        answer.tell(path, most)
        if path not in there or len(there[path]) > most:
            raise IntegrityError(f"`{path}`")
        return there[path]

    needed = 128 * size + sum(len(data) for path, data in there.items() if "entries" in path)
    now = Checkpoint(
        size, dice.one_of((tree.root(size), tree.root(size), tree.root(size), tree.root(max(0, size - 1))))
    )
    for most in (10**6, needed, needed - 1, 128 * size, 128 * size - 1):
        found = tell_result(CaseAnswer(), tiles.read_log, fetch, now, most=most)
        answer.tell(None if found is None else (len(found), found[-1:], found == leaves[:size]))
        tell_result(answer, tiles.read_log, fetch, now, most=most) if size < 3 or most < needed else None
    levels: tuple[tiles.Level, ...] = ("entries", 0)
    tell_result(
        answer,
        tiles.fetch_tile,
        fetch,
        dice.one_of(levels),
        size // 256,
        dice.one_of((size % 256 or 256, 256)),
        each=32,
        most=dice.one_of((10**6, 32, 256 * 32 - 1)),
    )
    entries = [dice.bytes(dice.one_of((0, 1, 255, 256, 300))) for _ in range(dice.whole(0, 4))]
    packed = tiles.pack_entries(entries)
    for data in (packed, altered(dice, packed), packed + b"\0", packed[:-1], b"\0", b""):
        for count in (len(entries), len(entries) + 1, len(entries) - 1):
            tell_result(answer, tiles.read_entries, data, count)
    if dice.chance(0.3):
        for over in (0, 1):
            tell_result(answer, tiles.pack_entries, [b"", bytes(2**16 - 1 + over)])


SEAMS = (
    Seam("Merkle trees: roots and proofs at every size", _merkle, 36),
    Seam("tiles: logs as files", _tiles, 18),
)
