"""Recommender: what to show the user of this device. Last stop of the path on a device.

    Interests -> taste (the algorithm's fold-in) -> exact ranking -> diversity -> exploration -> [Recommendation]

The taste is made anew whenever an event came in. It is on no disk and in no message: a recommender can't be copied or
pickled, and what it shows of a taste are items.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from palate_client.blending import EXPLORATION, Blend, exploration_of, weights_of
from palate_client.diversity import diverse
from palate_client.events import KINDS, Kind
from palate_client.explanation import TOLD, Contribution, Explanation, in_words
from palate_client.exploration import Crowd, slots
from palate_client.interests import Interests, Look
from palate_client.scoring import Taste, scorer_of
from palate_common.algorithms.popularity import COUNTS
from palate_common.errors import InputError
from palate_common.model import GlobalModel, catalogue_hash
from palate_common.sources import POPULARITY

EXPLORE, EXPLORE_NEW = 0.1, 0.3
"""The share of a list that explores, and that of somebody without events."""
DIVERSITY = 0.1
DEBIAS = 0.0
TURNED_DOWN: Kind = "dismiss"
POOL = 4
"""So many times as many candidates are looked at for diversity."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recommendation:
    """One item to show.

    Attributes:
        item: its id.
        score: what it is ranked by; comparable within a list only.
        source: what brought it: popularity, collaborative, content or exploration.
        reason: in words that can be shown to the user.
        position: in the list, from 0.
    """

    item: str
    score: float
    source: str
    reason: str
    position: int


@dataclass(frozen=True)
class Similar:
    """An item that is like another.

    Attributes:
        item: its id.
        score: how like; at most 1 where the model has item vectors.
    """

    item: str
    score: float


