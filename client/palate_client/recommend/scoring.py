"""Scoring: a model's scores for the user of a device, whether or not they are products of vectors.

`ByFactors` holds the item vectors of a model that has them (see `palate_common.algorithms.base`) and searches
them exactly; items that the user's own have links to are scored one by one. `ByScores` gets all scores from the
algorithm. Both use the algorithm's own code on a batch of one: if every part has its own weight, and no item is
dismissed, the scores are those of `GlobalModel.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from palate_client.recommend.facts.new_items import stand_in
from palate_client.recommend.linked import Bonds, Linked, Triples, closer
from palate_client.recommend.ranking import Ranking
from palate_common.algorithms.base import Factors, Fold
from palate_common.interactions import Interactions, Ints
from palate_common.models.item_table import ItemTable
from palate_common.models.model import GlobalModel
from palate_common.score_sources import COLLABORATIVE, POPULARITY, family_of

LESS = 0.5
"""A dismissed item subtracts this share of what it would add as a positive one."""
HISTORIES_AT_ONCE = 64
"""Number of histories that are scored in one batch."""
FEW_EVENTS = 64
"""Up to so many interactions, scores without one of them are computed anew; of more, one hardly changes the trust."""
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
        fold: the history folded in, before weights and without `less`; None if the vector is scores.
        weights: the weight of each part of the score, or of its family.
        amounts: source -> how much the links of interactions, then of rows of `less`, count.
        linked: source -> what they add to the items that links reach.
    """

    history: Interactions
    less: npt.NDArray[np.int32]
    vector: Vector = field(repr=False)
    adds: Callable[[], Vector] | None = field(repr=False, default=None)
    fold: Fold | None = field(repr=False, default=None)
    weights: Mapping[str, float] = field(repr=False, default_factory=dict)
    amounts: Mapping[str, Vector] = field(repr=False, default_factory=dict)
    linked: Mapping[str, Vector] = field(repr=False, default_factory=dict)

    @property
    def items(self) -> npt.NDArray[np.int32]:
        """Rows of the interactions, then those of `less`."""
        return np.append(self.history.indices, self.less)

    @cached_property
    def added_vectors(self) -> Vector:
        """The contributions of interactions, then of rows of `less`, to the vector; computed at the first use."""
        return np.zeros((0, len(self.vector))) if self.adds is None else self.adds()


@dataclass(frozen=True)
class Added:
    """What interactions, then rows of `less`, add to some items' scores.

    Attributes:
        rows: rows of the items.
        scores: their scores.
        all: float64 [nnz + less, len(rows)].
        linked: the part of it that comes through links, of the same shape; None if the model has none.
        said: source -> what links of the user's items say about these.
    """

    rows: Ints
    scores: Vector = field(repr=False)
    all: Vector = field(repr=False)
    linked: Vector | None = field(repr=False, default=None)
    said: Mapping[str, Triples] = field(repr=False, default_factory=dict)


class Scorer(Protocol):
    """Computes scores for one user; there are two implementations.

    Attributes:
        new: rows of items that have a vector by their kinds alone.
    """

    new: frozenset[int]

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

    def contributions(self, taste: Taste, rows: Ints) -> Added:
        """Contributions of the user's events to items' scores."""

    def without(self, taste: Taste, added: Added, left: Sequence[Ints] | Ints) -> Vector:
        """Scores of some items for the same user without the interactions that are `left` out: [len(left), len(rows)].

        Args:
            taste: the user's taste.
            added: contributions to these items.
            left: for each case the places of one or more interactions; of one each, an array [n, 1] will do.
        """

    def likeness(self, rows: Ints) -> Vector:
        """Vectors whose cosine is the similarity of items, apart from `bonds`: [len(rows), any]."""

    def bonds(self, rows: Ints) -> Bonds | None:
        """How links bring these items together beside their vectors; a row once. None: the model has no links."""

    def similar(self, row: int, *, n: int, among: Ints | None = None) -> tuple[Ints, Vector]:
        """The n items most similar to one, best first, of the rows `among` or all, and the similarities."""


def scorer_of(model: GlobalModel, table: ItemTable | None = None, learned: int | None = None) -> Scorer:
    """The scorer for a model.

    Args:
        model: the model.
        table: facts about the items; None: there are none.
        learned: of how many items, the first ones, the model was learned; None: of all.
    """
    factors = model.algorithm.factors(model.state)
    return ByScores(model) if factors is None else ByFactors(factors, table, learned)


