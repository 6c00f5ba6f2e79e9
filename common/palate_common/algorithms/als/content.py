"""Content: taste directions of `als` from public item features. They cost no privacy and count less with less noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.als.taste import TINY, centre, chance_direction, fix_signs
from palate_common.mechanism.update import Float64

CONTENT_POWER = 0.6
"""Content direction l has the weight (its singular value / the largest)^this."""
CONTENT_SCALE = 7.0
"""After k items, content directions are trusted (k / (k + this))^2: 0.02 after one item, half after 17."""
NEW_ITEM_RIDGE = 0.3
"""Ridge of the map from features to item vectors, in units of its mean eigenvalue."""


def content_state(
    popularity: Float64,
    features: npt.NDArray[np.floating[Any]],
    fold: float,
    released: Mapping[str, npt.NDArray[Any]],
    sources: Collection[slice],
) -> dict[str, npt.NDArray[Any]]:
    """What features add to the state of `als`: `content`, `content_widths` and `new_items`.

    Args:
        popularity: relative, noised, float64 [n_items].
        features: public, float [n_items, m].
        fold: the fold exponent.
        released: `head`, `basis` and `accuracy` of the state, empty before the first release of directions.
        sources: the columns of each source of features; each has directions of its own.
    """
    blocks = [content_directions(popularity, features[:, columns], fold) for columns in sources]
    content = np.concatenate(blocks, axis=1)
    if released:
        basis = released["basis"].astype(np.float64)
        content = uncovered_part(content, released["head"], basis, released["accuracy"].astype(np.float64) ** 2)
    level = float(popularity @ np.log(popularity) / popularity.sum())
    mean = (popularity / popularity.sum()) @ features
    rows = features - mean
    per_use = (popularity ** -(1 + fold))[:, None]
    known = np.concatenate([(np.log(popularity) - level)[:, None], per_use * content], axis=1)
    mapped = new_item_map(rows, popularity, known)
    if released:
        head = released["head"]
        taste = new_item_map(rows[head], popularity[head], per_use[head] * basis)
        mapped = np.concatenate([mapped, taste], axis=1)
    offset = -mean @ mapped
    offset[0] += level
    found: dict[str, npt.NDArray[Any]] = {"content": content, "new_items": np.concatenate([mapped, offset[None]])}
    widths = np.array([block.shape[1] for block in blocks], np.int32)
    return found if len(blocks) == 1 else found | {"content_widths": widths}


def content_directions(popularity: Float64, features: npt.NDArray[np.floating], fold: float) -> Float64:
    """Principal directions of features, weighted by use, orthogonal to the chance direction: float64 [n_items, c].

    Args:
        popularity: relative, noised, float64 [n_items].
        features: public, float [n_items, m].
        fold: the fold exponent.
    """
    chance = chance_direction(popularity, fold)
    rows = (popularity ** (1 + fold))[:, None] * centre(features.astype(np.float64), popularity)
    rows -= np.outer(chance, chance @ rows)
    energy, rotation = np.linalg.eigh(rows.T @ rows)
    kept = energy > max(1e-6 * energy[-1], TINY)
    singular = np.sqrt(energy[kept])
    directions: Float64 = rows @ rotation[:, kept] / singular
    if kept.any():
        directions *= (singular / singular[-1]) ** (CONTENT_POWER / 2)
    return fix_signs(directions)


def uncovered_part(content: Float64, head: npt.NDArray[np.int32], basis: Float64, cosine2: Float64) -> Float64:
    """The content directions without what the released ones cover, as far as these are accurate."""
    rest = content.copy()
    rest[head] -= basis @ (cosine2[:, None] * (basis.T @ content[head]))
    return rest


def content_trust(counts: Float64) -> Float64:
    """Trust in the content directions after `counts` items: float64 [n_users, 1]."""
    trust: Float64 = (counts[:, None] / (counts[:, None] + CONTENT_SCALE)) ** 2
    return trust


def new_item_map(features: npt.NDArray[np.floating], popularity: Float64, targets: Float64) -> Float64:
    """Ridge regression from features to item vectors, weighted by popularity: float64 [m, width].

    Args:
        features: of the items, centred, float [n, m].
        popularity: relative, float64 [n].
        targets: what to predict of an item, float64 [n, width].
    """
    weighted = popularity[:, None] * features
    gram = features.T @ weighted
    ridge = NEW_ITEM_RIDGE * max(float(np.trace(gram)) / len(gram), TINY)
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), weighted.T @ targets).astype(np.float64)