class Recommender:
    """Recommendations from a model and one user's interests.

    Args:
        model: the global model.
        items: item ids in the model's row order.
        interests: the user's, against the same catalogue.
        domains: of each item, such as "books"; None: there is one.
        blend: what became of earlier recommendations; None: sources count as the model has them.
        rng: for exploring; a recommendation is not a release, so that any generator will do.

    Raises:
        InputError: the items are not those of the model.
    """

    def __init__(
        self,
        model: GlobalModel,
        items: Sequence[str],
        interests: Interests,
        *,
        domains: Sequence[str] | None = None,
        blend: Blend | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        header = model.header
        if not len(items) == interests.n_items == header.facts.n_items:
            raise InputError(f"`items` must be the model's {header.facts.n_items} items, got {len(items)}")
        if header.catalogue and header.catalogue != catalogue_hash(items):
            raise InputError("`items` must be the model's, in its order, got others")
        if domains is not None and len(domains) != len(items):
            raise InputError(f"`domains` must have one for each of {len(items)} items, got {len(domains)}")
        self._items, self._interests, self._blend = items, interests, blend
        self._domains = None if domains is None else np.array(domains, dtype=np.str_)
        self._rng = np.random.default_rng() if rng is None else rng
        self._scorer = scorer_of(model)
        self._crowd = Crowd(model.state.get(COUNTS, np.ones(len(items))))
        self._lock = threading.RLock()
        self._taste: Taste | None = None
        self._look: Look | None = None
        self._made_of: tuple[float, dict[str, tuple[float, float]]] = (DEBIAS, {})
        self._did: tuple[Kind, ...] = ()

    def recommend(
        self,
        n: int = 10,
        *,
        filter_already_liked_items: bool = True,
        filter_items: Iterable[str] = (),
        items: Iterable[str] | None = None,
        domain: str | None = None,
        explore: float | None = None,
        diversity: float | None = None,
        debias: float | None = None,
    ) -> list[Recommendation]:
        """What to show, best first. What the user hid or turned down never comes back.

        Args:
            n: how many; fewer come back where there are fewer.
            filter_already_liked_items: leave out what the user has events on that count.
            filter_items: leave out these, too.
            items: recommend only these; ids that the model doesn't know have no score and are left out.
            domain: recommend only items of this domain.
            explore: the share of the list that explores, 0 to 1; None: a tenth, more for somebody without events, and
                more or less by what became of it.
            diversity: from 0, by score alone, to 1; None: `DIVERSITY`.
            debias: how much of popularity's own part in a score is taken away, 0 to 1; None: `DEBIAS`.

        Raises:
            InputError: an argument out of range, or a domain that doesn't exist.
            PalateError: the store can't be read.
        """
        _check_count(n)
        diversity, debias = DIVERSITY if diversity is None else diversity, DEBIAS if debias is None else debias
        for name, share in (("explore", explore or 0.0), ("diversity", diversity), ("debias", debias)):
            if isinstance(share, bool) or not 0 <= share <= 1:
                raise InputError(f"`{name}` must be a share from 0 to 1, got {share!r}")
        with self._lock:
            allowed = self._allowed(items, domain)
            taste, look, counts = self._current(debias)
            own = taste.history.indices if filter_already_liked_items else taste.history.indices[:0]
            without = np.unique(np.concatenate([look.unwanted, own, self._known(filter_items)])).astype(np.int64)
            wide = n * POOL if diversity else n
            pool = self._best(taste, wide, without, allowed)
            order = self._varied(taste, pool, n, diversity)
            if explore is None:
                explore = exploration_of(counts, EXPLORE if taste.history.nnz else EXPLORE_NEW)
            places = slots(explore, len(order), self._rng)
            if len(places):
                drawn = self._crowd.history(taste.history, self._rng)
                other = self._scorer.taste(drawn, taste.less, _weights(counts, 1.0))  # popularity apart
                kept = order[: len(order) - len(places)]
                candidates = self._best(other, wide, np.union1d(without, kept), allowed)
                found = self._varied(other, candidates, len(places), diversity, kept)
                order = np.insert(kept, places - np.arange(len(places)), found)
            return self._told(taste, order, {int(place) for place in places}, pool)

    def explain(self, item: str) -> Explanation:
        """What each of the user's events adds to the item's score.

        Raises:
            InputError: an item that the model doesn't know.
        """
        row = self._row(item)
        with self._lock:
            taste, _, _ = self._current(DEBIAS)
            score = float(self._scorer.scores(taste, np.array([row]))[0])
            contributions = self._contributions(taste, np.array([row]))[0]
        return Explanation(item, score, contributions, score - sum(each.score for each in contributions))

    def similar_items(self, item: str, n: int = 10) -> list[Similar]:
        """Items like this one by the model, most alike first, whatever the user thinks of them.

        Raises:
            InputError: an item that the model doesn't know.
        """
        _check_count(n)
        row = self._row(item)
        likeness = self._scorer.similar(row)
        likeness[row] = -np.inf
        best = np.argsort(-likeness, kind="stable")[: min(n, len(likeness) - 1)]
        return [Similar(self._items[place], float(likeness[place])) for place in best]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a recommender holds its user's taste, which stays in this process")

    def _current(self, debias: float) -> tuple[Taste, Look, dict[str, tuple[float, float]]]:
        """The user's taste, made anew if an event came in or an outcome; and what it is made of."""
        look, counts = self._interests.look(), {} if self._blend is None else self._blend.counts()
        if self._taste is None or self._made_of != (debias, counts) or self._look is not look:
            kept = ~np.isin(look.interactions.indices, look.dismissed)
            history = look.interactions.entries(kept)
            self._taste = self._scorer.taste(history, look.dismissed, _weights(counts, debias))
            did = [KINDS[code] for code in look.kinds[kept].tolist()]
            self._did = (*did, *(TURNED_DOWN for _ in look.dismissed))
            self._look, self._made_of = look, (debias, counts)
        return self._taste, look, counts

    def _allowed(self, items: Iterable[str] | None, domain: str | None) -> Rows | None:
        """Rows that may be recommended, None for all."""
        if items is None and domain is None:
            return None
        rows = np.arange(len(self._items)) if items is None else self._known(items)
        if domain is None:
            return rows
        fits = np.zeros(len(self._items), bool) if self._domains is None else self._domains == domain
        if not fits.any():
            raise InputError(f"`domain` must be one that items have, got {domain!r:.80}")
        within: Rows = rows[fits[rows]]
        return within

    def _best(self, taste: Taste, n: int, without: Rows, allowed: Rows | None) -> Rows:
        """The n best by score."""
        if allowed is None:
            return self._scorer.top(taste, n=n, without=without)
        rows = np.setdiff1d(allowed, without)
        return rows[np.argsort(-self._scorer.scores(taste, rows), kind="stable")[:n]]

    def _varied(self, taste: Taste, pool: Rows, n: int, diversity: float, beside: Rows | None = None) -> Rows:
        """The n of a pool, best first, that are good and unlike each other and those beside them."""
        if not diversity or len(pool) < 2:
            return pool if len(pool) <= n else pool[:n]
        vectors = self._scorer.likeness(pool)
        others = None if beside is None else self._scorer.likeness(beside)
        scores = self._scorer.scores(taste, pool)
        return pool[diverse(scores, vectors, n=n, diversity=diversity, beside=others)]

    def _told(self, taste: Taste, order: Rows, explored: Collection[int], pool: Rows) -> list[Recommendation]:
        """Recommendations of rows, with where they come from and why."""
        if not len(order):
            return []
        parts = self._scorer.by_part(taste, order)
        usual = parts if pool is order else self._scorer.by_part(taste, pool)
        scores = sum(parts.values()).tolist()
        above = [parts[name] - usual[name].mean() for name in parts]
        names, sources = list(parts), np.argmax(above, axis=0).tolist()
        because = self._contributions(taste, order, most=TOLD)
        told = []
        for place, row in enumerate(order.tolist()):
            source = EXPLORATION if place in explored else names[sources[place]]
            why = "something new" if source == EXPLORATION else in_words(because[place])
            told.append(Recommendation(self._items[row], scores[place], source, why, place))
        return told

    def _contributions(self, taste: Taste, rows: Rows, most: int | None = None) -> list[tuple[Contribution, ...]]:
        """What each event adds to each item's score, largest first; the first so many."""
        own = [*taste.history.indices.tolist(), *taste.less.tolist()]
        added = self._scorer.contributions(taste, rows).T
        places = np.argsort(-added, axis=1, kind="stable")[:, :most]
        found = zip(places.tolist(), np.take_along_axis(added, places, axis=1).tolist(), strict=True)
        return [
            tuple(Contribution(self._items[own[place]], self._did[place], more) for place, more in zip(*each, strict=True))
            for each in found
        ]

    def _known(self, items: Iterable[str]) -> Rows:
        """Rows of the items that the model knows."""
        rows = self._interests.rows
        return np.unique(np.array([rows[item] for item in items if item in rows], np.int64))

    def _row(self, item: str) -> int:
        """The row of an item."""
        row = self._interests.rows.get(item)
        if row is None:
            raise InputError(f"`item` must be one of the model's, got {item!r:.80}")
        return row


def _weights(counts: Mapping[str, tuple[float, float]], debias: float) -> dict[str, float]:
    """How much each part of a score counts."""
    weights = weights_of(counts)
    return weights | {POPULARITY: weights[POPULARITY] * (1 - debias)}


def _check_count(n: int) -> None:
    """Refuse what is no number of items."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"`n` must be a number of items from 1, got {n!r:.40}")
