"""Scoring: a model's scores for the user of a device, whether or not they are products of vectors.

`ByFactors` holds the item vectors of a model that has them (see `palate_common.algorithms.base`) and searches
them exactly. `ByScores` gets all scores from the algorithm. Both use the algorithm's own code on a batch of one: if
every part has its own weight, and no item is dismissed, the scores are those of `GlobalModel.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from palate_client.recommend.ranking import Ranking
from palate_common.algorithms import Factors
from palate_common.interactions import Interactions, Ints
from palate_common.models.model import GlobalModel
from palate_common.score_sources import COLLABORATIVE, POPULARITY, family_of

LESS = 0.5
"""A dismissed item subtracts this share of what it would add as a positive one."""
HISTORIES_AT_ONCE = 64
"""Number of histories that are scored in one batch."""
TINY = 1e-30

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Taste:
    """A scorer's representation of one user's events. It is private: never written, sent or shown.

    Attributes:
        history: the positive items, a batch of one.
        less: rows of dismissed items, sorted, none of them in the history.
        vector: the user's vector, or all scores.
        adds: returns the contributions of interactions, then of rows of `less`, to the vector; None if it is scores.
    """

    history: Interactions
    less: npt.NDArray[np.int32]
    vector: Vector = field(repr=False)
    adds: Callable[[], Vector] | None = field(repr=False, default=None)

    @cached_property
    def added(self) -> Vector:
        """The contributions of interactions, then of rows of `less`, to the vector; computed at the first use."""
        return np.zeros((0, len(self.vector))) if self.adds is None else self.adds()


class Scorer(Protocol):
    """Computes scores for one user; there are two implementations."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the parts of a score that can be weighted separately, in the order of `by_part`."""

    def taste(self, history: Interactions, less: npt.NDArray[np.int32], weights: Mapping[str, float]) -> Taste:
        """The user's taste, with a weight for each part of the score or its family; 1 for parts without one."""

    def top(self, taste: Taste, *, n: int, without: Ints, among: Ints | None = None) -> npt.NDArray[np.int64]:
        """Rows of the n highest scores, best first; of the rows `among`, or all."""

    def scores(self, taste: Taste, rows: Ints) -> Vector:
        """Scores of some items."""

    def by_part(self, taste: Taste, rows: Ints) -> dict[str, Vector]:
        """The parts of the scores of some items."""

    def contributions(self, taste: Taste, rows: Ints) -> Vector:
        """Contributions of interactions, then of rows of `less`, to items' scores: [nnz + less, len(rows)]."""

    def likeness(self, rows: Ints) -> Vector:
        """Vectors whose cosine is the similarity of items, [len(rows), any]."""

    def similar(self, row: int, *, n: int, among: Ints | None = None) -> tuple[Ints, Vector]:
        """The n items most similar to one, best first, of the rows `among` or all, and the similarities."""


def scorer_of(model: GlobalModel) -> Scorer:
    """The scorer for a model."""
    factors = model.algorithm.factors(model.state)
    return ByScores(model) if factors is None else ByFactors(factors)


class ByFactors:
    """A scorer for scores that are products of vectors."""

    def __init__(self, factors: Factors) -> None:
        self._factors = factors
        self._ranking = Ranking(factors.items(), factors.parts)
        self._taste_columns = factors.trust.copy()
        self._taste_columns[factors.parts.get(POPULARITY, slice(0, 0))] = 0.0

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the parts of the vectors."""
        return tuple(self._factors.parts)

    def taste(self, history: Interactions, less: npt.NDArray[np.int32], weights: Mapping[str, float]) -> Taste:
        """The user's vector by fold-in, minus `LESS` times that of dismissed items, without popularity."""
        columns = np.concatenate(
            [
                np.full(part.stop - part.start, weights.get(name, weights.get(family_of(name), 1.0)))
                for name, part in self._factors.parts.items()
            ]
        )
        vector, taken = self._factors.users(history)[0], np.zeros((0, len(columns)))
        if len(less):
            together = history.joined(less, np.ones(len(less)))
            taken = -LESS * self._factors.events(together)[np.isin(together.indices, less)]
            if POPULARITY in self._factors.parts:
                taken[:, self._factors.parts[POPULARITY]] = 0.0
            vector = vector + taken.sum(axis=0)

        def adds() -> Vector:
            added = self._factors.events(history)
            if len(taken):
                added = np.concatenate([added, taken])
            return added if (columns == 1).all() else added * columns  # x * 1 is x, and these are many numbers

        return Taste(history, less, vector * columns, adds)

    def top(self, taste: Taste, *, n: int, without: Ints, among: Ints | None = None) -> npt.NDArray[np.int64]:
        """By exact search."""
        return self._ranking.top(taste.vector, n=n, without=without, among=among)

    def scores(self, taste: Taste, rows: Ints) -> Vector:
        """By products of vectors."""
        return self._ranking.scores(taste.vector, rows)

    def by_part(self, taste: Taste, rows: Ints) -> dict[str, Vector]:
        """By products of the vectors' parts."""
        vectors = self._ranking.vectors(rows)
        return {name: vectors[:, part] @ taste.vector[part] for name, part in self._factors.parts.items()}

    def contributions(self, taste: Taste, rows: Ints) -> Vector:
        """By products with contributions to the user's vector: they sum to the score minus the part of no event."""
        contributions: Vector = taste.added @ self._ranking.vectors(rows).T
        return contributions

    def likeness(self, rows: Ints) -> Vector:
        """The item vectors, each column weighted by its trust, without popularity."""
        vectors: Vector = self._ranking.vectors(rows) * self._taste_columns
        return vectors

    def similar(self, row: int, *, n: int, among: Ints | None = None) -> tuple[Ints, Vector]:
        """By cosines of those vectors."""
        return self._ranking.alike(row, self._taste_columns, n=n, among=among)


