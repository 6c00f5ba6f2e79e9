"""merkle.json: a log of seven leaves: its root at every size, inclusion proofs and consistency proofs."""

from __future__ import annotations

from typing import Any

from palate_core.log.canonical import canonical_json
from palate_core.log.merkle import MerkleTree


def merkle() -> dict[str, Any]:
    """A log of seven leaves: its root at every size, inclusion proofs and consistency proofs."""
    leaves = [canonical_json({"seq": seq}) for seq in range(7)]
    tree = MerkleTree(leaves)
    inclusion = [(index, size) for size in (1, 4, 7) for index in range(size)]
    consistency = [(old, new) for new in (4, 7) for old in range(1, new + 1)]
    return {
        "leaves": [leaf.decode() for leaf in leaves],
        "roots": {str(size): tree.root(size) for size in range(8)},
        "inclusion": [
            {"index": index, "size": size, "proof": list(tree.inclusion_proof(index, size))}
            for index, size in inclusion
        ],
        "consistency": [
            {"old": old, "new": new, "proof": list(tree.consistency_proof(old, new))} for old, new in consistency
        ],
    }
