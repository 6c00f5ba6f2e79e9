"""`popularity`: one release of noised item counts with the whole budget. Every private model is compared with it.

A user sends weight 1/sqrt(k) on each of their k items: norm exactly 1, and nobody counts for more than anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from palate_common.algorithms.base import Algorithm, Factors, PublicFacts, Reach, State
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import Float64, OuterBlock, Update
from palate_common.score_sources import POPULARITY
from palate_core.layout import BlockSpec, Layout

COUNTS = "counts"


def popularity_layout(n_items: int) -> Layout:
    """One block of item counts."""
    return (BlockSpec(name=COUNTS, shape=(n_items,), weight=1.0),)


def popularity_block(histories: Interactions) -> OuterBlock:
    """Each user's items with weight proportional to their interaction weight, L2 norm 1 (or 0 without items)."""
    weights = histories.weights.astype(np.float64)
    norms = np.sqrt(segment_sum(weights**2, histories.indptr))
    rows = weights / np.repeat(norms, histories.counts())
    ones = np.ones((histories.n_users, 1))
    return OuterBlock(histories.indptr, histories.indices, rows, ones, histories.n_items)


def popularity_update(histories: Interactions) -> Update:
    """What each user contributes to the counts."""
    return Update((popularity_block(histories),), histories.n_users)


def user_weights(strength: Float64, *, exponent: float, n_items: int) -> Float64:
    """Each user's weight in a loss: strength^-e, scaled so that a user with every item has norm 1 in round 0.

    Args:
        strength: the number of a user's events, or their summed squared weights, float64 [n_users].
        exponent: e, in [0, 1/2].
        n_items: items in the catalogue.
    """
    weights: Float64 = n_items ** (exponent - 0.5) * np.where(strength > 0, strength, 1.0) ** -exponent
    return weights


@dataclass(frozen=True)
class Ranked(Factors):
    """Factors of a ranking that is the same for every user.

    Attributes:
        scores: float [n_items].
    """

    scores: npt.NDArray[np.floating]

    @property
    def parts(self) -> Mapping[str, slice]:
        """The one column is popularity."""
        return {POPULARITY: slice(0, 1)}

    @property
    def trust(self) -> Float64:
        """1: the column is trusted in full."""
        return np.ones(1)

    def items(self) -> npt.NDArray[np.float32]:
        """The scores as a column."""
        return self.scores.astype(np.float32)[:, None]

    def users(self, histories: Interactions) -> Float64:
        """1 for every user, float64 [n_users, 1]."""
        return np.ones((histories.n_users, 1))

    def events(self, history: Interactions) -> Float64:
        """Zeros: events don't change the scores."""
        return np.zeros((history.nnz, 1))


class PopularitySettings(BaseModel):
    """`popularity` has no settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Popularity(Algorithm):
    """Noised item popularity: the same ranking for everybody."""

    name = "popularity"
    Settings = PopularitySettings
    item_arrays = (COUNTS,)

    def __init__(self, settings: PopularitySettings, facts: PublicFacts) -> None:
        self.facts = facts

    @property
    def shares(self) -> tuple[float, ...]:
        """The one release has the whole budget."""
        return (1.0,)

    def start(self) -> State:
        """Zero counts."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """One block of item counts."""
        return popularity_layout(self.facts.n_items)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Each user's item weights, L2 norm 1."""
        return popularity_update(histories)

    def reach(self, block: str) -> Reach:
        """Counts have norm 1 by themselves, and are never negative; of another's `contribute` nothing is promised."""
        own = block == COUNTS and type(self).contribute is Popularity.contribute
        return Reach(unit=own, positive=own)

    def release(
        self,
        state: State,
        round_: int,
        sums: Mapping[str, npt.NDArray[np.float64]],
        noise: Mapping[str, float],
    ) -> State:
        """The noised counts."""
        return {COUNTS: sums[COUNTS].astype(np.float32)}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """The counts, the same for every user."""
        return np.broadcast_to(state[COUNTS], (histories.n_users, histories.n_items))

    def factors(self, state: State) -> Factors:
        """The counts as a column."""
        return Ranked(state[COUNTS])