class ByScores:
    """A scorer for algorithms that return all scores at once."""

    def __init__(self, model: GlobalModel) -> None:
        self._model = model
        self._n = model.header.facts.n_items
        self._nobody = self._of([])[0]

    @property
    def sources(self) -> tuple[str, ...]:
        """Empty: the algorithm doesn't split its scores."""
        return ()

    def taste(self, history: Interactions, less: npt.NDArray[np.int32], weights: Mapping[str, float]) -> Taste:
        """All scores, plus or minus those of an empty history; dismissed items have no effect on others."""
        scores = np.array(self._model.scores(history)[0], np.float64)
        span = float(np.ptp(self._nobody))
        excess = (weights.get(POPULARITY, 1.0) - weights.get(COLLABORATIVE, 1.0)) * float(np.ptp(scores))
        if span and history.nnz:
            scores += excess / span * (self._nobody - self._nobody.min())
        return Taste(history, np.zeros(0, np.int32), scores)

    def top(self, taste: Taste, *, n: int, without: Ints, among: Ints | None = None) -> npt.NDArray[np.int64]:
        """By partial sorting."""
        scores = taste.vector.copy() if among is None else np.full(len(taste.vector), -np.inf)
        if among is not None:
            scores[among] = taste.vector[among]
        scores[without] = -np.inf
        n = min(n, len(scores))
        rows = np.argpartition(-scores, n - 1)[:n] if n else np.zeros(0, np.int64)
        rows = rows[np.isfinite(scores[rows])]
        best: npt.NDArray[np.int64] = rows[np.lexsort((rows, -scores[rows]))]
        return best

    def scores(self, taste: Taste, rows: Ints) -> Vector:
        """By look-up."""
        return taste.vector[rows]

    def by_part(self, taste: Taste, rows: Ints) -> dict[str, Vector]:
        """The whole score as one part."""
        return {COLLABORATIVE if taste.history.nnz else POPULARITY: taste.vector[rows]}

    def contributions(self, taste: Taste, rows: Ints) -> Vector:
        """The change of the score if one interaction is left out: they need not sum to the score."""
        history = taste.history
        full, found = self._model.scores(history)[0, rows], np.zeros((history.nnz, len(rows)))
        places = np.arange(history.nnz)
        for first in range(0, history.nnz, HISTORIES_AT_ONCE):
            part = places[first : first + HISTORIES_AT_ONCE]
            others = [np.delete(places, place) for place in part]
            batch = Interactions(
                np.arange(len(part) + 1) * (history.nnz - 1),
                history.indices[np.concatenate(others)],
                history.weights[np.concatenate(others)],
                history.n_items,
            )
            found[part] = full - self._model.scores(batch)[:, rows]
        return found

    def likeness(self, rows: Ints) -> Vector:
        """The scores of a history of this item alone, minus those of an empty one, both scaled to 0 to 1."""
        told = self._of(rows)
        spans = np.maximum(np.ptp(told, axis=1, keepdims=True), TINY)
        span = max(float(np.ptp(self._nobody)), TINY)
        beyond: Vector = (told - told.min(axis=1, keepdims=True)) / spans - (self._nobody - self._nobody.min()) / span
        return beyond

    def similar(self, row: int, *, n: int, among: Ints | None = None) -> tuple[Ints, Vector]:
        """By the scores of a history of this item alone."""
        told, rows = self._of([row])[0], np.arange(self._n) if among is None else among
        rows = rows[rows != row]
        best = rows[np.argsort(-told[rows], kind="stable")[:n]]
        return best, told[best]

    def _of(self, rows: Ints | list[int]) -> Vector:
        """Scores of histories of one item each, or, without rows, of an empty history."""
        n = max(len(rows), 1)
        histories = Interactions.from_pairs(np.arange(len(rows)), rows, n_users=n, n_items=self._n)
        return np.array(self._model.scores(histories), np.float64)
