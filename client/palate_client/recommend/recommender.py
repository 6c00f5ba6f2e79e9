"""Recommender: makes the list of recommendations for the device's user. The last step of the path on a device.

    Interests -> taste (the algorithm's fold-in) -> exact ranking -> diversity -> exploration -> [Recommendation]

The taste, such as a user vector, is recomputed after each new event. It is written to no disk and no message: a
recommender can't be copied or pickled, and it returns only items.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from palate_client.events import check_items
from palate_client.language.language import language_of
from palate_client.recommend.adaptation.blending import AGAIN, EXPLORATION, PROMOTED, Blend, exploration_of, weights_of
from palate_client.recommend.adaptation.fusion import fused_weights
from palate_client.recommend.baskets import basket_taste, in_session, list_scores
from palate_client.recommend.discovery import NEW, mix_of
from palate_client.recommend.diversity import diverse
from palate_client.recommend.evidence import NOTHING
from palate_client.recommend.explanation import (
    TASTE,
    WHY,
    WHY_ALONE,
    Contribution,
    Explanation,
    in_words,
    reason_in,
)
from palate_client.recommend.exploration import RandomHistories, slots
from palate_client.recommend.facts.new_items import NEW_ITEM
from palate_client.recommend.facts.steering import Filter, Steer, Steering
from palate_client.recommend.interests import Interests, Look
from palate_client.recommend.questions import questions
from palate_client.recommend.reasons import named_events
from palate_client.recommend.scoring import TINY, Added, Taste, Vector, scorer_of
from palate_client.recommend.selection import Rows, Selection
from palate_client.store.forking import ForkGuard
from palate_common.algorithms.popularity import COUNTS
from palate_common.domains import focus
from palate_common.kinds import EventKind
from palate_common.models.model import GlobalModel, catalogue_hash
from palate_common.models.where import Mask
from palate_common.score_sources import CONTENT, POPULARITY, family_of
from palate_core.errors import InputError

TURNED_DOWN, SEEN = "dismiss", "view"
"""What the user did with an item that counts against their taste, and with one of a session, which isn't stored."""
POOL, SHORT = 4, 10
"""Number of candidates per item of a list, for diversity and for finding an item's source; a list shorter than `SHORT`
has as many as one of that length."""
FEW = 4096
"""The most allowed items that are all scored instead of searched."""
FREE = Steer()


@dataclass(frozen=True)
class Recommendation:
    """A recommended item.

    Attributes:
        item: its id.
        score: its score; comparable only within a list.
        source: where it came from: popularity, collaborative, content, panel or exploration; or one of several of a
            family, such as "collaborative:pairs"; or promoted: by a rule, a pin or a boost.
        reason: why it is recommended, as text for the user.
        position: its position in the list, from 0.
        because: the contributions of the events that the reason names, largest first: without these events the item
            would stand lower; not compared.
        domain: its domain; None: there is only one.
        title: its title by the model's item table; "": it has none.
    """

    item: str
    score: float
    source: str
    reason: str
    position: int
    because: tuple[Contribution, ...] = field(default=(), compare=False, repr=False)
    domain: str | None = field(default=None, compare=False, repr=False)
    title: str = ""

    def told(self, language: str | Path | None = None, *, titles: Mapping[str, str] | None = None) -> str:
        """The reason in the user's language, with titles.

        Args:
            language: a BCP 47 tag, or a catalogue of the app's own; see `Device.page`.
            titles: item id -> its title, in the place of the item table's; an item without one is named by its id.

        Raises:
            InputError: it is no tag, or the catalogue can't be used.
        """
        return "".join(reason_in(language_of(language), self.source, self.because, self.domain, titles or {}))


@dataclass(frozen=True)
class Similar:
    """An item that is similar to another one.

    Attributes:
        item: its id.
        score: the similarity; a cosine, at most 1, if the model has item vectors.
        title: its title by the model's item table; "": it has none.
    """

    item: str
    score: float
    title: str = ""


