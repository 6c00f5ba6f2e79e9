"""iALS: matrix factorisation of all user-item pairs by alternating least squares (`implicit`).

>>> train = Interactions.from_pairs([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], n_users=3, n_items=3)
>>> model = Ials.fit(train, embedding_size=2, regularization=0.1, seed=1)
>>> model.scores(train.user(0)).argmin(axis=1).tolist()
[2]
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines.sparse import matrix
from palate_sim.cores import one_blas_thread

with warnings.catch_warnings():
    # In a notebook without ipywidgets, implicit's import of a progress bar that is never shown warns of its absence.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from implicit.cpu.als import AlternatingLeastSquares  # type: ignore[import-untyped]  # ships no types


@dataclass(frozen=True)
class Ials:
    """Scores by the product of item factors and a user factor solved from the fold-in.

    A positive pair has the confidence `confidence` times its weight over the mean training weight; every other pair has
    confidence 1, as in Hu et al.
    Source: Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets (ICDM 2008); the effect of
    tuning: Rendle et al., Revisiting the Performance of iALS on Item Recommendation Benchmarks (RecSys 2022).

    Attributes:
        model: implicit's fitted model; its `item_factors` are float32 [n_items, embedding_size].
        mean_weight: of the training interactions.
        settings: embedding_size, confidence, regularization, sweeps.
    """

    model: Any
    mean_weight: float
    settings: Mapping[str, float]

    @classmethod
    def fit(
        cls,
        train: Interactions,
        *,
        embedding_size: int = 64,
        confidence: float = 10.0,
        regularization: float = 50.0,
        sweeps: int = 15,
        seed: int = 0,
        threads: int = 1,
    ) -> Ials:
        """Fit the factors by alternating least squares.

        Args:
            train: the training interactions, whose weights are used.
            embedding_size: length of a factor.
            confidence: confidence of a positive pair relative to an unobserved one.
            regularization: the ridge on every factor.
            sweeps: passes over users and items.
            seed: seed of the initial factors.
            threads: how many solve at once, with the same factors for any number.

        Raises:
            InputError: a setting is out of range.
        """
        if embedding_size < 1 or sweeps < 1:
            raise InputError(f"`embedding_size` and `sweeps` must be at least 1, got {embedding_size} and {sweeps}")
        if not (0 < confidence < np.inf and 0 < regularization < np.inf):
            raise InputError(
                f"`confidence` and `regularization` must be positive, got {confidence} and {regularization}"
            )
        mean_weight = float(train.weights.mean()) if train.nnz else 1.0
        with one_blas_thread():  # implicit calls BLAS from threads of its own
            model = AlternatingLeastSquares(
                factors=embedding_size,
                regularization=regularization,
                alpha=confidence,
                iterations=sweeps,
                num_threads=threads,
                random_state=seed,
            )
            model.fit(_relative(train, mean_weight), show_progress=False)
        settings = {
            "embedding_size": embedding_size,
            "confidence": confidence,
            "regularization": regularization,
            "sweeps": sweeps,
        }
        return cls(model, mean_weight, settings)

    def scores(self, foldin: Interactions) -> npt.NDArray[np.float32]:
        """Products of factors, float32 [n_users, n_items]; all 0 for a user without a fold-in."""
        with one_blas_thread():
            users = self.model.recalculate_user(np.arange(foldin.n_users), _relative(foldin, self.mean_weight))
        return np.asarray(users @ self.model.item_factors.T, np.float32)


def _relative(interactions: Interactions, mean_weight: float) -> Any:
    """The interactions with each weight divided by the mean weight."""
    weights = interactions.weights / np.float32(mean_weight)
    return matrix(replace(interactions, weights=weights), weighted=True)
