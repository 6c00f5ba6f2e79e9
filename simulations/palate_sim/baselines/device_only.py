"""Device-only: what a device can do alone, from its own history and the public catalogue.

It uses no other user's data: no popularity, no co-occurrence. The device separates its own items from the rest of the
catalogue by their public features, with Fisher's linear discriminant; without features it can only guess.

    >>> genres = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> train = Interactions.from_pairs([0], [0], n_users=1, n_items=3)
    >>> scores = DeviceOnly.fit(train, features=genres).scores(train)
    >>> bool(scores[0, 1] > scores[0, 2])
    True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Interactions, segment_sum
from palate_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


@dataclass(frozen=True)
class DeviceOnly:
    """Scores by public features alone. Weights aren't used, and neither are other users.

    The weights of features are solve(C + ridge, mean of the user's items - mean of the catalogue), with C the
    covariance of the catalogue's features: the direction that best separates the user's items from the rest.
    Source: Fisher, The Use of Multiple Measurements in Taxonomic Problems (Annals of Eugenics 1936).

    Attributes:
        features: float32 [n_items, n_features], centred on the catalogue.
        whitened: float32 [n_items, n_features], the same after solving with the covariance.
        settings: features (how many), ridge.
    """

    features: npt.NDArray[np.float32]
    whitened: npt.NDArray[np.float32]
    settings: Mapping[str, float]

    @classmethod
    def fit(cls, train: Interactions, *, features: Floats | None = None, ridge: float = 0.1) -> DeviceOnly:
        """Precompute the centred and whitened features of the catalogue.

        Args:
            train: only its number of items is read.
            features: public features [n_items, n_features]; without them every item scores 0, a random order.
            ridge: added to the covariance, as a part of its mean diagonal.

        Raises:
            InputError: features don't fit the catalogue or aren't finite.
        """
        given = np.zeros((train.n_items, 1)) if features is None else np.asarray(features, np.float64)
        if given.ndim != 2 or len(given) != train.n_items or not np.isfinite(given).all():
            raise InputError(f"`features` must be finite, one row for each of {train.n_items} items, got {given.shape}")
        centred = given - given.mean(axis=0)
        covariance = centred.T @ centred / max(len(given), 1)
        scale = max(float(np.trace(covariance)) / len(covariance), 1e-12)
        whitened = np.linalg.solve(covariance + ridge * scale * np.eye(len(covariance)), centred.T).T
        settings = {"features": 0 if features is None else centred.shape[1], "ridge": ridge}
        return cls(centred.astype(np.float32), whitened.astype(np.float32), settings)

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """Project every item onto the user's own direction, float32 [n_users, n_items]."""
        means = segment_sum(self.features[foldin.indices], foldin.indptr) / np.maximum(foldin.counts(), 1)[:, None]
        return np.asarray(means.astype(np.float32) @ self.whitened.T, np.float32)


def catalogue_features(items: pd.DataFrame, ids: Sequence[str]) -> npt.NDArray[np.float32] | None:
    """Public features of the catalogue: genres, and the decade where a title ends in a year, float32 [n_items, ...].

    Args:
        items: item_id, and title and genres (separated by |) where known.
        ids: the catalogue's item ids, in order; an item that `items` doesn't know has no features.

    Returns:
        One column a genre or decade, 1 or 0; None when there is none.
    """
    frame = items.drop_duplicates("item_id").set_index("item_id").reindex(list(ids))
    blocks = []
    if "genres" in frame:
        blocks.append(frame["genres"].fillna("").astype(str).str.get_dummies("|"))
    if "title" in frame:
        decade = frame["title"].astype(str).str.extract(r"\((\d{3})\d\)\s*$", expand=False).fillna("")
        blocks.append(decade.str.get_dummies())
    known = [block.drop(columns="", errors="ignore").to_numpy(np.float32) for block in blocks]
    return np.concatenate(known, axis=1) if sum(block.shape[1] for block in known) else None