class ByFactors:
    """A scorer for scores that are products of vectors, to which links may add."""

    def __init__(self, factors: Factors, table: ItemTable | None = None, learned: int | None = None) -> None:
        self._factors, self.new = factors, frozenset[int]()
        vectors = factors.items()
        if table is not None and learned is not None and learned < len(vectors):
            vectors = vectors.copy()  # an algorithm may keep its own
            popularity = factors.parts.get(POPULARITY, slice(0, 0))
            self.new = frozenset(stand_in(vectors, popularity, table, learned))
        self._ranking = Ranking(vectors, factors.parts)
        self._linked = Linked(factors.links, self._ranking.n_items)
        self._told = np.ones(len(factors.trust))  # columns that say what an item is like, not how popular it is
        self._told[factors.parts.get(POPULARITY, slice(0, 0))] = 0.0
        self._taste_columns = factors.trust * self._told

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the parts of the vectors, then those of the links."""
        return (*self._factors.parts, *self._linked.sources)

    def taste(self, history: Interactions, less: npt.NDArray[np.int32], weights: Mapping[str, float]) -> Taste:
        """The user's vector by fold-in, minus `LESS` times that of dismissed items, without popularity; so with links.

        A source of links that has no weight of its own follows its family, as any part does.
        """
        columns = self._weights(weights)
        fold, taken = self._factors.fold(history), np.zeros((0, len(columns)))
        vector = fold.vector
        amounts = {source: self._factors.amounts(source, history) for source in self._linked.sources}
        if len(less):
            together = history.with_interactions(less, np.ones(len(less)))
            dismissed = np.isin(together.indices, less)
            taken = -LESS * self._factors.events(together)[dismissed]
            if POPULARITY in self._factors.parts:
                taken[:, self._factors.parts[POPULARITY]] = 0.0
            vector = vector + taken.sum(axis=0)
            for source, own in amounts.items():
                amounts[source] = np.append(own, -LESS * self._factors.amounts(source, together)[dismissed])
        amounts = {source: own * _weight(weights, source) for source, own in amounts.items()}
        items = np.append(history.indices, less)
        linked = {source: self._linked.sums(source, items, own) for source, own in amounts.items()}

        def adds() -> Vector:
            added = fold.events()
            if len(taken):
                added = np.concatenate([added, taken])
            return added if (columns == 1).all() else added * columns  # x * 1 is x, and these are many numbers

        return Taste(history, less, vector * columns, adds, fold, weights, amounts, linked)

    def top(self, taste: Taste, *, n: int, without: Ints, among: Ints | None = None) -> npt.NDArray[np.int64]:
        """By exact search, beside which all items are scored that links add to."""
        added = None
        if taste.linked:
            more = sum(taste.linked.values(), np.zeros(len(self._linked.reached)))
            touched = more.nonzero()[0]
            added = self._linked.reached[touched], more[touched]
        return self._ranking.top(taste.vector, n=n, without=without, among=among, added=added)

    def scores(self, taste: Taste, rows: Ints) -> Vector:
        """By products of vectors, and links."""
        scores = self._ranking.scores(taste.vector, rows)
        for sums in taste.linked.values():
            scores += self._linked.at(sums, rows)
        return scores

    def by_part(self, taste: Taste, rows: Ints) -> dict[str, Vector]:
        """By products of the vectors' parts; links are parts of their own."""
        vectors = self._ranking.vectors(rows)
        parts = {name: vectors[:, part] @ taste.vector[part] for name, part in self._factors.parts.items()}
        return parts | {source: self._linked.at(sums, rows) for source, sums in taste.linked.items()}

    def contributions(self, taste: Taste, rows: Ints) -> Added:
        """By products with contributions to the user's vector, and links: their sum is the score but for a default."""
        found: Vector = taste.added_vectors @ self._ranking.vectors(rows).T
        if not taste.amounts:
            return Added(rows, self.scores(taste, rows), found)
        said = {source: self._linked.between(source, taste.items, rows) for source in taste.amounts}
        linked = np.zeros(found.shape)
        for source, own in taste.amounts.items():
            first, second, much = said[source]
            linked[first, second] += own[first] * much
        return Added(rows, self.scores(taste, rows), found + linked, linked, said)

    def without(self, taste: Taste, added: Added, left: Sequence[Ints] | Ints) -> Vector:
        """By fold-in of all others up to `FEW_EVENTS`, since trust follows their number; else less contributions."""
        history, nnz, rows = taste.history, taste.history.nnz, added.rows
        if not len(left):
            return np.zeros((0, len(rows)))
        if nnz > FEW_EVENTS or taste.fold is None:
            return added.scores - _sums(added.all, left)
        kept = _kept(history, left)
        users = (taste.fold.subsets(kept) - taste.fold.vector) * self._weights(taste.weights)
        found: Vector = (taste.vector + users) @ self._ranking.vectors(rows).T
        fewer = history.subsets(kept) if taste.amounts else history
        for source, own in taste.amounts.items():
            amounts = np.tile(own, (len(left), 1))
            amounts[:, :nnz][~kept] = 0.0
            amounts[:, :nnz][kept] = self._factors.amounts(source, fewer) * _weight(taste.weights, source)
            table = np.zeros(added.all.shape)
            first, second, much = added.said[source]
            table[first, second] = much
            found += amounts @ table
        return found

    def likeness(self, rows: Ints) -> Vector:
        """The item vectors, each column weighted by its trust, without popularity."""
        vectors: Vector = self._ranking.vectors(rows) * self._taste_columns
        return vectors

    def bonds(self, rows: Ints) -> Bonds | None:
        """What the one item alone adds to the other's score by links, beside what the like of it would by vectors."""
        if not self._linked.sources:
            return None
        return Bonds.of(*self._link_shares(rows, rows), len(rows))

    def similar(self, row: int, *, n: int, among: Ints | None = None) -> tuple[Ints, Vector]:
        """By cosines of those vectors, and bonds."""
        near = self._linked.around(row)
        if among is not None:
            near = near[np.isin(near, among)]
        if not len(near):
            return self._ranking.alike(row, self._taste_columns, n=n, among=among)
        rows, cosines = self._ranking.alike(row, self._taste_columns, n=n, among=among, without=near)
        own, pair = np.array([row]), np.zeros(len(near))
        for place, said in ((1, self._link_shares(own, near)), (0, self._link_shares(near, own))):
            pair += np.bincount(said[place], said[2], minlength=len(near)) / 2
        vectors = self.likeness(np.append(own, near))
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)
        bound = closer(units[1:] @ units[0], np.clip(pair, -1.0, 1.0))
        rows, likeness = np.append(rows, near).astype(np.int64), np.append(cosines, bound)
        best = np.lexsort((rows, -likeness))[:n]
        return rows[best], likeness[best]

    def _weights(self, weights: Mapping[str, float]) -> Vector:
        """The weight of each column."""
        parts = self._factors.parts.items()
        return np.concatenate([np.full(part.stop - part.start, _weight(weights, name)) for name, part in parts])

    def _link_shares(self, items: Ints, rows: Ints) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Vector]:
        """What links of items say about rows, each once: places of both, and the share of what vectors say at most.

        At most is: of an item with the same direction, or by a link of the item, whichever is more.
        """
        ends, ones = np.arange(len(items) + 1), np.ones(len(items), np.float32)
        alone = Interactions(ends, np.asarray(items, np.int32), ones, self._ranking.n_items)
        together = Interactions(ends[[0, -1]], alone.indices, ones, alone.n_items)
        amounts = {source: self._factors.amounts(source, alone) for source in self._linked.sources}
        own = self._factors.fold(together).subsets(np.eye(len(items), dtype=np.bool_))
        says = np.linalg.norm(own * self._told, axis=1)
        hears = np.linalg.norm(self._ranking.vectors(rows) * self._told, axis=1)
        scales = [np.abs(own) * self._linked.scale(source, items) for source, own in amounts.items()]
        most = np.maximum(np.sum(scales, axis=0), TINY)
        one, other, said = zip(*(self._linked.between(source, items, rows) for source in amounts), strict=True)
        shares = np.concatenate(
            [each * amounts[source][at] for source, at, each in zip(amounts, one, said, strict=True)]
        )
        first, second = np.concatenate(one), np.concatenate(other)
        return first, second, shares / np.maximum(says[first] * hears[second], most[first])


