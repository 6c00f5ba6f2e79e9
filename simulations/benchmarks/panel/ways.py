"""Ways: panels not drawn at random: the most active users, or users of one taste, in the place of volunteers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse.linalg  # type: ignore[import-untyped]  # scipy ships no types

from palate_common.interactions import Interactions, row_squares
from palate_sim.baselines.sparse import matrix
from palate_sim.panel.panel import DRAW, choose

TASTES = 16
"""Directions by which tastes are compared, beside popularity."""


def drawn(train: Interactions, share: float, way: str, *, seed: int) -> npt.NDArray[np.int64]:
    """The rows of the users of a panel, rising: `random`, by `activity`, or of one `taste`."""
    if way == "random":
        return choose(train, share, seed=seed)
    rng, size = np.random.default_rng([seed, DRAW]), max(1, round(share * train.n_users))
    if way == "activity":
        rows = np.lexsort((rng.random(train.n_users), -train.counts()))[:size]
    else:
        rows = _of_one_taste(train, size, rng)
    return np.sort(rows).astype(np.int64)


def _of_one_taste(train: Interactions, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Users whose histories are nearest to one user's: a cluster, found as k-means finds one of its own."""
    wide = min(TASTES + 1, train.n_users - 1, train.n_items - 1)
    tastes = rng.normal(size=(train.n_users, 1))
    if wide > 1:
        counts = np.maximum(train.item_counts, 1)
        scaled = scipy.sparse.diags(1 / np.sqrt(np.maximum(train.counts(), 1))) @ matrix(train)
        scaled = scaled @ scipy.sparse.diags(1 / np.sqrt(counts))
        left, values, _ = scipy.sparse.linalg.svds(scaled, k=wide, v0=rng.random(min(train.n_users, train.n_items)))
        tastes = (left * values)[:, np.argsort(-values)][:, 1:]  # the first is popularity
    tastes = tastes / np.maximum(np.sqrt(row_squares(tastes)), 1e-12)[:, None]
    centre = tastes[rng.integers(train.n_users)]
    nearest = np.argsort(-(tastes @ centre), kind="stable")[:size]
    for _ in range(5):
        nearest = np.argsort(-(tastes @ tastes[nearest].mean(axis=0)), kind="stable")[:size]
    return nearest
