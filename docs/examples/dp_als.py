"""`dp-als`: private alternating least squares with full statistics, as published, as an own algorithm.

    palate simulate my.csv --algorithm dp_als:DpAls

Round 0 releases noised popularity. In each later round a device solves for its own vector p_u with the item table
fixed; the server gets, per head item i, the noised sums of both statistics of the item's ridge regression and solves

    v_i = (sum_u w_ui p_u p_u' + a0 w sum_u p_u p_u' + lambda I)^-1 sum_u w_ui p_u          (full statistics)

Where `als` releases d numbers an item, this releases d + d(d+1)/2. The weights w_ui ~ popularity_i^e share a user's
norm of 1 among all of their items, in the place of sampling some.

Sources: Chien et al., Private Alternating Least Squares (ICML 2021), algorithm 1 (the statistics, their noise, the
projection onto positive semidefinite matrices); Krichene et al., Multi-Task Differential Privacy Under Distribution
Skew (ICML 2023), algorithm 1 and equation 6 (the weights). It differs from them in the accounting, one joint clip of
both statistics and the public head for both; and in normalised user vectors, so that nobody's norm is left unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.base import Algorithm, PublicFacts, State
from palate_common.algorithms.parts.head import HEAD, WEIGHT, choose_head, head_size, split_budget, with_tail
from palate_common.algorithms.parts.reconstruction import matrices, outer_svec, rebuild, symmetric_size
from palate_common.algorithms.popularity import COUNTS, popularity_layout, popularity_update
from palate_common.interactions import Interactions, row_squares, segment_sum
from palate_common.mechanism.update import DenseBlock, Float64, OuterBlock, Update
from palate_core.layout import BlockSpec, Layout

TABLE, ITEMS, USERS = "table", "items", "users"
TINY = 1e-12


class DpAlsSettings(BaseModel):
    """Settings; what is None follows from the public facts. Chosen on validation users of MovieLens 1M."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int = Field(default=4, ge=2, le=64)
    """Releases in all, popularity (round 0) included."""
    embedding_size: int | None = Field(default=None, ge=1, le=256)
    """d, the length of an embedding."""
    head_items: int | None = Field(default=None, ge=1)
    """Most popular items that are learned."""
    popularity_share: float = Field(default=0.1, gt=0, lt=1)
    """Round 0's share of mu^2."""
    contribution_exponent: float = Field(default=-0.15, ge=-2, le=2)
    """w_ui ~ popularity^e."""
    gramian_share: float = Field(default=0.05, gt=0, lt=0.5)
    """The items' Gramians' share of a contribution's squared norm."""
    users_share: float = Field(default=0.01, gt=0, lt=0.5)
    """The share of the users' Gramian in it."""
    unobserved_weight: float | None = Field(default=None, gt=0)
    """a0, the weight of items a user does not have. None: 4 under noise, 0.4 without."""
    regularization: float = Field(default=0.1, ge=0)
    """The ridge, relative to the mean diagonal of the a0 term."""
    noise_regularization: float = Field(default=20.0, ge=0)
    """More ridge, in spectral norms of the noise of an item's Gramian: what it needs to be invertible, and far more."""


