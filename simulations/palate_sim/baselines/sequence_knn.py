"""Sequential kNN: what people have who have what the user had last.

The order is in the weights: of two items of a user the one with the larger weight came later.

>>> train = Interactions.from_pairs([0, 0, 1, 1], [0, 2, 1, 3], n_users=2, n_items=4)
>>> user = Interactions.from_pairs([0, 0], [0, 1], [1, 2], n_users=1, n_items=4)
>>> SequenceKnn.fit(train).scores(user)[0].round(3)
array([0.354, 0.707, 0.354, 0.707], dtype=float32)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines.markov import in_order
from palate_sim.baselines.sparse import matrix

AT_ONCE = 256
"""Users who are compared with all others at once."""


@dataclass(frozen=True)
class SequenceKnn:
    """Sums the items of the nearest training users, by how near they are; the r-th last item of a user counts 1/r.

    Source: Ludewig and Jannach, Evaluation of Session-based Recommendation Algorithms (UMUAI 2018): V-SKNN.

    Attributes:
        others: scipy CSR, float32 [n_training_users, n_items], of ones.
        lengths: the root of the number of items of each.
        settings: neighbours.
    """

    others: Any
    lengths: npt.NDArray[np.float32]
    settings: Mapping[str, float]

    @classmethod
    def fit(cls, train: Interactions, *, neighbours: int = 100) -> SequenceKnn:
        """Keep the training users.

        Args:
            train: the training interactions.
            neighbours: how many of the nearest count.

        Raises:
            InputError: there must be one at least.
        """
        if neighbours < 1:
            raise InputError(f"`neighbours` must be at least 1, got {neighbours}")
        lengths = np.sqrt(np.maximum(train.counts(), 1)).astype(np.float32)
        return cls(matrix(train), lengths, {"neighbours": neighbours})

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """Sum the neighbours' items, float32 [n_users, n_items]."""
        order = in_order(foldin)
        ranks = np.repeat(foldin.indptr[1:], foldin.counts()) - np.arange(foldin.nnz)
        weights = np.zeros(foldin.nnz, np.float32)
        weights[order] = 1 / ranks
        recent = Interactions(foldin.indptr, foldin.indices, weights, foldin.n_items)
        found = np.zeros((foldin.n_users, foldin.n_items), np.float32)
        n, kept = len(self.lengths), min(int(self.settings["neighbours"]), len(self.lengths))
        for first in range(0, foldin.n_users, AT_ONCE):
            some = slice(first, first + AT_ONCE)
            near = (matrix(recent.users(some), weighted=True) @ self.others.T).toarray() / self.lengths
            far = np.argpartition(near, n - kept, axis=1)[:, : n - kept]
            np.put_along_axis(near, far, 0, axis=1)
            found[some] = near @ self.others
        return found
