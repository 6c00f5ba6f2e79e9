import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate_core.errors import InputError, IntegrityError
from palate_core.log import merkle
from palate_core.log.merkle import Checkpoint, MerkleTree, verify_consistency, verify_inclusion

SIZES = range(41)
LEAVES = [bytes([size]) * size for size in range(41)]
TREE = MerkleTree(LEAVES)
# The leaves and roots of the test vectors that Certificate Transparency implementations share.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def definition(leaves: list[bytes]) -> bytes:
    """MTH as RFC 9162, section 2.1.1, defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + definition(leaves[:split]) + definition(leaves[split:])).digest()


def includes(leaf: bytes, index: int, at: Checkpoint, proof: tuple[str, ...] | list[str]) -> bool:
    try:
        verify_inclusion(leaf, index=index, size=at.size, root=at.root, proof=proof)
    except IntegrityError as error:
        return "\n" in str(error)
    return True


def extends(old: Checkpoint, new: Checkpoint, proof: tuple[str, ...] | list[str]) -> bool:
    try:
        verify_consistency(old_size=old.size, old_root=old.root, new_size=new.size, new_root=new.root, proof=proof)
    except IntegrityError as error:
        return "\n" in str(error)
    return True


def mutations(proof: tuple[str, ...]) -> list[list[str]]:
    """Every hash changed, dropped or doubled, neighbours swapped, one more at either end."""
    other, nodes = "00" * 32, list(proof)
    found = [[other, *nodes], [*nodes, other], nodes[::-1]]
    for at, node in enumerate(nodes):
        before, after = nodes[:at], nodes[at + 1 :]
        found += [[*before, f"{int(node, 16) ^ 1:064x}", *after], [*before, *after], [*before, node, node, *after]]
        found.append([*before, *nodes[at : at + 2][::-1], *after[1:]])
    return [mutated for mutated in found if mutated != nodes]


def test_roots_follow_the_definition() -> None:
    for size in SIZES:
        assert TREE.root(size) == definition(LEAVES[:size]).hex() == MerkleTree(LEAVES[:size]).root()
        assert TREE.checkpoint(size) == Checkpoint(size, TREE.root(size))


@pytest.mark.parametrize(("size", "root"), CT_ROOTS.items())
def test_known_roots(size: int, root: str) -> None:
    assert MerkleTree(bytes.fromhex(leaf) for leaf in CT_LEAVES[:size]).root() == root


def test_every_inclusion_proof_holds_for_its_leaf_and_place_only() -> None:
    for size in SIZES:
        at = TREE.checkpoint(size)
        for index in range(size):
            proof = TREE.inclusion_proof(index, size)
            assert includes(LEAVES[index], index, at, proof)
            assert not includes(LEAVES[index] + b"x", index, at, proof)
            for wrong in {*range(max(0, index - 2), index + 3), size, size + 1} - {index}:
                assert not includes(LEAVES[index], wrong, at, proof)
            assert not includes(LEAVES[index], index, Checkpoint(size, TREE.root(size - 1)), proof)


def test_every_consistency_proof_holds_for_its_sizes_only() -> None:
    for new in SIZES:
        for old in range(new + 1):
            proof = TREE.consistency_proof(old, new)
            assert extends(TREE.checkpoint(old), TREE.checkpoint(new), proof)
            if old < new:
                assert not extends(TREE.checkpoint(new), TREE.checkpoint(old), proof)
            if 0 < old < new:
                assert not extends(TREE.checkpoint(old), Checkpoint(new, TREE.root(new - 1)), proof)
                assert not extends(Checkpoint(old, TREE.root(old - 1)), TREE.checkpoint(new), proof)


def test_a_tree_of_another_height_is_refused() -> None:
    for size in SIZES[1:]:
        for wrong in (1 << size.bit_length()) * 2, max(1, size // 4):
            claimed = Checkpoint(wrong, TREE.root(size))
            for old in range(1, size):
                assert not extends(TREE.checkpoint(old), claimed, TREE.consistency_proof(old, size))
            for index in range(size if wrong != size else 0):
                assert not includes(LEAVES[index], index, claimed, TREE.inclusion_proof(index, size))


def test_mutated_proofs_fail() -> None:
    for size in SIZES:
        at = TREE.checkpoint(size)
        for index in range(size):
            for mutated in mutations(TREE.inclusion_proof(index, size)):
                assert not includes(LEAVES[index], index, at, mutated)
        for old in range(size):
            for mutated in mutations(TREE.consistency_proof(old, size)):
                assert not extends(TREE.checkpoint(old), at, mutated)


def test_a_log_with_a_changed_dropped_or_moved_leaf_is_no_extension() -> None:
    for size in range(2, 24):
        old = TREE.checkpoint(size - 1)
        for at in range(size - 1):
            changed = MerkleTree([*LEAVES[:at], b"other", *LEAVES[at + 1 : size]])
            dropped = MerkleTree([*LEAVES[:at], *LEAVES[at + 1 : size + 1]])
            moved = MerkleTree([*LEAVES[:at], LEAVES[at + 1], LEAVES[at], *LEAVES[at + 2 : size]])
            for fork in (changed, dropped, moved) if at < size - 2 else (changed, dropped):
                assert not extends(old, fork.checkpoint(), fork.consistency_proof(size - 1, fork.size))


def test_a_node_is_not_a_leaf() -> None:
    left, right = (hashlib.sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b"))
    tree = MerkleTree([b"a", b"b"])
    assert not includes(left + right, 0, Checkpoint(1, tree.root()), ())
    assert not includes(b"\x01" + left + right, 0, Checkpoint(1, tree.root()), ())


def test_sizes_beyond_the_tree_are_refused() -> None:
    tree = MerkleTree([b"a"])
    for call in (
        lambda: tree.root(2),
        lambda: tree.root(-1),
        lambda: tree.checkpoint(2),
        lambda: tree.inclusion_proof(0, 2),
        lambda: tree.inclusion_proof(1, 1),
        lambda: tree.inclusion_proof(-1, 1),
        lambda: tree.inclusion_proof(0, 0),
        lambda: tree.consistency_proof(0, 2),
        lambda: tree.consistency_proof(1, 0),
        lambda: tree.consistency_proof(-1, 1),
    ):
        with pytest.raises(InputError, match="must be from 0 to"):
            call()


@pytest.mark.parametrize("bad", [-1, True, 1.0, "1", None, 2**70])
def test_numbers_from_outside_are_checked(bad: object) -> None:
    root = TREE.root(1)
    with pytest.raises(IntegrityError):
        verify_inclusion(b"", index=bad, size=1, root=root, proof=())  # type: ignore[arg-type]  # from a wire
    if bad != 2**70:
        with pytest.raises(IntegrityError):
            verify_consistency(old_size=1, old_root=root, new_size=bad, new_root=root, proof=())  # type: ignore[arg-type]  # from a wire


@pytest.mark.parametrize("bad", ["", "ab", "AB" * 32, " " * 64, "ab" * 33, None, b"ab" * 32])
def test_hashes_from_outside_are_checked(bad: object) -> None:
    good = TREE.root(1)
    with pytest.raises(IntegrityError, match="64 lower-case"):
        verify_inclusion(b"", index=0, size=1, root=bad, proof=())  # type: ignore[arg-type]  # from a wire
    with pytest.raises(IntegrityError, match="64 lower-case"):
        verify_inclusion(b"", index=0, size=2, root=good, proof=[bad])  # type: ignore[list-item]  # from a wire
    with pytest.raises(IntegrityError, match="64 lower-case"):
        verify_consistency(old_size=1, old_root=good, new_size=2, new_root=good, proof=[bad])  # type: ignore[list-item]  # from a wire
    with pytest.raises(IntegrityError, match="64 lower-case"):
        verify_consistency(old_size=1, old_root=bad, new_size=1, new_root=good, proof=())  # type: ignore[arg-type]  # from a wire


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=300), st.data())
def test_proofs_between_any_sizes_hold(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    new = data.draw(st.integers(1, len(leaves)))
    old = data.draw(st.integers(0, new))
    index = data.draw(st.integers(0, new - 1))
    proof = tree.inclusion_proof(index, new)
    assert len(proof) <= (new - 1).bit_length()
    assert includes(leaves[index], index, tree.checkpoint(new), proof)
    assert extends(tree.checkpoint(old), tree.checkpoint(new), tree.consistency_proof(old, new))
    assert not extends(Checkpoint(0, tree.root(new)), tree.checkpoint(new), ()), "no leaf, another root"
    assert tree.root(new) == definition(leaves[:new]).hex()


@given(st.lists(st.binary(max_size=3), min_size=2, max_size=60), st.data())
def test_forks_are_found(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves) - 1))
    at = data.draw(st.integers(0, old - 1))
    fork = MerkleTree([*leaves[:at], leaves[at] + b"!", *leaves[at + 1 :]])
    seen = MerkleTree(leaves).checkpoint(old)
    assert not extends(seen, fork.checkpoint(), fork.consistency_proof(old, fork.size))


def test_appending_is_cheap() -> None:
    start = time.process_time()
    tree = MerkleTree(str(leaf).encode() for leaf in range(50_000))
    for size in range(1, 50_000, 100):
        tree.root(size)
        tree.inclusion_proof(size // 2, size)
        tree.consistency_proof(size // 3, size)
    assert time.process_time() - start < 5


def test_each_hash_of_a_proof_stands_for_the_leaves_it_says() -> None:
    for size in SIZES:
        for index in range(size):
            ranges = merkle.inclusion_ranges(index, size)
            assert [TREE.subtree(*place) for place in ranges] == list(TREE.inclusion_proof(index, size))
            assert sorted(at for start, end in ranges for at in range(start, end)) == [
                at for at in range(size) if at != index
            ]
        for old in range(size + 1):
            ranges = merkle.consistency_ranges(old, size)
            assert [definition(LEAVES[start:end]).hex() for start, end in ranges] == list(
                TREE.consistency_proof(old, size)
            )
    with pytest.raises(InputError):
        TREE.subtree(0, len(LEAVES) + 1)
