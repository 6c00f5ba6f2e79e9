"""`dp-ease`: the linear item-item model EASE from a noised Gram matrix, as an own algorithm.

    palate simulate my.csv --algorithm dp_ease:DpEase

Round 0 releases noised popularity and with it the head. Round 1 releases, over the head's items,

    G = sum_u x_u x_u' / |x_u|^2 + noise,      x_ui = popularity_i^e for the user's items, 0 for others

whose terms are matrices of Frobenius norm exactly 1. All h^2 entries are sent: averaging G with its transpose then
leaves the same noise as sending the upper triangle with off-diagonals times sqrt 2. The server keeps the eigenvalues
of G that stand above the noise, shrunk by what noise adds to them, puts the noised diagonal back, and solves

    B = I - P diag(1 / P_ii),      P = (G + lambda I)^-1

Sources: Steck, Embarrassingly Shallow Autoencoders for Sparse Data (WWW 2019), equations 7 and 8; Dwork et al.,
Analyze Gauss (STOC 2014), for noise on a Gram matrix; Gavish and Donoho, Optimal Shrinkage of Singular Values (IEEE
Trans. Inf. Theory 2017), for the shrinkage, here of a symmetric matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.base import Algorithm, PublicFacts, State
from palate_common.algorithms.parts.head import HEAD, WEIGHT, choose_head, head_size, with_tail
from palate_common.algorithms.popularity import COUNTS, popularity_layout, popularity_update
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import Float64, OuterBlock, Update
from palate_core.layout import BlockSpec, Layout

GRAM, MAP = "gram", "map"
TINY = 1e-12


class DpEaseSettings(BaseModel):
    """Settings; what is None follows from the public facts. Chosen on validation users of MovieLens 1M."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    head_items: int | None = Field(default=None, ge=2)
    """h, most popular items that are learned."""
    popularity_share: float = Field(default=0.05, gt=0, lt=1)
    """Round 0's share of mu^2."""
    weight_exponent: float | None = Field(default=None, ge=-2, le=2)
    """x_ui ~ popularity^e: which of their items a user's norm is spent on. None: -0.15 under noise, 0 without."""
    regularization: float | None = Field(default=None, gt=0)
    """lambda, relative to the mean diagonal of G. None: 0.5 under noise, where shrinkage does the rest, 2 without."""
    noise_regularization: float = Field(default=0.1, ge=0)
    """More lambda, in spectral norms of the noise."""


class DpEase(Algorithm):
    """Noised popularity, then one noised Gram matrix.

    State, all of it public: `counts` [n_items]; `head` and `weight` [h] (see `choose_head`); `map` [h, h], row i holds
    what a user's item i adds to every score.
    """

    name = "dp-ease"
    Settings = DpEaseSettings
    item_arrays = (COUNTS,)

    def __init__(self, settings: DpEaseSettings, facts: PublicFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.head_items = head_size(facts, 1.0, settings.head_items)
        exponent, ridge = (0.0, 2.0) if facts.mu is None else (-0.15, 0.5)
        self.exponent = exponent if settings.weight_exponent is None else settings.weight_exponent
        self.regularization = settings.regularization or ridge

    @property
    def shares(self) -> tuple[float, ...]:
        """Counts, then the Gram matrix."""
        return (self.settings.popularity_share, 1 - self.settings.popularity_share)

    def start(self) -> State:
        """The empty state."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """Counts, then the Gram matrix of the head."""
        if round_ == 0:
            return popularity_layout(self.facts.n_items)
        size = len(state[HEAD])
        return (BlockSpec(name=GRAM, shape=(size, size), weight=1.0),)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: the items, norm 1. Round 1: x x' with |x| = 1."""
        if round_ == 0:
            return popularity_update(histories)
        seen = histories.columns(state[HEAD])
        rows = self._item_weights(state)[seen.indices] * seen.weights
        rows /= np.repeat(np.sqrt(segment_sum(rows**2, seen.indptr)), seen.counts())
        columns = np.zeros((seen.n_users, seen.n_items))
        columns[seen.owners(), seen.indices] = rows
        return Update((OuterBlock(seen.indptr, seen.indices, rows, columns, seen.n_items),), histories.n_users)

    def _item_weights(self, state: State) -> Float64:
        """popularity^e over the head."""
        weights: Float64 = state[WEIGHT].astype(np.float64) ** self.exponent
        return weights

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """The head after round 0, then the map."""
        if round_ == 0:
            return choose_head(sums[COUNTS], noise[COUNTS], self.head_items)
        gram = (sums[GRAM] + sums[GRAM].T) / 2
        # Half the spectral norm of symmetric noise with variance noise^2 / 2 off its diagonal (Wigner).
        edge = noise[GRAM] * np.sqrt(len(gram) / 2)
        clean = _shrunk(gram, edge)
        diagonal = np.diagonal(gram)
        level = max(float(diagonal.mean()), noise[GRAM], TINY)
        rest = np.maximum(diagonal - np.diagonal(clean), 0)
        ridge = self.regularization * level + self.settings.noise_regularization * 2 * edge
        precision = np.linalg.inv(clean + np.diag(rest + ridge))
        item_map = -precision / np.diagonal(precision)
        np.fill_diagonal(item_map, 0)
        # Undo the weights: a user's history enters as x, and what comes out is compared without them.
        weights = self._item_weights(state)
        item_map *= weights[:, None] / weights
        return state | {MAP: item_map.astype(np.float32)}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Summed rows of the map over the head; tail items below it, by popularity."""
        if MAP not in state:
            return np.broadcast_to(state[COUNTS], (histories.n_users, histories.n_items))
        seen = histories.columns(state[HEAD])
        summed = seen.matmul(state[MAP].astype(np.float64), seen.weights)
        return with_tail(state, np.asarray(summed, np.float64), seen.counts() > 0)


def _shrunk(symmetric: Float64, edge: float) -> Float64:
    """Eigenvalues y > 2 t of signal plus noise, with t half the noise's spectral norm, become sqrt(y^2 - 4 t^2)."""
    values, vectors = np.linalg.eigh(symmetric)
    kept = np.where(values > 2 * edge, np.sqrt(np.maximum(values**2 - 4 * edge**2, 0)), 0)
    shrunk: Float64 = (vectors * kept) @ vectors.T
    return shrunk
