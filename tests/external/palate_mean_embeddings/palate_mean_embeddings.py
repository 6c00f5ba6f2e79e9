"""An algorithm for Palate in one file: items are what the people who have them have in common.

Every item gets a public random vector. A device sends its items times the mean of their vectors; an item's noised sum
says in which direction its users lie. One release: item counts and those products, clipped together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms import Algorithm, PublicFacts, State
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseBlock, OuterBlock, Update
from palate_core.layout import BlockSpec, Layout


class Settings(BaseModel):
    """What a user may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    embedding_size: int = Field(default=8, ge=1)


class MeanEmbeddings(Algorithm):
    """One release of counts and of mean embeddings."""

    name = "mean_embeddings"
    Settings = Settings
    shares = (1.0,)

    def __init__(self, settings: Settings, facts: PublicFacts) -> None:
        self.size, self.facts = settings.embedding_size, facts

    def start(self) -> State:
        rng = np.random.default_rng(self.facts.seed)
        shape = (self.facts.n_items, self.size)
        return {"random": rng.normal(size=shape), "counts": np.zeros(shape[0]), "table": np.zeros(shape)}

    def layout(self, state: State, round_: int) -> Layout:
        n_items, size = state["random"].shape
        return (
            BlockSpec(name="counts", shape=(n_items,), weight=0.6),
            BlockSpec(name="products", shape=(n_items, size), weight=0.8),
        )

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        counts = histories.dense() / np.sqrt(np.maximum(histories.counts(), 1))[:, None]
        share = 1 / np.sqrt(np.repeat(histories.counts(), histories.counts()))
        means = self._means(state, histories)
        products = OuterBlock(histories.indptr, histories.indices, share, means, histories.n_items)
        return Update((DenseBlock(counts), products), histories.n_users)

    def release(self, state: State, round_: int, sums: Mapping[str, Any], noise: Mapping[str, float]) -> State:
        return {"random": state["random"], "counts": sums["counts"], "table": sums["products"]}

    def scores(self, state: State, histories: Interactions) -> np.ndarray[Any, Any]:
        taste = self._means(state, histories) @ state["table"].T
        return state["counts"] + taste

    def _means(self, state: State, histories: Interactions) -> np.ndarray[Any, Any]:
        means = histories.matmul(state["random"])
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
