"""Logs: a ledger of made-up entries with the keys of its operator, and small models that it shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate_audit.answers.dice import Dice
from palate_common.algorithms import PublicFacts
from palate_common.models.manifest import Publication
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.models.published import Contents
from palate_core.log.consistency import Shown
from palate_core.log.entries import Entry, PublishEntry
from palate_core.log.handovers import make_handover
from palate_core.log.merkle import MerkleTree
from palate_core.log.signing import SigningKey

POPULATION = "readers"


class MadeLog:
    """A ledger of made-up entries, and the keys of its operator."""

    def __init__(self) -> None:
        self.keys = [SigningKey.generate()]
        self.tree = MerkleTree()
        self.handed = list[Entry]()
        self.grow(2)

    @property
    def key(self) -> SigningKey:
        """The release key now."""
        return self.keys[-1]

    def grow(self, n: int) -> None:
        """So many entries more."""
        for _ in range(n):
            self.tree.append(b"entry %d" % self.tree.size)

    def hand_over(self) -> None:
        """The release key changes."""
        new = SigningKey.generate()
        entry = make_handover(POPULATION, self.tree.size, self.key, new)
        self.tree.append(entry.leaf())
        self.handed.append(entry)
        self.keys.append(new)

    def shown(self, size: int | None = None) -> Shown:
        """The state of a size, with proofs from all before it."""
        size = self.tree.size if size is None else size
        handed = [each for each in self.handed if each.seq < size]
        return Shown.of(self.tree, size, since=range(1, size), handovers=handed)

    def said(self, **more: Any) -> dict[str, Any]:
        """What a manifest says that names no files."""
        return {"population": POPULATION, "algorithm": "popularity", "releases": 1, "catalogue": "ab" * 32, "items": 3,
                "model_hash": "cd" * 32, "files": {}, "public_key": self.key.public, **more}  # fmt: skip

    def recorded(self, contents: Contents, **changes: Any) -> tuple[Shown, Publication]:
        """Write an entry about what is published; the state with it, and the proof."""
        facts: dict[str, Any] = {"model_hash": contents.said["model_hash"], "manifest": contents.hash, **changes}
        entry = PublishEntry(seq=self.tree.size, **facts)
        self.tree.append(entry.leaf())
        proof = self.tree.inclusion_proof(entry.seq, self.tree.size)
        return self.shown(), Publication(entry=entry.body, inclusion=proof)


def model_of(
    state: dict[str, Any], items: tuple[str, ...], algorithm: str = "popularity", releases: int = 2
) -> GlobalModel:
    """A model with this state."""
    facts = PublicFacts(n_users=9, n_items=len(items), mu=1.5, seed=4)
    header = ModelHeader(
        algorithm=algorithm, settings={}, facts=facts, releases=releases, catalogue=catalogue_hash(items)
    )
    return GlobalModel(header, state)


def floats(dice: Dice, *shape: int) -> Any:
    """Small numbers, some of them equal, and some columns of zeros."""
    found = (dice.wholes(-40, 40, int(np.prod(shape))).reshape(shape) / 8).astype(np.float32)
    if found.ndim == 2 and dice.chance(0.3) and found.shape[1]:
        found[:, dice.whole(0, found.shape[1] - 1)] = 0
    return found
