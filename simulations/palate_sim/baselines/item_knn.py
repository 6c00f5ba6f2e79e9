"""Item-kNN: scores an item by its cosine similarity to the user's items.

>>> train = Interactions.from_pairs([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], n_users=3, n_items=3)
>>> ItemKnn.fit(train, neighbours=1, shrinkage=0).scores(train.user(0)).round(3).tolist()
[[1.0, 1.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines.sparse import cooccurrences, matrix


@dataclass(frozen=True)
class ItemKnn:
    """Sums cosine similarity over the user's items; each item has only its nearest neighbours. Weights aren't used.

    Source: Deshpande and Karypis, Item-Based Top-N Recommendation Algorithms (ACM TOIS 2004).

    Attributes:
        likeness: scipy CSR, float32 [n_items, n_items]; row i holds what a user's item i adds to every score.
        settings: neighbours, shrinkage.
    """

    likeness: Any
    settings: Mapping[str, float]

    @classmethod
    def fit(cls, train: Interactions, *, neighbours: int = 50, shrinkage: float = 10.0) -> ItemKnn:
        """Compute the similarity of every pair of items.

        Args:
            train: the training interactions.
            neighbours: how many of the most similar items each candidate item keeps.
            shrinkage: added to the cosine's denominator, so that few common users count for little.

        Raises:
            InputError: a setting is out of range.
        """
        if neighbours < 1 or not (0 <= shrinkage < np.inf):
            raise InputError(
                f"`neighbours` must be at least 1 and `shrinkage` at least 0, got {neighbours} and {shrinkage}"
            )
        n_items, kept = train.n_items, min(neighbours, train.n_items)
        norms = np.sqrt(train.item_counts.astype(np.float32))
        parts = []
        for items, alike in cooccurrences(train):
            alike /= np.maximum(np.outer(norms[items], norms) + np.float32(shrinkage), np.float32(1e-12))
            alike[np.arange(len(alike)), np.arange(items.start, items.stop)] = 0
            near = np.argpartition(alike, n_items - kept, axis=1)[:, n_items - kept :]
            values = np.take_along_axis(alike, near, axis=1)
            row = np.broadcast_to(np.arange(len(near))[:, None], near.shape)
            cells = (row[values > 0], near[values > 0])
            parts.append(scipy.sparse.csr_matrix((values[values > 0], cells), shape=alike.shape))
        likeness = scipy.sparse.vstack(parts, format="csr", dtype=np.float32).T.tocsr()
        return cls(likeness, {"neighbours": neighbours, "shrinkage": shrinkage})

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """Sum the similarities, float32 [n_users, n_items]."""
        return np.asarray((matrix(foldin) @ self.likeness).toarray(), np.float32)