def _weight(weights: Mapping[str, float], source: str) -> float:
    """The weight of a part of the score: its own, or that of its family, or 1."""
    return weights.get(source, weights.get(family_of(source), 1.0))


def _sums(added: Vector, left: Sequence[Ints] | Ints) -> Vector:
    """What is `left` out, added up: [len(left), n]."""
    if isinstance(left, np.ndarray):
        return added[left[:, 0]]
    sums: Vector = np.add.reduceat(added[np.concatenate(left)], np.cumsum([0, *map(len, left[:-1])]))
    return sums


def _kept(history: Interactions, left: Sequence[Ints] | Ints) -> npt.NDArray[np.bool_]:
    """Which interactions of one user's history are in it without those that are `left` out: [len(left), nnz]."""
    kept = np.ones((len(left), history.nnz), np.bool_)
    for one, out in zip(kept, left, strict=True):
        one[out] = False
    return kept


class ByScores:
    """A scorer for algorithms that return all scores at once."""

    def __init__(self, model: GlobalModel) -> None:
        self._model, self.new = model, frozenset[int]()
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

    def contributions(self, taste: Taste, rows: Ints) -> Added:
        """The change of the score if one interaction is left out: they need not sum to the score."""
        scores, n = self.scores(taste, rows), taste.history.nnz
        found = Added(rows, scores, np.zeros((0, len(rows))))
        return replace(found, all=scores - self.without(taste, found, list(np.arange(n)[:, None])))

    def without(self, taste: Taste, added: Added, left: Sequence[Ints] | Ints) -> Vector:
        """By the model's scores of what is left; in an array, by what was found to be added."""
        if isinstance(left, np.ndarray):
            return added.scores - _sums(added.all, left)
        found = np.zeros((len(left), len(added.rows)))
        for first in range(0, len(left), HISTORIES_AT_ONCE):
            part = slice(first, first + HISTORIES_AT_ONCE)
            some = taste.history.subsets(_kept(taste.history, left[part]))
            found[part] = self._model.scores(some)[:, added.rows]
        found += added.scores - self._model.scores(taste.history)[0, added.rows]
        return found

    def bonds(self, rows: Ints) -> Bonds | None:
        """None: see `likeness`."""
        return None

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