class ModelRecommender:
    """Recommendations from a model and one user's interests.

    Args:
        model: the global model.
        items: item ids in the model's row order.
        interests: the user's interests, with the same catalogue.
        domains: the domain of each item, such as "books"; None: all have the same.
        blend: reactions to earlier recommendations, for the weights of sources; None: all weights are the model's.
        fuse: whether this device learns weights for the sources of the scores; None: it does if the model has
            several sources of public features.
        titles: item id -> title.
        steering: public facts and rules; None: there are none.
        learned: of how many items, the first ones, the model was learned; None: of all.
        rng: random numbers for exploration; they needn't be secure, as a recommendation is not a release.

    Raises:
        InputError: the items are not the model's.
    """

    def __init__(
        self,
        model: GlobalModel,
        items: Sequence[str],
        interests: Interests,
        *,
        domains: Sequence[str] | None = None,
        blend: Blend | None = None,
        fuse: bool | None = None,
        titles: Mapping[str, str] | None = None,
        steering: Steering | None = None,
        learned: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        header = model.header
        if not len(items) == interests.n_items == header.facts.n_items:
            raise InputError(f"`items` must be the model's {header.facts.n_items} items, got {len(items)}")
        if header.catalogue and header.catalogue != catalogue_hash(items):
            raise InputError("`items` must be the model's, in its order, got others")
        self._items, self._interests, self._blend, self._titles = items, interests, blend, titles or {}
        self._steering = Steering(interests.rows) if steering is None else steering
        self._selection = Selection(interests.rows, domains, self._steering.offered)
        self._rng = np.random.default_rng() if rng is None else rng
        self._scorer = scorer_of(model, self._steering.table, learned)
        self._popularity = model.state.get(COUNTS, np.ones(len(items)))
        self._crowd = RandomHistories(self._popularity)
        self._lock = threading.RLock()  # `_recommenders` takes it before a fork
        several = any(family_of(source) == CONTENT != source for source in self._scorer.sources)
        self._fuse, self._fused = several if fuse is None else fuse, dict[str, float]()
        self._taste: Taste | None = None
        self._look: Look | None = None
        self._made_of: tuple[float, str | None, list[int], dict[str, tuple[float, float]]] = (0.0, None, [], {})
        self._weighed = NOTHING.positives.weigh(interests.weighting, None)
        _recommenders.add(self)

    def recommend(
        self,
        n: int = 10,
        *,
        filter_already_liked_items: bool = True,
        filter_items: Iterable[str] = (),
        items: Iterable[str] | None = None,
        domain: str | None = None,
        discovery: float | None = None,
        explore: float | None = None,
        diversity: float | None = None,
        debias: float | None = None,
        context: Sequence[str] = (),
        tuning: float = 1.0,
        where: Filter | None = None,
        pin: Sequence[str] = (),
        boost: Mapping[str, float] | None = None,
        diversity_by: str | None = None,
    ) -> list[Recommendation]:
        """See `Device.recommend`. Without `explore`, `tuning` is a factor on the explored share: at most a half."""
        _check_count(n)
        check_items("filter_items", filter_items)
        check_items("items", items)
        check_items("context", context)
        mix = mix_of(discovery, explore=explore, diversity=diversity, debias=debias)
        with self._lock:
            steer = self._steering.steer(n, where=where, pin=pin, boost=boost, diversity_by=diversity_by) or FREE
            allowed = self._selection.allowed_rows(items, domain, steer.rows)
            taste, look, counts = self._current(mix.debias, domain, context)
            own = taste.history.indices if filter_already_liked_items else taste.history.indices[:0]
            without = np.concatenate([look.unwanted, own, self._selection.known_rows([*filter_items, *context])])
            may = self._may(allowed) if steer.marks else None
            first = steer.pinned[~np.isin(steer.pinned, without)]
            first = (first if may is None else first[may[first]])[:n]
            n, without = n - len(first), np.append(without, first)
            wide = POOL * max(n, SHORT)
            out = np.concatenate([without, look.resting])
            pool, lifts, lifted = self._lifted(taste, self._best(taste, wide, out, allowed), n, out, may, steer)
            order = self._rerank(taste, pool, n, mix.diversity, lifts=lifts, steer=steer)
            if len(order) < n and len(out) > len(without):  # items that pause come after all others
                out = without
                rest = self._best(taste, n - len(order), np.append(without, order), allowed)
                pool = order = np.append(order, rest)
            share = mix.explore
            if explore is None:
                share = exploration_of(counts, tuning * (share if taste.history.nnz else NEW * share))
            places = slots(share, len(order), self._rng)
            if len(places):
                within = None if domain is None else self._selection.within(domain)
                drawn = self._crowd.history(taste.history, self._rng, within)
                other = self._scorer.taste(drawn, taste.less, _weights(counts, 1.0, self._fused))  # without popularity
                kept = order[: len(order) - len(places)]
                candidates = self._best(other, wide, np.append(out, kept), allowed)
                found = self._rerank(other, candidates, len(places), mix.diversity, kept, steer=steer)
                order = np.insert(kept, places - np.arange(len(places)), found)
            if len(first):
                order = np.append(first, order)
            explored = {int(place) + len(first) for place in places}
            return self._with_reasons(taste, order, explored, pool if len(pool) else order, {*first.tolist(), *lifted})

    @property
    def lengths(self) -> dict[str, float]:
        """Item -> its seconds, where the item table has them."""
        return self._steering.numbers("seconds")

    def listed_again(self, n: int, found: Mapping[str, float], kind: EventKind) -> list[Recommendation]:
        """Items of the user's own, in this order, as far as a list may have them: see `Device.buy_again`."""
        _check_count(n)
        with self._lock:
            out, may = {*self._interests.look().unwanted.tolist()}, self._may(self._selection.allowed_rows(None, None))
        rows = {item: self._interests.rows[item] for item in found if item in self._interests.rows}
        told = list[Recommendation]()
        for item in [item for item, row in rows.items() if row not in out and (may is None or may[row])][:n]:
            title, domain = self._titles.get(item, ""), self._selection.domain(rows[item])
            because = (Contribution(item, kind, max(found[item], TINY), domain, title=title),)
            why = in_words(because, domain)
            told.append(Recommendation(item, found[item], AGAIN, why, len(told), because, domain, title))
        return told

    def questions(self, n: int = 1, *, items: Iterable[str] | None = None, domain: str | None = None) -> list[str]:
        """See `Device.questions`."""
        _check_count(n)
        check_items("items", items)
        with self._lock:
            allowed = self._selection.allowed_rows(items, domain)
            taste, look, _ = self._current(0.0, domain)
            asked = np.unique(np.concatenate([look.interactions.indices, look.unwanted, look.skipped]))
            among = np.setdiff1d(np.arange(len(self._items)) if allowed is None else allowed, asked)
            rows = questions(self._scorer, self._popularity, taste, asked, among, n)
        return [self._items[row] for row in rows.tolist()]

    def explain(
        self,
        item: str,
        *,
        domain: str | None = None,
        discovery: float | None = None,
        debias: float | None = None,
        context: Sequence[str] = (),
    ) -> Explanation:
        """See `Device.explain`."""
        check_items("context", context)
        row, mix = self._selection.row(item), mix_of(discovery, debias=debias)
        with self._lock:
            taste, _, _ = self._current(mix.debias, domain, context)
            score = float(self._scorer.scores(taste, np.array([row]))[0])
            added = self._scorer.contributions(taste, np.array([row]))
            contributions = self._told(taste, added, [np.argsort(-added.all[:, 0], kind="stable")], [0])[0]
        rest = score - sum(each.score for each in contributions)
        return Explanation(item, score, contributions, rest, self._selection.domain(row))

    def liked_items(self) -> list[tuple[str, float, str | None]]:
        """What counts for the user's taste: items with their weights, and their domains if there are several.

        Raises:
            PalateError: the store can't be read.
        """
        found = self._interests.interactions()
        return [
            (self._items[row], weight, self._selection.domain(row))
            for row, weight in zip(found.indices.tolist(), found.weights.tolist(), strict=True)
        ]

    def fits(self, item: str, reach: float) -> bool:
        """Whether an item is in the top share `reach` of its domain for this user, and is new to them.

        It is false for items that they hid, dismissed or have positive events on, and for items unknown to the model.
        """
        rows = self._selection.known_rows([item])
        if not len(rows):
            return False
        with self._lock:
            domain = self._selection.domain(int(rows[0]))
            taste, look, _ = self._current(0.0, domain)
            without = np.concatenate([look.unwanted, taste.history.indices])
            among = self._selection.allowed_rows(None, domain)
            n_items = len(self._items) if among is None else len(among)
            best = self._scorer.top(taste, n=math.ceil(reach * n_items), without=without, among=among)
        return bool(np.isin(rows, best).all())

    def similar_items(self, item: str, n: int = 10, *, domain: str | None = None) -> list[Similar]:
        """See `Device.similar_items`."""
        _check_count(n)
        row = self._selection.row(item)
        among = self._selection.allowed_rows(None, domain)
        rows, likeness = self._scorer.similar(row, n=n, among=among)
        found = zip((self._items[row] for row in rows.tolist()), likeness.tolist(), strict=True)
        return [Similar(each, score, self._titles.get(each, "")) for each, score in found]

    def goes_with(self, items: Sequence[str], n: int = 10, *, domain: str | None = None) -> list[Similar]:
        """See `Device.goes_with`."""
        _check_count(n)
        check_items("items", items)
        basket, among = self._selection.known_rows(items), self._selection.allowed_rows(None, domain)
        if not len(basket):
            return []
        taste = basket_taste(self._scorer, basket, len(self._items))
        rows = self._best(taste, n, np.union1d(basket, self._interests.look().unwanted), among)
        found = zip((self._items[row] for row in rows.tolist()), self._scorer.scores(taste, rows).tolist(), strict=True)
        return [Similar(each, score, self._titles.get(each, "")) for each, score in found]

    def rank_lists(
        self, lists: Mapping[str, Sequence[str]], n: int = 10, *, context: Sequence[str] = ()
    ) -> list[Similar]:
        """See `Device.rank_lists`."""
        _check_count(n)
        if not isinstance(lists, Mapping):
            raise InputError(f"`lists` must name lists of items, got {lists!r:.40}")
        for each in (*lists.values(), context):
            check_items("lists", each)
        with self._lock:
            taste, look, _ = self._current(0.0, None, context)
            rows = {name: self._selection.known_rows(items) for name, items in lists.items()}
            scores = {name: self._scorer.scores(taste, some) for name, some in rows.items() if len(some)}
            left = [name for name in scores if not np.isin(rows[name], look.unwanted).any()]
        if not left:
            return []
        fits = list_scores([scores[name] for name in left])
        best = np.argsort(-fits, kind="stable")[:n].tolist()
        return [Similar(left[at], float(fits[at])) for at in best]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a recommender holds its user's taste, which stays in this process")

    def _current(
        self, debias: float, domain: str | None, context: Sequence[str] = ()
    ) -> tuple[Taste, Look, dict[str, tuple[float, float]]]:
        """The user's taste for a domain, recomputed after a new event or reaction; its interests and counts."""
        session = [row for item in context if (row := self._interests.rows.get(item)) is not None]
        look, counts = self._interests.look(), {} if self._blend is None else self._blend.counts()
        made_of = (debias, domain, session, counts)
        if self._taste is None or self._made_of != made_of or self._look is not look:
            kept = ~np.isin(look.interactions.indices, look.dismissed)
            history = look.recent.entries(kept)
            if domain is not None:
                within = np.zeros(history.n_items, np.bool_)
                within[self._selection.within(domain)] = True
                history = focus(history, within)
            if self._fuse:
                self._fused = fused_weights(self._scorer, history)
            session = [row for row in session if row not in look.dismissed]
            history = in_session(history, session)
            self._taste = self._scorer.taste(history, look.dismissed, _weights(counts, debias, self._fused))
            self._weighed = look.weighed.only(kept)
            self._look, self._made_of = look, made_of
        return self._taste, look, counts

    def _best(self, taste: Taste, n: int, without: Rows, allowed: Rows | None) -> Rows:
        if allowed is None or len(allowed) > FEW:
            return self._scorer.top(taste, n=n, without=without, among=allowed)
        rows = np.setdiff1d(allowed, without, assume_unique=True)
        return rows[np.argsort(-self._scorer.scores(taste, rows), kind="stable")[:n]]

    def _may(self, allowed: Rows | None) -> Mask | None:
        """The allowed rows as a mask; None: all."""
        if allowed is None:
            return None
        mask = np.zeros(len(self._items), np.bool_)
        mask[allowed] = True
        return mask

    def _lifted(
        self, taste: Taste, pool: Rows, n: int, out: Rows, may: Mask | None, steer: Steer
    ) -> tuple[Rows, Vector | None, list[int]]:
        """A pool with what boosts bring near it, best first; what they add to its scores; and whom they bring in.

        A boost adds its share of the distance between the best and the last of the pool: what is far from a user's
        taste stays far. The n best of all that rise come into the pool.
        """
        if not steer.lifts or not len(pool):
            return pool, None, []
        plain, n = self._scorer.scores(taste, pool), max(n, 1)
        span, least = float(np.ptp(plain)), float(plain.min())
        lifts = span * steer.lift(pool)
        if np.sort(plain + lifts)[-n:][0] < least + span * steer.most:  # others than these may come among the n best
            risers = steer.risers if may is None else steer.risers & may
            pool = np.union1d(pool, self._best(taste, n, out, np.flatnonzero(risers)))
            plain = self._scorer.scores(taste, pool)
            lifts = span * steer.lift(pool)
        order = np.lexsort((pool, -(plain + lifts)))
        risen = (lifts > 0) & (plain < np.sort(plain)[-n:][0])
        return pool[order], lifts[order], pool[risen].tolist()

    def _rerank(
        self,
        taste: Taste,
        pool: Rows,
        n: int,
        diversity: float,
        beside: Rows | None = None,
        *,
        lifts: Vector | None = None,
        steer: Steer | None = None,
    ) -> Rows:
        """Rerank a pool, best first, for diversity, also towards the rows `beside`; the first n."""
        if not diversity or len(pool) < 2:
            return pool if len(pool) <= n else pool[:n]
        scores = self._scorer.scores(taste, pool) + (0.0 if lifts is None else lifts)
        whole = pool if beside is None else np.append(pool, beside)
        if steer is not None and steer.of_column is not None:
            table, bonds = steer.of_column(whole), None
        else:
            table, bonds = self._scorer.likeness(whole), self._scorer.bonds(whole)
        vectors, others = table[: len(pool)], table[len(pool) :]
        return pool[diverse(scores, vectors, n=n, diversity=diversity, beside=others, bonds=bonds)]

    def _with_reasons(
        self, taste: Taste, order: Rows, explored: Collection[int], pool: Rows, promoted: Collection[int]
    ) -> list[Recommendation]:
        """Make recommendations of rows, with source and reason."""
        if not len(order):
            return []
        parts = self._scorer.by_part(taste, order)
        usual = parts if pool is order else self._scorer.by_part(taste, pool)
        scores = np.sum(list(parts.values()), axis=0).tolist()
        # The source is the part furthest above its mean over the pool; a constant part can't be it.
        above = [np.where(part, part - usual[name].mean(), -np.inf) for name, part in parts.items()]
        names, sources = list(parts), np.argmax(above, axis=0).tolist()
        added = self._scorer.contributions(taste, pool)
        places = {row: place for place, row in enumerate(pool.tolist())}
        shown = [-1 if at in explored else places.get(row, -1) for at, row in enumerate(order.tolist())]
        because = self._told(taste, added, named_events(self._scorer, taste, added, shown), shown)
        told = []
        for place, row in enumerate(order.tolist()):
            source = NEW_ITEM if row in self._scorer.new else names[sources[place]]
            source = EXPLORATION if place in explored else PROMOTED if row in promoted else source
            domain, reasons = self._selection.domain(row), () if source in WHY_ALONE else because[place]
            why = in_words(reasons, domain) if reasons else WHY.get(source, TASTE)
            item = self._items[row]
            title = self._titles.get(item, "")
            told.append(Recommendation(item, scores[place], source, why, place, reasons, domain, title))
        return told

    def _told(
        self, taste: Taste, added: Added, places: Sequence[Rows], shown: Sequence[int]
    ) -> list[tuple[Contribution, ...]]:
        """What is said of events: to the items that are `shown`, by their columns in `added`, those at `places` add."""
        counts = [len(each) for each in places]
        at, columns = np.concatenate(places), np.repeat(np.array(shown, np.int64), counts)
        linked = np.zeros(len(at)) if added.linked is None else added.linked[at, columns]
        rows, liked, known = taste.items[at], at < taste.history.nnz, self._interests.weighting.known
        codes = np.where(liked, known.index(SEEN), known.index(TURNED_DOWN))
        own = np.searchsorted(self._weighed.rows, rows)
        liked &= np.append(self._weighed.rows, -1)[own] == rows
        codes[liked] = self._weighed.kinds(own[liked])
        found = zip(
            taste.items[at].tolist(), codes.tolist(), added.all[at, columns].tolist(), linked.tolist(), strict=True
        )
        told = iter(
            Contribution(
                item := self._items[row],
                known[code],
                more,
                self._selection.domain(row),
                through,
                self._titles.get(item, ""),
            )
            for row, code, more, through in found
        )
        return [tuple(islice(told, count)) for count in counts]


def _weights(counts: Mapping[str, tuple[float, float]], debias: float, fused: Mapping[str, float]) -> dict[str, float]:
    """The weight of each part of a score: from reactions, fusion and debiasing."""
    weights = weights_of(counts)
    weights |= {POPULARITY: weights[POPULARITY] * (1 - debias)}
    return weights | {source: weight * weights[family_of(source)] for source, weight in fused.items()}


def _check_count(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"`n` must be a number of items from 1, got {n!r:.40}")


_recommenders: ForkGuard[ModelRecommender] = ForkGuard(
    lambda each: each._lock.acquire(), lambda each: each._lock.release()
)
