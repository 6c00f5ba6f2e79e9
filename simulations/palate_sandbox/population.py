"""Population: what people are like and what they do, day after day: the truth that only the sandbox knows.

    who comes -> what they are shown (the policy) -> what they look at and take -> how satisfied they are -> who leaves

The law is `Habits`. Nothing here knows a model: what is taken is drawn from taste. All random numbers of a day are
drawn for everybody, whether they come or not, so that the same people under another policy meet the same chance.

    >>> from palate_sandbox.catalogue import catalogue
    >>> from palate_sandbox.config import Habits
    >>> people = Population(catalogue("news", items=50, seed=1), Habits(), n=200, days=20, seed=1)
    >>> first = people.day(0, by_chance(people, 0))
    >>> len(first.rows) == int((people.arrival == 0).sum()), first.shown.shape[1]
    (True, 30)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.recommend.evidence import RESTED_DAYS, TIRED
from palate_sandbox.catalogue import Assortment, Floats
from palate_sandbox.config import Habits

Rows = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]
Lists = npt.NDArray[np.int64]
"""Items that are shown, int64 [visitors, PAGES x page], in the order of the list; -1: nothing there."""
Shelf = Callable[[Rows], Lists]
"""A policy: rows of people who come -> what each is shown."""

PAGES = 3
"""Pages of a visit, at most."""
MIDDLE = 0.5
"""Satisfaction at the beginning, and the one at which the rates of `Habits` hold."""
WAKING = 8.5, 22.0
"""Hours of the day in which people come."""
NEVER = np.iinfo(np.int64).max
NOT, BEFORE = -1, -2
"""In `Population.taken_on`: not taken, and had before they came."""


@dataclass(frozen=True)
class Day:
    """What happened on a day.

    Attributes:
        number: the day, from 0.
        rows: who came, int64 [n].
        hours: at which hour of the day, float [n].
        shown: what they saw, int64 [n, length]; -1: a page that they didn't open.
        taken: which of that they took, bool [n, length].
        verdicts: the verdict of 1 to 5 on the first item taken, int64 [n]; 0: none.
        left: who left for good after it, bool [n].
        erased: who erased the app, too, bool [n].
    """

    number: int
    rows: Rows
    hours: npt.NDArray[np.float64]
    shown: Lists
    taken: npt.NDArray[np.bool_]
    verdicts: Rows
    left: npt.NDArray[np.bool_]
    erased: npt.NDArray[np.bool_]


class Population:
    """People, and all that happened to them.

    Args:
        catalogue: what there is.
        habits: the law.
        n: how many people.
        days: the most days that they live.
        seed: of people and of chance.
    """

    def __init__(self, catalogue: Assortment, habits: Habits, *, n: int, days: int, seed: int) -> None:
        self.catalogue, self.habits, self.n, self.seed = catalogue, habits, n, seed
        rng = np.random.default_rng([seed, 0x9E0])
        liking = catalogue.liking(rng, n)
        self.odds: Floats = (habits.taste * liking + habits.appeal * catalogue.appeal - habits.reluctance).astype(
            np.float32
        )
        self.rate = rng.beta(
            habits.visit_rate * habits.visit_spread, (1 - habits.visit_rate) * habits.visit_spread, n
        ).clip(0.01, 0.95)
        self.arrival = np.floor(rng.exponential(habits.arrival_days, n)).astype(np.int64)
        self.agrees = {
            purpose: rng.random(n) < share
            for purpose, share in (
                ("train", habits.train),
                ("analytics", habits.analytics),
                ("messaging", habits.messages),
            )
        }
        self.arm_b, self.control = rng.random(n) < 0.5, rng.random(n) < 0.05
        self.satisfaction = np.full(n, MIDDLE)
        self.left_on, self.erased_on = np.full(n, NEVER), np.full(n, NEVER)
        self.visits = np.zeros((n, days), np.bool_)
        self.taken_on = np.full((n, len(catalogue.items)), NOT, np.int16)
        self._bring()
        self._shown = np.zeros((n, len(catalogue.items)), np.float16)
        self._genres = (catalogue.features > 0).astype(np.float32)
        self._boredom = np.zeros((n, self._genres.shape[1]), np.float32)

    def _bring(self) -> None:
        """What people have had before: the highest of utilities with extreme values, which is Luce's choice."""
        if not self.habits.had_before:
            return
        rng, (n, most) = np.random.default_rng([self.seed, 0xBEF]), self.odds.shape
        many = np.minimum(rng.geometric(1 / max(self.habits.had_before, 1.0), n), most // 4)
        order = np.argsort(-(self.odds + rng.gumbel(size=self.odds.shape)), axis=1)[:, : many.max(initial=0)]
        rows, places = np.nonzero(np.arange(order.shape[1]) < many[:, None])
        self.taken_on[rows, order[rows, places]] = BEFORE

    def there(self, day: int) -> npt.NDArray[np.bool_]:
        """Whose device is there on a day: who has come and has not erased it, bool [n]."""
        return (self.arrival <= day) & (self.erased_on > day)

    def day(self, day: int, shelf: Shelf, *, called: Rows | None = None) -> Day:
        """Live one day.

        Args:
            day: its number; each is lived once, in order.
            shelf: what the policy shows.
            called: people who come because of a message.
        """
        habits, n, page = self.habits, self.n, self.habits.page
        rng = np.random.default_rng([self.seed, 0xDA1, day])
        come, leave, erase, longer = (rng.random(n) for _ in range(4))
        hours = self.hours(day)
        take = rng.random((n, PAGES * page), np.float32)
        says, verdict = rng.random(n), rng.random(n)

        alive = (self.arrival <= day) & (self.left_on > day)
        pull = np.log(self.rate / (1 - self.rate)) + habits.return_gain * (self.satisfaction - MIDDLE)
        comes = alive & ((come < _sigmoid(pull)) | (self.arrival == day))
        if called is not None:
            comes[called] |= alive[called]
        rows = np.flatnonzero(comes)
        shown = np.array(shelf(rows), np.int64)
        pages = 1 + (longer[rows, None] < habits.another_page ** np.arange(1, PAGES)).sum(axis=1)
        shown[np.arange(PAGES * page) >= pages[:, None] * page] = -1
        taken = self._taken(day, rows, shown, take[rows])
        count = taken.sum(axis=1)
        good = 1 - (1 - habits.enough) ** count
        self.satisfaction[rows] += habits.memory * (good - self.satisfaction[rows])
        hazard = habits.leaving * np.exp(-habits.leaving_relief * (self.satisfaction[rows] - MIDDLE))
        left = leave[rows] < hazard
        erased = left & (erase[rows] < habits.erases)
        self.left_on[rows[left]], self.erased_on[rows[erased]] = day + 1, day + 1
        self.visits[rows, day] = True
        self._shown *= np.float16(0.5 ** (1 / RESTED_DAYS))
        who, where = np.nonzero(shown >= 0)
        np.add.at(self._shown, (rows[who], shown[who, where]), np.float16(1))
        first = shown[np.arange(len(rows)), taken.argmax(axis=1)]
        liked = _sigmoid(self.odds[rows, np.maximum(first, 0)] + 0.5 * (verdict[rows] - 0.5))
        said = (count > 0) & (says[rows] < habits.verdict)
        verdicts = np.where(said, 1 + np.rint(4 * liked), 0).astype(np.int64)
        return Day(day, rows, hours[rows], shown, taken, verdicts, left, erased)

    def hours(self, day: int) -> npt.NDArray[np.float64]:
        """At which hour of a day each would come, float [n]."""
        return WAKING[0] + (WAKING[1] - WAKING[0]) * np.random.default_rng([self.seed, 0x40A5, day]).random(self.n)

    def message_chance(self, day: int) -> npt.NDArray[np.float64]:
        """A number from 0 to 1 each, below which a message is answered, float [n]."""
        return np.random.default_rng([self.seed, 0x3E55, day]).random(self.n)

    def out(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """What no list shows people: what they have, and what rests, as on devices, as it was shown too often."""
        return (self.taken_on[rows] != NOT) | (self._shown[rows] > TIRED)

    def wants(self, rows: Rows, item: int) -> npt.NDArray[np.float64]:
        """The probability that people would take an item that they look at, float [rows]."""
        return _sigmoid(self.odds[rows, item] - self._boredom[rows] @ self._genres[item])

    def _taken(self, day: int, rows: Rows, shown: Lists, chance: Floats) -> npt.NDArray[np.bool_]:
        """What of the lists is taken; it is remembered, and bores for a while."""
        habits, length = self.habits, shown.shape[1]
        self._boredom *= np.float32(0.5 ** (1 / habits.recovery_days))
        looked = (1.0 / (1 + np.arange(length) % habits.page)) ** habits.position_bias
        place = np.maximum(shown, 0)
        bored = np.take_along_axis(self._boredom[rows] @ self._genres.T, place, axis=1)
        odds = np.take_along_axis(self.odds[rows], place, axis=1) - bored
        known = np.take_along_axis(self.taken_on[rows] != NOT, place, axis=1)
        taken = (chance < looked * _sigmoid(odds)) & (shown >= 0) & ~known
        taken &= taken.cumsum(axis=1) <= habits.most_taken
        who, where = np.nonzero(taken)
        items = shown[who, where]
        self.taken_on[rows[who], items] = day
        np.add.at(self._boredom, rows[who], self._genres[items] * np.float32(habits.satiation))
        return taken


def by_chance(people: Population, day: int) -> Shelf:
    """Without recommendations: each list is a chance choice of the catalogue."""

    def shelf(rows: Rows) -> Lists:
        rng = np.random.default_rng([people.seed, 0x5E1, day])
        length = PAGES * people.habits.page
        order = rng.random((people.n, len(people.catalogue.items)), np.float32)[rows]
        return best(order, length)

    return shelf


def by_scores(people: Population, scores: Callable[[Rows], Numbers]) -> Shelf:
    """The highest scores of what somebody hasn't taken yet, and isn't tired of."""

    def shelf(rows: Rows) -> Lists:
        found = np.array(scores(rows), np.float32)
        found[people.out(rows)] = -np.inf
        return best(found, PAGES * people.habits.page)

    return shelf


def by_popularity(people: Population, counts: Numbers) -> Shelf:
    """What was taken most of what somebody hasn't taken yet."""
    noted = counts.astype(np.float32)
    return by_scores(people, lambda rows: np.broadcast_to(noted, (len(rows), len(noted))))


def exploring(people: Population, day: int, shelf: Shelf, share: float) -> Shelf:
    """A shelf of which a share of the places is a chance choice: without it nothing new is ever seen, nor learned."""
    chance = by_chance(people, day)

    def explored(rows: Rows) -> Lists:
        lists, other = shelf(rows), chance(rows)
        draws = np.random.default_rng([people.seed, 0xE8F, day]).random((people.n, lists.shape[1]))[rows]
        there = (lists[:, :, None] == other[:, None, :]).any(axis=1)
        return np.where((draws < share) & ~there, other, lists)

    return explored


def halved(lists: Lists, page: int, half: npt.NDArray[np.bool_]) -> Lists:
    """Lists of which some have pages of half the length, with the same best items: arm B of the A/B test."""
    short = max(1, page // 2)
    out = np.full_like(lists, -1)
    for number in range(PAGES):
        out[:, number * page : number * page + short] = lists[:, number * short : (number + 1) * short]
    return np.where(half[:, None], out, lists)


def best(scores: Floats, length: int) -> Lists:
    """The places of each row's highest scores, best first; -1 where there are no more."""
    length_there = min(length, scores.shape[1])
    top = np.argpartition(-scores, length_there - 1, axis=1)[:, :length_there]
    order = np.take_along_axis(scores, top, axis=1).argsort(axis=1)[:, ::-1]
    found = np.take_along_axis(top, order, axis=1).astype(np.int64)
    found[np.take_along_axis(scores, found, axis=1) == -np.inf] = -1
    return np.pad(found, ((0, 0), (0, length - length_there)), constant_values=-1)


def _sigmoid(x: Numbers) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)), np.float64)
