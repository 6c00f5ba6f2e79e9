"""Periods: a log cut by time, for a series of releases.

Release m is trained on what happened before its cut, and judged on what users do for the first time in the span after
it. Each cut is made on the log before anything else, so that weights, users and catalogue know nothing of the future.

    >>> import pandas as pd
    >>> from palate_sim.config import load_config
    >>> from palate_sim.data import read_log
    >>> rows = [(f"u{n % 5}", f"i{n % 7}", 86_400 * n) for n in range(31)]
    >>> log = read_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]))
    >>> [(p.number, p.train.nnz) for p in periods(log, load_config(), 2)]
    [(1, 10), (2, 20)]
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Interactions
from palate_core.errors import InputError
from palate_sim.config import SimulationConfig
from palate_sim.data.log import InteractionLog
from palate_sim.data.positives import Pairs
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.preparation.preparation import weighed
from palate_sim.preparation.splits import Heldout


@dataclass(frozen=True)
class Period:
    """One release's training data, and what it is judged on.

    Attributes:
        number: of the release, from 1.
        until: its cut, seconds since 1970; training events lie before it.
        train: every user with an event so far, over the catalogue so far.
        items: the catalogue so far, sorted.
        known: the catalogue after the next span, sorted: what is ranked. What `items` lacks can't be recommended.
        heldout: users with a new item in the next span, over `known`; those without an earlier event have no fold-in.
    """

    number: int
    until: float
    train: Interactions
    items: tuple[str, ...]
    known: tuple[str, ...]
    heldout: Heldout

    def for_test(self) -> Period:
        """The same period, with the test users alone held out."""
        rows = np.flatnonzero([not is_validation(user) for user in self.heldout.users])
        foldin, target = self.heldout.foldin.users(rows), self.heldout.target.users(rows)
        users = tuple(self.heldout.users[int(row)] for row in rows)
        return replace(self, heldout=Heldout(foldin, target, users, {}))

    def widened(self, scorer: CatalogueScorer, items: Sequence[str]) -> Widened:
        """A scorer of this or an earlier catalogue, extended to the items that are ranked here."""
        return Widened(scorer, rows_of(items, self.known), len(self.known))


@dataclass(frozen=True)
class Widened:
    """A scorer extended to a larger catalogue; it never recommends the added items."""

    scorer: CatalogueScorer
    rows: npt.NDArray[np.int64]
    n_items: int

    def scores(self, foldin: Interactions) -> Floats:
        """The scorer's scores, with minus infinity for items it doesn't know."""
        own = self.scorer.scores(foldin.columns(self.rows))
        scores = np.full((foldin.n_users, self.n_items), -np.inf)
        scores[:, self.rows] = own
        return scores


def rows_of(items: Sequence[str], catalogue: Sequence[str]) -> npt.NDArray[np.int64]:
    """The place of each item in a catalogue, int64.

    Raises:
        InputError: the catalogue lacks one.
    """
    place = {item: row for row, item in enumerate(catalogue)}
    missing = [item for item in items if item not in place]
    if missing:
        raise InputError(
            f"a later catalogue must have every earlier item, and lacks {len(missing)}: {missing[0]!r:.80}"
        )
    return np.array([place[item] for item in items], np.int64)


def periods(log: InteractionLog, config: SimulationConfig, count: int) -> Iterator[Period]:
    """Cut a log into `count` + 1 spans of equal length.

    Raises:
        InputError: times are missing, or a span leaves nothing to train on or to judge.
    """
    log = log.only(lambda block: np.zeros(len(block), np.bool_) if block.times is None else ~np.isnan(block.times))
    times = np.concatenate([np.zeros(0), *(block.times for block in log.rows if block.times is not None)])
    if not len(times) or times.min() == times.max():
        raise InputError("a series of releases needs a log whose events have times, got none that differ")
    edges = np.linspace(times.min(), times.max(), count + 2)
    edges[-1] = np.inf
    before = until(log, edges[1], config)
    for number in range(1, count + 1):
        after = until(log, edges[number + 1], config)
        train = interactions_of(before, before.users, before.items)
        yield Period(
            number, float(edges[number]), train, before.items, after.items, heldout_of(before, after, after.items)
        )
        before = after


def is_validation(user: str) -> bool:
    """Whether settings may be chosen on this user: true for half of the users, by a hash of the id."""
    return zlib.crc32(user.encode()) % 2 == 0


def until(log: InteractionLog, end: float, config: SimulationConfig) -> Pairs:
    """The positives of the events before a time.

    Raises:
        InputError: there are none.
    """
    log = log.only(lambda block: np.zeros(len(block), np.bool_) if block.times is None else block.times < end)
    if not log.rows.total:
        raise InputError("each span of a series must have events to train on, got none: use fewer releases")
    return weighed(log, config)


def heldout_of(before: Pairs, after: Pairs, known: Sequence[str]) -> Heldout:
    """The users with new items: what they had before as fold-in, the new items as target.

    Args:
        before: the pairs until a cut.
        after: the pairs until a later one.
        known: the catalogue, with every item of both.

    Raises:
        InputError: nobody has a new item.
    """
    old, new = interactions_of(before, after.users, known), interactions_of(after, after.users, known)
    fresh = ~np.isin(_keys(new), _keys(old))
    target = Interactions.from_pairs(
        new.owners()[fresh], new.indices[fresh], new.weights[fresh], n_users=new.n_users, n_items=new.n_items
    )
    rows = np.flatnonzero(target.counts())
    if not len(rows):
        raise InputError("each span of a series must have new items of a user, got none: use fewer releases")
    return Heldout(old.users(rows), target.users(rows), tuple(after.users[int(row)] for row in rows), {})


def _keys(batch: Interactions) -> npt.NDArray[np.int64]:
    """One number for each (user, item) pair, different for different pairs."""
    return batch.owners().astype(np.int64) * batch.n_items + batch.indices


def interactions_of(pairs: Pairs, users: Sequence[str], items: Sequence[str]) -> Interactions:
    """Pairs as a batch over these users and items, with every one of the pairs."""
    user_rows, item_rows = rows_of(pairs.users, users)[pairs.user_rows], rows_of(pairs.items, items)[pairs.item_rows]
    return Interactions.from_pairs(user_rows, item_rows, pairs.weights, n_users=len(users), n_items=len(items))
