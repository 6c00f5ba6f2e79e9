"""`dp-fedavg`: federated averaging of a matrix factorisation under user-level DP, as published, as an own algorithm.

    palate simulate my.csv --algorithm dp_fedavg:DpFedAvg

Round 0 releases noised popularity. In each later round a device rebuilds its own vector p_u from the item table V
(never sent), takes one local step on V, and sends the change, clipped in L2 norm. The server adds noise to the sum,
averages and steps with momentum. The loss of a user is the implicit one of ALS,

    sum over own items (1 - p_u . v_i)^2 + a0 sum over all head items (p_u . v_i)^2,

which counts EVERY item as a negative, with a small weight, where others sample a few: the expected gradient of sampling
them evenly, without a draw on the device that would have to be both private and repeatable. The step's change is an
outer product, -residual_i p_u for item i, and so is that of any number of local steps with p_u held fixed.

Sources: McMahan et al., Learning Differentially Private Recurrent Language Models (ICLR 2018), algorithm 1, flat
clipping; every user takes part in every round, and no amplification by sampling is claimed. Singhal et al., Federated
Reconstruction (NeurIPS 2021), algorithm 1, with the reconstruction in closed form. Reddi et al., Adaptive Federated
Optimization (ICLR 2021), for the server's momentum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.base import Algorithm, PublicFacts, State
from palate_common.algorithms.parts.head import HEAD, WEIGHT, choose_head, head_size, split_budget, with_tail
from palate_common.algorithms.parts.reconstruction import rebuild
from palate_common.algorithms.popularity import COUNTS, popularity_layout, popularity_update
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64, OuterBlock, Update
from palate_core.layout import BlockSpec, Layout

TABLE, MOMENTUM, CHANGE = "table", "momentum", "change"


class DpFedAvgSettings(BaseModel):
    """Settings; what is None follows from the public facts. Chosen on validation users of MovieLens 1M."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int | None = Field(default=None, ge=2, le=1024)
    """Releases in all, popularity (round 0) included; few where the signal is weak."""
    embedding_size: int = Field(default=24, ge=2, le=256)
    """d, the length of an embedding."""
    head_items: int | None = Field(default=None, ge=1)
    """Most popular items that are learned."""
    popularity_share: float = Field(default=0.2, gt=0, lt=1)
    """Round 0's share of mu^2."""
    clip_norm: float = Field(default=1.0, gt=0)
    """S, the L2 norm a user's change is clipped to."""
    server_rate: float | None = Field(default=None, gt=0)
    """The server's step, in mean clipped changes divided by S. None: 30 under noise, 100 without."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Momentum of the server's step."""
    start_scale: float = Field(default=0.03, gt=0)
    """Standard deviation of the random columns of the first table; its popularity column has norm sqrt(h)."""
    unobserved_weight: float = Field(default=0.3, gt=0)
    """a0, the weight of every head item as a negative."""
    regularization: float = Field(default=0.5, ge=0)
    """The ridge of a user's vector, relative to the mean diagonal of a0 V'V."""


class DpFedAvg(Algorithm):
    """Noised popularity, then noised gradient steps on an item table.

    State, all of it public: `counts` [n_items]; `head` and `weight` [h] (see `choose_head`); `table` [h, d]; `momentum`
    [h, d], the server's running step.
    """

    name = "dp-fedavg"
    Settings = DpFedAvgSettings
    item_arrays = (COUNTS,)
    training_only = (MOMENTUM,)

    def __init__(self, settings: DpFedAvgSettings, facts: PublicFacts) -> None:
        self.settings = settings
        self.facts = facts
        self.head_items = head_size(facts, 0.9, settings.head_items)
        self.server_rate = settings.server_rate or (100.0 if facts.mu is None else 30.0)
        self.size = min(settings.embedding_size, self.head_items)
        # With T equal rounds, both the total noise and the distance that T clipped steps can cover grow with T.
        later = 24 if facts.mu is None else int(np.clip(np.round(0.04 * facts.signal**0.7), 2, 24))
        self.later = later if settings.rounds is None else settings.rounds - 1

    @property
    def shares(self) -> tuple[float, ...]:
        """Round 0's share, then equal ones."""
        return split_budget(self.settings.popularity_share, self.later)

    def start(self) -> State:
        """The empty state."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """Counts, then the change of the item table."""
        if round_ == 0:
            return popularity_layout(self.facts.n_items)
        return (BlockSpec(name=CHANGE, shape=(len(state[HEAD]), self.size), weight=1.0),)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: the items, norm 1. Later: the change of the table over S, an outer product, to be clipped."""
        if round_ == 0:
            return popularity_update(histories)
        seen = histories.columns(state[HEAD])
        table = state[TABLE].astype(np.float64)
        users = self._rebuild(state, seen)
        # One prediction per user: the rounding of a matrix product would depend on the number of users in it.
        fitted = np.stack([table @ user for user in users]) if len(users) else np.zeros((0, seen.n_items))
        change = -self.settings.unobserved_weight * fitted
        owners = seen.owners()
        change[owners, seen.indices] += seen.weights * (1 - fitted[owners, seen.indices])
        everything = np.arange(seen.n_users + 1, dtype=np.int64) * seen.n_items
        items = np.tile(np.arange(seen.n_items, dtype=np.int32), seen.n_users)
        rows = change.ravel() / self.settings.clip_norm
        return Update((OuterBlock(everything, items, rows, users, seen.n_items),), histories.n_users)

    def _rebuild(self, state: State, seen: Interactions) -> Float64:
        """The vector that fits the user's history best."""
        return rebuild(
            state[TABLE].astype(np.float64),
            seen,
            unobserved_weight=self.settings.unobserved_weight,
            regularization=self.settings.regularization,
        )

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Head and starting table after round 0, then one step along the mean change."""
        if round_ == 0:
            chosen = choose_head(sums[COUNTS], noise[COUNTS], self.head_items)
            rng = np.random.default_rng(self.facts.seed)
            table = rng.normal(size=(len(chosen[HEAD]), self.size)) * self.settings.start_scale
            # The popularity is known: it is one column of the first table.
            weight = chosen[WEIGHT].astype(np.float64)
            table[:, 0] = weight / np.sqrt(np.mean(weight**2))
            table = table.astype(np.float32)
            return chosen | {TABLE: table, MOMENTUM: np.zeros_like(table)}
        mean = sums[CHANGE] * (self.server_rate / self.facts.n_users)
        momentum = self.settings.momentum * state[MOMENTUM].astype(np.float64) + mean
        table = state[TABLE].astype(np.float64) + momentum
        return state | {TABLE: table.astype(np.float32), MOMENTUM: momentum.astype(np.float32)}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """p_u . v_i over the head; tail items below it, by popularity."""
        if TABLE not in state:
            return np.broadcast_to(state[COUNTS], (histories.n_users, histories.n_items))
        seen = histories.columns(state[HEAD])
        return with_tail(state, self._rebuild(state, seen) @ state[TABLE].astype(np.float64).T, seen.counts() > 0)
