"""Fitting: fits the requested baselines on one split, with default or tuned settings.

>>> sorted(BASELINES)
['device_only', 'ease', 'ease_sparse', 'ials', 'item_knn', 'popularity']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from palate_common.interactions import Interactions
from palate_core.errors import InputError
from palate_sim.baselines.device_only import DeviceOnly, catalogue_features
from palate_sim.baselines.popularity import PopularityBaseline
from palate_sim.evaluation.blocks import cores
from palate_sim.evaluation.evaluation import CatalogueScorer, evaluate

if TYPE_CHECKING:
    import pandas as pd

    from palate_sim.preparation.splits import Split

CRITERION = "recall_capped@20"


class Baseline(CatalogueScorer, Protocol):
    """A fitted baseline."""

    @property
    def settings(self) -> Mapping[str, float]:
        """The settings it was fitted with, by name."""
        ...


@dataclass(frozen=True)
class _Context:
    """The data that a baseline may be fitted on."""

    train: Interactions
    items: pd.DataFrame | None
    ids: Sequence[str]
    seed: int


def _popularity(context: _Context, settings: Mapping[str, Any]) -> Baseline:
    return PopularityBaseline.fit(context.train, **settings)


def _item_knn(context: _Context, settings: Mapping[str, Any]) -> Baseline:
    from palate_sim.baselines.item_knn import ItemKnn

    return ItemKnn.fit(context.train, **settings)


def _ease(context: _Context, settings: Mapping[str, Any]) -> Baseline:
    from palate_sim.baselines.ease import Ease

    return Ease.fit(context.train, **settings)


def _ease_sparse(context: _Context, settings: Mapping[str, Any]) -> Baseline:
    from palate_sim.baselines.ease_sparse import SparseEase

    return SparseEase.fit(context.train, **settings)


def _ials(context: _Context, settings: Mapping[str, Any]) -> Baseline:
    from palate_sim.baselines.ials import Ials

    return Ials.fit(context.train, seed=context.seed, threads=cores(), **settings)


def _device_only(context: _Context, settings: Mapping[str, Any]) -> Baseline:
    features = None if context.items is None else catalogue_features(context.items, context.ids)
    return DeviceOnly.fit(context.train, features=features, **settings)


BASELINES: Mapping[str, Callable[[_Context, Mapping[str, Any]], Baseline]] = {
    "popularity": _popularity,
    "item_knn": _item_knn,
    "ease": _ease,
    "ease_sparse": _ease_sparse,
    "ials": _ials,
    "device_only": _device_only,
}

GRIDS: Mapping[str, tuple[Mapping[str, float | int], ...]] = {
    "item_knn": ({"neighbours": 20}, {"neighbours": 50}, {"neighbours": 100}),
    "ease": ({"regularization": 50.0}, {"regularization": 200.0}, {"regularization": 500.0}),
    "ease_sparse": ({"regularization": 50.0}, {"regularization": 200.0}, {"regularization": 500.0}),
    "ials": (
        {"confidence": 2.0, "regularization": 20.0},
        {"confidence": 5.0, "regularization": 20.0},
        {"confidence": 5.0, "regularization": 50.0},
        {"confidence": 10.0, "regularization": 50.0},
        {"confidence": 20.0, "regularization": 100.0},
    ),
}


def fit_baselines(
    names: Sequence[str],
    split: Split,
    *,
    seed: int,
    items: pd.DataFrame | None = None,
    tune: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Baseline]:
    """Fit baselines on a split's training users.

    Args:
        names: which, of `BASELINES`.
        split: the same split the private model trains on.
        seed: of initial factors, and of ties when settings are chosen.
        items: the public catalogue (item_id, title, genres), for `device_only`.
        tune: choose settings by `recall_capped@20` on the validation users, from a few candidates; each baseline's
            stated defaults are used otherwise, and where the split has no validation users.
        progress: called with (name, fits done, fits in all) after each fit.

    Returns:
        Fitted baselines by name, in the order asked for.

    Raises:
        InputError: an unknown name, or a catalogue too large for EASE.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise InputError(f"`baselines` must be among {', '.join(BASELINES)}, got {unknown[0]!r}")
    context = _Context(split.train, items, split.items, seed)
    candidates = {name: GRIDS.get(name, ({},)) if tune and split.validation is not None else ({},) for name in names}
    total, done = sum(map(len, candidates.values())), 0
    fitted: dict[str, Baseline] = {}
    for name, grid in candidates.items():
        best = -np.inf
        for settings in grid:
            model = BASELINES[name](context, settings)
            quality = 0.0 if len(grid) == 1 else _quality(model, split, seed)
            if quality > best:
                best, fitted[name] = quality, model
            done += 1
            if progress is not None:
                progress(name, done, total)
    return fitted


def _quality(model: Baseline, split: Split, seed: int) -> float:
    """The criterion of tuning, recall_capped@20, on the validation users."""
    if split.validation is None:
        return 0.0
    rng = np.random.default_rng(seed)
    return evaluate(model, split.validation, train=split.train, ks=(20,), rng=rng).mean(CRITERION)
