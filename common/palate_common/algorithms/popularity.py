"""`popularity`: the whole budget on one release of item counts. The floor every private model is compared with.

A user sends weight 1/sqrt(k) on each of their k items: norm exactly 1, and nobody counts for more than anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from palate_common.algorithms.base import Algorithm, Factors, PublicFacts, State
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import BlockSpec, Float64, Layout, OuterBlock, Update
from palate_common.score_sources import POPULARITY

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
    """How much each user counts in a loss: strength^-e, scaled so that a user with every item has norm 1 in round 0.

    Args:
        strength: the number of a user's events, or their summed squared weights, float64 [n_users].
        exponent: e, in [0, 1/2].
        n_items: items in the catalogue.
    """
    weights: Float64 = n_items ** (exponent - 0.5) * np.where(strength > 0, strength, 1.0) ** -exponent
    return weights


@dataclass(frozen=True)
class Ranked:
    """The same score of an item for everybody.

    Attributes:
        scores: float [n_items].
    """

    scores: npt.NDArray[np.floating]

    @property
    def parts(self) -> Mapping[str, slice]:
        """Popularity alone."""
        return {POPULARITY: slice(0, 1)}

    @property
    def trust(self) -> Float64:
        """In full."""
        return np.ones(1)

    def items(self) -> npt.NDArray[np.float32]:
        """The scores as a column."""
        return self.scores.astype(np.float32)[:, None]

    def users(self, histories: Interactions) -> Float64:
        """1 for everybody."""
        return np.ones((histories.n_users, 1))

    def events(self, history: Interactions) -> Float64:
        """No event adds anything."""
        return np.zeros((history.nnz, 1))


class PopularitySettings(BaseModel):
    """No settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Popularity(Algorithm):
    """Noised item popularity, recommended to everybody alike."""

    name = "popularity"
    Settings = PopularitySettings

    def __init__(self, settings: PopularitySettings, facts: PublicFacts) -> None:
        self.facts = facts

    @property
    def shares(self) -> tuple[float, ...]:
        """One release takes all of the budget."""
        return (1.0,)

    def start(self) -> State:
        """No counts yet."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """One block of item counts."""
        return popularity_layout(self.facts.n_items)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Each user's items, norm 1."""
        return popularity_update(histories)

    def release(
        self,
        state: State,
        round_: int,
        sums: Mapping[str, npt.NDArray[np.float64]],
        noise: Mapping[str, float],
    ) -> State:
        """The noised counts as they are."""
        return {COUNTS: sums[COUNTS].astype(np.float32)}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """The same row for everybody."""
        return np.broadcast_to(state[COUNTS], (histories.n_users, histories.n_items))

    def factors(self, state: State) -> Factors:
        """The counts as a column."""
        return Ranked(state[COUNTS])
