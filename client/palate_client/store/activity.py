"""Activity: times of a user's events and their purchases, as arrays that can be extended at little cost.

EventStore -> Activity -> Past -> loyalty, tuning

>>> past = past_of([(20.0, "view", None, None), (10.0, "purchase", 2, 9.5), (30.0, "impression", None, None)])
>>> past.active.tolist(), past.bought.tolist()
([10.0, 20.0], [[10.0, 2.0, 9.5]])
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_client.store.reading import Mark, since
from palate_client.store.store import EventStore

PASSIVE = frozenset({"impression"})
"""Kinds of events without an action of the user: they don't count for a visit."""
COLUMNS = "seq, CASE WHEN imported <= 1 THEN time END, kind, value, CASE kind WHEN 'purchase' THEN props END"
"""What was done with another service, as an imported history says, is no visit to this app."""

Row = tuple[float, str, float | None, float | None]
"""Time in seconds since 1970, kind, number of items of a purchase, amount of money."""
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Past:
    """The data for loyalty.

    Attributes:
        active: float64, ascending; times of the user's actions, seconds since 1970.
        bought: float64 [n, 3]; time, number of items and amount of money of each purchase; NaN: unknown.
    """

    active: Numbers
    bought: Numbers

    def with_events(self, others: Iterable[Past]) -> Past:
        """A copy with the events of others added."""
        parts = (self, *others)
        active = np.sort(np.concatenate([part.active for part in parts]), kind="stable")
        return Past(active, np.concatenate([part.bought for part in parts]))


NOTHING = Past(np.zeros(0), np.zeros((0, 3)))
"""The past of a user without events."""


def past_of(rows: Iterable[Row]) -> Past:
    """Convert events, in any order, to arrays."""
    known = list(rows)
    bought = [(time, number, amount) for time, kind, number, amount in known if kind == "purchase"]
    return Past(
        np.array(sorted(time for time, kind, _, _ in known if kind not in PASSIVE), float),
        np.array(bought, float).reshape(-1, 3),  # None becomes NaN
    )


class Activity:
    """One user's past. Each call first reads new events.

    Args:
        store: the user's events.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._known = "amount", Mark(), NOTHING

    def past(self, amount: str | None = None) -> Past:
        """The user's past up to now.

        Args:
            amount: the property of a purchase that holds its price; None: that of the last call.

        Raises:
            PalateError: the store can't be read.
        """
        known, mark, past = self._known
        if amount not in (None, known):
            known, mark, past = amount, Mark(), NOTHING
        mark, anew, pages = since(self._store, mark, COLUMNS, partial(self._read, known))
        if anew or pages:
            past = (NOTHING if anew else past).with_events(pages)
        self._known = known, mark, past
        return past

    def _read(self, amount: str, page: list[tuple[Any, ...]]) -> Past:
        """Convert a page's events of known time."""
        return past_of(
            (time, kind, value, None if props is None else money(json.loads(props).get(amount)))
            for _, time, kind, value, props in page
            if time is not None
        )


def money(value: Any) -> float | None:
    """A number of an app's property; None where it is no number."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None
