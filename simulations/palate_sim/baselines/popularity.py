"""Popularity: every user gets the items that most training users have, the least that any other model must beat.

>>> train = Interactions.from_pairs([0, 1, 1], [2, 2, 0], n_users=2, n_items=3)
>>> PopularityBaseline.fit(train).scores(train.user(0)).tolist()
[[1.0, 0.0, 2.0]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions


@dataclass(frozen=True)
class PopularityBaseline:
    """Ranks items by their exact user counts, without privacy. Weights aren't used.

    Attributes:
        counts: float64 [n_items], training users who have the item.
        settings: empty.
    """

    counts: npt.NDArray[np.float64]
    settings: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, train: Interactions) -> PopularityBaseline:
        """Count each item's users."""
        return cls(train.item_counts.astype(np.float64))

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float64]:
        """The same counts for every user, float64 [n_users, n_items]."""
        return np.broadcast_to(self.counts, (foldin.n_users, len(self.counts)))
