"""Markov: what followed the user's last item in other people's histories.

The order is in the weights: of two items of a user the one with the larger weight came later.

>>> train = Interactions.from_pairs([0, 0, 1, 1], [0, 1, 0, 2], [1, 2, 1, 2], n_users=2, n_items=3)
>>> Markov.fit(train, shrinkage=0).scores(Interactions.from_pairs([0], [0], n_users=1, n_items=3)).tolist()
[[0.0, 0.5, 0.5]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.interactions import Interactions, Ints
from palate_core.errors import InputError


@dataclass(frozen=True)
class Markov:
    """Scores items by how often they came after the user's last one; of `steps` after it, the d-th counts 1/d.

    Source: Ludewig and Jannach, Evaluation of Session-based Recommendation Algorithms (UMUAI 2018), sections 3.1.2 and
    3.1.3: first-order Markov chains (one step), and sequential rules (several).

    Attributes:
        follows: scipy CSR, float32 [n_items, n_items]; row i holds what comes after item i.
        settings: steps, shrinkage.
    """

    follows: Any
    settings: Mapping[str, float]

    @classmethod
    def fit(cls, train: Interactions, *, steps: int = 1, shrinkage: float = 5.0) -> Markov:
        """Count what follows what.

        Args:
            train: the training interactions, in order by weight.
            steps: how many items after an item count.
            shrinkage: added to how often an item occurs, so that rare ones say little.

        Raises:
            InputError: a setting is out of range.
        """
        if steps < 1 or not (0 <= shrinkage < np.inf):
            raise InputError(f"`steps` must be at least 1 and `shrinkage` at least 0, got {steps} and {shrinkage}")
        items, owners = train.indices[in_order(train)], train.owners()
        follows = scipy.sparse.csr_matrix((train.n_items, train.n_items), dtype=np.float32)
        for step in range(1, steps + 1):
            same = owners[step:] == owners[:-step]
            pairs = items[:-step][same], items[step:][same]
            ones = np.full(len(pairs[0]), 1 / step, np.float32)
            follows += scipy.sparse.csr_matrix((ones, pairs), shape=follows.shape)
        known = 1 / np.maximum(train.item_counts + shrinkage, 1e-12)
        return cls(scipy.sparse.diags(known.astype(np.float32)) @ follows, {"steps": steps, "shrinkage": shrinkage})

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """What follows each user's last item, float32 [n_users, n_items]."""
        items, found = foldin.indices[in_order(foldin)], np.zeros((foldin.n_users, foldin.n_items), np.float32)
        some = np.flatnonzero(foldin.counts())
        found[some] = self.follows[items[foldin.indptr[1:][some] - 1]].toarray()
        return found


def in_order(histories: Interactions) -> Ints:
    """The places of the interactions, user after user, each user's by rising weight."""
    return np.lexsort((histories.weights, histories.owners()))