class DpAls(Algorithm):
    """Noised popularity, then alternating ridge regressions on noised statistics.

    State, all of it public: `counts` [n_items]; `head` and `weight` [h] (see `choose_head`); `table` [h, d].
    """

    name = "dp-als"
    Settings = DpAlsSettings
    item_arrays = (COUNTS,)

    def __init__(self, settings: DpAlsSettings, facts: PublicFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.head_items = head_size(facts, 1.2, settings.head_items)
        size = 48 if facts.mu is None else int(np.clip(4 * np.round(0.06 * np.sqrt(facts.signal)), 4, 48))
        self.size = min(settings.embedding_size or size, self.head_items)
        self.unobserved_weight = settings.unobserved_weight or (0.4 if facts.mu is None else 4.0)

    @property
    def shares(self) -> tuple[float, ...]:
        """Round 0's share, then equal ones."""
        return split_budget(self.settings.popularity_share, self.settings.rounds - 1)

    def start(self) -> State:
        """The empty state."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """Counts, then both statistics of each head item, and the users' Gramian."""
        if round_ == 0:
            return popularity_layout(self.facts.n_items)
        gramian, share = symmetric_size(self.size), self.settings.users_share
        return (
            BlockSpec(name=ITEMS, shape=(len(state[HEAD]), self.size + gramian), weight=float(np.sqrt(1 - share))),
            BlockSpec(name=USERS, shape=(gramian,), weight=float(np.sqrt(share))),
        )

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: the items, norm 1. Later: w_u (p_u, svec p_u p_u')' and svec p_u p_u'; |w_u| = |p_u| = 1."""
        if round_ == 0:
            return popularity_update(histories)
        seen = histories.columns(state[HEAD])
        users = self._rebuild(state, seen)
        users /= np.maximum(np.sqrt(row_squares(users)), TINY)[:, None]
        rows = state[WEIGHT].astype(np.float64)[seen.indices] ** self.settings.contribution_exponent
        rows *= seen.weights
        rows /= np.repeat(np.sqrt(segment_sum(rows**2, seen.indptr)), seen.counts())
        gramians, (right, left) = outer_svec(users), self._scales()
        columns = np.concatenate([users * right, gramians * left], axis=1)
        items = OuterBlock(seen.indptr, seen.indices, rows, columns, seen.n_items)
        return Update((items, DenseBlock(gramians)), histories.n_users)

    def _scales(self) -> tuple[float, float]:
        """Factors on p and on p p' within the items' block; their squares sum to 1."""
        share = self.settings.gramian_share / (1 - self.settings.users_share)
        return float(np.sqrt(1 - share)), float(np.sqrt(share))

    def _rebuild(self, state: State, seen: Interactions) -> Float64:
        """Solve for the vectors of users, with the item table fixed."""
        return rebuild(
            state[TABLE].astype(np.float64),
            seen,
            unobserved_weight=self.unobserved_weight,
            regularization=self.settings.regularization,
        )

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Head and random table after round 0, then each item's ridge regression on its noised statistics."""
        if round_ == 0:
            chosen = choose_head(sums[COUNTS], noise[COUNTS], self.head_items)
            rng = np.random.default_rng(self.facts.seed)
            return chosen | {TABLE: rng.normal(size=(len(chosen[HEAD]), self.size)).astype(np.float32)}
        d, (right, left) = self.size, self._scales()
        targets = sums[ITEMS][:, :d] / right
        own = _positive(matrices(sums[ITEMS][:, d:] / left, d))
        everybody = _positive(matrices(sums[USERS][None], d))[0] * self._unobserved(state)
        # A symmetric matrix with noise of variance s^2/2 off its diagonal has spectral norm s sqrt(2 d).
        ridge = self.settings.regularization * np.trace(everybody) / d
        ridge += self.settings.noise_regularization * noise[ITEMS] / left * np.sqrt(2 * d)
        table = np.linalg.solve(own + everybody + (ridge + TINY) * np.eye(d), targets[:, :, None])[:, :, 0]
        return state | {TABLE: table.astype(np.float32)}

    def _unobserved(self, state: State) -> float:
        """a0 on the scale of w_ui: a user with k items adds sqrt(k) to the counts in all, and has w near 1/sqrt(k)."""
        roots = float(state[COUNTS].astype(np.float64).sum()) / self.facts.n_users
        return self.unobserved_weight / max(roots, 1.0)

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """p_u . v_i over the head; tail items below it, by popularity."""
        if TABLE not in state:
            return np.broadcast_to(state[COUNTS], (histories.n_users, histories.n_items))
        seen = histories.columns(state[HEAD])
        return with_tail(state, self._rebuild(state, seen) @ state[TABLE].astype(np.float64).T, seen.counts() > 0)


def _positive(symmetric: Float64) -> Float64:
    """The nearest positive semidefinite matrices, [n, d, d]: negative eigenvalues are noise."""
    values, vectors = np.linalg.eigh(symmetric)
    projected: Float64 = (vectors * np.maximum(values, 0)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return projected
