"""A model with links, for tests: what it says is drawn at random, so nothing is learned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms import Factors, PublicFacts, State
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.popularity import Popularity
from palate_common.interactions import Interactions, segment_sum
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.score_sources import COLLABORATIVE, PAIRS, PANEL, POPULARITY

Float64 = npt.NDArray[np.float64]
SOURCES = {PAIRS: "pairs", PANEL: "panel"}


class Paired(Popularity):
    """Popularity, a taste and links; lend it by `palate_common.algorithms.lent`."""

    name = "paired"

    def scores(self, state: State, histories: Interactions) -> Float64:
        factors = self.factors(state)
        scores = factors.users(histories) @ factors.items().astype(np.float64).T
        for source, links in factors.links.items():
            scores += links.scores(histories, factors.amounts(source, histories))
        return scores

    def factors(self, state: State) -> PairedFactors:
        return PairedFactors(state)


class PairedFactors(Factors):
    """Its factors: after n events a taste and its links count n / (n + 2)."""

    def __init__(self, state: State) -> None:
        self._state, self._table = state, state["vectors"]

    @cached_property
    def links(self) -> Mapping[str, Links]:
        return {source: Links.of_state(self._state, name) for source, name in SOURCES.items()}

    @cached_property
    def parts(self) -> Mapping[str, slice]:
        return {POPULARITY: slice(0, 1), COLLABORATIVE: slice(1, self._table.shape[1])}

    @property
    def trust(self) -> Float64:
        return np.ones(self._table.shape[1])

    def items(self) -> npt.NDArray[np.float32]:
        return self._table

    def users(self, histories: Interactions) -> Float64:
        users = segment_sum(self.events(histories), histories.indptr)
        users[:, 0] = 1.0
        return users

    def events(self, history: Interactions) -> Float64:
        events = self.amounts(COLLABORATIVE, history)[:, None] * self._table[history.indices].astype(np.float64)
        events[:, 0] = 0.0
        return events

    def amounts(self, source: str, histories: Interactions) -> Float64:
        counts = histories.counts()
        share = np.repeat(counts / (counts + 2), counts) * (0.5 if source == PANEL else 1.0)
        return share * histories.weights


def links_of(n_items: int, seed: int, *, n_linked: int, most: int, whole: bool = False) -> Links:
    """Links of some of the items to each other; whole numbers of a scale of 1 if `whole`, so that sums are exact."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(n_items)[:n_linked]).astype(np.int32)
    item_map = rng.integers(-2, 6, (n_linked, n_linked)) / 8 if whole else rng.normal(0.2, 1, (n_linked, n_linked))
    links = Links.strongest(rows, item_map, most=most)
    if whole:
        shape, scale = (links.shape * links.scale[:, None]).astype(np.float32), np.ones(len(rows), np.float32)
        links = Links(links.items, links.to, shape, scale)
    return links


def paired(
    n_items: int = 60, seed: int = 0, *, n_linked: int = 20, most: int = 6, whole: bool = False, **changes: Any
) -> GlobalModel:
    """A model of 6 directions, popular items first, with links among some items and, of a panel, among others."""
    rng = np.random.default_rng(seed)
    table = rng.integers(-3, 4, (n_items, 7)) if whole else rng.normal(0, 0.5, (n_items, 7))
    table[:, 0] = np.sort(rng.integers(0, 9, n_items))[::-1] if whole else np.sort(rng.random(n_items) * 3)[::-1]
    state: State = {"counts": np.arange(n_items, 0, -1).astype(np.float32), "vectors": table.astype(np.float32)}
    for number, name in enumerate(SOURCES.values()):
        n = min(n_linked + 5 * number, n_items)
        state |= links_of(n_items, seed + 100 + number, n_linked=n, most=most, whole=whole).state(name)
    facts = PublicFacts(n_users=9, n_items=n_items, mu=1.0)
    items = [f"i{n:02d}" for n in range(n_items)]
    header = ModelHeader(algorithm="paired", settings={}, facts=facts, releases=1, catalogue=catalogue_hash(items))
    return GlobalModel(header, state | changes)
