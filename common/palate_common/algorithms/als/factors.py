"""AlsFactors: a state of `als`, prepared for scoring.

    score of item i  =  level * base_i  +  taste . basis_i popularity_i^e  +  weight * likes . content_i popularity_i^e
                        +  sum over links' sources of  weight * sum over events e of  amount_e link[e, i]

`level` is a history's part along the chance direction: how much, not what, its user likes. `base` is popularity,
`basis` the released directions over the head, `content` the directions of item features and `weight` their weight.
Links are those of pair counts and of an open panel. Scores are linear in the events, except that the trust in
directions, and the amount of links, depend on the effective number of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.als.content import content_trust
from palate_common.algorithms.als.pairs import link_amounts
from palate_common.algorithms.als.taste import TINY, chance_direction, relative_popularity, taste_weights, weighted_sums
from palate_common.algorithms.base import Factors, Fold, State
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.popularity import COUNTS
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import Float64
from palate_common.score_sources import COLLABORATIVE, CONTENT, PAIRS, PANEL, POPULARITY, source_of

TRUSTED_AFTER = 10
"""The number of events that `trust` is given for."""
ROWS_AT_ONCE = 65_536
"""Table rows that are computed at once in float64."""
LINKS: Mapping[str, str] = {PAIRS: "pairs", PANEL: "open"}
"""Score source -> the name under which a state has its links."""
GAINS: Mapping[str, float] = {PAIRS: 0.25, PANEL: 0.5}
"""Score source -> links count with the number of a user's events to this power, as the trust in directions grows."""

Folded = tuple[
    Interactions, slice | npt.NDArray[np.bool_], slice, Float64, Callable[[npt.NDArray[np.float64]], Float64]
]
"""Events that count for some columns of one user's vector, their places in the history, the columns, what each adds
before trust, and the trust after so many events."""


