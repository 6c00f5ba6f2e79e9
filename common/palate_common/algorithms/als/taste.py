"""Taste: relative popularity, taste directions, and the weight of each direction for a history; part of `als`.

All of it is linear algebra on public arrays. Popularity is relative: the head's mean is 1. In a history an item has
the weight popularity^fold, so histories drawn at random by popularity lie along popularity^(1 + fold), the chance
direction. It is removed from every other direction: a history's part along it tells how much, not what, its user likes.
"""

from __future__ import annotations

import numpy as np

from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64

TINY = 1e-12


def relative_popularity(counts: Float64, floor: float, head_items: int) -> Float64:
    """Noised counts raised to the floor, relative to the mean of the `head_items` largest: float64 [n_items]."""
    floored = np.maximum(counts, floor)
    relative: Float64 = floored / np.sort(floored)[-head_items:].mean()
    return relative


def chance_direction(popularity: Float64, fold: float) -> Float64:
    """Unit vector along which a history drawn at random by popularity lies, float64 [n]."""
    direction = popularity ** (1 + fold)
    unit: Float64 = direction / np.linalg.norm(direction)
    return unit


def centre(table: Float64, popularity: Float64) -> Float64:
    """The table minus its mean under popularity."""
    rest: Float64 = table - (popularity / popularity.sum()) @ table
    return rest


def fix_signs(directions: Float64) -> Float64:
    """The directions with signs such that the largest entry of each is positive.

    Singular vectors are unique only up to sign, and equal sums must give equal models.
    """
    if not directions.size:
        return directions
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    turned: Float64 = directions * np.where(largest < 0, -1.0, 1.0)
    return turned


def directions(products: Float64, popularity: Float64, fold: float, size: int) -> tuple[Float64, Float64]:
    """Left singular vectors [h, size] and values [size] of the products without the chance direction."""
    chance = chance_direction(popularity, fold)
    scaled = (popularity**fold)[:, None] * products
    scaled -= np.outer(chance, chance @ scaled)
    basis, values, _ = np.linalg.svd(scaled, full_matrices=False)
    return fix_signs(basis[:, :size]), values[:size]


def scaled_table(basis: Float64, values: Float64, popularity: Float64, fold: float, whitening: float) -> Float64:
    """The table that devices sum over their history, before centring: directions, weak ones scaled up by whitening."""
    spread = np.maximum(values / max(values[0], TINY), 1e-3) ** whitening
    table: Float64 = (popularity**fold)[:, None] * basis * spread
    return table


def taste_weights(counts: Float64, strength: Float64, accuracy: Float64) -> Float64:
    """Weight of each released direction after `counts` items: float64 [n_users, d].

    k L / (1 + k L) is the posterior mean of a taste of variance L per item. The noise makes L too small where a
    direction is inaccurate; the power makes up for half of it.
    """
    evidence = counts[:, None] * strength
    weights: Float64 = (evidence / (1 + evidence)) ** ((1 + accuracy**2) / 2) * accuracy
    return weights


def weighted_sums(histories: Interactions, rows: Float64) -> Float64:
    """Each user's weighted sum of `rows` over their items: float64 [n_users, width]."""
    return histories.matmul(rows, histories.weights).astype(np.float64)
