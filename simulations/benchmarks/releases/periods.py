"""Periods: a log cut by time, for a series of releases.

Release m is trained on what happened before its cut, and judged on what users do for the first time in the span after
it.

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
from palate_sim.evaluation.evaluation import CatalogueScorer
from palate_sim.evaluation.periods import heldout_of, interactions_of, rows_of, until
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