class AlsFactors(Factors):
    """Scores of `als`, and the user and item vectors whose products they are.

    Args:
        state: with directions, content or both.
        fold_exponent: an item's weight in a history is popularity^this.
        score_exponent: popularity's part in the ranking.
        head_items: the most popular items, whose mean popularity is 1.
        sources: names of the feature sources; ("",) where there is one.

    Attributes:
        popularity: relative popularity of all items, float64 [n_items].
        weight: weight of content.
    """

    def __init__(
        self,
        state: State,
        *,
        fold_exponent: float,
        score_exponent: float,
        head_items: int,
        sources: Sequence[str] = ("",),
    ) -> None:
        self.popularity = relative_popularity(state[COUNTS].astype(np.float64), float(state["floor"][0]), head_items)
        self.weight = float(state["content_weight"][0]) if CONTENT in state else 0.0
        self._state, self._fold, self._exponent, self._sources = state, fold_exponent, score_exponent, sources
        self._head: npt.NDArray[np.int32] | None = state["head"] if "basis" in state else None

    @cached_property
    def parts(self) -> Mapping[str, slice]:
        """Popularity, then the released directions, then content, each source by itself."""
        parts, end = {POPULARITY: slice(0, 1)}, 1
        widths = {COLLABORATIVE: self._state["basis"].shape[1]} if self._head is not None else {}
        if CONTENT in self._state:
            each = self._state.get("content_widths", [self._state[CONTENT].shape[1]])
            named = [source_of(CONTENT, name) for name in self._sources] if len(each) > 1 else [CONTENT]
            widths |= {name: int(width) for name, width in zip(named, each, strict=True)}
        for name, width in widths.items():
            parts[name] = slice(end, end + width)
            end += width
        return parts

    @cached_property
    def content(self) -> slice:
        """The columns of content, of all sources."""
        end = list(self.parts.values())[-1].stop
        return slice(end - self._state[CONTENT].shape[1], end) if CONTENT in self._state else slice(end, end)

    @property
    def trust(self) -> Float64:
        """Trust in each column after ten events, float64 [k]."""
        counts, columns = np.array([float(TRUSTED_AFTER)]), [np.ones(1)]
        if self._head is not None:
            columns.append(self._taste_weights(counts)[0])
        if CONTENT in self._state:
            columns.append(np.full(self._state["content"].shape[1], content_trust(counts)[0, 0]))
        return np.concatenate(columns)

    def items(self) -> npt.NDArray[np.float32]:
        """The items' vectors, float32 [n_items, k]."""
        table = np.zeros((len(self.popularity), list(self.parts.values())[-1].stop), np.float32)
        table[:, 0] = self.base
        head = np.zeros(0, np.int32) if self._head is None else self._head
        for first in range(0, len(head), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            table[head[part], self.parts[COLLABORATIVE]] = self._directions("basis", part, head[part])
        for first in range(0, len(table) if CONTENT in self._state else 0, ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            table[part, self.content] = self.weight * self._directions("content", part, part)
        return table

    def users(self, histories: Interactions) -> Float64:
        """Level, taste and content taste: float64 [n_users, k]."""
        if histories.n_users == 1:
            return self.fold(histories).vector[None]
        seen = self._within_head(histories)
        level = np.where(seen.counts()[:, None] > 0, weighted_sums(seen, self._along), 1.0)
        columns = [level]
        if self._head is not None:
            taste = self._along_directions("basis", seen, self._state["weight"])
            columns.append(taste * self._taste_weights(seen.effective_counts()))
        if CONTENT in self._state:
            content = self._along_directions(CONTENT, histories, self.popularity)
            columns.append(content * content_trust(histories.effective_counts()))
        return np.concatenate(columns, axis=1)

    def events(self, history: Interactions) -> Float64:
        """What each interaction of one user adds to their vector: float64 [nnz, k]."""
        return self.fold(history).events()

    def fold(self, history: Interactions) -> Fold:
        """One user's vector; the directions of their items are looked up once, whatever is asked about it."""
        parts, vector = list(self._folded(history)), np.zeros(list(self.parts.values())[-1].stop)
        trusts = [trust(own.effective_counts()) for own, _, _, _, trust in parts]
        for (own, _, columns, rows, _), trust in zip(parts, trusts, strict=True):
            vector[columns] = (segment_sum(rows, own.indptr) * trust)[0]
        if not parts[0][0].nnz:
            vector[0] = 1.0

        def events() -> Float64:
            vectors = np.zeros((history.nnz, len(vector)))
            for (_, places, columns, rows, _), trust in zip(parts, trusts, strict=True):
                vectors[places, columns] = rows * trust
            return vectors

        def subsets(kept: npt.NDArray[np.bool_]) -> Float64:
            vectors = np.zeros((len(kept), len(vector)))
            for own, places, columns, rows, trust in parts:
                there, weights = kept[:, places].astype(np.float64), own.weights.astype(np.float64)
                counts = (there @ weights) ** 2 / np.maximum(there @ weights**2, TINY)
                vectors[:, columns] = (there @ rows) * trust(counts)
            vectors[~kept[:, parts[0][1]].any(axis=1), 0] = 1.0
            return vectors

        return Fold(vector, events, subsets)

    def _folded(self, history: Interactions) -> Iterator[Folded]:
        """The parts of one user's vector: its sums are over these events' rows, times trust in so many events."""
        seen = self._within_head(history)
        shown = slice(None) if seen.nnz == history.nnz else self._places[history.indices] >= 0
        yield seen, shown, slice(0, 1), self._along[seen.indices] * seen.weights[:, None], _in_full
        if self._head is not None:
            taste = self._each("basis", seen, self._state["weight"])
            yield seen, shown, self.parts[COLLABORATIVE], taste, self._taste_weights
        if CONTENT in self._state:
            yield history, slice(None), self.content, self._each(CONTENT, history, self.popularity), content_trust

    @cached_property
    def links(self) -> Mapping[str, Links]:
        """Those of pair counts and of an open panel, as far as the state has them and they count."""
        return {
            source: Links.of_state(self._state, name)
            for source, name in LINKS.items()
            if f"{name}_weight" in self._state and self.link_weight(source)
        }

    def link_weight(self, source: str) -> float:
        """The weight of a source's links."""
        return float(self._state[f"{LINKS[source]}_weight"][0])

    def amounts(self, source: str, histories: Interactions) -> Float64:
        """How much the links of each interaction count, float64 [nnz]."""
        return self.link_weight(source) * self.balanced_amounts(source, histories)

    def balanced_amounts(self, source: str, histories: Interactions) -> Float64:
        """The same at weight 1."""
        balance = float(self._state[f"{LINKS[source]}_balance"][0])
        return balance * link_amounts(histories, GAINS[source])

    def scores(self, histories: Interactions) -> Float64:
        """Each user's score of each item, float64 [n_users, n_items]."""
        scores = self.scores_without_links(histories)
        for source, links in self.links.items():
            scores += links.scores(histories, self.amounts(source, histories))
        return scores

    def scores_without_links(self, histories: Interactions) -> Float64:
        """The part of scores that is a product of vectors, float64 [n_users, n_items]."""
        users = self.users(histories)
        # Taste is multiplied over the head alone, which may be a small part of the catalogue.
        scores: Float64 = users[:, :1] * self.base
        if self._head is not None:
            scores[:, self._head] += users[:, self.parts[COLLABORATIVE]] @ self._basis.T
        if self.weight:
            scores += self.weight * (users[:, self.content] @ self._content.T)
        return scores

    def tables(self) -> tuple[Float64, npt.NDArray[np.int32], Float64, Float64]:
        """What scores are made of: base [n_items], head [h], its directions [h, d], content at weight 1 [n_items, c].

        Where a state has no directions or no content, they are empty.
        """
        head, basis, content = np.zeros(0, np.int32), np.zeros((0, 0)), np.zeros((len(self.popularity), 0))
        if self._head is not None:
            head, basis = self._head, self._basis
        return self.base, head, basis, self._content if CONTENT in self._state else content

    @cached_property
    def norm(self) -> float:
        """Length of the chance direction before it is made a unit: over the head, or over all items without one."""
        return float(np.linalg.norm(self._reference ** (1 + self._fold)))

    @cached_property
    def base(self) -> Float64:
        """Popularity's part of a score at level 1, float64 [n_items]."""
        counts = self._state[COUNTS].astype(np.float64)
        base = self.popularity ** (self._exponent + 1 + self._fold) / self.norm
        # The last term only orders items that share the floor.
        ordered: Float64 = base + 1e-9 * counts / max(float(np.abs(counts).max()), TINY)
        return ordered

    @cached_property
    def _places(self) -> npt.NDArray[np.int32]:
        """Each item's index in the head, -1 for other items, int32 [n_items]."""
        places = np.full(len(self.popularity), -1, np.int32)
        if self._head is not None:
            places[self._head] = np.arange(len(self._head), dtype=np.int32)
        return places

    @cached_property
    def _reference(self) -> Float64:
        """Popularity of the items that count for the level: the head, or without one all items."""
        return self.popularity if self._head is None else self.popularity[self._head]

    @cached_property
    def _along(self) -> Float64:
        """What an event on each of these items adds along the chance direction, float64 [h, 1]."""
        along: Float64 = (self._reference**self._fold * chance_direction(self._reference, self._fold))[:, None]
        return along

    @cached_property
    def _lift(self) -> Float64:
        """Popularity's factor on each item's taste score, float64 [n_items]."""
        lift: Float64 = self.popularity**self._exponent
        return lift

    @cached_property
    def _basis(self) -> Float64:
        """The released directions times the lift of their items, float64 [h, d]."""
        return self._directions("basis", slice(None), self._head)

    @cached_property
    def _content(self) -> Float64:
        """The content directions times the lift of their items, float64 [n_items, c]."""
        return self._directions("content", slice(None), slice(None))

    def _directions(self, name: str, part: slice, items: slice | npt.NDArray[np.int32] | None) -> Float64:
        """Rows `part` of the directions `name`, times the lift of their items."""
        rows: Float64 = self._lift[items, None] * self._state[name][part].astype(np.float64)
        return rows

    def _within_head(self, histories: Interactions) -> Interactions:
        """The histories restricted to the items that count for the level."""
        if self._head is None:
            return histories
        places = self._places[histories.indices]
        return Interactions(histories.indptr, places, histories.weights, len(self._head)).entries(places >= 0)

    def _taste_weights(self, counts: Float64) -> Float64:
        """Trust in the released directions after `counts` items, float64 [n_users, d]."""
        strength, accuracy = self._state["strength"].astype(np.float64), self._state["accuracy"].astype(np.float64)
        return taste_weights(counts, strength, accuracy)

    def _along_directions(self, name: str, histories: Interactions, weight: npt.NDArray[np.floating]) -> Float64:
        """Each user's sum of the directions of their items, weighted by weight^fold: float64 [n_users, width]."""
        # Only the rows of items that occur are computed, each once.
        used = np.flatnonzero(np.bincount(histories.indices, minlength=histories.n_items)).astype(np.int32)
        places = np.zeros(histories.n_items, np.int32)
        places[used] = np.arange(len(used), dtype=np.int32)
        few = Interactions(histories.indptr, places[histories.indices], histories.weights, len(used))
        return weighted_sums(few, self._rows(name, used, weight))

    def _each(self, name: str, history: Interactions, weight: npt.NDArray[np.floating]) -> Float64:
        """Each event's weighted direction, float64 [nnz, width]."""
        rows = self._rows(name, history.indices, weight)
        rows *= history.weights[:, None]
        return rows

    def _rows(self, name: str, items: npt.NDArray[np.int32], weight: npt.NDArray[np.floating]) -> Float64:
        """The directions of `items` times weight^fold, float64 [len(items), width]."""
        rows: Float64 = (weight[items].astype(np.float64) ** self._fold)[:, None] * self._state[name][items]
        return rows


def _in_full(counts: Float64) -> Float64:
    """The level is trusted in full after any number of items, float64 [n_users, 1]."""
    return np.ones((len(counts), 1))
