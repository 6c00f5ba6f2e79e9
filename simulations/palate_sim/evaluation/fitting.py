"""Fitting: fits the requested baselines on one split, with their stated defaults.

>>> BASELINES
('popularity', 'item_knn', 'ease', 'ease_sparse', 'ials', 'device_only')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from palate_core.errors import InputError
from palate_sim.baselines.device_only import DeviceOnly, catalogue_features
from palate_sim.baselines.popularity import PopularityBaseline
from palate_sim.evaluation.blocks import cores
from palate_sim.evaluation.evaluation import CatalogueScorer

if TYPE_CHECKING:
    import pandas as pd

    from palate_sim.preparation.splits import Split

BASELINES = ("popularity", "item_knn", "ease", "ease_sparse", "ials", "device_only")


class Baseline(CatalogueScorer, Protocol):
    """A fitted baseline."""

    @property
    def settings(self) -> Mapping[str, float]:
        """The settings it was fitted with, by name."""
        ...


def fit_baselines(
    names: Sequence[str], split: Split, *, seed: int, items: pd.DataFrame | None = None
) -> dict[str, Baseline]:
    """Fit baselines on a split's training users.

    Args:
        names: which, of `BASELINES`.
        split: the same split the private model trains on.
        seed: of initial factors.
        items: the public catalogue (item_id, title, genres), for `device_only`.

    Returns:
        Fitted baselines by name, in the order asked for.

    Raises:
        InputError: an unknown name, or a catalogue too large for EASE.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise InputError(f"`baselines` must be among {', '.join(BASELINES)}, got {unknown[0]!r}")
    return {name: _fit(name, split, seed, items) for name in names}


def _fit(name: str, split: Split, seed: int, items: pd.DataFrame | None) -> Baseline:
    """Fit one; those that load more are imported when they are asked for."""
    match name:
        case "item_knn":
            from palate_sim.baselines.item_knn import ItemKnn

            return ItemKnn.fit(split.train)
        case "ease":
            from palate_sim.baselines.ease import Ease

            return Ease.fit(split.train)
        case "ease_sparse":
            from palate_sim.baselines.ease_sparse import SparseEase

            return SparseEase.fit(split.train)
        case "ials":
            from palate_sim.baselines.ials import Ials

            return Ials.fit(split.train, seed=seed, threads=cores())
        case "device_only":
            return DeviceOnly.fit(
                split.train, features=None if items is None else catalogue_features(items, split.items)
            )
    return PopularityBaseline.fit(split.train)
