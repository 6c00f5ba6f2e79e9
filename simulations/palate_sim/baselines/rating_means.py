"""Rating means: what ratings are expected of a user and an item by means alone, which any model must beat.

>>> train = Interactions.from_pairs([0, 0, 1, 1], [0, 1, 0, 1], [5.0, 4.0, 2.0, 1.0], n_users=2, n_items=2)
>>> RatingMeans.fit(train).expected_ratings(train.user(0)).tolist()
[[3.0, 3.0]]
>>> RatingMeans.fit(train, users=True).expected_ratings(train).round(1).tolist()
[[4.4, 4.4], [1.6, 1.6]]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Interactions, segment_sum


@dataclass(frozen=True)
class RatingMeans:
    """The mean of all ratings, plus a user's bias, an item's, or both: without privacy.

    A bias is the mean of what is left of its ratings, moved towards 0 as if there were `ridge` more of them: how much
    ratings differ within a user or an item over how much users or items do, estimated by analysis of variance. Sources:
    Koren, Factorization Meets the Neighborhood (KDD 2008), section 2.1; Searle, Linear Models (1971), chapter 10.

    Attributes:
        mean: of all training ratings.
        items: float64 [n_items], the items' biases, 0 without.
        user_ridge: of the users' biases; infinity without.
        scale: the lowest and highest training rating, which no expected rating exceeds.
    """

    mean: float
    items: npt.NDArray[np.float64]
    user_ridge: float
    scale: tuple[float, float]

    @classmethod
    def fit(cls, train: Interactions, *, users: bool = False, items: bool = False) -> RatingMeans:
        """Compute the mean and the items' biases.

        Args:
            train: its weights are ratings.
            users: whether users have a bias, computed from their fold-in.
            items: whether items have one.
        """
        ratings = train.weights.astype(np.float64)
        scale = (float(ratings.min()), float(ratings.max())) if len(ratings) else (0.0, 0.0)
        mean = float(ratings.mean()) if len(ratings) else 0.0
        biases: npt.NDArray[np.float64] = np.zeros(train.n_items)
        left = ratings - mean
        if items:
            biases = _biases(left, train.indices, train.n_items, _ridge(left, train.indices))
            left -= biases[train.indices]
        return cls(mean, biases, _ridge(left, train.owners()) if users else np.inf, scale)

    def expected_ratings(self, foldin: Interactions) -> Floats:
        """What each user would rate each item, float64 [n_users, n_items]."""
        left = foldin.weights.astype(np.float64) - self.mean - self.items[foldin.indices]
        users = segment_sum(left, foldin.indptr) / (foldin.counts() + self.user_ridge)
        return np.asarray(np.clip(self.mean + users[:, None] + self.items, *self.scale), np.float64)


def _biases(
    left: npt.NDArray[np.float64], of: npt.NDArray[np.integer], size: int, ridge: float
) -> npt.NDArray[np.float64]:
    """The shrunken mean of each."""
    sums, counts = np.bincount(of, left, size), np.bincount(of, minlength=size)
    return np.asarray(sums / np.maximum(counts + ridge, 1e-12), np.float64)


def _ridge(left: npt.NDArray[np.float64], of: npt.NDArray[np.integer]) -> float:
    """Variance within the groups `of` over the variance between them; infinity where they don't differ."""
    counts, sums = np.bincount(of), np.bincount(of, left)
    sums, counts = sums[counts > 0], counts[counts > 0]
    n, groups = len(left), len(counts)
    if n <= groups or groups < 2:
        return np.inf
    explained = float((sums**2 / counts).sum() - left.sum() ** 2 / n)
    within = max(float((left**2).sum() - (sums**2 / counts).sum()), 0.0) / (n - groups)
    between = (explained - (groups - 1) * within) / (n - float((counts**2).sum()) / n)
    return within / between if between > 0 else np.inf
